//! Our edits of containerd's configuration and of its unit, taken back.

use std::path::Path;

use registry_mirror_host::{
    file_error::FileError,
    files::{Attributes, HostWriter, Owner, WriteScope, Written},
    observe::proxy,
    root::HostRoot,
    since_start,
    state::{ConfigEdit, STATE_DIR},
    systemd::Systemd,
};

use super::{
    host::Host,
    outcome::{Depth, RestoreError, Restored},
};
use crate::node::edits::{TakeBack, take_back};

impl Host {
    /// The proxy goes with containerd's next start; the running daemon keeps it, and pulls as well as before.
    pub(super) async fn remove_drop_ins(&self, restored: &mut Restored) -> Result<(), RestoreError> {
        let writer = HostWriter::new(self.root.clone(), WriteScope::for_host([], Path::new(STATE_DIR)));
        let files = proxy::drop_ins_of_ours(&self.root)?;
        for file in &files {
            writer.remove(file)?;
            if let Some(directory) = file.parent() {
                writer.remove_dir_if_empty(directory)?;
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
            self.systemd.daemon_reload().await?;
        }
        Ok(())
    }

    /// Takes our edits out of containerd's configuration, the newest first; returns those that stay.
    pub(super) fn take_edits_back(
        &self,
        edits: Vec<ConfigEdit>,
        restored: &mut Restored,
    ) -> Result<Vec<ConfigEdit>, RestoreError> {
        let mut kept = Vec::new();
        for edit in edits.into_iter().rev() {
            let file = edit.config_file.display();
            let action = take_back(&self.root, &edit)?;
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
                    since_start::note(&self.root, &edit.config_file, Some(&content))?;
                    let attributes = attributes(&self.root, &edit.config_file)?;
                    if writer.write(&edit.config_file, &content, attributes)? == Written::Written {
                        restored.done.push(format!("take our edit out of {file}"));
                        self.note_restart(&edit, restored);
                    }
                }
                TakeBack::Remove => {
                    since_start::note(&self.root, &edit.config_file, None)?;
                    writer.remove(&edit.config_file)?;
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
                state.writer().remove(backup)?;
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
        HostWriter::new(self.root.clone(), WriteScope::for_host([config_file], Path::new(STATE_DIR)))
    }
}

fn attributes(root: &HostRoot, file: &Path) -> Result<Attributes, FileError> {
    let mode = root.stat(file)?.map_or(0o644, |stat| stat.mode);
    Ok(Attributes { mode, owner: Owner::Keep })
}
