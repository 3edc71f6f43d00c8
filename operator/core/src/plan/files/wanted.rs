//! One directory that a RegistryMirror wants.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    digest::Digest,
    plan::put_backs::PutBacks,
    provenance::{self, Provenance},
};

use super::{
    Backup, BackupId, Bytes, DesiredRegistry, Directory, DriftKind, Entry, FileEntry, FilePath, FilesPlan, Finding,
    HOSTS_TOML, Input, Obstacle, Op, Original, OwnedDirectory, TEMPORARY_PREFIX, Unused, What, certificate_mode,
    our_certificates, staging, unused,
};

/// What stands where our hosts.toml belongs.
enum Hosts {
    Absent,
    AsWanted,
    /// Ours and whole, of an earlier wish or with another mode.
    Stale,
    Edited,
    Foreign(Original),
    InTheWay,
}

/// Adds what must be done in directory `name`, so that it holds what `want` says.
pub(super) fn plan(input: &Input<'_>, name: &str, want: &DesiredRegistry, plan: &mut FilesPlan) {
    let owned = input.ownership.directories.get(name);
    let mut wanted = Wanted { input, name, want, owned, plan };
    let absent = Directory::default();
    let (directory, is_new) = match input.listing.entries.get(name) {
        None => (&absent, true),
        Some(Entry::Directory(directory)) => (directory, false),
        Some(Entry::File | Entry::Other) => return wanted.finds("", What::Blocked(Obstacle::NotADirectory)),
        Some(Entry::Symlink { target, leads_to: _ }) => {
            let obstacle = Obstacle::SymlinkedDirectory { target: target.clone() };
            return wanted.finds("", What::Blocked(obstacle));
        }
    };
    let content = want.file();
    let digest = Digest::of(&content);
    let last_written = owned.and_then(|owned| owned.written.as_ref());
    let hosts = hosts(directory, &content, want.mode(), input.writer, last_written);
    if let Some(file) = blocked(directory, want, &hosts) {
        return wanted.finds(&file, What::Blocked(Obstacle::NotAFile));
    }
    // A new wish is written at once, whatever stands there.
    let drift = drift(directory, &hosts, want, owned, last_written == Some(&digest), input.writer);
    let Some(reverts) = wanted.put_back(drift, last_written == Some(&digest)) else { return };

    let target = if is_new { staging(name) } else { name.to_owned() };
    if is_new {
        wanted.plan.ops.push(Op::CreateDirectory { name: target.clone() });
    }
    for (file, content) in &want.certificates {
        let mode = certificate_mode(content);
        if !holds(directory.files.get(file), content, mode, input.writer) {
            let path = FilePath::new(&target, file);
            wanted.plan.ops.push(Op::Write { path, content: Bytes(content.clone()), mode });
        }
    }
    let backup = wanted.back_up(&hosts);
    if !matches!(hosts, Hosts::AsWanted) {
        let path = FilePath::new(&target, HOSTS_TOML);
        wanted.plan.ops.push(Op::Write { path, content: Bytes(content), mode: want.mode() });
    }
    if is_new {
        wanted.plan.ops.push(Op::MoveDirectory { from: target, to: name.to_owned() });
    }
    let certificates = wanted.clear_away(directory);
    if let Some(backup) = &backup {
        wanted.finds(HOSTS_TOML, What::BackedUp { backup: backup.id.clone() });
    }
    let created = is_new || owned.is_some_and(|owned| owned.created);
    let after =
        OwnedDirectory { object: want.object.clone(), created, written: Some(digest), certificates, backup, reverts };
    wanted.record(after);
}

/// The file of ours in whose place something stands that cannot be replaced.
fn blocked(directory: &Directory, want: &DesiredRegistry, hosts: &Hosts) -> Option<String> {
    want.certificates.keys().chain([&HOSTS_TOML.to_owned()]).find_map(|file| {
        let in_the_way = matches!(directory.files.get(file), Some(FileEntry::Directory | FileEntry::Other));
        let too_large = file == HOSTS_TOML && matches!(hosts, Hosts::InTheWay);
        (in_the_way || too_large).then(|| file.clone())
    })
}

