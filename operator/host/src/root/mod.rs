//! The host's file system, seen from the agent's container or from a plain shell.
//!
//! Every path is resolved beneath the root with the root as `/`, so that no symlink on the host leads out of it: an
//! absolute link means the host's path, and `..` stops at the root. `openat2` does that in the kernel (Linux 5.6);
//! where it is missing or a seccomp profile denies it, [`walk`] does the same step by step.

mod glob;
mod walk;

use std::{
    ffi::OsString,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use registry_mirror_core::config_toml::{ConfigSource, SourceError};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::file_error::kind_of;
pub use crate::file_error::{FileError, Kind};
use crate::{
    fault,
    file_error::{Action, Reason},
    own::OwnWork,
};
pub(crate) use walk::{Follow, Place};

/// No configuration file is larger; a limit keeps a wrong path from filling the agent's memory.
pub const READ_LIMIT: u64 = 16 * 1024 * 1024;

/// `openat2` answers EAGAIN when something is renamed on the way while it resolves `..` (openat2(2)).
const RACE_RETRIES: usize = 32;

/// The host's file system as seen from the agent's container (`/host`) or from a plain shell (`/`).
///
/// Cheap to clone; all clones share one directory handle.
#[derive(Debug, Clone)]
pub struct HostRoot {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    directory: OwnedFd,
    /// False once the kernel or a seccomp profile has refused the call.
    openat2: AtomicBool,
    /// What was written through any of the clones.
    own: OwnWork,
}

/// One name in a directory; symlinks are not followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name alone, without its directory.
    pub name: OsString,
    /// What stands there.
    pub kind: Kind,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What stands there.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// The owner's number on the host.
    pub uid: u32,
    /// The group's number on the host.
    pub gid: u32,
    /// Length in bytes.
    pub len: u64,
    /// When the content last changed, by the host's clock.
    pub modified: Timestamp,
    /// When the inode last changed in any way, a rename included; nobody but the kernel sets it.
    pub changed: Timestamp,
}

