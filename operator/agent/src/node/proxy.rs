//! containerd's forward proxy on this node: the part of its plan that needs no restart.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use registry_mirror_core::{
    digest::Digest,
    plan::{ProxyPlan, proxy::DropInChange, put_backs::PutBacks},
    proxy::drop_in_path,
};
use registry_mirror_host::{
    files::HostWriter,
    restart::{DropIn, place_drop_in},
};

use super::{Node, observe::Look};

/// The directory of the drop-in, while there is one.
pub(super) fn watched_directory(look: &Look) -> Option<PathBuf> {
    look.proxy.drop_in.as_ref()?;
    drop_in_path(&look.unit.as_ref()?.name).parent().map(Path::to_owned)
}

/// The drop-in as it was last put in place without a restart. In memory alone: an agent that starts anew writes the file
/// once more than it would have otherwise.
#[derive(Debug, Default)]
pub(super) struct KeptDropIn {
    /// Its content; `None` where it was not put in place yet.
    placed: Option<Digest>,
    put_backs: PutBacks,
}

impl Node {
    /// Makes a change that the running daemon needs no restart for. What there is to say of others who change the file is
    /// a sentence, and so is the error.
    pub(super) async fn keep_drop_in(
        &mut self,
        writer: &HostWriter,
        plan: &ProxyPlan,
    ) -> Result<Option<String>, String> {
        let now = Timestamp::now();
        self.drop_in.put_backs = std::mem::take(&mut self.drop_in.put_backs).recent(now);
        if let Some(change) = plan.change().filter(|change| !change.restart) {
            let wanted = Digest::of(change.after.as_deref().unwrap_or_default());
            let again = self.drop_in.placed.as_ref() == Some(&wanted);
            let due = self.drop_in.put_backs.due(now);
            if let Some(quarrel) = self.drop_in.put_backs.history().filter(|_| again && due > now) {
                self.look_at(due);
                return Ok(Some(format!(
                    "{} was changed by another program although it was put back {quarrel}; it is put back at {}, and \
                     containerd's next start goes without the proxy until then: stop that program from changing it.",
                    change.file.display(),
                    due.strftime("%Y-%m-%d %H:%M:%SZ")
                )));
            }
            self.place_drop_in(writer, change).await?;
            if again {
                self.drop_in.put_backs.note(now);
                let what = format!("{} was changed; it is put back", change.file.display());
                tracing::warn!("{what}");
                self.note_drift(&change.file, what);
            }
            self.drop_in.placed = Some(wanted);
        }
        let quarrel = self.drop_in.put_backs.quarrel();
        let file = self.look.as_ref().and_then(|look| Some(drop_in_path(&look.unit.as_ref()?.name)));
        Ok(quarrel.zip(file).map(|(quarrel, file)| {
            format!("another program changes {}, which was put back {quarrel}: stop that program.", file.display())
        }))
    }

    /// Makes a change that the running daemon needs no restart for. The error is a sentence.
    async fn place_drop_in(&mut self, writer: &HostWriter, change: &DropInChange) -> Result<(), String> {
        let DropInChange { file, before, after, .. } = change;
        let drop_in = DropIn { file: file.clone(), before: before.clone(), after: after.clone() };
        let placed = place_drop_in(writer, &self.systemd, &drop_in).await;
        // What was seen of it is out of date.
        if let Some(look) = &mut self.look {
            look.seen.proxy.drop_in.clone_from(after);
        }
        match placed {
            Ok(true) => {
                tracing::info!("{} is as the cluster asks; containerd runs so already", file.display());
                Ok(())
            }
            Ok(false) => Err(format!("{} was changed by somebody else at the same moment", file.display())),
            Err(error) => Err(error.to_string()),
        }
    }
}
