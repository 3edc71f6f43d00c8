//! A certs.d in memory that carries out the steps as the host crate does, for tests.

use std::collections::BTreeMap;

use crate::digest::Digest;

use super::{BackupId, Bytes, Directory, Entry, FileEntry, FilePath, FilesPlan, Listing, Op, Original, Ownership};

/// certs.d, the record and the stored backups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SimulatedHost {
    pub listing: Listing,
    pub ownership: Ownership,
    pub backups: BTreeMap<BackupId, FileEntry>,
}

impl SimulatedHost {
    /// Carries out at most `steps` steps: the backups, the record before, each other op, the record after.
    pub fn apply_until(&mut self, plan: &FilesPlan, steps: usize) {
        let (backups, rest): (Vec<_>, Vec<_>) = plan.ops.iter().partition(|op| matches!(op, Op::BackUp { .. }));
        let mut left = steps;
        let mut step = |host: &mut Self, effect: &mut dyn FnMut(&mut Self)| {
            if left > 0 {
                left -= 1;
                effect(host);
            }
        };
        for op in backups {
            step(self, &mut |host| host.carry_out(op));
        }
        step(self, &mut |host| host.ownership = plan.before.clone());
        for op in rest {
            step(self, &mut |host| host.carry_out(op));
        }
        step(self, &mut |host| {
            host.ownership = plan.after.clone();
            let kept: Vec<BackupId> = plan.after.backups().cloned().collect();
            host.backups.retain(|id, _| kept.contains(id));
        });
    }

    pub fn apply(&mut self, plan: &FilesPlan) {
        self.apply_until(plan, usize::MAX);
    }

    fn directory(&mut self, name: &str) -> &mut Directory {
        match self.listing.entries.get_mut(name) {
            Some(Entry::Directory(directory)) => directory,
            other => panic!("{name} is no directory: {other:?}"),
        }
    }

    fn write(&mut self, path: &FilePath, file: FileEntry) {
        let directory = self.directory(&path.directory);
        let in_the_way = directory.files.get(&path.name);
        assert!(!matches!(in_the_way, Some(FileEntry::Directory | FileEntry::Other)), "{path} is no file");
        directory.files.insert(path.name.clone(), file);
    }

    fn carry_out(&mut self, op: &Op) {
        match op {
            Op::BackUp { path, backup } => {
                let file = self.directory(&path.directory).files.get(&path.name).expect("the original").clone();
                match (&file, &backup.original) {
                    (FileEntry::Regular { content: Some(Bytes(content)), .. }, Original::File { digest, .. }) => {
                        assert_eq!(&Digest::of(content), digest);
                    }
                    (FileEntry::Symlink { target: found, .. }, Original::Symlink { target }) => {
                        assert_eq!(found, target);
                    }
                    other => panic!("{other:?}"),
                }
                self.backups.insert(backup.id.clone(), file);
            }
            Op::CreateDirectory { name } => {
                let earlier = self.listing.entries.insert(name.clone(), Entry::Directory(Directory::default()));
                assert_eq!(earlier, None, "{name} was there");
            }
            Op::Write { path, content, mode } => {
                let file = FileEntry::Regular { mode: *mode, uid: 0, gid: 0, content: Some(content.clone()) };
                self.write(path, file);
            }
            Op::Restore { path, backup } => {
                let file = self.backups.get(&backup.id).expect("a stored backup").clone();
                self.write(path, file);
            }
            Op::Remove(path) => {
                let removed = self.directory(&path.directory).files.remove(&path.name);
                assert!(removed.is_some_and(|file| file.is_removable()), "{path} was not there");
            }
            Op::MoveDirectory { from, to } => {
                let directory = self.listing.entries.remove(from).expect("the directory");
                let earlier = self.listing.entries.insert(to.clone(), directory);
                assert_eq!(earlier, None, "{to} was there");
            }
            Op::RemoveDirectory { name } => {
                if self.directory(name).files.is_empty() {
                    self.listing.entries.remove(name);
                }
            }
        }
    }
}
