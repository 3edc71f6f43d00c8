//! A certs.d that several nodes share: who writes it, who waits, and who is the last to leave.
//!
//! The locks are `flock`s: they belong to the open file, hold across all mounts of it, and the kernel frees them when
//! their holder dies. A holder keeps its files open for writing, so that their end is an event (`IN_CLOSE_WRITE`) that
//! wakes those who watch the directory; whoever only asks opens them for reading, which is none. A lock's file names its
//! last holder: machine id, then host name.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use registry_mirror_core::plan::shared::{self, DIRECTORY, NODE_PREFIX, Role, WRITER_LOCK};
use rustix::{fs::FlockOperation, io::Errno};

use crate::{
    file_error::{Action, FileError, Reason},
    files::HostWriter,
    proof::left_behind::left_behind,
    root::{HostRoot, Kind},
    state::StateDir,
};

/// Whether other nodes may have the same directory. On an ordinary node none can, and nothing of this module is ever
/// written there.
///
/// # Errors
/// On what the kernel says.
pub fn may_be_shared(root: &HostRoot, certs_d: &Path) -> Result<bool, FileError> {
    // The directory may be made later, in one that is shared.
    for existing in certs_d.ancestors() {
        let Some(real) = root.resolve(existing)? else { continue };
        // The kernel's list may be long, and most nodes have no mount here at all.
        let mount = root.mount(&real)?;
        let Some(mount) = mount.filter(|mount| root.mount(Path::new("/")) != Ok(Some(*mount))) else { break };
        let certs_d = certs_d.strip_prefix(existing).map(|rest| real.join(rest)).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let host_root = fs::canonicalize(root.path()).unwrap_or_default();
        return Ok(shared::may_be_shared(&mounts, &host_root, mount, &certs_d));
    }
    Ok(false)
}

/// The name by which the nodes of one directory tell each other apart: the machine id. A node may get another host name
/// at any time; it serves where there is no machine id.
///
/// # Errors
/// On what the kernel says.
pub fn node_id(root: &HostRoot) -> Result<String, FileError> {
    match word(root, "/etc/machine-id")? {
        Some(id) => Ok(id),
        None => Ok(word(root, "/etc/hostname")?.unwrap_or_else(|| "unnamed".to_owned())),
    }
}

/// The text of a file, where it can stand in a file's name.
fn word(root: &HostRoot, path: &str) -> Result<Option<String>, FileError> {
    let text = root.read(Path::new(path))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    Ok((!text.is_empty() && text.len() < 200 && text.chars().all(fits)).then_some(text))
}

/// The locks of a node in a shared directory, as long as they are kept.
#[derive(Debug)]
pub struct Share {
    certs_d: PathBuf,
    id: String,
    /// Tells the others that this node writes or waits.
    presence: Lock,
    /// The right to write.
    right: Lock,
}

/// This node's role, with the locks that it takes; `share` keeps them until the next pass. The caller holds the host's
/// lock.
///
/// # Errors
/// On what the kernel says.
pub fn take_role(share: &mut Option<Share>, writer: &HostWriter, certs_d: &Path) -> Result<Role, FileError> {
    let kept = share.take().filter(|share| share.certs_d == certs_d);
    if !may_be_shared(writer.root(), certs_d)? {
        return Ok(Role::Alone);
    }
    let mut taken = match kept {
        Some(kept) => kept,
        None => Share::join(writer, certs_d)?,
    };
    let role = taken.role(writer)?;
    *share = Some(taken);
    Ok(role)
}

/// The role that this node would have. Nothing is taken or written.
///
/// # Errors
/// On what the kernel says.
pub fn role_now(root: &HostRoot, certs_d: &Path) -> Result<Role, FileError> {
    if !may_be_shared(root, certs_d)? {
        return Ok(Role::Alone);
    }
    let id = node_id(root)?;
    match holder(root, &certs_d.join(DIRECTORY).join(WRITER_LOCK))? {
        Some(holder) if holder.id != id => Ok(Role::StandBy { writer: holder.name }),
        Some(_) | None => Ok(Role::Writer { waiting: others(root, certs_d, &id)? }),
    }
}

