//! Our key in containerd's configuration after somebody else has rewritten the file: put back without a restart while
//! the running daemon reads the directory, left alone after a while.

use registry_mirror_core::{
    bundle::Bundle,
    plan::{ConfigPlan, rewrites::Rewrite},
};
use registry_mirror_host::{
    restart::{Change, Placed, Request, Restarter, place},
    state::StateDir,
};

use super::{Asking, Node, edits, observe::SeenDaemon, place::writer_for};

impl Node {
    /// Puts the key back where somebody has written over it. What could not be put back is a sentence for the
    /// condition `Conflicts`. The caller holds the lock.
    pub(super) async fn mend(&mut self, bundle: &Bundle) -> Option<String> {
        let daemon = self.daemon.seen()?;
        let directory = match &daemon.seen.rewrite {
            Rewrite::PutBack { directory } => directory.clone(),
            Rewrite::Leave(contest) => return Some(format!("{contest}.")),
            Rewrite::None | Rewrite::NextStart { .. } => return None,
        };
        // Where nothing is mirrored, nobody needs the key.
        if bundle.entries.is_empty() {
            return None;
        }
        let plan = daemon.seen.as_written.as_ref()?;
        let file = plan.edit()?.file.clone();
        match self.write_again(daemon, plan).await {
            Ok(true) => {
                let what = format!(
                    "{} lost its `config_path = \"{}\"` to another program; it is put back without a restart, because \
                     the running containerd reads that directory still",
                    file.display(),
                    directory.display()
                );
                self.drift.note(&file, what);
            }
            Ok(false) => tracing::info!("{} changed again meanwhile", file.display()),
            Err(why) => {
                return Some(format!(
                    "{} lost its `config_path = \"{}\"` to another program, and it could not be put back: {why}; the \
                     running containerd reads that directory until its next start.",
                    file.display(),
                    directory.display()
                ));
            }
        }
        // What was seen before is out of date; where nothing can be seen now it is still the best there is.
        if let Err(why) = self.observe(Asking::Allowed).await {
            tracing::warn!("{why}");
        }
        None
    }

    /// Makes the edit of a plan once more; `false` where the file is another one than the plan was made for.
    async fn write_again(&self, daemon: &SeenDaemon, plan: &ConfigPlan) -> Result<bool, String> {
        let (Some(edit), Some(directory), Some(unit)) = (plan.edit(), plan.directory(), daemon.seen.unit.clone())
        else {
            return Err("no systemd unit runs containerd, so that nobody can check the new file".to_owned());
        };
        let request = Request {
            unit,
            version: daemon.seen.version,
            main_config: daemon.seen.config_file.clone(),
            change: Change { config: Some(edit.clone()), ..Change::default() },
            certs_d: directory.to_owned(),
            plan: plan.hash(),
            ready_limit: self.ready_limit,
            known: daemon.seen.known.clone(),
        };
        let writer = writer_for(&self.root, &daemon.seen.config_file, plan);
        let sentence = |error: registry_mirror_host::file_error::FileError| error.to_string();
        let state = StateDir::open(&writer).map_err(sentence)?;
        let restarter = Restarter::new(&state, &self.daemon.systemd, &daemon.cri);
        restarter.validate(&request).await.map_err(|error| error.to_string())??;
        edits::note(&state, edit, plan.migrated()).map_err(sentence)?;
        match place(&state, edit).map_err(sentence)? {
            Placed::Done(edited) => {
                edits::note_backup(&state, &edited).map_err(sentence)?;
                Ok(true)
            }
            Placed::Changed { file: _ } => Ok(false),
        }
    }
}