impl HostRoot {
    /// Opens the directory that the host's file system is mounted at.
    ///
    /// # Errors
    /// Where it is absent or no directory.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| FileError::new(path, Action::OpenRoot, errno))?;
        fault::watch_root(path);
        let shared =
            Shared { path: path.to_owned(), directory, openat2: AtomicBool::new(true), own: OwnWork::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where it is mounted, for example `/host`. Only for calls that cannot go through this type, such as a socket's
    /// address; they must [`resolve`](Self::resolve) first.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The content of a regular file; `None` where nothing stands at the path.
    ///
    /// # Errors
    /// On anything but a regular file of at most [`READ_LIMIT`] bytes, on a symlink whose target is absent, and on
    /// what the kernel says.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        let fail = |reason| FileError::new(path, Action::Read, reason);
        // without O_NONBLOCK the open of a pipe would wait for a writer
        let Some(file) = self.open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(fail)?
        else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| fail(errno.into()))?;
        match kind_of(FileType::from_raw_mode(stat.st_mode)) {
            Kind::File => {}
            other => return Err(fail(Reason::NotAFile(other))),
        }
        let mut content = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(1 << 20));
        let read = std::io::Read::read_to_end(
            &mut std::io::Read::take(std::fs::File::from(file), READ_LIMIT + 1),
            &mut content,
        );
        read.map_err(|error| fail(errno_of(&error).into()))?;
        if content.len() as u64 > READ_LIMIT {
            return Err(fail(Reason::TooLarge { limit: READ_LIMIT }));
        }
        Ok(Some(content))
    }

    /// The names in a directory, sorted; `None` where nothing stands at the path.
    ///
    /// # Errors
    /// Where it is no directory, and on what the kernel says.
    pub fn read_dir(&self, path: &Path) -> Result<Option<Vec<DirEntry>>, FileError> {
        let fail = |reason| FileError::new(path, Action::List, reason);
        let opened = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY);
        let Some(directory) = opened.map_err(|reason| match reason {
            Reason::System(Errno::NOTDIR) => fail(self.stands_in_the_way(path)),
            other => fail(other),
        })?
        else {
            return Ok(None);
        };
        list(&directory).map(Some).map_err(|errno| fail(errno.into()))
    }

    /// What the path leads to, symlinks followed; `None` where nothing stands at the path.
    ///
    /// # Errors
    /// On a symlink whose target is absent, and on what the kernel says.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>, FileError> {
        let fail = |reason| FileError::new(path, Action::Stat, reason);
        let Some(file) = self.open_beneath(path, OFlags::PATH).map_err(fail)? else { return Ok(None) };
        stat_of(&file).map(Some).map_err(|errno| fail(errno.into()))
    }

    /// What stands at the path itself, a symlink in the last place not followed; `None` where nothing does.
    ///
    /// # Errors
    /// On a symlink on the way whose target is absent, and on what the kernel says.
    pub fn stat_link(&self, path: &Path) -> Result<Option<Stat>, FileError> {
        let fail = |reason| FileError::new(path, Action::Stat, reason);
        let Some(file) = self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(fail)? else {
            return Ok(None);
        };
        stat_of(&file).map(Some).map_err(|errno| fail(errno.into()))
    }

    /// What the symlink at the path says, not followed; `None` where nothing or no symlink stands there.
    ///
    /// # Errors
    /// As [`stat_link`](Self::stat_link).
    pub fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        let fail = |reason| FileError::new(path, Action::Read, reason);
        let Some(link) = self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(fail)? else {
            return Ok(None);
        };
        match rustix::fs::readlinkat(&link, "", Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsString::from(std::ffi::OsStr::from_bytes(target.as_bytes()))))),
            // readlinkat with an empty path answers ENOENT on anything but a symlink (readlink(2))
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(fail(errno.into())),
        }
    }

    /// The host path with every symlink followed beneath the root; `None` where nothing stands at the path.
    ///
    /// # Errors
    /// On a symlink whose target is absent, and on what the kernel says.
    pub fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        match self.place(path, Follow::Yes).map_err(|reason| FileError::new(path, Action::Resolve, reason))? {
            Place::Found { path, .. } => Ok(Some(path)),
            Place::Absent { .. } => Ok(None),
        }
    }

    /// Names the mount that the path lies on, as `/proc/self/mountinfo` numbers them; `None` where nothing stands at
    /// the path or the kernel does not tell. The file system alone does not say it: a directory that is bound to another
    /// place has the same one there.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    pub fn mount(&self, path: &Path) -> Result<Option<u64>, FileError> {
        let fail = |reason| FileError::new(path, Action::Stat, reason);
        let Some(file) = self.open_beneath(path, OFlags::PATH).map_err(fail)? else { return Ok(None) };
        // statx tells it from Linux 5.8 on, this file from 3.15 on
        let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap_or_default();
        let number = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        Ok(number.and_then(|number| number.trim().parse().ok()))
    }

    /// Opens a file for reading alone, to lock it; `None` where nothing stands at the path.
    pub(crate) fn open_to_lock(&self, path: &Path) -> Result<Option<OwnedFd>, FileError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        self.open_beneath(path, flags).map_err(|reason| FileError::new(path, Action::Lock, reason))
    }

    /// The host paths that match, as containerd finds them: Go's `filepath.Glob`, names sorted within each directory,
    /// `*` matching a leading dot too, directories that cannot be read passed over.
    ///
    /// # Errors
    /// On a malformed pattern.
    pub fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
        glob::matches(self, pattern)
            .map_err(|glob::BadPattern| FileError::new(Path::new(pattern), Action::Glob, Reason::BadPattern))
    }

    /// What this program has done to the host's files, through this root.
    pub(crate) fn own(&self) -> &OwnWork {
        &self.shared.own
    }

    /// Opens a directory for its path alone; `None` where none stands there.
    pub(crate) fn open_directory(&self, path: &Path) -> Option<OwnedFd> {
        self.open_beneath(path, OFlags::PATH | OFlags::DIRECTORY).ok().flatten()
    }

    /// The handle of the root itself.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.shared.directory.as_fd()
    }

    /// Walks to a path in this process and says where that is.
    pub(crate) fn place(&self, path: &Path, follow: Follow) -> Result<Place, Reason> {
        if !path.is_absolute() {
            return Err(Reason::Relative);
        }
        walk::walk(self.handle(), path, follow)
    }

    /// Opens what stands at a path; `None` where nothing does, an error where a dangling symlink is to blame.
    fn open_beneath(&self, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>, Reason> {
        if !path.is_absolute() {
            return Err(Reason::Relative);
        }
        let flags = flags | OFlags::CLOEXEC;
        let opened = match self.open_in_kernel(path, flags) {
            Some(result) => result,
            None => self.open_by_walking(path, flags)?,
        };
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => {
                let follow = if flags.contains(OFlags::NOFOLLOW) { Follow::No } else { Follow::Yes };
                // the walk tells an absent file from a dangling link
                self.place(path, follow).map(|_| None)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// `None` where the system call is not to be had.
    fn open_in_kernel(&self, path: &Path, flags: OFlags) -> Option<Result<OwnedFd, Errno>> {
        if !self.shared.openat2.load(Ordering::Relaxed) {
            return None;
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACE_RETRIES {
            match rustix::fs::openat2(self.handle(), path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                // EPERM is what container runtimes' seccomp profiles of before 2020 answer to unknown calls
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.shared.openat2.store(false, Ordering::Relaxed);
                    return None;
                }
                result => return Some(result),
            }
        }
        None
    }

    fn open_by_walking(&self, path: &Path, flags: OFlags) -> Result<Result<OwnedFd, Errno>, Reason> {
        let follow = if flags.contains(OFlags::NOFOLLOW) { Follow::No } else { Follow::Yes };
        match self.place(path, follow)? {
            Place::Absent { .. } => Ok(Err(Errno::NOENT)),
            Place::Found { parent: None, .. } => Ok(rustix::fs::openat(self.handle(), ".", flags, Mode::empty())),
            Place::Found { parent: Some((parent, name)), .. } => {
                Ok(rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty()))
            }
        }
    }

    /// Names what stands where a directory was expected; the kernel says only that it is none.
    fn stands_in_the_way(&self, path: &Path) -> Reason {
        match self.stat(path) {
            Ok(Some(stat)) if stat.kind != Kind::Directory => Reason::NotADirectory(stat.kind),
            _ => Reason::System(Errno::NOTDIR),
        }
    }

    #[cfg(test)]
    pub(crate) fn without_openat2(path: &Path) -> Result<Self, FileError> {
        let root = Self::open(path)?;
        root.shared.openat2.store(false, Ordering::Relaxed);
        Ok(root)
    }
}

impl ConfigSource for HostRoot {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
        Self::read(self, path).map_err(|error| source_error(&error))
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
        Self::glob(self, pattern).map_err(|error| source_error(&error))
    }
}