/// Where it is kept what of a directory is ours.
///
/// # Errors
/// Where it cannot be made or something else stands there.
pub fn records_of(role: &Role, writer: &HostWriter, certs_d: &Path) -> Result<StateDir, FileError> {
    match role {
        Role::Alone => StateDir::open(writer),
        Role::Writer { .. } | Role::StandBy { .. } => StateDir::of_shared(writer, certs_d),
    }
}

impl Share {
    fn join(writer: &HostWriter, certs_d: &Path) -> Result<Self, FileError> {
        StateDir::of_shared(writer, certs_d)?;
        let id = node_id(writer.root())?;
        let directory = certs_d.join(DIRECTORY);
        let presence = Lock::open(writer, directory.join(format!("{NODE_PREFIX}{id}")))?;
        let right = Lock::open(writer, directory.join(WRITER_LOCK))?;
        Ok(Self { certs_d: certs_d.to_owned(), id, presence, right })
    }

    fn role(&mut self, writer: &HostWriter) -> Result<Role, FileError> {
        StateDir::of_shared(writer, &self.certs_d)?;
        let by_agent = !self.presence.take(writer, &self.id)?;
        let waiting = || others(writer.root(), &self.certs_d, &self.id);
        if self.right.take(writer, &self.id)? {
            return Ok(Role::Writer { waiting: waiting()? });
        }
        match holder(writer.root(), &self.right.path)? {
            // `node apply` by hand, while this node's agent is the one that writes: the host's lock keeps the two apart.
            Some(holder) if by_agent && holder.id == self.id => Ok(Role::Writer { waiting: waiting()? }),
            Some(holder) => Ok(Role::StandBy { writer: holder.name }),
            // Gone at this moment, which is an event: the next pass takes over.
            None => Ok(Role::StandBy { writer: ANOTHER.to_owned() }),
        }
    }
}

/// The other nodes that write a directory or wait, as people know them.
///
/// # Errors
/// On what the kernel says.
pub fn neighbours(root: &HostRoot, certs_d: &Path) -> Result<Vec<String>, FileError> {
    others(root, certs_d, &node_id(root)?)
}

fn others(root: &HostRoot, certs_d: &Path, own: &str) -> Result<Vec<String>, FileError> {
    let directory = certs_d.join(DIRECTORY);
    let mut found = Vec::new();
    for entry in root.read_dir(&directory)?.unwrap_or_default() {
        let id = entry.name.to_str().and_then(|name| name.strip_prefix(NODE_PREFIX));
        if id.is_some_and(|id| id != own) {
            found.extend(holder(root, &directory.join(&entry.name))?.map(|holder| holder.name));
        }
    }
    Ok(found)
}

/// Whether something in the directory is this node's to remove: nobody else needs it.
///
/// # Errors
/// On what the kernel says.
pub fn is_last(root: &HostRoot, certs_d: &Path) -> Result<bool, FileError> {
    Ok(root.stat(&certs_d.join(DIRECTORY))?.is_some() && neighbours(root, certs_d)?.is_empty())
}

/// How a node leaves.
#[derive(Debug)]
pub enum Leaving {
    /// These nodes still need the files.
    Stay(Vec<String>),
    /// It is the last one and removes them.
    Last(Farewell),
}

/// The right to remove everything, for the last node.
#[derive(Debug)]
pub struct Farewell {
    certs_d: PathBuf,
    _right: Option<OwnedFd>,
}

/// Says whether others still need the files of a directory. The caller has given its [`Share`] away before, so that of
/// several nodes that leave at the same moment at least the last one sees nobody.
///
/// # Errors
/// On what the kernel says.
pub fn leave(root: &HostRoot, certs_d: &Path) -> Result<Leaving, FileError> {
    let others = neighbours(root, certs_d)?;
    if !others.is_empty() {
        return Ok(Leaving::Stay(others));
    }
    let path = certs_d.join(DIRECTORY).join(WRITER_LOCK);
    let last = |right| Ok(Leaving::Last(Farewell { certs_d: certs_d.to_owned(), _right: right }));
    // For reading: its end must not wake this node's own agent, which would put the node back again.
    let Some(file) = root.open_to_lock(&path)? else { return last(None) };
    if lock(&path, &file, FlockOperation::NonBlockingLockExclusive)? {
        return last(Some(file));
    }
    match holder(root, &path)? {
        // Another one leaves at this moment too, or has just joined.
        Some(holder) if holder.id != node_id(root)? => Ok(Leaving::Stay(vec![holder.name])),
        // This node's own agent, while somebody puts the node back by hand: the host's lock keeps the two apart.
        Some(_) | None => last(None),
    }
}

