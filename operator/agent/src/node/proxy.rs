//! containerd's forward proxy on this node: the part of its plan that needs no restart.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use registry_mirror_core::{
    digest::Digest,
    node_plan::ContainerdObservation,
    plan::{ProxyPlan, proxy::DropInChange, put_backs::PutBacks},
    proxy::drop_in_path,
};
use registry_mirror_host::{
    files::HostWriter,
    restart::{DropIn, RestartError, place_drop_in},
    systemd::Systemd,
};
use thiserror::Error;

/// The directory of the drop-in, while there is one.
pub(super) fn watched_directory(containerd: &ContainerdObservation) -> Option<PathBuf> {
    containerd.proxy.drop_in.as_ref()?;
    drop_in_path(&containerd.unit.as_ref()?.name).parent().map(Path::to_owned)
}

/// The drop-in as it was last put in place without a restart. In memory alone: an agent that starts anew writes the file
/// once more than it would have otherwise.
#[derive(Debug, Default)]
pub(super) struct KeptDropIn {
    /// Its content; `None` where it was not put in place yet.
    placed: Option<Digest>,
    put_backs: PutBacks,
}

/// The drop-in could not be put in place.
#[derive(Debug, Error)]
pub(super) enum DropInError {
    /// It is another file than the plan was made for.
    #[error("{} was changed by somebody else at the same moment", .0.display())]
    Changed(PathBuf),
    /// It cannot be written, or systemd does not read it.
    #[error(transparent)]
    Place(#[from] RestartError),
}

/// What there is to say of others who change the drop-in.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// It was changed, and is put back: the file, and a sentence without its full stop.
    pub drift: Option<(PathBuf, String)>,
    /// Somebody changes it again and again, in a sentence.
    pub quarrel: Option<String>,
    /// When it is put back, where that waits.
    pub again_at: Option<Timestamp>,
}

impl KeptDropIn {
    /// Makes a change that the running daemon needs no restart for.
    ///
    /// # Errors
    /// [`DropInError`]; nothing is kept in mind then, so that the next pass tries again.
    pub(super) async fn keep(
        &mut self,
        writer: &HostWriter,
        systemd: &Systemd,
        daemon: &mut ContainerdObservation,
        plan: &ProxyPlan,
    ) -> Result<Kept, DropInError> {
        let now = Timestamp::now();
        self.put_backs = std::mem::take(&mut self.put_backs).recent(now);
        let mut kept = Kept::default();
        if let Some(change) = plan.change().filter(|change| !change.restart) {
            let wanted = Digest::of(change.after.as_deref().unwrap_or_default());
            let again = self.placed.as_ref() == Some(&wanted);
            let due = self.put_backs.due(now);
            if let Some(quarrel) = self.put_backs.history().filter(|_| again && due > now) {
                kept.again_at = Some(due);
                kept.quarrel = Some(format!(
                    "{} was changed by another program although it was put back {quarrel}; it is put back at {}, and \
                     containerd's next start goes without the proxy until then: stop that program from changing it.",
                    change.file.display(),
                    due.strftime("%Y-%m-%d %H:%M:%SZ")
                ));
                return Ok(kept);
            }
            place(writer, systemd, daemon, change).await?;
            if again {
                self.put_backs.note(now);
                kept.drift =
                    Some((change.file.clone(), format!("{} was changed; it is put back", change.file.display())));
            }
            self.placed = Some(wanted);
        }
        let file = daemon.unit.as_ref().map(|unit| drop_in_path(&unit.name));
        kept.quarrel = self.put_backs.quarrel().zip(file).map(|(quarrel, file)| {
            format!("another program changes {}, which was put back {quarrel}: stop that program.", file.display())
        });
        Ok(kept)
    }
}

async fn place(
    writer: &HostWriter,
    systemd: &Systemd,
    daemon: &mut ContainerdObservation,
    change: &DropInChange,
) -> Result<(), DropInError> {
    let DropInChange { file, before, after, .. } = change;
    let drop_in = DropIn { file: file.clone(), before: before.clone(), after: after.clone() };
    let placed = place_drop_in(writer, systemd, &drop_in).await;
    // What was seen of it is out of date.
    daemon.proxy.drop_in.clone_from(after);
    match placed {
        Ok(true) => {
            tracing::info!("{} is as the cluster asks; containerd runs so already", file.display());
            Ok(())
        }
        Ok(false) => Err(DropInError::Changed(file.clone())),
        Err(error) => Err(error.into()),
    }
}
