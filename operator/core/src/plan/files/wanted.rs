//! One directory that a RegistryMirror wants.

use std::collections::BTreeMap;

use crate::{
    digest::Digest,
    marker::{self, Provenance},
};

use super::{
    Backup, BackupId, Bytes, CONTEST_WINDOW, DesiredRegistry, Directory, DriftKind, Entry, FileEntry, FilePath,
    FilesPlan, Finding, HOSTS_TOML, Input, MAX_REVERTS, Obstacle, Op, Original, OwnedDirectory, TEMPORARY_PREFIX,
    Unused, What, certificate_mode, our_certificates, staging, unused,
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
        Some(Entry::Symlink { target }) => {
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

    // Only a file that we know to have written can drift: without the record, a foreign file was there before us.
    let was_written = last_written.is_some();
    let drift = match hosts {
        Hosts::Edited => Some(DriftKind::Edited),
        Hosts::Absent if was_written => Some(DriftKind::Removed),
        Hosts::Foreign(_) if was_written => Some(DriftKind::Replaced),
        Hosts::Absent | Hosts::Foreign(_) | Hosts::AsWanted | Hosts::Stale | Hosts::InTheWay => None,
    };
    let mut reverts: Vec<_> = owned.map(|owned| owned.reverts.clone()).unwrap_or_default();
    reverts.retain(|&time| time <= input.now && input.now.duration_since(time) < CONTEST_WINDOW);
    if let Some(kind) = drift {
        // a new wish is worth one more try
        let is_same_wish = last_written == Some(&digest);
        if reverts.len() >= MAX_REVERTS && is_same_wish {
            plan.findings.push(finding(HOSTS_TOML, What::Contested { reverts: reverts.len() }));
            let again = reverts.iter().filter_map(|&time| time.saturating_add(CONTEST_WINDOW).ok()).min();
            if let Some(again) = again {
                plan.look_at(again);
            }
            return;
        }
        reverts.push(input.now);
        plan.findings.push(finding(HOSTS_TOML, What::Drift(kind)));
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

    notes(input, name, want, directory, plan);
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

fn hosts(directory: &Directory, wanted: &[u8], mode: u32, owner: u32, last_written: Option<&Digest>) -> Hosts {
    match directory.files.get(HOSTS_TOML) {
        None => Hosts::Absent,
        Some(FileEntry::Directory | FileEntry::Other | FileEntry::Regular { content: None, .. }) => Hosts::InTheWay,
        Some(FileEntry::Symlink { target }) => Hosts::Foreign(Original::Symlink { target: target.clone() }),
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

/// What is worth knowing and needs no step.
fn notes(input: &Input<'_>, name: &str, want: &DesiredRegistry, directory: &Directory, plan: &mut FilesPlan) {
    let docker_style: Vec<String> = directory
        .files
        .keys()
        .filter(|file| [".crt", ".cert", ".key"].iter().any(|suffix| file.ends_with(suffix)))
        .cloned()
        .collect();
    if !docker_style.is_empty() {
        plan.findings.push(Finding {
            object: want.object.clone(),
            path: input.certs_d.join(name),
            what: What::DockerStyle { files: docker_style },
        });
    }
    for other in want.registry.directories() {
        let is_there = matches!(
            input.listing.entries.get(&other),
            Some(Entry::Directory(directory)) if directory.files.contains_key(HOSTS_TOML)
        );
        if other != name && is_there {
            plan.findings.push(Finding {
                object: want.object.clone(),
                path: input.certs_d.join(other),
                what: What::Hidden { by: input.certs_d.join(name) },
            });
        }
    }
}
