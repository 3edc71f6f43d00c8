//! Putting a node back as it was before the operator, safely for the daemon that runs.
//!
//! Two depths. The safe one leaves the node pulling at least as well as before, at once and after containerd's next
//! start: our files go (or those of before come back) and our own edit is taken out of config.toml, which the running
//! daemon does not notice. Where old registry tables were carried over into hosts.toml files, these files and
//! `config_path` stay, because the running daemon knows nothing else. The exact one puts every byte back at once, and
//! says whether containerd must be restarted for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use registry_mirror_core::{
    config_toml::{MigratedRegistry, Undo},
    containerd::Version,
    plan::{
        config::DEFAULT_DIRECTORY,
        files::{DesiredRegistry, FilesPlan, Finding, GRACE, HOSTS_TOML, Input, Listing, Ownership, What, plan_files},
        migrated,
        shared::Staying,
    },
};
use registry_mirror_host::{
    certs_d,
    file_error::FileError,
    files::{Attributes, HostWriter, Owner, WriteScope, Written},
    observe::proxy,
    proof,
    root::HostRoot,
    shared::{Farewell, Leaving, has_part, leave, may_be_shared, others_who_stay, remove_all},
    state::{ConfigEdit, STATE_DIR, StateDir},
    systemd::Systemd,
};

use super::{
    Asking, Node,
    edits::{MOST_LENIENT, TakeBack, add_missing, take_back},
    preview::{Step, steps},
};
use crate::{
    facts::{Facts, Verdict},
    metrics::Metrics,
};

/// How far a node is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What the running daemon depends on stays.
    Safe,
    /// Every byte of before, at once.
    Exact,
}

/// What was put back, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// What was done, a few words each.
    pub done: Vec<String>,
    /// What stays, and why: a sentence each.
    pub stays: Vec<String>,
    /// What a person must do: a sentence each.
    pub by_hand: Vec<String>,
    /// Files that other nodes still need: a sentence each.
    pub shared: Vec<String>,
    /// Why containerd must be restarted, where it must.
    pub restart_due: Option<String>,
}

impl Restored {
    /// All of it in one sentence or a few, for status.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentences = vec![match self.is_clean() {
            true if !self.shared.is_empty() => "The node's own files are as they were before the operator.".to_owned(),
            true => "The node is as it was before the operator.".to_owned(),
            false => "The node pulls as it did before the operator.".to_owned(),
        }];
        let Self { done: _, stays, by_hand, shared, restart_due } = self;
        sentences.extend(stays.iter().chain(by_hand).chain(shared).chain(restart_due).map(|what| format!("{what}.")));
        sentences.join(" ")
    }

    /// Whether nothing of ours is left on the host, apart from what other nodes need.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.stays.is_empty() && self.by_hand.is_empty()
    }
}

impl Node {
    /// Puts the node back. Doing it again changes nothing. Where other nodes share its directory, `staying` says which
    /// of them keep the files from being removed.
    ///
    /// # Errors
    /// A sentence; what was done until then is whole, and doing it again goes on.
    pub async fn restore(&mut self, depth: Depth, staying: Staying, metrics: &Metrics) -> Result<Restored, String> {
        // Another node may write from now on.
        self.share = None;
        // The last directory that was worked in, and the one in force: files of ours bear a mark, so that they are
        // found even where the record of them is lost.
        let mut directories: BTreeSet<PathBuf> = [PathBuf::from(DEFAULT_DIRECTORY), self.places().1].into();
        let mut version = MOST_LENIENT;
        if let Ok(look) = self.look_now(Asking::Forbidden).await {
            directories.extend(look.plan.directory().map(Path::to_owned));
            version = look.version;
        }
        self.forget();
        let host =
            Host { root: self.root.clone(), systemd: self.systemd.clone(), depth, staying, version, directories };
        if !host.has_anything_of_ours()? {
            let mut restored = Restored::default();
            for directory in &host.directories {
                let others = host.others_who_stay(directory).map_err(sentence)?;
                restored.shared.extend((!others.is_empty()).then(|| still_shared(directory, &others)));
            }
            return Ok(restored);
        }
        let _lock = self.lock().await?;
        self.settle(metrics).await?;
        let restored = host.put_back().await?;
        self.forget();
        Ok(restored)
    }

