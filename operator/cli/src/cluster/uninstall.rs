//! `registry-mirror uninstall`: has every node put back as it was, and says how far that is. Helm runs it before it
//! removes the operator.

use std::{collections::BTreeSet, io::Write, pin::pin, time::Duration};

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use registry_mirror_controller::contract::ROLLOUT_CONFIG_MAP;
use registry_mirror_crds::{NodeMirror, condition, reason};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{ClusterArgs, rollout};
use crate::exit::Exit;

/// Has every node put back as it was before the operator came. Restarts nothing.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Seconds to wait for the nodes; those that are absent then are named and left behind.
    #[arg(long, default_value_t = 180)]
    timeout: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Sets the mode `Restore` and waits for the nodes. Nodes that do not answer in time are no error: Helm must not hang
/// on a node that is gone.
///
/// # Errors
/// Where the cluster cannot be reached.
pub async fn run(args: UninstallArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let UninstallArgs { timeout, cluster } = args;
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let client = cluster.client().await?;
    let maps = rollout::api(client.clone(), &cluster.namespace);
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": ROLLOUT_CONFIG_MAP },
        "data": { "mode": "Restore" },
    });
    maps.patch(ROLLOUT_CONFIG_MAP, &PatchParams::apply("registry-mirror-uninstall").force(), &Patch::Apply(&map))
        .await
        .with_context(|| format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be changed"))?;

    let left = wait_for_nodes(client, deadline, out).await?;
    if left.is_empty() {
        writeln!(out, "Every node is as it was before. No containerd was restarted.")?;
    } else {
        let names = left.into_iter().collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "These nodes have not answered and keep their files: {names}. On each of them run \
             `registry-mirror node restore` as root when it is back."
        )?;
    }
    Ok(Exit::Done)
}

/// Prints each node as it is restored; returns those that are not by the deadline.
async fn wait_for_nodes(client: Client, deadline: Instant, out: &mut impl Write) -> anyhow::Result<BTreeSet<String>> {
    let nodes: Api<NodeMirror> = Api::all(client);
    let list = nodes.list(&Default::default()).await.context("the NodeMirrors could not be listed")?;
    let total = list.items.len();
    let mut waiting: BTreeSet<String> = list.items.iter().map(ResourceExt::name_any).collect();
    let events = watcher(nodes, watcher::Config::default()).default_backoff();
    let mut events = pin!(events);
    while !waiting.is_empty() {
        let event = match timeout_at(deadline, events.next()).await {
            Err(_) | Ok(None) => break,
            Ok(Some(Err(_))) => continue,
            Ok(Some(Ok(event))) => event,
        };
        match event {
            watcher::Event::Apply(node) | watcher::Event::InitApply(node) if is_restored(&node) => {
                if waiting.remove(&node.name_any()) {
                    writeln!(out, "{}/{total} {} is as it was before", total - waiting.len(), node.name_any())?;
                    out.flush()?;
                }
            }
            watcher::Event::Delete(node) => {
                waiting.remove(&node.name_any());
            }
            watcher::Event::Apply(_)
            | watcher::Event::InitApply(_)
            | watcher::Event::Init
            | watcher::Event::InitDone => {}
        }
    }
    Ok(waiting)
}

fn is_restored(node: &NodeMirror) -> bool {
    node.status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.type_ == condition::READY && condition.reason == reason::RESTORED)
}
