//! A certs.d that several nodes share: who writes it, who reads it, and who is the last to leave.
//!
//! The locks are `flock`s: they belong to the open file, hold across all mounts of it, and the kernel frees them when
//! their holder dies. A holder keeps its files open for writing, so that their end is an event (`IN_CLOSE_WRITE`) that
//! wakes those who watch the directory; whoever only asks opens them for reading, which is none.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use registry_mirror_core::{
    containerd::Version,
    plan::shared::{
        Census, DIRECTORY, NODE_PREFIX, Neighbour, NodeRecord, OWNER_LOCK, OWNER_RECORD, OwnerRecord, Staying, census,
        who_stays,
    },
};
use rustix::{fs::FlockOperation, io::Errno};

use crate::{
    file_error::{Action, FileError, Reason},
    files::{HostWriter, Written},
    proof,
    root::{HostRoot, Kind},
    state::{PRIVATE, STATE_DIR, StateDir},
};

/// Whether other nodes may have the same directory: it lies on a mount of its own, or nodes have left their records
/// there. On an ordinary node neither is so, and nothing of this module is ever written there.
///
/// # Errors
/// On what the kernel says.
pub fn may_be_shared(root: &HostRoot, certs_d: &Path) -> Result<bool, FileError> {
    let Some(mount) = root.mount(certs_d)? else { return Ok(false) };
    // Whoever shares the operator's state too is no other node.
    let state = Path::new(STATE_DIR).ancestors().find_map(|path| root.mount(path).transpose()).transpose()?;
    if state != Some(mount) && root.mount(Path::new("/"))? != Some(mount) {
        return Ok(true);
    }
    Ok(root.stat(&certs_d.join(DIRECTORY))?.is_some())
}

/// The host's name for itself, by which the nodes of one directory tell each other apart: kubelets register with it
/// unless they are told otherwise.
///
/// # Errors
/// On what the kernel says.
pub fn node_name(root: &HostRoot) -> Result<String, FileError> {
    let name = |path: &str| -> Result<Option<String>, FileError> {
        let text = root.read(Path::new(path))?;
        let text = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
        Ok(text.filter(|text| !text.is_empty() && text.len() < 200 && text.chars().all(fits)))
    };
    Ok(match name("/etc/hostname")? {
        Some(name) => name,
        None => name("/etc/machine-id")?.unwrap_or_else(|| "unnamed".to_owned()),
    })
}

/// This node's part in a shared directory, as long as it is kept.
#[derive(Debug)]
pub struct Share {
    certs_d: PathBuf,
    node: String,
    /// Tells the others that this node's agent runs.
    presence: Lock,
    /// The right to write.
    ownership: Lock,
}