    /// One pass in the mode `Restore`.
    pub(super) async fn restore_pass(&mut self, metrics: &Metrics, facts: &mut Facts) {
        facts.verdict = match self.restore(Depth::Safe, Staying::Running, metrics).await {
            Ok(restored) => {
                for what in &restored.done {
                    tracing::info!("{what}");
                }
                Verdict::Restored(restored.sentence())
            }
            Err(why) => Verdict::ApplyFailed(why),
        };
    }
}

/// A host that is being put back. The caller holds the lock, and no restart is under way.
struct Host {
    root: HostRoot,
    systemd: Systemd,
    depth: Depth,
    /// Which nodes keep the files of a directory that they share.
    staying: Staying,
    /// The containerd that reads what stays.
    version: Version,
    /// Where files of ours are looked for, besides the recorded places.
    directories: BTreeSet<PathBuf>,
}

impl Host {
    fn has_anything_of_ours(&self) -> Result<bool, String> {
        if self.root.stat(Path::new(STATE_DIR)).map_err(sentence)?.is_some() {
            return Ok(true);
        }
        if !proxy::drop_ins_of_ours(&self.root).map_err(sentence)?.is_empty() {
            return Ok(true);
        }
        for directory in &self.directories {
            if may_be_shared(&self.root, directory).map_err(sentence)? {
                if has_part(&self.root, directory).map_err(sentence)? {
                    return Ok(true);
                }
                if !self.others_who_stay(directory).map_err(sentence)?.is_empty() {
                    continue;
                }
            }
            let listing = certs_d::observe(&self.root, directory).map_err(sentence)?;
            let nothing = Wanted::default();
            if !plan(directory, &listing, &Ownership::default(), &nothing, SignedDuration::ZERO).ops.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn put_back(&self) -> Result<Restored, String> {
        let mut restored = Restored::default();
        let state = self.state(&[])?;
        // First of all: an agent that starts without the API server must not go on with it.
        state.remove_slice().map_err(sentence)?;
        let loaded = state.edits().map_err(sentence)?;
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
        directories.extend(state.owned_certs_d().map_err(sentence)?);
        let wanted = self.wanted(&edits)?;
        let mut last = Vec::new();
        for directory in &directories {
            last.extend(self.put_directory_back(directory, &wanted, &mut restored).await?);
        }
        self.remove_drop_ins(&mut restored).await?;
        let kept = self.take_edits_back(edits, &mut restored)?;
        state.save_edits(&kept).map_err(sentence)?;
        if restored.is_clean() {
            // To containerd an empty directory is as none at all; where no edit of ours named one, it is not ours.
            for directory in directories.iter().filter(|_| edited) {
                // Nor is one that others may have too; and a mount point cannot be removed.
                if !may_be_shared(&self.root, directory).map_err(sentence)? {
                    self.state(&[directory])?.writer().remove_dir_if_empty(directory).map_err(sentence)?;
                }
            }
            for (writer, farewell) in last {
                farewell.complete(&writer).map_err(sentence)?;
            }
            self.remove_state()?;
        }
        Ok(restored)
    }

    fn broken_records(&self) -> Result<Vec<PathBuf>, String> {
        let entries = self.root.read_dir(Path::new(STATE_DIR)).map_err(sentence)?.unwrap_or_default();
        let broken = entries.iter().filter(|entry| entry.name.to_string_lossy().starts_with("edits.json.broken-"));
        Ok(broken.map(|entry| Path::new(STATE_DIR).join(&entry.name)).collect())
    }

    /// The files that stay: those of old registry tables that do not come back.
    fn wanted(&self, edits: &[ConfigEdit]) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        for edit in edits.iter().rev() {
            add_missing(&mut wanted.recorded, &edit.migrated);
            let action = take_back(&self.root, edit).map_err(sentence)?;
            if let Some(directory) = directory_of(edit).filter(|_| self.stays(edit, &action)) {
                let files = wanted.files.entry(directory).or_default();
                add_missing_files(files, edit, self.version);
            }
        }
        Ok(wanted)
    }

    /// Whether the old tables that an edit took out stay in hosts.toml files.
    fn stays(&self, edit: &ConfigEdit, action: &TakeBack) -> bool {
        !edit.migrated.is_empty() && (self.depth == Depth::Safe || matches!(action, TakeBack::ByHand(_)))
    }

    fn others_who_stay(&self, directory: &Path) -> Result<Vec<String>, FileError> {
        match may_be_shared(&self.root, directory)? {
            true => others_who_stay(&self.root, directory, self.staying),
            false => Ok(Vec::new()),
        }
    }

    /// Where several nodes share a directory, the last one that leaves puts it back; it also removes what they have
    /// told each other, when all is done.
    async fn put_directory_back(
        &self,
        directory: &Path,
        wanted: &Wanted,
        restored: &mut Restored,
    ) -> Result<Option<(HostWriter, Farewell)>, String> {
        let state = self.state(&[directory])?;
        self.remove_proof(&state, directory)?;
        if !may_be_shared(&self.root, directory).map_err(sentence)? {
            self.put_files_back(&state, directory, wanted, restored).await?;
            return Ok(None);
        }
        match leave(state.writer(), directory, self.staying).map_err(sentence)? {
            Leaving::Stay(others) => {
                restored.shared.push(still_shared(directory, &others));
                Ok(None)
            }
            Leaving::Last(farewell) => {
                let records = StateDir::of_shared(state.writer(), directory).map_err(sentence)?;
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
    ) -> Result<(), String> {
        let backups = state.path().join("backups");
        let backups = backups.display();
        let grace = match self.depth {
            Depth::Safe => GRACE,
            Depth::Exact => SignedDuration::ZERO,
        };
        loop {
            let listing = certs_d::observe(&self.root, directory).map_err(sentence)?;
            let (ownership, warnings) = state.ownership(directory).map_err(sentence)?;
            for warning in warnings {
                push_new(&mut restored.by_hand, warning);
            }
            let plan = plan(directory, &listing, &ownership, wanted, grace);
            restored.done.extend(steps(directory, &plan.ops).iter().map(Step::words));
            for Finding { path, what, .. } in &plan.findings {
                if let What::NotRestored { backup } = what {
                    push_new(
                        &mut restored.stays,
                        format!(
                            "{} is no longer the file that the operator wrote and stays as it is; what stood there \
                             before is {backups}/{backup}.json",
                            path.display()
                        ),
                    );
                }
            }
            certs_d::apply(state, directory, &plan).map_err(|error| error.to_string())?;
            let Some(next) = plan.next_look else { break };
            let wait = next.duration_since(Timestamp::now());
            tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
        }
        let (ownership, _) = state.ownership(directory).map_err(sentence)?;
        for superseded in &ownership.superseded {
            let path = directory.join(&superseded.directory).join(HOSTS_TOML);
            let id = &superseded.backup.id;
            if !restored.stays.iter().any(|said| said.contains(id.as_str())) {
                restored.stays.push(format!(
                    "an earlier {} is kept as {backups}/{id}.json, because somebody else had replaced it",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// What a proof that was cut off has left.
    fn remove_proof(&self, state: &StateDir, directory: &Path) -> Result<(), String> {
        let proof = proof::directory(&self.root, directory).map_err(sentence)?;
        let hosts = proof.join(HOSTS_TOML);
        if self.root.stat(&proof).map_err(sentence)?.is_some() {
            state.writer().remove(&hosts).map_err(sentence)?;
            state.writer().remove_dir_if_empty(&proof).map_err(sentence)?;
        }
        Ok(())
    }

    /// The proxy goes with containerd's next start; the running daemon keeps it, and pulls as well as before.
    async fn remove_drop_ins(&self, restored: &mut Restored) -> Result<(), String> {
        let writer = HostWriter::new(self.root.clone(), WriteScope::for_host(Path::new("/"), Path::new(STATE_DIR)));
        let files = proxy::drop_ins_of_ours(&self.root).map_err(sentence)?;
        for file in &files {
            writer.remove(file).map_err(sentence)?;
            if let Some(directory) = file.parent() {
                writer.remove_dir_if_empty(directory).map_err(sentence)?;
            }
            restored.done.push(format!("remove {}", file.display()));
            if self.depth == Depth::Exact {
                restored.restart_due = Some(
                    "containerd must be restarted now: it goes through the proxy of the operator's drop-in until then"
                        .to_owned(),
                );
            }
        }
        // The files of a host that does not run here are read when it boots.
        if !files.is_empty() && Systemd::is_booted(self.root.path()) {
            self.systemd.daemon_reload().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes our edits out of containerd's configuration, the newest first; returns those that stay.
    fn take_edits_back(&self, edits: Vec<ConfigEdit>, restored: &mut Restored) -> Result<Vec<ConfigEdit>, String> {
        let mut kept = Vec::new();
        for edit in edits.into_iter().rev() {
            let file = edit.config_file.display();
            let action = take_back(&self.root, &edit).map_err(sentence)?;
            if self.stays(&edit, &action) {
                if let TakeBack::ByHand(why) = action {
                    restored.by_hand.push(why);
                }
                restored.stays.push(format!(
                    "{file} keeps `config_path`, and the hosts.toml files made from its old registry tables stay, \
                     because the running containerd knows nothing else; `registry-mirror node restore --exact` puts \
                     the old tables back"
                ));
                kept.push(edit);
                continue;
            }
            let state = self.state(&[])?;
            let writer = self.writer(&edit.config_file);
            match action {
                TakeBack::Nothing => {}
                TakeBack::Write(content) => {
                    let attributes = attributes(&self.root, &edit.config_file).map_err(sentence)?;
                    if writer.write(&edit.config_file, &content, attributes).map_err(sentence)? == Written::Written {
                        restored.done.push(format!("take our edit out of {file}"));
                        self.note_restart(&edit, restored);
                    }
                }
                TakeBack::Remove => {
                    writer.remove(&edit.config_file).map_err(sentence)?;
                    restored.done.push(format!("remove {file}, which the operator had created"));
                    self.note_restart(&edit, restored);
                }
                TakeBack::ByHand(why) => {
                    restored.by_hand.push(why);
                    kept.push(edit);
                    continue;
                }
            }
            if let Some(backup) = &edit.backup {
                state.writer().remove(backup).map_err(sentence)?;
            }
        }
        kept.reverse();
        Ok(kept)
    }

    /// An added `config_path` names a directory that is empty now; nothing depends on when the daemon forgets it.
    fn note_restart(&self, edit: &ConfigEdit, restored: &mut Restored) {
        if !edit.migrated.is_empty() {
            restored.restart_due = Some(format!(
                "containerd must be restarted now: the registry tables are back in {}, and the running daemon has not \
                 read them",
                edit.config_file.display()
            ));
        }
    }

    fn writer(&self, config_file: &Path) -> HostWriter {
        HostWriter::new(self.root.clone(), WriteScope::for_host(config_file, Path::new(STATE_DIR)))
    }

    fn state(&self, and: &[&Path]) -> Result<StateDir, String> {
        let scope = and.iter().fold(WriteScope::state_only(), |scope, directory| scope.and(directory));
        StateDir::open(&HostWriter::new(self.root.clone(), scope)).map_err(sentence)
    }

    /// Removes the state directory with everything in it. Somebody who waits for the lock in it finds nothing of ours
    /// and starts anew.
    fn remove_state(&self) -> Result<(), String> {
        let writer = HostWriter::new(self.root.clone(), WriteScope::state_only());
        remove_all(&writer, Path::new(STATE_DIR)).map_err(sentence)
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

/// The directory that an edit set.
fn directory_of(edit: &ConfigEdit) -> Option<PathBuf> {
    let undo: Undo = serde_json::from_value(edit.undo.clone()).ok()?;
    undo.directory().map(Path::to_owned)
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

fn attributes(root: &HostRoot, file: &Path) -> Result<Attributes, FileError> {
    let mode = root.stat(file)?.map_or(0o644, |stat| stat.mode);
    Ok(Attributes { mode, owner: Owner::Keep })
}

fn still_shared(directory: &Path, others: &[String]) -> String {
    format!(
        "{} is shared with {}: the files in it stay until the last of the nodes is put back",
        directory.display(),
        others.join(", ")
    )
}

fn push_new(list: &mut Vec<String>, sentence: String) {
    if !list.contains(&sentence) {
        list.push(sentence);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands its error over")]
fn sentence(error: FileError) -> String {
    error.to_string()
}
