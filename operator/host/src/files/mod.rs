//! Writing on the host: whole files or none, in a fixed list of directories only.
//!
//! Every file comes into being as a temporary one in its own directory, with its mode before its data, and is renamed
//! into place after an fsync: a reader sees the old file or the new one, and so does the next boot after a power cut.

mod scope;

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use registry_mirror_core::plan::files::TEMPORARY_PREFIX;
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use crate::{
    fault,
    file_error::{Action, FileError, Kind, Reason, kind_of},
    root::{self, Follow, HostRoot, Place},
};

pub use scope::WriteScope;

/// How a file stands on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// That of the file that stands there; root where none does.
    Keep,
    /// Root. Where this process is not root (a dry run by hand) it is this process's user, since no other is possible.
    Root,
    /// These numbers, for a file that is put back.
    Numbers {
        /// The owner's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
}

/// Whether a call had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was so already; nothing was written.
    Unchanged,
    /// It was made so.
    Written,
}

/// The host's files with the right to change some of them.
#[derive(Debug, Clone)]
pub struct HostWriter {
    root: HostRoot,
    scope: WriteScope,
}

/// A name in an open directory.
struct Target {
    directory: OwnedFd,
    name: OsString,
}

/// What stands at a name, as far as a write cares.
struct Existing {
    uid: u32,
    gid: u32,
    mode: u32,
    len: u64,
}

impl HostWriter {
    /// The right to write where `scope` says and nowhere else.
    #[must_use]
    pub fn new(root: HostRoot, scope: WriteScope) -> Self {
        Self { root, scope }
    }

    /// The same files, for reading.
    #[must_use]
    pub fn root(&self) -> &HostRoot {
        &self.root
    }

    /// Puts a whole file at `path`. The same content, mode and owner: no write at all.
    ///
    /// # Errors
    /// Where anything but a regular file stands there (a symlink too: resolve it first), where the path is out of
    /// scope, and on what the kernel says. The old file is whole then.
    pub fn write(&self, path: &Path, content: &[u8], attributes: Attributes) -> Result<Written, FileError> {
        self.write_over(path, content, attributes, false)
    }

