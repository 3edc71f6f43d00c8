//! containerd's forward proxy on this node: what is to be done about it, and the part of it that needs no restart.

use std::path::{Path, PathBuf};

use registry_mirror_core::{
    bundle::Bundle,
    plan::{ProxyPlan, plan_proxy, proxy::DropInChange},
    proxy::{ProxySettings, drop_in_path},
};
use registry_mirror_host::{
    files::HostWriter,
    restart::{DropIn, place_drop_in},
};

use super::{Node, look::Look};
use crate::facts::ProxyFacts;

/// What this slice asks for here.
///
/// A node that no RegistryMirror is for is left alone, except that a proxy which is not asked for any more goes. It
/// stays while the configuration waits for an edit that nobody asks for: no restart could be proved then.
pub(super) fn plan(look: &Look, slice: &Bundle) -> ProxyPlan {
    let is_left_alone = slice.entries.is_empty() && (slice.proxy.is_some() || look.plan.needs_restart());
    match is_left_alone || look.plan.directory().is_none() {
        true => ProxyPlan::Nothing { notes: Vec::new() },
        false => plan_proxy(&look.proxy, slice.proxy.as_ref()),
    }
}

/// For status.
pub(super) fn facts(plan: &ProxyPlan, wanted: Option<&ProxySettings>) -> Option<ProxyFacts> {
    match plan {
        ProxyPlan::Unsupported { reason } => Some(ProxyFacts::Unsupported(reason.clone())),
        ProxyPlan::Change(DropInChange { restart: true, reason, .. }) | ProxyPlan::Restart { reason, .. } => {
            Some(ProxyFacts::Waits(reason.clone()))
        }
        ProxyPlan::Nothing { notes } | ProxyPlan::Change(DropInChange { notes, .. }) => {
            wanted.map(|_| ProxyFacts::InForce(notes.clone()))
        }
    }
}

/// The directory of the drop-in, while there is one.
pub(super) fn watched_directory(look: &Look) -> Option<PathBuf> {
    look.proxy.drop_in.as_ref()?;
    drop_in_path(&look.unit.as_ref()?.name).parent().map(Path::to_owned)
}

impl Node {
    /// Makes a change that the running daemon needs no restart for. The error is a sentence.
    pub(super) async fn place_drop_in(&mut self, writer: &HostWriter, change: &DropInChange) -> Result<(), String> {
        let DropInChange { file, before, after, .. } = change;
        let drop_in = DropIn { file: file.clone(), before: before.clone(), after: after.clone() };
        let placed = place_drop_in(writer, &self.systemd, &drop_in).await;
        // What was seen of it is out of date.
        if let Some(look) = &mut self.look {
            look.proxy.drop_in.clone_from(after);
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
