//! One directory with files of ours that no RegistryMirror wants any more.

use std::collections::BTreeMap;

use crate::{
    digest::Digest,
    plan::put_backs::PutBacks,
    provenance::{self, Provenance},
};

use super::{
    Backup, Bytes, Entry, FileEntry, FilePath, FilesPlan, Finding, HOSTS_TOML, Input, Op, Original, OwnedDirectory,
    Unused, What, discard, our_certificates, staging, unused, wanted::is_leftover,
};

/// Adds what must be done so that directory `name` is again as it was before us, apart from what others changed.
pub(super) fn plan(input: &Input<'_>, name: &str, plan: &mut FilesPlan) {
    let owned = input.ownership.directories.get(name);
    let object = owned.map_or_else(String::new, |owned| owned.object.clone());
    let backup = owned.and_then(|owned| owned.backup.clone());
    plan.after.directories.remove(name);
    let Some(Entry::Directory(directory)) = input.listing.entries.get(name) else {
        keep_backup(input, name, &object, backup, plan);
        return;
    };

    let hosts = directory.files.get(HOSTS_TOML);
    let hosts_are_ours = directory.hosts_are_ours();
    let mut certificates = BTreeMap::new();
    let mut gone = Vec::new();
    for file in our_certificates(owned, directory) {
        match unused(input, owned, &file) {
            Unused::Remove => gone.push(file),
            Unused::Keep { until, since } => {
                plan.look_at(until);
                certificates.insert(file, Some(since));
            }
        }
    }
    gone.extend(directory.files.iter().filter(|(file, entry)| is_leftover(file, entry)).map(|(file, _)| file.clone()));
    gone.retain(|file| directory.files.get(file).is_some_and(FileEntry::is_removable));

    if hosts_are_ours {
        if let Some(backup) = backup {
            let path = FilePath::new(name, HOSTS_TOML);
            plan.ops.push(Op::Restore { path, backup });
        } else if certificates.is_empty() {
            gone.push(HOSTS_TOML.to_owned());
        } else {
            plan.ops.push(Op::Remove(FilePath::new(name, HOSTS_TOML)));
        }
    } else if let Some(backup) = backup
        && !hosts.is_some_and(|hosts| is_original(hosts, &backup))
    {
        keep_backup(input, name, &object, Some(backup), plan);
    }

    // Without a record it is unknown who made the directory; an empty one would shadow `_default`, so it goes.
    let created = owned.is_none_or(|owned| owned.created);
    let becomes_empty = directory.files.keys().all(|file| gone.contains(file));
    if created && becomes_empty {
        // moved away whole, so that it never stands there empty; removing it then is out of containerd's sight
        let away = staging(name);
        plan.ops.push(Op::MoveDirectory { from: name.to_owned(), to: away.clone() });
        discard(&away, gone.iter(), plan);
    } else {
        plan.ops.extend(gone.iter().map(|file| Op::Remove(FilePath::new(name, file))));
    }
    if !certificates.is_empty() {
        let waiting =
            OwnedDirectory { object, created, written: None, certificates, backup: None, reverts: PutBacks::default() };
        plan.after.directories.insert(name.to_owned(), waiting);
    }
}

/// The same for a directory of a registry that another program keeps for itself, where our file is as we wrote it.
///
/// K3s calls its directories `host:5000` and removes those, so one of ours that is called `host_5000_`, which is read
/// first, would hide K3s's for ever. A directory of the same name is `replaced` at K3s's start; until then a wanted file
/// in it serves, for K3s has not read that it is to serve the registry.
pub(super) fn plan_claimed(input: &Input<'_>, name: &str, replaced: bool, plan: &mut FilesPlan) {
    let hosts = match input.listing.entries.get(name) {
        Some(Entry::Directory(directory)) => directory.files.get(HOSTS_TOML),
        _ => None,
    };
    let provenance = match hosts {
        Some(FileEntry::Regular { content: Some(Bytes(content)), .. }) => Some(provenance::of(content)),
        _ => None,
    };
    match provenance {
        Some(Provenance::Ours { intact, .. }) if replaced || !intact => {}
        _ => self::plan(input, name, plan),
    }
}

/// The backup cannot go back, because the file is no longer the one that we wrote.
fn keep_backup(input: &Input<'_>, name: &str, object: &str, backup: Option<Backup>, plan: &mut FilesPlan) {
    let Some(backup) = backup else { return };
    plan.findings.push(Finding {
        object: object.to_owned(),
        path: input.certs_d.join(name).join(HOSTS_TOML),
        what: What::NotRestored { backup: backup.id.clone() },
    });
    plan.before.supersede(name, backup.clone());
    plan.after.supersede(name, backup);
}

/// Whether the file is what the backup is a copy of: it was put back already.
fn is_original(file: &FileEntry, backup: &Backup) -> bool {
    match (file, &backup.original) {
        (FileEntry::Regular { content: Some(Bytes(content)), .. }, Original::File { digest, .. }) => {
            provenance::of(content) == Provenance::Foreign && Digest::of(content) == *digest
        }
        (FileEntry::Symlink { target: found, content: _ }, Original::Symlink { target }) => found == target,
        _ => false,
    }
}
