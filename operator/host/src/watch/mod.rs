//! When to look at the host's files again: soon after something changed there, and every so often in any case.
//!
//! What this program does itself is no change: its own files would have it look without end. Others are looked after at
//! once, and no more often than [`pace`] lets them.
//!
//! inotify is a hint. A host has few instances of it (128 for each user by default), and other programs may hold them
//! all: then the look every 30 seconds alone repairs what others changed, the failure is logged once, and inotify is
//! tried again at each look.

mod events;
mod pace;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until, timeout_at},
};

use self::{
    events::{Event, is_news, next_events},
    pace::Pace,
};
use crate::{
    proof,
    root::{DirEntry, HostRoot, Kind},
};

/// Changes come in bursts (a temporary file, a rename); a look waits until there was none for this long.
const QUIET: Duration = Duration::from_millis(50);

/// And not longer than this while there is no end of them.
const PATIENCE: Duration = Duration::from_millis(500);

/// Directories below a watched one that are watched too; more than that and the periodic look must do.
const MAX_SUBDIRECTORIES: usize = 1024;

/// Why it is time to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Something changed in one of the directories.
    Changed,
    /// The period is over.
    Periodic,
}

/// Tells when to look again.
#[derive(Debug)]
pub struct Watch {
    root: HostRoot,
    directories: Vec<PathBuf>,
    period: Duration,
    next_look: Instant,
    inotify: Option<AsyncFd<OwnedFd>>,
    /// The directories by the numbers that inotify gave them.
    watched: BTreeMap<i32, PathBuf>,
    /// What happened since the last look, as far as it is known.
    events: Vec<Event>,
    /// Somebody else changed something, and the wait for the look was cut short by the caller.
    pending: bool,
    pace: Pace,
    warned: bool,
}

impl Watch {
    /// Watches these directories, what is directly below them, and, where one does not exist, the nearest one above.
    /// It never fails: without inotify the period is what remains.
    #[must_use]
    pub fn new(root: HostRoot, directories: Vec<PathBuf>, period: Duration) -> Self {
        let mut watch = Self {
            root,
            directories,
            period,
            next_look: Instant::now() + period,
            inotify: None,
            watched: BTreeMap::new(),
            events: Vec::new(),
            pending: false,
            pace: Pace::new(Instant::now()),
            warned: false,
        };
        watch.renew();
        watch
    }

    /// Watches other directories from now on.
    pub fn set_directories(&mut self, directories: Vec<PathBuf>) {
        if directories != self.directories {
            self.pending |= self.judge();
            self.directories = directories;
            // watches cannot be listed, so start over
            self.inotify = None;
            self.renew();
        }
    }

    /// Looks at this time at the latest; with `None` as the period says.
    pub fn look_by(&mut self, at: Option<Instant>) {
        self.next_look = at.map_or(self.next_look, |at| at.min(self.next_look));
    }

    /// Waits until it is time to look. May be dropped while waiting: nothing is lost.
    ///
    /// What this program changes itself between two calls is not worth a look.
    pub async fn changed(&mut self) -> Hint {
        while !self.pending {
            let next_look = self.next_look;
            if self.events.is_empty() {
                tokio::select! {
                    () = sleep_until(next_look) => {
                        self.next_look = Instant::now() + self.period;
                        self.renew();
                        return Hint::Periodic;
                    }
                    () = next_events(self.inotify.as_ref(), &mut self.events) => {}
                }
            }
            self.wait_for_quiet().await;
            self.pending = self.judge();
            // Our own new directories are to be watched too.
            self.renew();
        }
        sleep_until(self.pace.next(Instant::now())).await;
        self.pace.spend(Instant::now());
        self.pending = false;
        self.next_look = Instant::now() + self.period;
        self.renew();
        Hint::Changed
    }

    /// Whether what happened is somebody else's work.
    fn judge(&mut self) -> bool {
        let events = std::mem::take(&mut self.events);
        let is_news = events.iter().any(|event| is_news(&self.root, &self.directories, &self.watched, event));
        for ended in events.iter().filter_map(Event::ended) {
            self.watched.remove(&ended);
        }
        is_news
    }

    async fn wait_for_quiet(&mut self) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let quiet = (Instant::now() + QUIET).min(patience);
            if timeout_at(quiet, next_events(self.inotify.as_ref(), &mut self.events)).await.is_err() {
                return;
            }
        }
    }

    /// Watches what has come into being since. Watching a directory again costs nothing.
    fn renew(&mut self) {
        if self.inotify.is_none() {
            self.watched.clear();
            match open() {
                Ok(fd) => self.inotify = Some(fd),
                Err(error) => return self.warn(&error.to_string()),
            }
        }
        let mut failure = None;
        if let Some(fd) = &self.inotify {
            for directory in self.to_watch() {
                match add(fd.get_ref(), &self.root, &directory) {
                    Ok(number) => drop(self.watched.insert(number, directory)),
                    Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(errno) => failure = Some(format!("{}: {errno}", directory.display())),
                }
            }
        }
        match failure {
            Some(why) => self.warn(&why),
            None if self.warned => {
                self.warned = false;
                tracing::info!("changes of containerd's files are noticed at once again");
            }
            None => {}
        }
    }

    fn warn(&mut self, why: &str) {
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                "inotify is not to be had on this host ({why}): changes of containerd's files by others are noticed \
                 within {} s only; raise fs.inotify.max_user_instances and fs.inotify.max_user_watches",
                self.period.as_secs()
            );
        }
    }

    fn to_watch(&self) -> Vec<PathBuf> {
        let mut watched = Vec::new();
        for directory in &self.directories {
            let Some(existing) = nearest(&self.root, directory) else { continue };
            let is_itself = existing == *directory;
            watched.push(existing);
            if !is_itself {
                continue;
            }
            let entries = self.root.read_dir(directory).ok().flatten().unwrap_or_default();
            let is_one = |entry: &DirEntry| entry.kind == Kind::Directory && !proof::is_directory(&entry.name);
            let below = entries.into_iter().filter(is_one);
            watched.extend(below.take(MAX_SUBDIRECTORIES).map(|entry| directory.join(entry.name)));
        }
        watched.sort();
        watched.dedup();
        watched
    }
}

/// A new instance. `EMFILE` where the user has none left.
#[expect(
    deprecated,
    reason = "the call is unsound for types whose descriptor may change or close early (tokio pull request 8587); an \
              OwnedFd does neither, and the replacement is an unsafe function"
)]
fn open() -> std::io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// The directory itself or the nearest one above it that exists.
fn nearest(root: &HostRoot, directory: &Path) -> Option<PathBuf> {
    let exists = |path: &&Path| matches!(root.stat(path), Ok(Some(stat)) if stat.kind == Kind::Directory);
    directory.ancestors().find(exists).map(Path::to_owned)
}

fn add(fd: &OwnedFd, root: &HostRoot, directory: &Path) -> Result<i32, Errno> {
    let Ok(Some(resolved)) = root.resolve(directory) else { return Err(Errno::NOENT) };
    // a hint may be wrong, so the time between resolving and watching does no harm
    let path = root.path().join(resolved.strip_prefix("/").unwrap_or(&resolved));
    let changes = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(fd, path, changes | WatchFlags::ONLYDIR)
}

#[cfg(test)]
mod tests;
