//! `registry-mirror approve NODE…`: grants the restart that each node waits for.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use registry_mirror_controller::contract::APPROVE_ANNOTATION;
use registry_mirror_core::{plan::PlanHash, status::node::restart};
use registry_mirror_crds::NodeMirror;
use serde::Serialize;
use serde_json::json;

use super::ClusterArgs;
use crate::{exit::Exit, output::Format};

/// Grants the pending restart of containerd on nodes, under `restart.policy: Manual`. The controller carries it out
/// within `maxUnavailable`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The nodes.
    #[arg(required_unless_present = "all")]
    nodes: Vec<String>,
    /// Every node that waits.
    #[arg(long, conflicts_with = "nodes")]
    all: bool,
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What was granted.
#[derive(Debug, Serialize)]
struct Approved {
    node: String,
    plan: PlanHash,
}

/// Annotates each NodeMirror with the plan that its agent waits with.
///
/// # Errors
/// Where the cluster cannot be reached or a named node waits for nothing.
pub async fn run(args: ApproveArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ApproveArgs { nodes, all, output, cluster } = args;
    let api: Api<NodeMirror> = Api::all(cluster.client().await?);
    let named = if all {
        let list = api.list(&Default::default()).await.context("the NodeMirrors could not be listed")?;
        let waiting: Vec<NodeMirror> = list.items.into_iter().filter(|mirror| pending_plan(mirror).is_some()).collect();
        waiting
    } else {
        let mut named = Vec::new();
        for node in &nodes {
            named.push(api.get(node).await.with_context(|| {
                format!("the NodeMirror of node {node} could not be read; see `kubectl get nodemirrors`")
            })?);
        }
        named
    };
    let mut approved = Vec::new();
    let outcome = approve(&api, &named, &mut approved).await;
    output.write(&approved, out, |out| {
        if named.is_empty() {
            writeln!(out, "No node waits for a restart.")?;
        }
        for Approved { node, plan } in &approved {
            writeln!(out, "nodemirror/{node}: restart approved (plan {plan})")?;
        }
        Ok(())
    })?;
    outcome.map(|()| Exit::Done)
}

/// What was granted until an error stands in `approved`.
async fn approve(api: &Api<NodeMirror>, named: &[NodeMirror], approved: &mut Vec<Approved>) -> anyhow::Result<()> {
    let mut refused = Vec::new();
    for mirror in named {
        let name = mirror.metadata.name.clone().unwrap_or_default();
        let Some(plan) = pending_plan(mirror) else {
            refused.push(name);
            continue;
        };
        let patch = json!({ "metadata": { "annotations": { APPROVE_ANNOTATION: plan } } });
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("the NodeMirror of node {name} could not be annotated"))?;
        approved.push(Approved { node: name, plan });
    }
    if !refused.is_empty() {
        bail!("nothing to approve on {}: no restart is pending there", refused.join(", "));
    }
    Ok(())
}

/// The plan that a node waits with, or would try again: after a restart that failed or was refused a person decides.
fn pending_plan(mirror: &NodeMirror) -> Option<PlanHash> {
    let status = mirror.status.as_ref()?;
    status.plan.as_ref().filter(|plan| plan.restart)?;
    restart(status, mirror.metadata.generation.unwrap_or_default()).plan().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_that_failed_or_was_refused_can_be_approved_again() {
        let mirror = |kind: &str, status: &str, reason: &str| -> NodeMirror {
            serde_json::from_value(json!({
                "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "NodeMirror", "metadata": {"name": "n"}, "spec": {},
                "status": {
                    "plan": {"hash": "p", "kind": "Patch", "restart": true, "reason": "config_path is not set"},
                    "conditions": [{"type": kind, "status": status, "reason": reason, "message": "Why.",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                },
            }))
            .expect("a NodeMirror")
        };
        for (kind, status, reason, expected) in [
            ("Ready", "False", "RestartPending", Some("p")),
            ("Ready", "False", "RestartFailed", Some("p")),
            ("Ready", "False", "RestartRefused", Some("p")),
            ("Ready", "False", "Unsupported", None),
            ("Ready", "True", "Ready", None),
        ] {
            let pending = pending_plan(&mirror(kind, status, reason));
            assert_eq!(pending.as_ref().map(PlanHash::as_str), expected, "{reason}");
        }
    }
}