impl Share {
    /// Joins those who share `certs_d`.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn join(writer: &HostWriter, certs_d: &Path) -> Result<Self, FileError> {
        StateDir::of_shared(writer, certs_d)?;
        let node = node_name(writer.root())?;
        let presence = Lock::open(writer, presence(certs_d, &node))?;
        let ownership = Lock::open(writer, certs_d.join(DIRECTORY).join(OWNER_LOCK))?;
        Ok(Self { certs_d: certs_d.to_owned(), node, presence, ownership })
    }

    /// The directory.
    #[must_use]
    pub fn certs_d(&self) -> &Path {
        &self.certs_d
    }

    /// The node's name among the others.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Tells the others which containerd reads the directory here. What they know already is not written again.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn announce(&mut self, writer: &HostWriter, containerd: Version) -> Result<(), FileError> {
        StateDir::of_shared(writer, &self.certs_d)?;
        // Another process of this node may hold it for a while; the record counts all the same.
        self.presence.take(writer)?;
        writer.write(&record(&self.certs_d, &self.node), &NodeRecord::new(containerd).to_json(), PRIVATE)?;
        Ok(())
    }

    /// Whether this node writes the directory: it has the right already, or nobody has it and this node takes it.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn owns(&mut self, writer: &HostWriter) -> Result<bool, FileError> {
        if self.ownership.take(writer)? {
            return Ok(true);
        }
        // `node apply` by hand, while this node's agent is the one that writes: the host's lock keeps the two apart.
        let by_agent = !self.presence.take(writer)?;
        Ok(by_agent && self.in_force(writer.root())?.is_some_and(|record| record.node == self.node))
    }

    /// Counts the others and writes down who has gone. Only the node that writes does.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn count(&self, writer: &HostWriter, containerd: Version) -> Result<Census, FileError> {
        let neighbours = neighbours(writer.root(), &self.certs_d, &self.node)?;
        let census = census(containerd, &neighbours, Timestamp::now());
        for (node, found) in &census.absent {
            writer.write(&record(&self.certs_d, node), &found.to_json(), PRIVATE)?;
        }
        for node in &census.gone {
            remove_records(writer, &self.certs_d, node)?;
        }
        Ok(census)
    }

    /// What the node that writes has put in force; `None` before the first time.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn in_force(&self, root: &HostRoot) -> Result<Option<OwnerRecord>, FileError> {
        in_force(root, &self.certs_d)
    }

    /// Tells the others what is in force. Only the node that writes does.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn tell(&self, writer: &HostWriter, record: &OwnerRecord) -> Result<Written, FileError> {
        let path = self.certs_d.join(DIRECTORY).join(OWNER_RECORD);
        writer.write(&path, &record.to_json(), PRIVATE)
    }
}

/// The node that writes the directory, where that is another one, and what it has put in force. Nothing is written.
///
/// # Errors
/// On what the kernel says.
pub fn written_by_another(root: &HostRoot, certs_d: &Path) -> Result<Option<OwnerRecord>, FileError> {
    let node = node_name(root)?;
    let record = in_force(root, certs_d)?.filter(|record| record.node != node);
    let held = is_held(root, &certs_d.join(DIRECTORY).join(OWNER_LOCK))?;
    Ok(record.filter(|_| held))
}

/// The other nodes that have left a record, by name.
///
/// # Errors
/// On what the kernel says.
pub fn neighbours(root: &HostRoot, certs_d: &Path, node: &str) -> Result<Vec<Neighbour>, FileError> {
    let mut found: BTreeMap<String, Neighbour> = BTreeMap::new();
    for entry in root.read_dir(&certs_d.join(DIRECTORY))?.unwrap_or_default() {
        let name = entry.name.to_string_lossy();
        let Some(name) = name.strip_prefix(NODE_PREFIX) else { continue };
        let Some(name) = name.strip_suffix(".json").or_else(|| name.strip_suffix(".lock")) else { continue };
        if name == node || found.contains_key(name) {
            continue;
        }
        // The lock first: a node takes it before it writes its record.
        let running = is_held(root, &presence(certs_d, name))?;
        let record = root.read(&record(certs_d, name))?.as_deref().and_then(NodeRecord::parse);
        found.insert(name.to_owned(), Neighbour { node: name.to_owned(), record, running });
    }
    Ok(found.into_values().collect())
}

/// Whether this node has joined those who share a directory, or is the last one that could remove what they left.
///
/// # Errors
/// On what the kernel says.
pub fn has_part(root: &HostRoot, certs_d: &Path) -> Result<bool, FileError> {
    let node = node_name(root)?;
    if root.stat(&record(certs_d, &node))?.is_some() {
        return Ok(true);
    }
    let is_there = root.stat(&certs_d.join(DIRECTORY))?.is_some();
    // Somebody who holds the lock without a record is the last one, at work.
    let is_left = is_there && !is_held(root, &certs_d.join(DIRECTORY).join(OWNER_LOCK))?;
    Ok(is_left && neighbours(root, certs_d, &node)?.is_empty())
}

