//! Path resolution beneath a root, one component at a time, never following a symlink in the kernel.
//!
//! It stands in for `openat2` on old kernels, and everywhere else it answers what `openat2` does not: the resolved
//! path, the handle of the directory that holds the file, and which link is to blame when nothing is there.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use crate::file_error::Reason;

/// What the kernel allows too (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// Whether a symlink in the last place is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    Yes,
    No,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Place {
    Found {
        /// The host path, symlinks followed.
        path: PathBuf,
        /// What stands there, opened for its path alone.
        handle: OwnedFd,
        /// The directory that holds it and its name there; `None` for the root itself.
        parent: Option<(OwnedFd, OsString)>,
    },
    Absent {
        /// The deepest directory on the way that exists, symlinks followed.
        deepest: PathBuf,
        /// Its handle.
        handle: OwnedFd,
        /// The names below it that do not exist; never empty.
        missing: Vec<OsString>,
    },
}

/// What was reached, with its name in the level before.
struct Level {
    handle: OwnedFd,
    name: OsString,
    is_directory: bool,
}

/// A symlink whose target is still being walked.
struct Link {
    at: PathBuf,
    target: PathBuf,
    /// How many components come after the target.
    after: usize,
}

enum Todo {
    Up,
    Down(OsString),
}

/// Goes from the root to `path`.
pub(crate) fn walk(root: BorrowedFd<'_>, path: &Path, follow: Follow) -> Result<Place, Reason> {
    let mut levels: Vec<Level> = Vec::new();
    let mut todo = VecDeque::new();
    queue(&mut todo, path);
    let mut open_links: Vec<Link> = Vec::new();
    let mut symlinks = 0;

    while let Some(next) = todo.pop_front() {
        let name = match next {
            Todo::Up => {
                if levels.pop().is_some_and(|level| !level.is_directory) {
                    return Err(Errno::NOTDIR.into());
                }
                continue;
            }
            Todo::Down(name) => name,
        };
        while open_links.last().is_some_and(|link| todo.len() < link.after) {
            open_links.pop();
        }
        let current = levels.last().map_or(root, |level| level.handle.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(current, &name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => {
                if let Some(Link { at, target, .. }) = open_links.into_iter().next() {
                    return Err(Reason::Dangling { link: at, target });
                }
                return absent(root, levels, name, todo);
            }
            Err(errno) => return Err(errno.into()),
        };
        let stat = rustix::fs::fstat(&handle)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_last = todo.is_empty();
        if file_type == FileType::Symlink && !(is_last && follow == Follow::No) {
            symlinks += 1;
            if symlinks > MAX_SYMLINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&handle, "", Vec::new())?;
            let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()).to_owned());
            let mut at = path_of(&levels);
            at.push(&name);
            if target.is_absolute() {
                levels.clear();
            }
            let after = todo.len();
            let mut ahead = VecDeque::new();
            queue(&mut ahead, &target);
            ahead.append(&mut todo);
            todo = ahead;
            open_links.push(Link { at, target, after });
            continue;
        }
        levels.push(Level { handle, name, is_directory: file_type == FileType::Directory });
    }

    let path = path_of(&levels);
    let (handle, parent) = match levels.pop() {
        None => (parent_of(root, Vec::new())?, None),
        Some(last) => (last.handle, Some((parent_of(root, levels)?, last.name))),
    };
    Ok(Place::Found { path, handle, parent })
}

fn queue(todo: &mut VecDeque<Todo>, path: &Path) {
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => todo.push_back(Todo::Up),
            Component::Normal(name) => todo.push_back(Todo::Down(name.to_owned())),
        }
    }
}

fn path_of(levels: &[Level]) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(levels.iter().map(|level| &level.name));
    path
}

fn parent_of(root: BorrowedFd<'_>, mut levels: Vec<Level>) -> Result<OwnedFd, Errno> {
    match levels.pop() {
        Some(level) => Ok(level.handle),
        None => rustix::fs::openat(root, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()),
    }
}

fn absent(root: BorrowedFd<'_>, levels: Vec<Level>, name: OsString, todo: VecDeque<Todo>) -> Result<Place, Reason> {
    let mut missing = vec![name];
    for next in todo {
        match next {
            Todo::Down(name) => missing.push(name),
            // `absent/..` has no meaning in the kernel either
            Todo::Up => return Err(Errno::NOENT.into()),
        }
    }
    let deepest = path_of(&levels);
    let handle = parent_of(root, levels)?;
    Ok(Place::Absent { deepest, handle, missing })
}
