//! Which files must change in certs.d, and in which order, so that containerd reads what is wanted.
//!
//! The rules: certificates before the hosts.toml that names them; a new directory is filled under another name and
//! renamed into place, because an empty one would shadow `_default` (containerd takes the first directory that exists,
//! even without a hosts.toml); a foreign hosts.toml in the way is backed up first; certificates that no file names any
//! more stay for a grace, because a pull that has just read hosts.toml reads them next; what is not ours and not in
//! the way is never touched.

mod finding;
pub mod foreign;
mod listing;
mod newly_read;
mod op;
mod ownership;
mod steps;
mod unwanted;
mod wanted;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use jiff::{SignedDuration, Timestamp};

use crate::{digest::Digest, provenance, registry::RegistryName};

pub use finding::{DriftKind, Finding, Obstacle, What};
pub use listing::{Bytes, Directory, Entry, FileEntry, Listing, is_docker_style};
pub use newly_read::{NewlyRead, newly_read};
pub use op::{FilePath, Op};
pub use ownership::{Backup, BackupId, Original, OwnedDirectory, Ownership, Superseded};
pub use steps::{Step, StepKind, steps};

/// The one file of a registry directory that containerd looks for.
pub const HOSTS_TOML: &str = "hosts.toml";

/// Names that begin so are temporary files and half-made directories of ours: no registry can be called so, and
/// containerd reads no file with such a name.
pub const TEMPORARY_PREFIX: &str = ".registry-mirror.";

/// How long a certificate that no file names any more stays. containerd reads hosts.toml and the certificates that it
/// names within milliseconds; ten seconds cover a machine under load.
pub const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// What must stand in one registry's directory.
#[derive(Clone, PartialEq, Eq)]
pub struct DesiredRegistry {
    /// The RegistryMirror's name, for the marker and for messages.
    pub object: String,
    /// The registry whose directory it is.
    pub registry: RegistryName,
    /// The file without its marker line.
    pub hosts_toml: String,
    /// Certificates and keys by content-addressed file name (`ca-<16 hex digits of the SHA-256>.pem`).
    pub certificates: BTreeMap<String, Vec<u8>>,
    /// Whether hosts.toml holds a secret: it is readable by root alone then.
    pub secret: bool,
}

impl fmt::Debug for DesiredRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, registry, hosts_toml, certificates, secret } = self;
        f.debug_struct("DesiredRegistry")
            .field("object", object)
            .field("registry", registry)
            .field("hosts_toml", &format_args!("[{} bytes]", hosts_toml.len()))
            .field("certificates", &certificates.keys())
            .field("secret", secret)
            .finish()
    }
}

impl DesiredRegistry {
    /// The bytes of hosts.toml, marker included.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        provenance::mark(&self.object, &self.hosts_toml).into_bytes()
    }

    /// Permission bits of hosts.toml.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        if self.secret { 0o600 } else { 0o644 }
    }
}

/// Permission bits of a certificate file: a private key is for root alone. containerd runs as root.
#[must_use]
pub fn certificate_mode(content: &[u8]) -> u32 {
    const KEY: &[u8] = b"PRIVATE KEY-----";
    if content.windows(KEY.len()).any(|window| window == KEY) { 0o600 } else { 0o644 }
}

/// Everything that [`plan_files`] depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The directory's path on the host, for messages.
    pub certs_d: &'a Path,
    /// What stands in it.
    pub listing: &'a Listing,
    /// The number of the user who writes, 0 on every real node: a file of ours that belongs to somebody else is
    /// written anew.
    pub writer: u32,
    /// What of that is ours, as recorded.
    pub ownership: &'a Ownership,
    /// What must stand there; where two name one directory the first counts.
    pub desired: &'a [DesiredRegistry],
    /// Registries of suspended objects: their directories stay as they are.
    pub on_hold: &'a BTreeSet<RegistryName>,
    /// Registries that another program writes, with that program's file (`/etc/rancher/k3s/registries.yaml`): left
    /// alone and reported.
    pub claimed: &'a BTreeMap<RegistryName, String>,
    /// The time of the decision.
    pub now: Timestamp,
    /// How long unused certificates stay; [`GRACE`], or zero for an undo that does not come back.
    pub grace: SignedDuration,
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilesPlan {
    /// The steps on the host.
    pub ops: Vec<Op>,
    /// What must be recorded before the steps, so that a crash between them loses neither a backup nor a directory
    /// that is ours to remove. Backups are stored before it is written.
    pub before: Ownership,
    /// What must be recorded after them.
    pub after: Ownership,
    /// What people should know.
    pub findings: Vec<Finding>,
    /// When to look again, because a certificate's grace ends then.
    pub next_look: Option<Timestamp>,
}

