//! Why a file on the host could not be read or changed, as a sentence for the person who must act.

use std::path::{Path, PathBuf};

use rustix::{fs::FileType, io::Errno};
use thiserror::Error;

/// What was tried, on which host path, why it failed and what to do about it.
///
/// Paths are the host's own (`/etc/containerd/config.toml`), whatever directory the host is mounted at in the agent's
/// container, because the person who acts does so on the host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot {action} {path}: {reason}", path = path.display())]
pub struct FileError {
    path: PathBuf,
    action: Action,
    reason: Reason,
}

impl FileError {
    pub(crate) fn new(path: &Path, action: Action, reason: impl Into<Reason>) -> Self {
        Self { path: path.to_owned(), action, reason: reason.into() }
    }

    /// The host path that the call was about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it failed, for callers that act differently on a full disk than on a read-only one.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The directory cannot be written on this host, whoever asks: the host's own setting is the way to go.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self.reason, Reason::System(Errno::ROFS))
    }
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Action {
    /// Opening the directory that the host's file system is mounted at.
    #[error("open the host's root")]
    OpenRoot,
    /// Reading a file.
    #[error("read")]
    Read,
    /// Listing a directory.
    #[error("list")]
    List,
    /// Reading mode, owner and length.
    #[error("look at")]
    Stat,
    /// Following symlinks.
    #[error("resolve")]
    Resolve,
    /// Matching a pattern.
    #[error("match the pattern")]
    Glob,
    /// Writing a file.
    #[error("write")]
    Write,
    /// Removing a file or an empty directory.
    #[error("remove")]
    Remove,
    /// Giving a file or directory another name.
    #[error("rename")]
    Rename,
    /// Making a directory.
    #[error("create the directory")]
    CreateDirectory,
    /// Taking the lock.
    #[error("lock")]
    Lock,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Kind {
    /// A regular file.
    #[error("a regular file")]
    File,
    /// A directory.
    #[error("a directory")]
    Directory,
    /// A symbolic link, where it was not followed.
    #[error("a symbolic link")]
    Symlink,
    /// A socket, device or pipe.
    #[error("a socket, device or pipe")]
    Other,
}

/// What the kernel says of it.
pub(crate) fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

/// Why a call failed; its text ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The kernel said no.
    #[error("{}", advice(*.0))]
    System(Errno),
    /// Something else stands where a regular file is needed.
    #[error("it is {0}, and a regular file is needed there; move it away")]
    NotAFile(Kind),
    /// Something else stands where a directory is needed.
    #[error("it is {0}, and a directory is needed there; move it away")]
    NotADirectory(Kind),
    /// The directory to write in does not exist.
    #[error("its directory does not exist; make it, or check the path")]
    NoDirectory,
    /// More bytes than any configuration has.
    #[error("it is larger than {limit} bytes, which no configuration file is; see what it holds")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A symlink on the way names something that does not exist beneath the host's root.
    #[error(
        "{link} is a symbolic link to {target}, which does not exist on this host; make the target or remove the link",
        link = link.display(),
        target = target.display()
    )]
    Dangling {
        /// The host path of the link.
        link: PathBuf,
        /// What the link says.
        target: PathBuf,
    },
    /// A file that is mounted on its own: no other one can be renamed over it.
    #[error(
        "it is mounted there as a single file, in whose place no other one can come; mount its directory instead, or \
         make the change in the file that is mounted"
    )]
    MountPoint,
    /// The path is not absolute.
    #[error("the path is relative; give the absolute path on the host")]
    Relative,
    /// The path names no file: it is `/` or ends in `..`.
    #[error("the path names no file; give the path of a file below a directory")]
    NoName,
    /// Go's `filepath.Match` would call the pattern malformed, and so does containerd.
    #[error("the pattern is malformed (an open `[` or a trailing `\\`), and containerd refuses it too; correct it")]
    BadPattern,
    /// Nothing may be written there.
    #[error(
        "{resolved} is outside the directories that may be written on a host ({allowed}); nothing was changed",
        resolved = resolved.display()
    )]
    OutOfScope {
        /// The path with symlinks followed.
        resolved: PathBuf,
        /// The directories that may be written, for the message.
        allowed: String,
    },
    /// A write or rename would replace a symlink, which somebody put there for a reason.
    #[error("it is a symbolic link to {target}; write to the file that it names instead", target = target.display())]
    IsSymlink {
        /// What the link says.
        target: PathBuf,
    },
    /// A file of the state directory in a layout that this release does not know.
    #[error(
        "a newer release of registry-mirror-operator wrote it (layout {version}; this release reads layout {reads}), \
         and it is left as it is; install that release again, or let it put the node back first"
    )]
    Newer {
        /// The layout of the file.
        version: u32,
        /// The newest layout that this release knows.
        reads: u32,
    },
    /// A file that this program wrote does not hold what it should.
    #[error("{what}")]
    Content {
        /// What is wrong and what to do.
        what: String,
    },
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// The kernel's reason with what to do about it.
fn advice(errno: Errno) -> String {
    let text = match errno {
        Errno::ROFS => {
            "the file system is read-only; remount it writable, or use the registry mirror setting that this host's \
             own distribution has"
        }
        Errno::NOSPC => "no space is left on the device; free some space",
        Errno::DQUOT => "the disk quota is used up; free some space or raise the quota",
        Errno::ACCESS | Errno::PERM => "permission denied; run as root, and look for an immutable flag (lsattr)",
        Errno::NOENT => "it does not exist; check the path",
        Errno::NOTDIR => "a part of the path is a file where a directory should be; move that file away",
        Errno::ISDIR => "it is a directory, and a regular file is needed there; move it away",
        Errno::EXIST => "something else stands there already; move it away",
        Errno::NOTEMPTY => "the directory is not empty; see what it holds",
        Errno::LOOP => "too many symbolic links lead there, or they lead in a circle; correct the links",
        Errno::NAMETOOLONG => "the name is too long for the file system; use a shorter one",
        Errno::MFILE | Errno::NFILE => "too many files are open; raise the limit of open files",
        Errno::XDEV => "the two names are on different file systems; keep them in one directory",
        Errno::BUSY => "it is in use, perhaps as a mount point; unmount it first",
        Errno::IO => "the device reports an error; check the disk and the kernel log",
        Errno::STALE => "the file handle is stale; check the network file system",
        _ => return format!("{errno}; see the kernel log and the file system"),
    };
    text.to_owned()
}