fn source_error(error: &FileError) -> SourceError {
    SourceError { path: error.path().to_owned(), reason: error.reason().to_string() }
}

/// The names below an open directory, sorted; symlinks are not followed.
pub(crate) fn list(directory: &OwnedFd) -> Result<Vec<DirEntry>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            // some file systems do not tell
            FileType::Unknown => {
                match rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => kind_of(FileType::from_raw_mode(stat.st_mode)),
                    // removed meanwhile
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                }
            }
            known => kind_of(known),
        };
        entries.push(DirEntry { name: std::ffi::OsStr::from_bytes(name).to_owned(), kind });
    }
    entries.sort();
    Ok(entries)
}

pub(crate) fn stat_of(file: &OwnedFd) -> Result<Stat, Errno> {
    let stat = rustix::fs::fstat(file)?;
    // outside the years -9999 to 9999 the time says nothing anyway
    let time = |seconds, nanoseconds| Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Stat {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified: time(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        changed: time(stat.st_ctime, i32::try_from(stat.st_ctime_nsec).unwrap_or(0)),
    })
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The directory and the last name of an absolute host path.
pub(crate) fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr), Reason> {
    if !path.is_absolute() {
        return Err(Reason::Relative);
    }
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => Ok((parent, name)),
        _ => Err(Reason::NoName),
    }
}

#[cfg(test)]
mod tests;