impl FilesPlan {
    /// Whether anything on the host changes. The record may change even so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn look_at(&mut self, time: Timestamp) {
        self.next_look = Some(self.next_look.map_or(time, |earlier| earlier.min(time)));
    }
}

/// Decides what to do so that certs.d holds what is desired and nothing of ours besides. Total.
#[must_use]
pub fn plan_files(input: &Input<'_>) -> FilesPlan {
    let mut plan = FilesPlan { before: input.ownership.clone(), after: input.ownership.clone(), ..Default::default() };
    clean_up_staging(input.listing, &mut plan);

    let mut desired: BTreeMap<String, &DesiredRegistry> = BTreeMap::new();
    for want in input.desired {
        desired.entry(want.registry.directory()).or_insert(want);
    }
    let on_hold: BTreeSet<String> = input.on_hold.iter().map(RegistryName::directory).collect();
    let claim = |name: &str| input.claimed.get_key_value(&RegistryName::of_directory(name)?);

    let concerned: BTreeSet<&String> = desired
        .keys()
        .chain(input.ownership.directories.keys())
        .chain(input.listing.entries.iter().filter(|(_, entry)| entry.has_ours()).map(|(name, _)| name))
        .filter(|name| !name.starts_with(TEMPORARY_PREFIX))
        .collect();
    for name in concerned {
        if on_hold.contains(name) {
            continue;
        }
        if let Some((registry, by)) = claim(name) {
            let want = desired.get(name);
            if let Some(want) = want {
                plan.findings.push(Finding {
                    object: want.object.clone(),
                    path: input.certs_d.join(registry.as_str()),
                    what: What::Claimed { registry: registry.clone(), by: by.clone() },
                });
            }
            unwanted::plan_claimed(input, name, want.is_some() && name == registry.as_str(), &mut plan);
            continue;
        }
        match desired.get(name) {
            Some(want) => wanted::plan(input, name, want, &mut plan),
            None => unwanted::plan(input, name, &mut plan),
        }
    }
    plan
}

/// Removes what a run that was cut off had begun to make. Nobody else uses such names.
fn clean_up_staging(listing: &Listing, plan: &mut FilesPlan) {
    for (name, entry) in &listing.entries {
        let Entry::Directory(directory) = entry else { continue };
        if name.starts_with(TEMPORARY_PREFIX) {
            discard(name, directory.files.iter().filter(|(_, file)| file.is_removable()).map(|(name, _)| name), plan);
        }
    }
}

/// Removes these files and then the directory, if nothing else is in it.
fn discard<'a>(directory: &str, files: impl Iterator<Item = &'a String>, plan: &mut FilesPlan) {
    plan.ops.extend(files.map(|file| Op::Remove(FilePath::new(directory, file))));
    plan.ops.push(Op::RemoveDirectory { name: directory.to_owned() });
}

/// The name under which a directory is filled before it is renamed into place, or emptied after it was renamed away.
fn staging(directory: &str) -> String {
    format!("{TEMPORARY_PREFIX}{}", Digest::of(directory.as_bytes()).short())
}

/// The names of certificates of ours in a directory: recorded ones, and those whose name says the hash of their
/// content, which no other program's does.
fn our_certificates(owned: Option<&OwnedDirectory>, directory: &Directory) -> BTreeSet<String> {
    let recorded = owned.into_iter().flat_map(|owned| owned.certificates.keys().cloned());
    let recognised = directory.files.iter().filter(|(name, file)| file.is_our_certificate(name));
    let recognised = recognised.map(|(name, _)| name.clone());
    recorded.filter(|name| directory.files.contains_key(name)).chain(recognised).collect()
}

/// What becomes of a certificate that no file names any more.
enum Unused {
    /// Its grace is over.
    Remove,
    /// It stays until this time; unused since that time.
    Keep { until: Timestamp, since: Timestamp },
}

fn unused(input: &Input<'_>, owned: Option<&OwnedDirectory>, name: &str) -> Unused {
    let recorded = owned.and_then(|owned| owned.certificates.get(name).copied().flatten());
    // a clock that was set back must not keep it for years
    let since = recorded.map_or(input.now, |since| since.min(input.now));
    let until = since.saturating_add(input.grace).unwrap_or(Timestamp::MAX);
    if until <= input.now { Unused::Remove } else { Unused::Keep { until, since } }
}