/// The plan while it is made for one directory.
struct Wanted<'a> {
    input: &'a Input<'a>,
    name: &'a str,
    want: &'a DesiredRegistry,
    owned: Option<&'a OwnedDirectory>,
    plan: &'a mut FilesPlan,
}

impl Wanted<'_> {
    fn finds(&mut self, path: &str, what: What) {
        let directory = self.input.certs_d.join(self.name);
        let path = if path.is_empty() { directory } else { directory.join(path) };
        self.plan.findings.push(Finding { object: self.want.object.clone(), path, what });
    }

    /// What is known of put-backs, with this one; `None` where it must wait, because another program changes the file
    /// again and again.
    fn put_back(&mut self, drift: Option<(String, DriftKind)>, is_same_wish: bool) -> Option<PutBacks> {
        let now = self.input.now;
        let mut reverts = self.owned.map(|owned| owned.reverts.clone()).unwrap_or_default().recent(now);
        if let Some((file, kind)) = drift {
            let until = reverts.due(now);
            if let Some(quarrel) = reverts.history().filter(|_| is_same_wish && until > now) {
                self.finds(&file, What::Waits { kind, quarrel, until });
                self.plan.look_at(until);
                if let Some(backup) = self.owned.and_then(|owned| owned.backup.as_ref()) {
                    self.finds(HOSTS_TOML, What::BackedUp { backup: backup.id.clone() });
                }
                return None;
            }
            reverts.note(now);
            self.finds(&file, What::Drift(kind));
        }
        if let Some(quarrel) = reverts.quarrel() {
            self.finds("", What::Contested { quarrel });
        }
        Some(reverts)
    }

    /// The backup that holds from now on: of the foreign file that stands there, or the one from before.
    fn back_up(&mut self, hosts: &Hosts) -> Option<Backup> {
        let mut backup = self.owned.and_then(|owned| owned.backup.clone());
        let Hosts::Foreign(original) = hosts else { return backup };
        let id = BackupId::of(&self.input.certs_d.join(self.name).join(HOSTS_TOML).to_string_lossy(), original);
        let new = Backup { id, original: original.clone() };
        if backup.as_ref() != Some(&new) {
            let path = FilePath::new(self.name, HOSTS_TOML);
            self.plan.ops.push(Op::BackUp { path, backup: new.clone() });
            if let Some(earlier) = backup.replace(new) {
                self.plan.before.supersede(self.name, earlier.clone());
                self.plan.after.supersede(self.name, earlier);
            }
        }
        backup
    }

    /// Removes certificates that are out of use, and what a write left that was cut off. The certificates that stay,
    /// with the time since when they are not wanted.
    fn clear_away(&mut self, directory: &Directory) -> BTreeMap<String, Option<Timestamp>> {
        let Self { input, name, want, owned, plan } = self;
        let mut certificates: BTreeMap<_, _> = want.certificates.keys().map(|file| (file.clone(), None)).collect();
        for file in our_certificates(*owned, directory) {
            if want.certificates.contains_key(&file) {
                continue;
            }
            match unused(input, *owned, &file) {
                Unused::Remove => plan.ops.push(Op::Remove(FilePath::new(name, &file))),
                Unused::Keep { until, since } => {
                    plan.look_at(until);
                    certificates.insert(file, Some(since));
                }
            }
        }
        let leftovers = directory.files.iter().filter(|(file, entry)| is_leftover(file, entry));
        plan.ops.extend(leftovers.map(|(file, _)| Op::Remove(FilePath::new(name, file))));
        certificates
    }

    /// What is ours before the first effect, which holds after a kill as well, and after the last one.
    fn record(self, after: OwnedDirectory) {
        let Self { name, owned, plan, .. } = self;
        let mut certificates = owned.map(|owned| owned.certificates.clone()).unwrap_or_default();
        certificates.extend(after.certificates.iter().map(|(file, since)| (file.clone(), *since)));
        let before = OwnedDirectory {
            written: owned.and_then(|owned| owned.written.clone()),
            certificates,
            reverts: owned.map(|owned| owned.reverts.clone()).unwrap_or_default(),
            ..after.clone()
        };
        plan.before.directories.insert(name.to_owned(), before);
        plan.after.directories.insert(name.to_owned(), after);
    }
}