    /// As [`write`](Self::write), and a symlink in the last place is replaced, not followed and not refused.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn replace(&self, path: &Path, content: &[u8], attributes: Attributes) -> Result<Written, FileError> {
        self.write_over(path, content, attributes, true)
    }

    fn write_over(
        &self,
        path: &Path,
        content: &[u8],
        attributes: Attributes,
        symlinks_too: bool,
    ) -> Result<Written, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Write, reason);
        let target = self.locate(path).map_err(fail)?;
        let existing = target.existing(symlinks_too).map_err(fail)?;
        let (uid, gid) = owner(attributes.owner, existing.as_ref());
        if let Some(existing) = &existing
            && existing.mode == attributes.mode
            && existing.uid == uid
            && existing.gid == gid
            && existing.len == content.len() as u64
            && target.holds(content).map_err(|errno| fail(errno.into()))?
        {
            return Ok(Written::Unchanged);
        }
        fault::point("write:before");
        fault::effect("write").map_err(|errno| fail(errno.into()))?;
        let made = target.put(|temporary| {
            let file = target.create(temporary)?;
            fault::point("write:created");
            if let Err(errno) = rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
                let stat = rustix::fs::fstat(&file)?;
                if stat.st_uid != uid || stat.st_gid != gid {
                    return Err(errno);
                }
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
            let mut file = std::fs::File::from(file);
            file.write_all(content).map_err(|error| root::errno_of(&error))?;
            rustix::fs::fsync(&file)
        });
        made.map_err(|errno| fail(errno.into()))?;
        self.root.own().note(&target.directory, &target.name);
        fault::point("write:after");
        Ok(Written::Written)
    }

    /// Puts a symlink at `path` that says `target`, replacing a file or symlink there.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn symlink(&self, path: &Path, says: &Path) -> Result<Written, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Write, reason);
        let target = self.locate(path).map_err(fail)?;
        if rustix::fs::readlinkat(&target.directory, &target.name, Vec::new())
            .is_ok_and(|found| found.as_bytes() == says.as_os_str().as_encoded_bytes())
        {
            return Ok(Written::Unchanged);
        }
        target.existing(true).map_err(fail)?;
        fault::point("symlink:before");
        fault::effect("symlink").map_err(|errno| fail(errno.into()))?;
        let made = target.put(|temporary| {
            target.unlink_stale(temporary)?;
            rustix::fs::symlinkat(says, &target.directory, temporary)
        });
        made.map_err(|errno| fail(errno.into()))?;
        self.root.own().note(&target.directory, &target.name);
        fault::point("symlink:after");
        Ok(Written::Written)
    }

    /// Removes a file or symlink; nothing to do where nothing stands.
    ///
    /// # Errors
    /// Where a directory stands there, where the path is out of scope, and on what the kernel says.
    pub fn remove(&self, path: &Path) -> Result<Written, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Remove, reason);
        let Some((target, kind)) = self.locate_existing(path).map_err(fail)? else { return Ok(Written::Unchanged) };
        match kind {
            Kind::Directory => return Err(fail(Reason::NotAFile(kind))),
            Kind::File | Kind::Symlink | Kind::Other => {}
        }
        fault::point("remove:before");
        fault::effect("remove").map_err(|errno| fail(errno.into()))?;
        match rustix::fs::unlinkat(&target.directory, &target.name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Written::Unchanged),
            Err(errno) => return Err(fail(errno.into())),
        }
        self.root.own().note(&target.directory, &target.name);
        fault::point("remove:unlinked");
        sync_directory(target.directory.as_fd()).map_err(|errno| fail(errno.into()))?;
        fault::point("remove:after");
        Ok(Written::Written)
    }

    /// Gives a file or directory another name, in one step that happens or does not. A regular file at the new name is
    /// replaced.
    ///
    /// # Errors
    /// Where nothing stands at the old name (`ENOENT`: somebody else was faster), where a symlink or a directory with
    /// content stands at the new one, where one of them is out of scope, and on what the kernel says.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let fail = |path: &Path, reason: Reason| FileError::new(path, Action::Rename, reason);
        let source = self.locate(from).map_err(|reason| fail(from, reason))?;
        let target = self.locate(to).map_err(|reason| fail(to, reason))?;
        if target.kind().map_err(|errno| fail(to, errno.into()))? == Some(Kind::Symlink) {
            return Err(fail(to, target.is_symlink()));
        }
        fault::point("rename:before");
        fault::effect("rename").map_err(|errno| fail(from, errno.into()))?;
        rustix::fs::renameat(&source.directory, &source.name, &target.directory, &target.name)
            .map_err(|errno| fail(from, errno.into()))?;
        self.root.own().note(&source.directory, &source.name);
        self.root.own().note(&target.directory, &target.name);
        fault::point("rename:renamed");
        for directory in [&target.directory, &source.directory] {
            sync_directory(directory.as_fd()).map_err(|errno| fail(to, errno.into()))?;
        }
        fault::point("rename:after");
        Ok(())
    }

    /// Makes a directory, and those above it that are missing (mode 0755). One that exists stays as it is.
    ///
    /// # Errors
    /// Where something else stands there, where the path is out of scope, and on what the kernel says.
    pub fn create_dir(&self, path: &Path, mode: u32) -> Result<Written, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::CreateDirectory, reason);
        let (mut resolved, mut current, missing) = match self.root.place(path, Follow::Yes).map_err(fail)? {
            Place::Found { handle, .. } => {
                let stat = root::stat_of(&handle).map_err(|errno| fail(errno.into()))?;
                return match stat.kind {
                    Kind::Directory => Ok(Written::Unchanged),
                    other => Err(fail(Reason::NotADirectory(other))),
                };
            }
            Place::Absent { deepest, handle, missing } => (deepest, handle, missing),
        };
        resolved.extend(&missing);
        self.scope.allow(&self.root, &resolved).map_err(fail)?;
        let last = missing.len().saturating_sub(1);
        for (number, name) in missing.into_iter().enumerate() {
            let mode = Mode::from_raw_mode(if number == last { mode } else { 0o755 });
            fault::point("mkdir:before");
            fault::effect("mkdir").map_err(|errno| fail(errno.into()))?;
            let made = create_directory(current.as_fd(), &name, mode).map_err(|errno| fail(errno.into()))?;
            self.root.own().note(&current, &name);
            fault::point("mkdir:after");
            current = made;
        }
        Ok(Written::Written)
    }

    /// Sets the permission bits of a directory that exists.
    ///
    /// # Errors
    /// Where it is no directory, where it is out of scope, and on what the kernel says.
    pub fn set_dir_mode(&self, path: &Path, mode: u32) -> Result<Written, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Write, reason);
        let Place::Found { path: resolved, handle, .. } = self.root.place(path, Follow::Yes).map_err(fail)? else {
            return Err(fail(Errno::NOENT.into()));
        };
        self.scope.allow(&self.root, &resolved).map_err(fail)?;
        let stat = root::stat_of(&handle).map_err(|errno| fail(errno.into()))?;
        match stat.kind {
            Kind::Directory if stat.mode == mode => return Ok(Written::Unchanged),
            Kind::Directory => {}
            other => return Err(fail(Reason::NotADirectory(other))),
        }
        let changed = reopen_directory(handle.as_fd())
            .and_then(|directory| rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode)));
        changed.map(|()| Written::Written).map_err(|errno| fail(errno.into()))
    }

    /// Removes a directory if nothing is in it; nothing to do where it has content or does not exist.
    ///
    /// # Errors
    /// Where something else stands there, where it is out of scope, and on what the kernel says.
    pub fn remove_dir_if_empty(&self, path: &Path) -> Result<Written, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Remove, reason);
        let Some((target, kind)) = self.locate_existing(path).map_err(fail)? else { return Ok(Written::Unchanged) };
        if kind != Kind::Directory {
            return Err(fail(Reason::NotADirectory(kind)));
        }
        fault::point("rmdir:before");
        fault::effect("rmdir").map_err(|errno| fail(errno.into()))?;
        match rustix::fs::unlinkat(&target.directory, &target.name, AtFlags::REMOVEDIR) {
            Ok(()) => {}
            // POSIX lets a file system choose between the two
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => return Ok(Written::Unchanged),
            Err(errno) => return Err(fail(errno.into())),
        }
        self.root.own().note(&target.directory, &target.name);
        sync_directory(target.directory.as_fd()).map_err(|errno| fail(errno.into()))?;
        fault::point("rmdir:after");
        Ok(Written::Written)
    }

    /// Opens a file to lock it, made where it is missing.
    pub(crate) fn open_for_locking(&self, path: &Path) -> Result<OwnedFd, FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Lock, reason);
        let target = self.locate(path).map_err(fail)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&target.directory, &target.name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| fail(errno.into()))
    }

    /// Opens the directory that holds `path`, if that may be written.
    fn locate(&self, path: &Path) -> Result<Target, Reason> {
        let (directory, name) = root::split(path)?;
        match self.root.place(directory, Follow::Yes)? {
            Place::Absent { .. } => Err(Reason::NoDirectory),
            Place::Found { path: resolved, handle, .. } => {
                self.scope.allow(&self.root, &resolved.join(name))?;
                Ok(Target { directory: handle, name: name.to_owned() })
            }
        }
    }

    /// As [`locate`](Self::locate), with what stands at `path`; `None` where nothing does.
    fn locate_existing(&self, path: &Path) -> Result<Option<(Target, Kind)>, Reason> {
        let target = match self.locate(path) {
            Ok(target) => target,
            Err(Reason::NoDirectory) => return Ok(None),
            Err(reason) => return Err(reason),
        };
        Ok(target.kind()?.map(|kind| (target, kind)))
    }

    /// Whether a file could be put at `path`, symlinks followed and missing directories made: it is in scope and on a
    /// writable file system. This is what a plan asks, so that it promises nothing that a write refuses.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check_writable(&self, path: &Path) -> Result<(), FileError> {
        let fail = |reason: Reason| FileError::new(path, Action::Write, reason);
        let (resolved, directory) = match self.root.place(path, Follow::Yes).map_err(fail)? {
            Place::Found { path, parent: Some((directory, _)), .. } => (path, directory),
            Place::Found { parent: None, .. } => return Err(fail(Reason::NoName)),
            Place::Absent { mut deepest, handle, missing } => {
                deepest.extend(missing);
                (deepest, handle)
            }
        };
        self.scope.allow(&self.root, &resolved).map_err(fail)?;
        // The kernel answers EBUSY to a rename over a mount point.
        if let Some(parent) = resolved.parent()
            && let (Some(file), Some(directory)) = (self.root.mount(&resolved)?, self.root.mount(parent)?)
            && file != directory
        {
            return Err(fail(Reason::MountPoint));
        }
        let file_system = rustix::fs::fstatvfs(&directory).map_err(|errno| fail(errno.into()))?;
        if file_system.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(fail(Errno::ROFS.into()));
        }
        rustix::fs::accessat(
            &directory,
            ".",
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
            AtFlags::EACCESS,
        )
        .map_err(|errno| fail(errno.into()))
    }
}