impl Farewell {
    /// Removes what the nodes have told each other, when the files are gone.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn complete(self, writer: &HostWriter) -> Result<(), FileError> {
        let Self { certs_d, _right } = self;
        for directory in left_behind(writer.root(), &certs_d)? {
            writer.remove(&directory.join("hosts.toml"))?;
            writer.remove_dir_if_empty(&directory)?;
        }
        remove_all(writer, &certs_d.join(DIRECTORY))
    }
}

/// Removes a directory with everything in it.
///
/// # Errors
/// On what the kernel says; doing it again goes on.
pub fn remove_all(writer: &HostWriter, directory: &Path) -> Result<(), FileError> {
    for entry in writer.root().read_dir(directory)?.unwrap_or_default() {
        let path = directory.join(&entry.name);
        match entry.kind {
            Kind::Directory => remove_all(writer, &path)?,
            Kind::File | Kind::Symlink | Kind::Other => {
                writer.remove(&path)?;
            }
        }
    }
    writer.remove_dir_if_empty(directory).map(drop)
}

/// A lock file that is kept open.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: OwnedFd,
    held: bool,
}

impl Lock {
    fn open(writer: &HostWriter, path: PathBuf) -> Result<Self, FileError> {
        let file = writer.open_for_locking(&path)?;
        Ok(Self { path, file, held: false })
    }

    /// Whether it is held now: it was, or nobody had it. The file names this node then.
    fn take(&mut self, writer: &HostWriter, id: &str) -> Result<bool, FileError> {
        let root = writer.root();
        if !is_still_at(root, &self.path, &self.file)? {
            // Somebody has removed it, and a lock on it means nothing to those who come later.
            *self = Self::open(writer, self.path.clone())?;
        }
        if !self.held && lock(&self.path, &self.file, FlockOperation::NonBlockingLockExclusive)? {
            self.held = is_still_at(root, &self.path, &self.file)?;
            let name = word(root, "/etc/hostname")?.unwrap_or_else(|| id.to_owned());
            let named = rustix::fs::ftruncate(&self.file, 0)
                .and_then(|()| rustix::io::pwrite(&self.file, format!("{id} {name}\n").as_bytes(), 0));
            if let Err(errno) = named {
                // The name is for people; a full disk is no reason to stop.
                tracing::debug!("the lock {} could not be given a name: {errno}", self.path.display());
            }
        }
        Ok(self.held)
    }
}

/// Who holds a lock.
struct Holder {
    id: String,
    /// As people know it.
    name: String,
}

const ANOTHER: &str = "another node";

/// `None` where nobody holds it. Those who ask at the same moment are not in each other's way.
fn holder(root: &HostRoot, path: &Path) -> Result<Option<Holder>, FileError> {
    let Some(file) = root.open_to_lock(path)? else { return Ok(None) };
    if lock(path, &file, FlockOperation::NonBlockingLockShared)? {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&root.read(path)?.unwrap_or_default()).into_owned();
    let mut words = text.split_whitespace();
    // It writes its name right after it has got the lock.
    let id = words.next().unwrap_or_default().to_owned();
    let name = words.next().map_or_else(|| ANOTHER.to_owned(), |name| format!("node {name}"));
    Ok(Some(Holder { id, name }))
}

/// `false` where somebody else holds it.
fn lock(path: &Path, file: &impl AsFd, operation: FlockOperation) -> Result<bool, FileError> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(FileError::new(path, Action::Lock, Reason::System(errno))),
    }
}

/// Whether the file at `path` is the open one.
fn is_still_at(root: &HostRoot, path: &Path, file: &OwnedFd) -> Result<bool, FileError> {
    let fail = |errno| FileError::new(path, Action::Stat, Reason::System(errno));
    let Some(there) = root.open_to_lock(path)? else { return Ok(false) };
    let there = rustix::fs::fstat(there).map_err(fail)?;
    let open = rustix::fs::fstat(file).map_err(fail)?;
    Ok((there.st_dev, there.st_ino) == (open.st_dev, open.st_ino))
}

#[cfg(test)]
mod tests;