/// Which file of ours somebody has changed, if any. Only a file that we know to have written can drift: without the
/// record, a foreign file was there before us.
fn drift(
    directory: &Directory,
    hosts: &Hosts,
    want: &DesiredRegistry,
    owned: Option<&OwnedDirectory>,
    is_same_wish: bool,
    writer: u32,
) -> Option<(String, DriftKind)> {
    owned?.written.as_ref()?;
    let of_hosts = match hosts {
        Hosts::Edited => Some(DriftKind::Edited),
        Hosts::Absent => Some(DriftKind::Removed),
        Hosts::Foreign(_) => Some(DriftKind::Replaced),
        // What is wanted stands there, and not as it was written.
        Hosts::Stale if is_same_wish => Some(DriftKind::Attributes),
        Hosts::Stale | Hosts::AsWanted | Hosts::InTheWay => None,
    };
    // hosts.toml names its certificates and is written after them, so this wish's were all there.
    let of_certificate = || {
        let (file, content) =
            want.certificates.iter().filter(|_| is_same_wish).find(|(file, content)| {
                !holds(directory.files.get(*file), content, certificate_mode(content), writer)
            })?;
        let kind = match directory.files.get(file) {
            None => DriftKind::Removed,
            Some(FileEntry::Regular { content: Some(Bytes(found)), .. }) if found == content => DriftKind::Attributes,
            Some(_) => DriftKind::Edited,
        };
        Some((file.clone(), kind))
    };
    of_hosts.map(|kind| (HOSTS_TOML.to_owned(), kind)).or_else(of_certificate)
}

fn hosts(directory: &Directory, wanted: &[u8], mode: u32, owner: u32, last_written: Option<&Digest>) -> Hosts {
    match directory.files.get(HOSTS_TOML) {
        None => Hosts::Absent,
        Some(FileEntry::Directory | FileEntry::Other | FileEntry::Regular { content: None, .. }) => Hosts::InTheWay,
        Some(FileEntry::Symlink { target, content: _ }) => Hosts::Foreign(Original::Symlink { target: target.clone() }),
        Some(file @ FileEntry::Regular { mode: found, uid, gid, content: Some(Bytes(content)) }) => {
            if holds(Some(file), wanted, mode, owner) {
                return Hosts::AsWanted;
            }
            match provenance::of(content) {
                // an older file of ours that somebody copied back is whole, and not what was written last
                Provenance::Ours { intact, .. } => {
                    let digest = Digest::of(content);
                    let is_last = content == wanted || last_written.is_none_or(|written| *written == digest);
                    if intact && is_last { Hosts::Stale } else { Hosts::Edited }
                }
                Provenance::Foreign => {
                    let digest = Digest::of(content);
                    Hosts::Foreign(Original::File { digest, mode: *found, uid: *uid, gid: *gid })
                }
            }
        }
    }
}

fn holds(file: Option<&FileEntry>, wanted: &[u8], wanted_mode: u32, owner: u32) -> bool {
    match file {
        Some(FileEntry::Regular { mode, uid, content: Some(Bytes(content)), .. }) => {
            content == wanted && *mode == wanted_mode && *uid == owner
        }
        _ => false,
    }
}

/// A temporary file of a write that was cut off.
pub(super) fn is_leftover(name: &str, file: &FileEntry) -> bool {
    name.starts_with(TEMPORARY_PREFIX) && file.is_removable()
}