/// The names of the other nodes that still need the files of a directory.
///
/// # Errors
/// On what the kernel says.
pub fn others_who_stay(root: &HostRoot, certs_d: &Path, staying: Staying) -> Result<Vec<String>, FileError> {
    Ok(who_stays(&neighbours(root, certs_d, &node_name(root)?)?, staying))
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
    _ownership: Option<OwnedFd>,
}

/// Takes this node's record away and says whether the others still need the files. The record goes first, so that of
/// several nodes that leave at the same moment at least the last one sees nobody.
///
/// # Errors
/// On what the kernel says.
pub fn leave(writer: &HostWriter, certs_d: &Path, staying: Staying) -> Result<Leaving, FileError> {
    let root = writer.root();
    let node = node_name(root)?;
    let owner = in_force(root, certs_d)?.map(|record| record.node);
    remove_records(writer, certs_d, &node)?;
    let stay = others_who_stay(root, certs_d, staying)?;
    if !stay.is_empty() {
        return Ok(Leaving::Stay(stay));
    }
    let path = certs_d.join(DIRECTORY).join(OWNER_LOCK);
    let farewell = |ownership| Farewell { certs_d: certs_d.to_owned(), _ownership: ownership };
    // For reading: its end must not wake this node's own agent, which would put the node back again.
    let Some(file) = root.open_to_lock(&path)? else { return Ok(Leaving::Last(farewell(None))) };
    match lock(&path, &file, FlockOperation::NonBlockingLockExclusive)? {
        true => Ok(Leaving::Last(farewell(Some(file)))),
        // By this node's own agent, while somebody puts the node back by hand: the host's lock keeps the two apart.
        false if owner.as_deref() == Some(node.as_str()) => Ok(Leaving::Last(farewell(None))),
        // By one that has joined at this moment.
        false => Ok(Leaving::Stay(vec![owner.unwrap_or_else(|| "another node".to_owned())])),
    }
}

impl Farewell {
    /// Removes what the nodes have told each other, when the files are gone.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn complete(self, writer: &HostWriter) -> Result<(), FileError> {
        let Self { certs_d, _ownership } = self;
        for directory in proof::left_behind(writer.root(), &certs_d)? {
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

    /// Whether it is held now: it was, or nobody had it.
    fn take(&mut self, writer: &HostWriter) -> Result<bool, FileError> {
        if !is_still_at(writer.root(), &self.path, &self.file)? {
            // Somebody has removed it, and a lock on it means nothing to those who come later.
            *self = Self::open(writer, self.path.clone())?;
        }
        if !self.held && lock(&self.path, &self.file, FlockOperation::NonBlockingLockExclusive)? {
            self.held = is_still_at(writer.root(), &self.path, &self.file)?;
        }
        Ok(self.held)
    }
}

fn in_force(root: &HostRoot, certs_d: &Path) -> Result<Option<OwnerRecord>, FileError> {
    let json = root.read(&certs_d.join(DIRECTORY).join(OWNER_RECORD))?;
    Ok(json.as_deref().and_then(OwnerRecord::parse))
}

fn record(certs_d: &Path, node: &str) -> PathBuf {
    certs_d.join(DIRECTORY).join(format!("{NODE_PREFIX}{node}.json"))
}

fn presence(certs_d: &Path, node: &str) -> PathBuf {
    certs_d.join(DIRECTORY).join(format!("{NODE_PREFIX}{node}.lock"))
}

/// The lock goes last: a record without one is that of a node whose agent does not run.
fn remove_records(writer: &HostWriter, certs_d: &Path, node: &str) -> Result<(), FileError> {
    writer.remove(&record(certs_d, node))?;
    writer.remove(&presence(certs_d, node))?;
    Ok(())
}

/// Whether somebody holds the lock. Those who ask at the same moment are not in each other's way.
fn is_held(root: &HostRoot, path: &Path) -> Result<bool, FileError> {
    let Some(file) = root.open_to_lock(path)? else { return Ok(false) };
    Ok(!lock(path, &file, FlockOperation::NonBlockingLockShared)?)
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
