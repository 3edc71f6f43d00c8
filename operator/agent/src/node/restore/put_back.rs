//! The files of a host, put back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use registry_mirror_core::{
    config_toml::MigratedRegistry,
    containerd::Version,
    plan::{
        files::{
            DesiredRegistry, FilesPlan, Finding, GRACE, HOSTS_TOML, Input, Listing, Ownership, Step, What, plan_files,
            steps,
        },
        migrated,
    },
};
use registry_mirror_host::{
    certs_d,
    files::{HostWriter, WriteScope},
    observe::proxy,
    proof,
    shared::{Farewell, Leaving, is_last, leave, may_be_shared, remove_all},
    state::{ConfigEdit, STATE_DIR, StateDir},
};

use super::{
    host::{Host, directory_of, still_shared},
    outcome::{Depth, RestoreError, Restored},
};
use crate::node::edits::take_back;

impl Host {
    pub(super) fn has_anything_of_ours(&self) -> Result<bool, RestoreError> {
        if self.root.stat(Path::new(STATE_DIR))?.is_some() {
            return Ok(true);
        }
        if !proxy::drop_ins_of_ours(&self.root)?.is_empty() {
            return Ok(true);
        }
        for directory in &self.directories {
            if may_be_shared(&self.root, directory)? {
                if is_last(&self.root, directory)? {
                    return Ok(true);
                }
                if !self.others_who_stay(directory)?.is_empty() {
                    continue;
                }
            }
            let listing = certs_d::observe(&self.root, directory)?;
            let nothing = Wanted::default();
            if !plan(directory, &listing, &Ownership::default(), &nothing, SignedDuration::ZERO).ops.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn put_back(&self) -> Result<Restored, RestoreError> {
        let mut restored = Restored::default();
        let state = self.state(&[])?;
        // First of all: an agent that starts without the API server must not go on with it.
        state.remove_bundle()?;
        let loaded = state.edits()?;
        // Whoever read the record last has set a broken one aside, here or in an earlier pass.
        for broken in self.broken_records()? {
            restored.by_hand.push(format!(
                "the record of the operator's edits was broken and is set aside as {}: if `config_path` was not set in \
                 containerd's configuration before the operator, take it out by hand, then remove {STATE_DIR}",
                broken.display()
            ));
        }
        let edits = loaded.value.unwrap_or_default();
        let edited = !edits.is_empty();
        let mut directories = self.directories.clone();
        directories.extend(state.owned_certs_d()?);
        let wanted = self.wanted(&edits)?;
        let mut last = Vec::new();
        for directory in &directories {
            last.extend(self.put_directory_back(directory, &wanted, &mut restored).await?);
        }
        self.remove_drop_ins(&mut restored).await?;
        let kept = self.take_edits_back(edits, &mut restored)?;
        state.save_edits(&kept)?;
        if restored.is_clean() {
            // To containerd an empty directory is as none at all; where no edit of ours named one, it is not ours.
            for directory in directories.iter().filter(|_| edited) {
                // Nor is one that others may have too; and a mount point cannot be removed.
                if !may_be_shared(&self.root, directory)? {
                    self.state(&[directory])?.writer().remove_dir_if_empty(directory)?;
                }
            }
            for (writer, farewell) in last {
                farewell.complete(&writer)?;
            }
            self.remove_state()?;
        }
        Ok(restored)
    }

    fn broken_records(&self) -> Result<Vec<PathBuf>, RestoreError> {
        let entries = self.root.read_dir(Path::new(STATE_DIR))?.unwrap_or_default();
        let broken = entries.iter().filter(|entry| entry.name.to_string_lossy().starts_with("edits.json.broken-"));
        Ok(broken.map(|entry| Path::new(STATE_DIR).join(&entry.name)).collect())
    }

    /// The files that stay: those of old registry tables that do not come back.
    fn wanted(&self, edits: &[ConfigEdit]) -> Result<Wanted, RestoreError> {
        let mut wanted = Wanted::default();
        for edit in edits.iter().rev() {
            migrated::add_missing(&mut wanted.recorded, &edit.migrated);
            let action = take_back(&self.root, edit)?;
            if let Some(directory) = directory_of(edit).filter(|_| self.stays(edit, &action)) {
                let files = wanted.files.entry(directory).or_default();
                add_missing_files(files, edit, self.version);
            }
        }
        Ok(wanted)
    }

    /// Where several nodes share a directory, the last one that leaves puts it back; it also removes what they have
    /// told each other, when all is done.
    async fn put_directory_back(
        &self,
        directory: &Path,
        wanted: &Wanted,
        restored: &mut Restored,
    ) -> Result<Option<(HostWriter, Farewell)>, RestoreError> {
        let state = self.state(&[directory])?;
        self.remove_proof(&state, directory)?;
        if !may_be_shared(&self.root, directory)? {
            self.put_files_back(&state, directory, wanted, restored).await?;
            return Ok(None);
        }
        match leave(&self.root, directory)? {
            Leaving::Stay(others) => {
                restored.shared.push(still_shared(directory, &others));
                Ok(None)
            }
            Leaving::Last(farewell) => {
                let records = StateDir::of_shared(state.writer(), directory)?;
                self.put_files_back(&records, directory, wanted, restored).await?;
                Ok(Some((state.writer().clone(), farewell)))
            }
        }
    }

    /// Our files go, and those of before come back. Certificates that a pull may just be reading go last.
    async fn put_files_back(
        &self,
        state: &StateDir,
        directory: &Path,
        wanted: &Wanted,
        restored: &mut Restored,
    ) -> Result<(), RestoreError> {
        let backups = state.path().join("backups");
        let backups = backups.display();
        let mut told = BTreeSet::new();
        let grace = match self.depth {
            Depth::Safe => GRACE,
            Depth::Exact => SignedDuration::ZERO,
        };
        loop {
            let listing = certs_d::observe(&self.root, directory)?;
            let (ownership, warnings) = state.ownership(directory)?;
            for warning in warnings {
                push_new(&mut restored.by_hand, warning);
            }
            let plan = plan(directory, &listing, &ownership, wanted, grace);
            restored.done.extend(steps(directory, &plan.ops).iter().map(Step::words));
            for Finding { path, what, .. } in &plan.findings {
                if let What::NotRestored { backup } = what
                    && told.insert(backup.clone())
                {
                    restored.stays.push(format!(
                        "{} is no longer the file that the operator wrote and stays as it is; what stood there before is \
                         {backups}/{backup}.json",
                        path.display()
                    ));
                }
            }
            certs_d::apply(state, directory, &plan)?;
            let Some(next) = plan.next_look else { break };
            let wait = next.duration_since(Timestamp::now());
            tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
        }
        let (ownership, _) = state.ownership(directory)?;
        for superseded in &ownership.superseded {
            let path = directory.join(&superseded.directory).join(HOSTS_TOML);
            let id = &superseded.backup.id;
            if told.insert(id.clone()) {
                restored.stays.push(format!(
                    "an earlier {} is kept as {backups}/{id}.json, because somebody else had replaced it",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// What a proof that was cut off has left.
    fn remove_proof(&self, state: &StateDir, directory: &Path) -> Result<(), RestoreError> {
        let proof = proof::directory(&self.root, directory)?;
        let hosts = proof.join(HOSTS_TOML);
        if self.root.stat(&proof)?.is_some() {
            state.writer().remove(&hosts)?;
            state.writer().remove_dir_if_empty(&proof)?;
        }
        Ok(())
    }

    /// Removes the state directory with everything in it. Somebody who waits for the lock in it finds nothing of ours
    /// and starts anew.
    fn remove_state(&self) -> Result<(), RestoreError> {
        let writer = HostWriter::new(self.root.clone(), WriteScope::state_only());
        Ok(remove_all(&writer, Path::new(STATE_DIR))?)
    }
}

/// What stays in the directories of hosts.toml files.
#[derive(Default)]
struct Wanted {
    /// By directory.
    files: BTreeMap<PathBuf, Vec<DesiredRegistry>>,
    /// All old tables that were carried over, also those that come back.
    recorded: Vec<MigratedRegistry>,
}

fn add_missing_files(files: &mut Vec<DesiredRegistry>, edit: &ConfigEdit, version: Version) {
    for old in &edit.migrated {
        if !files.iter().any(|known| known.registry == old.registry) {
            files.push(migrated::alone(old, version));
        }
    }
}

fn plan(certs_d: &Path, listing: &Listing, ownership: &Ownership, wanted: &Wanted, grace: SignedDuration) -> FilesPlan {
    let Wanted { files, recorded } = wanted;
    plan_files(&Input {
        certs_d,
        listing,
        writer: certs_d::writer_uid(),
        ownership,
        desired: files.get(certs_d).map_or(&[], Vec::as_slice),
        on_hold: &migrated::orphans(listing, recorded),
        claimed: &BTreeMap::new(),
        now: Timestamp::now(),
        grace,
    })
}

fn push_new(list: &mut Vec<String>, sentence: String) {
    if !list.contains(&sentence) {
        list.push(sentence);
    }
}
