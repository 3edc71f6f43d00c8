//! containerd's forward proxy as a part of a node's plan.

use crate::{
    bundle::Bundle,
    plan::{ProxyPlan, plan_proxy, proxy::DropInChange},
    proxy::ProxySettings,
    status::node::ProxyFacts,
};

use super::ContainerdObservation;

/// What this bundle asks for here.
///
/// A node that no RegistryMirror is for is left alone, except that a proxy which is not asked for any more goes. It
/// stays while the configuration waits for an edit that nobody asks for: no restart could be proved then.
pub(super) fn plan(containerd: &ContainerdObservation, cluster: &Bundle) -> ProxyPlan {
    let is_left_alone = cluster.entries.is_empty() && (cluster.proxy.is_some() || containerd.plan.needs_restart());
    match is_left_alone || containerd.directory().is_none() {
        true => ProxyPlan::Nothing { notes: Vec::new() },
        false => safely(containerd, plan_proxy(&containerd.proxy, cluster.proxy.as_ref())),
    }
}

/// The plan, unless its restart would bring somebody else's change into force.
fn safely(containerd: &ContainerdObservation, plan: ProxyPlan) -> ProxyPlan {
    match &containerd.held {
        Some(held) => held.hold_back_proxy(plan),
        None => plan,
    }
}

/// For status.
pub(super) fn facts(plan: &ProxyPlan, wanted: Option<&ProxySettings>) -> Option<ProxyFacts> {
    match plan {
        ProxyPlan::Unsupported { reason } => Some(ProxyFacts::Unsupported(reason.clone())),
        ProxyPlan::HeldBack { reason } => Some(ProxyFacts::HeldBack(reason.clone())),
        ProxyPlan::Change(DropInChange { restart: true, reason, .. }) | ProxyPlan::Restart { reason, .. } => {
            Some(ProxyFacts::Waits(reason.clone()))
        }
        ProxyPlan::Nothing { notes } | ProxyPlan::Change(DropInChange { notes, .. }) => {
            wanted.map(|_| ProxyFacts::InForce(notes.clone()))
        }
    }
}
