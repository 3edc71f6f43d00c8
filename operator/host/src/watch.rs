//! When to look at the host's files again: soon after something changed there, and every so often in any case.
//!
//! inotify is a hint. A host has few instances of it (128 for each user by default), and other programs may hold them
//! all: then the look every 30 seconds alone repairs what others changed, the failure is logged once, and inotify is
//! tried again at each look.

use std::{
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

use crate::root::{HostRoot, Kind};

/// How often to look in any case.
pub const PERIOD: Duration = Duration::from_secs(30);

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
    /// Something changed, and the wait for quiet was cut short by the caller.
    pending: bool,
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
            pending: false,
            warned: false,
        };
        watch.renew();
        watch
    }

    /// Watches other directories from now on.
    pub fn set_directories(&mut self, directories: Vec<PathBuf>) {
        if directories != self.directories {
            self.directories = directories;
            // watches cannot be listed, so start over
            self.inotify = None;
            self.renew();
        }
    }

    /// Whether changes are noticed at once.
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.inotify.is_some()
    }

    /// Waits until it is time to look. May be dropped while waiting: nothing is lost.
    ///
    /// What the caller changes itself between two calls is noticed as well, and costs one look that finds nothing to
    /// do.
    pub async fn changed(&mut self) -> Hint {
        if !self.pending {
            let is_over = {
                let next_look = self.next_look;
                tokio::select! {
                    () = sleep_until(next_look) => true,
                    () = event(self.inotify.as_ref()) => false,
                }
            };
            if is_over {
                self.next_look = Instant::now() + self.period;
                self.renew();
                return Hint::Periodic;
            }
            self.pending = true;
        }
        let patience = Instant::now() + PATIENCE;
        loop {
            let quiet = (Instant::now() + QUIET).min(patience);
            if timeout_at(quiet, event(self.inotify.as_ref())).await.is_err() {
                break;
            }
        }
        self.pending = false;
        self.next_look = Instant::now() + self.period;
        self.renew();
        Hint::Changed
    }

    /// Watches what has come into being since. Watching a directory again costs nothing.
    fn renew(&mut self) {
        if self.inotify.is_none() {
            match open() {
                Ok(fd) => self.inotify = Some(fd),
                Err(error) => return self.warn(&error.to_string()),
            }
        }
        let mut failure = None;
        if let Some(fd) = &self.inotify {
            for directory in self.watched() {
                if let Err(errno) = add(fd.get_ref(), &self.root, &directory)
                    && !matches!(errno, Errno::NOENT | Errno::NOTDIR)
                {
                    failure = Some(format!("{}: {errno}", directory.display()));
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

    fn watched(&self) -> Vec<PathBuf> {
        let mut watched = Vec::new();
        for directory in &self.directories {
            let Some(existing) = nearest(&self.root, directory) else { continue };
            let is_itself = existing == *directory;
            watched.push(existing);
            if !is_itself {
                continue;
            }
            let entries = self.root.read_dir(directory).ok().flatten().unwrap_or_default();
            let below = entries.into_iter().filter(|entry| entry.kind == Kind::Directory);
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

fn add(fd: &OwnedFd, root: &HostRoot, directory: &Path) -> Result<(), Errno> {
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
    inotify::add_watch(fd, path, changes | WatchFlags::ONLYDIR).map(|_| ())
}

/// Waits for an event and takes all that are there; for ever without inotify.
async fn event(fd: Option<&AsyncFd<OwnedFd>>) {
    let Some(fd) = fd else { return std::future::pending().await };
    loop {
        let Ok(mut guard) = fd.readable().await else { return std::future::pending().await };
        let mut buffer = [0_u8; 4096];
        let mut seen = false;
        while rustix::io::read(fd.get_ref(), &mut buffer).is_ok_and(|read| read > 0) {
            seen = true;
        }
        guard.clear_ready();
        if seen {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
