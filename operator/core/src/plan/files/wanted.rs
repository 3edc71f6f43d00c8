//! One directory that a RegistryMirror wants.

use std::collections::BTreeMap;

use crate::{
    digest::Digest,
    marker::{self, Provenance},
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
    let finding = |path: &str, what| Finding {
        object: want.object.clone(),
        path: if path.is_empty() { input.certs_d.join(name) } else { input.certs_d.join(name).join(path) },
        what,
    };
    let absent = Directory::default();
    let (directory, is_new) = match input.listing.entries.get(name) {
        None => (&absent, true),
        Some(Entry::Directory(directory)) => (directory, false),
        Some(Entry::File | Entry::Other) => {
            plan.findings.push(finding("", What::Blocked(Obstacle::NotADirectory)));
            return;
        }
        Some(Entry::Symlink { target, leads_to: _ }) => {
            let obstacle = Obstacle::SymlinkedDirectory { target: target.clone() };
            plan.findings.push(finding("", What::Blocked(obstacle)));
            return;
        }
    };
    let content = want.file();
    let digest = Digest::of(&content);
    let owned = input.ownership.directories.get(name);
    let last_written = owned.and_then(|owned| owned.written.as_ref());
    let hosts = hosts(directory, &content, want.mode(), input.writer, last_written);
    let blocked = want.certificates.keys().chain([&HOSTS_TOML.to_owned()]).find_map(|file| {
        let in_the_way = matches!(directory.files.get(file), Some(FileEntry::Directory | FileEntry::Other));
        let too_large = file == HOSTS_TOML && matches!(hosts, Hosts::InTheWay);
        (in_the_way || too_large).then(|| file.clone())
    });
    if let Some(file) = blocked {
        plan.findings.push(finding(&file, What::Blocked(Obstacle::NotAFile)));
        return;
    }

    let mut reverts = owned.map(|owned| owned.reverts.clone()).unwrap_or_default().recent(input.now);
    // A new wish is written at once, whatever stands there.
    let is_same_wish = last_written == Some(&digest);
    if let Some((file, kind)) = drift(directory, &hosts, want, owned, is_same_wish, input.writer) {
        let until = reverts.due(input.now);
        if let Some(quarrel) = reverts.history().filter(|_| is_same_wish && until > input.now) {
            plan.findings.push(finding(&file, What::Waits { kind, quarrel, until }));
            plan.look_at(until);
            if let Some(backup) = owned.and_then(|owned| owned.backup.as_ref()) {
                plan.findings.push(finding(HOSTS_TOML, What::BackedUp { backup: backup.id.clone() }));
            }
            return;
        }
        reverts.note(input.now);
        plan.findings.push(finding(&file, What::Drift(kind)));
    }
    if let Some(quarrel) = reverts.quarrel() {
        plan.findings.push(finding("", What::Contested { quarrel }));
    }

    let mut backup = owned.and_then(|owned| owned.backup.clone());
    let target = if is_new { staging(name) } else { name.to_owned() };
    if is_new {
        plan.ops.push(Op::CreateDirectory { name: target.clone() });
    }
    for (file, content) in &want.certificates {
        let mode = certificate_mode(content);
        if !holds(directory.files.get(file), content, mode, input.writer) {
            let path = FilePath::new(&target, file);
            plan.ops.push(Op::Write { path, content: Bytes(content.clone()), mode });
        }
    }
    if let Hosts::Foreign(original) = &hosts {
        let path = FilePath::new(name, HOSTS_TOML);
        let id = BackupId::of(&input.certs_d.join(name).join(HOSTS_TOML).to_string_lossy(), original);
        let new = Backup { id, original: original.clone() };
        if backup.as_ref() != Some(&new) {
            plan.ops.push(Op::BackUp { path, backup: new.clone() });
            if let Some(earlier) = backup.replace(new) {
                plan.before.supersede(name, earlier.clone());
                plan.after.supersede(name, earlier);
            }
        }
    }
    if !matches!(hosts, Hosts::AsWanted) {
        let path = FilePath::new(&target, HOSTS_TOML);
        plan.ops.push(Op::Write { path, content: Bytes(content), mode: want.mode() });
    }
    if is_new {
        plan.ops.push(Op::MoveDirectory { from: target, to: name.to_owned() });
    }

    let mut certificates: BTreeMap<String, _> = want.certificates.keys().map(|file| (file.clone(), None)).collect();
    for file in our_certificates(owned, directory) {
        if want.certificates.contains_key(&file) {
            continue;
        }
        match unused(input, owned, &file) {
            Unused::Remove => plan.ops.push(Op::Remove(FilePath::new(name, &file))),
            Unused::Keep { until, since } => {
                plan.look_at(until);
                certificates.insert(file, Some(since));
            }
        }
    }
    let leftovers = directory.files.iter().filter(|(file, entry)| is_leftover(file, entry));
    plan.ops.extend(leftovers.map(|(file, _)| Op::Remove(FilePath::new(name, file))));

    if let Some(backup) = &backup {
        plan.findings.push(finding(HOSTS_TOML, What::BackedUp { backup: backup.id.clone() }));
    }
    let created = owned.map_or(is_new, |owned| owned.created || is_new);
    let mut recorded = owned.map(|owned| owned.certificates.clone()).unwrap_or_default();
    recorded.extend(certificates.iter().map(|(file, since)| (file.clone(), *since)));
    plan.before.directories.insert(
        name.to_owned(),
        OwnedDirectory {
            object: want.object.clone(),
            created,
            written: last_written.cloned(),
            certificates: recorded,
            backup: backup.clone(),
            reverts: owned.map(|owned| owned.reverts.clone()).unwrap_or_default(),
        },
    );
    plan.after.directories.insert(
        name.to_owned(),
        OwnedDirectory { object: want.object.clone(), created, written: Some(digest), certificates, backup, reverts },
    );
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
            match marker::provenance(content) {
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
