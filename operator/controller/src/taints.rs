//! The startup taint: taken off by the controller, because agents may not write Nodes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use registry_mirror_core::{
    budget::Policy,
    bundle::Mode,
    startup_taint::{deadline, is_final},
    status::node::NodeReport,
};

use crate::{
    caches::Caches, config::ControllerConfig, contract::field_manager, errors::PassError,
    restart_scheduler::alive_nodes, rollout::RolloutState,
};

/// Takes the taint off every node that need not or cannot wait any longer. When the next deadline is.
pub(crate) async fn pass(
    client: &Client,
    caches: &Caches,
    config: &ControllerConfig,
) -> Result<Option<Timestamp>, PassError> {
    let Some(taint) = &config.startup_taint else { return Ok(None) };
    let now = Timestamp::now();
    let rollout = RolloutState::read(caches);
    let rules = Rules {
        may_wait: rollout.mode.unwrap_or(config.mode) == Mode::Enforce
            && rollout.paused.is_none()
            && config.policy == Policy::Automatic,
        deadline: config.startup_taint_deadline,
        now,
    };
    let alive = alive_nodes(caches);
    let (mut due, mut wake_at) = (Vec::new(), None::<Timestamp>);
    caches.nodes.with(|nodes| {
        caches.node_mirrors.with(|mirrors| {
            for (name, node) in nodes.iter().filter(|(_, node)| node.tainted) {
                let report = mirrors.get(name).and_then(|mirror| mirror.says.report.as_ref());
                let report = report.filter(|_| alive.contains(name));
                match verdict(report, node.created, &rules) {
                    Verdict::Remove => due.push(name.clone()),
                    Verdict::WaitUntil(at) => wake_at = Some(wake_at.map_or(at, |earlier| earlier.min(at))),
                }
            }
        });
    });
    let api: Api<Node> = Api::all(client.clone());
    let mut first_error = None;
    for name in due {
        match remove(&api, &name, taint).await {
            Ok(()) => tracing::info!(node = name, taint, "the startup taint is taken off"),
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    first_error.map_or(Ok(wake_at), Err)
}

struct Rules {
    /// Whether waiting can lead anywhere: not in DryRun or Restore, not while paused, not where a person decides.
    may_wait: bool,
    deadline: Duration,
    now: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Remove,
    WaitUntil(Timestamp),
}

/// The taint must never stop a cluster from growing: it stays only while the agent is on its way.
fn verdict(report: Option<&NodeReport>, created: Option<Timestamp>, rules: &Rules) -> Verdict {
    let on_its_way = report.is_none_or(|report| !is_final(report.readiness));
    let until = deadline(created, SignedDuration::try_from(rules.deadline).unwrap_or(SignedDuration::MAX));
    if on_its_way && rules.may_wait && rules.now < until { Verdict::WaitUntil(until) } else { Verdict::Remove }
}

async fn remove(api: &Api<Node>, name: &str, key: &str) -> Result<(), PassError> {
    let what = || format!("taking the taint {key} off the Node {name}");
    let Some(node) = api.get_opt(name).await.map_err(PassError::api(what()))? else { return Ok(()) };
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let rest: Vec<&Taint> = taints.iter().filter(|taint| taint.key != key).collect();
    if rest.len() == taints.len() {
        return Ok(());
    }
    // The list is written whole, so a change by others since it was read must make the write fail.
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": rest},
    });
    let params = PatchParams { field_manager: Some(field_manager::TAINTS.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(&patch)).await.map_err(PassError::api(what()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use registry_mirror_core::status::node::{NodeFailure, Readiness};

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    #[test]
    fn it_stays_only_while_the_agent_is_on_its_way() {
        let rules = |may_wait| Rules { may_wait, deadline: Duration::from_secs(300), now: NOW };
        let until = NOW + SignedDuration::from_secs(290);
        let young = Some(NOW - SignedDuration::from_secs(10));
        let old = Some(NOW - SignedDuration::from_secs(300));
        let said = |readiness| NodeReport { readiness, message: Box::default(), registries: Arc::default() };
        for (readiness, created, may_wait, expected) in [
            (None, young, true, Verdict::WaitUntil(until)),
            (None, old, true, Verdict::Remove),
            (None, None, true, Verdict::Remove),
            (None, young, false, Verdict::Remove),
            (Some(Readiness::RestartPending), young, true, Verdict::WaitUntil(until)),
            (Some(Readiness::RestartPending), young, false, Verdict::Remove),
            (Some(Readiness::Ready), young, true, Verdict::Remove),
            (Some(Readiness::Failed(NodeFailure::Unsupported)), young, true, Verdict::Remove),
            (Some(Readiness::Failed(NodeFailure::BundleUnknown)), young, true, Verdict::WaitUntil(until)),
            (Some(Readiness::Failed(NodeFailure::Observe)), old, true, Verdict::Remove),
            (Some(Readiness::DryRun), young, true, Verdict::Remove),
        ] {
            let report = readiness.map(said);
            assert_eq!(verdict(report.as_ref(), created, &rules(may_wait)), expected, "{readiness:?} {created:?}");
        }
    }
}
