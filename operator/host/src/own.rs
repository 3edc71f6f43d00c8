//! What this program itself last did to names on the host, so that the watch does not take it for somebody else's work.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{AtFlags, FileType},
    io::Errno,
};

use crate::file_error::{Kind, kind_of};

/// Far more names than a host has hosts.toml files. Beyond it everything is forgotten, which costs one look.
const MOST_NAMES: usize = 8192;

/// A name in a directory, whichever path leads there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Name {
    device: u64,
    directory: u64,
    name: OsString,
}

/// What stands at a name, told apart from whatever another program would put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Nothing,
    /// A directory's times change with what is in it.
    Directory {
        inode: u64,
        mode: u32,
        owner: (u32, u32),
    },
    Other {
        inode: u64,
        /// Seconds and nanoseconds of `st_ctime`, which no program can set.
        changed: (i64, i64),
    },
}

/// The names that this program has written or removed.
#[derive(Debug, Default)]
pub(crate) struct OwnWork {
    names: Mutex<HashMap<Name, Stands>>,
}

impl OwnWork {
    /// Notes what this program has just made of a name. Somebody else's change at the same instant is found by the
    /// next regular look.
    pub(crate) fn note(&self, directory: impl AsFd, name: &OsStr) {
        let Ok((name, stands)) = look(directory, name) else { return };
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST_NAMES {
            names.clear();
        }
        names.insert(name, stands);
    }

    /// Whether a name stands as this program has left it.
    pub(crate) fn is_as_left(&self, directory: impl AsFd, name: &OsStr) -> bool {
        let Ok((name, stands)) = look(directory, name) else { return false };
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&name) == Some(&stands)
    }
}

fn look(directory: impl AsFd, name: &OsStr) -> Result<(Name, Stands), Errno> {
    let of_directory = rustix::fs::fstat(&directory)?;
    let stands = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Stands::Nothing,
        Err(errno) => return Err(errno),
        Ok(stat) => match kind_of(FileType::from_raw_mode(stat.st_mode)) {
            Kind::Directory => {
                Stands::Directory { inode: stat.st_ino, mode: stat.st_mode, owner: (stat.st_uid, stat.st_gid) }
            }
            Kind::File | Kind::Symlink | Kind::Other => {
                let nanoseconds = i64::try_from(stat.st_ctime_nsec).unwrap_or_default();
                Stands::Other { inode: stat.st_ino, changed: (stat.st_ctime, nanoseconds) }
            }
        },
    };
    let name = Name { device: of_directory.st_dev, directory: of_directory.st_ino, name: name.to_owned() };
    Ok((name, stands))
}