impl Target {
    fn kind(&self) -> Result<Option<Kind>, Errno> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(kind_of(FileType::from_raw_mode(stat.st_mode)))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn existing(&self, symlinks_too: bool) -> Result<Option<Existing>, Reason> {
        let stat = match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        match kind_of(FileType::from_raw_mode(stat.st_mode)) {
            Kind::File => {}
            Kind::Symlink if symlinks_too => return Ok(None),
            Kind::Symlink => return Err(self.is_symlink()),
            other => return Err(Reason::NotAFile(other)),
        }
        Ok(Some(Existing {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            len: u64::try_from(stat.st_size).unwrap_or(0),
        }))
    }

    fn is_symlink(&self) -> Reason {
        let target = rustix::fs::readlinkat(&self.directory, &self.name, Vec::new());
        let target = target.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default();
        Reason::IsSymlink { target: PathBuf::from(target) }
    }

    fn holds(&self, content: &[u8]) -> Result<bool, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())?;
        let mut found = Vec::with_capacity(content.len() + 1);
        let limited = &mut std::io::Read::take(std::fs::File::from(file), content.len() as u64 + 1);
        std::io::Read::read_to_end(limited, &mut found).map_err(|error| root::errno_of(&error))?;
        Ok(found == content)
    }

    /// Makes something under a temporary name and renames it into place.
    fn put(&self, make: impl FnOnce(&OsStr) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut temporary = OsString::from(TEMPORARY_PREFIX);
        temporary.push(&self.name);
        let made = make(&temporary).and_then(|()| {
            fault::point("write:synced");
            rustix::fs::renameat(&self.directory, &temporary, &self.directory, &self.name)
        });
        if let Err(errno) = made {
            // a full disk must not stay full of our attempts; that it fails too changes nothing
            let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
            return Err(errno);
        }
        fault::point("write:renamed");
        sync_directory(self.directory.as_fd())
    }

    /// Makes an empty file that only its owner may read, whatever a run that was cut off has left there.
    fn create(&self, temporary: &OsStr) -> Result<OwnedFd, Errno> {
        self.unlink_stale(temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, temporary, flags, Mode::RUSR | Mode::WUSR)
    }

    fn unlink_stale(&self, temporary: &OsStr) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.directory, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn owner(wanted: Owner, existing: Option<&Existing>) -> (u32, u32) {
    let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match (wanted, existing) {
        (Owner::Keep, Some(existing)) => (existing.uid, existing.gid),
        (Owner::Keep, None) | (Owner::Root, _) => ours,
        (Owner::Numbers { uid, gid }, _) => (uid, gid),
    }
}

fn create_directory(parent: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        // made by somebody else meanwhile
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // mkdir's own mode goes through the umask
    rustix::fs::fchmod(&directory, mode)?;
    sync_directory(parent)?;
    Ok(directory)
}

/// A handle that was opened for its path alone can be neither synced nor changed.
fn reopen_directory(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn sync_directory(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fsync(reopen_directory(directory)?) {
        // file systems that sync directories by themselves say EINVAL (fsync(2))
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
