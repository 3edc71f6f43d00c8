//! inotify's events, and which of them tell of somebody else's work.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use registry_mirror_core::plan::files::TEMPORARY_PREFIX;
use rustix::fs::inotify::{ReadFlags, Reader};
use tokio::io::unix::AsyncFd;

use crate::{proof, root::HostRoot};

/// More than this is not told apart: it is news.
const MOST_EVENTS: usize = 4096;

/// Something happened to a name in a directory, or to the directory itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The directory's number.
    directory: i32,
    what: ReadFlags,
    name: Option<OsString>,
}

impl Event {
    /// The directory that is not watched any more.
    pub(super) fn ended(&self) -> Option<i32> {
        self.what.contains(ReadFlags::IGNORED).then_some(self.directory)
    }
}

/// Waits for events and takes all that are there; for ever without inotify.
pub(super) async fn next_events(fd: Option<&AsyncFd<OwnedFd>>, events: &mut Vec<Event>) {
    let Some(fd) = fd else { return std::future::pending().await };
    loop {
        let Ok(mut guard) = fd.readable().await else { return std::future::pending().await };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(fd.get_ref(), &mut buffer);
        let before = events.len();
        while let Ok(event) = reader.next() {
            if events.len() < MOST_EVENTS {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                events.push(Event { directory: event.wd(), what: event.events(), name });
            } else if let Some(last) = events.last_mut() {
                last.what = ReadFlags::QUEUE_OVERFLOW;
            }
        }
        guard.clear_ready();
        if events.len() > before || events.len() == MOST_EVENTS {
            return;
        }
    }
}

/// Whether somebody else's work shows in an event. `asked` are the directories that matter, `watched` those and the
/// ones directly below them, by number.
pub(super) fn is_news(root: &HostRoot, asked: &[PathBuf], watched: &BTreeMap<i32, PathBuf>, event: &Event) -> bool {
    let Event { directory, what, name } = event;
    if what.contains(ReadFlags::QUEUE_OVERFLOW) {
        return true;
    }
    // The end of a watch; what ended it is an event of its own.
    if event.ended().is_some() {
        return false;
    }
    let Some(path) = watched.get(directory) else { return true };
    let Some(name) = name else {
        // Of a directory below one that matters, its parent tells the same by name.
        let is_asked = |path: &Path| asked.iter().any(|asked| asked == path);
        return is_asked(path) || !path.parent().is_some_and(is_asked);
    };
    if name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) || proof::is_directory(name) {
        return false;
    }
    // Nothing of ours is written under the name that it shall have, and the end of a lock's holder shows like this.
    if what.contains(ReadFlags::CLOSE_WRITE) {
        return true;
    }
    match root.open_directory(path) {
        Some(handle) => !root.own().is_as_left(&handle, name),
        // Gone with what was in it, which its parent tells.
        None => false,
    }
}
