//! `registry-mirror uninstall`: has every node put back as it was, and says how far that is. Helm runs it before it
//! removes the operator.

use std::{collections::BTreeSet, io::Write, pin::pin, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use registry_mirror_crds::{NodeMirror, condition, reason};
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

/// Sets the mode `Restore`, waits for the nodes and removes what they have said. Nodes that do not answer in time are no
/// error, for Helm must not hang on a node that is gone; but where none answers, nobody has done anything.
///
/// # Errors
/// Where the cluster cannot be reached, or no node was put back: the mode is as it was then.
pub async fn run(args: UninstallArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let UninstallArgs { timeout, cluster } = args;
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let client = cluster.client().await?;
    let maps = rollout::api(client.clone(), &cluster.namespace);
    rollout::ask_for_restore(&maps).await?;
    let nodes: Api<NodeMirror> = Api::all(client);
    let Restored { total, left } = wait_for_nodes(nodes.clone(), deadline, out).await?;
    let names = left.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if total > 0 && left.len() == total {
        rollout::stop_restoring(&maps).await?;
        let namespace = &cluster.namespace;
        bail!(
            "no node has answered within {timeout} s, so that nothing was put back: {names}. See whether the controller \
             and the agents run (`kubectl -n {namespace} get pods`) and try again; the operator stays until then. To \
             remove it nevertheless: `helm uninstall --no-hooks`, and on each node `registry-mirror node restore` as root"
        );
    }
    if left.is_empty() {
        writeln!(out, "Every node is as it was before. No containerd was restarted.")?;
    } else {
        writeln!(
            out,
            "These nodes have not answered and keep their files: {names}. On each of them run \
             `registry-mirror node restore` as root when it is back."
        )?;
    }
    // Their Nodes own them, so that nothing else would take them away.
    nodes
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .context("the NodeMirrors could not be deleted")?;
    Ok(Exit::Done)
}

/// How far the nodes are.
struct Restored {
    /// How many there were.
    total: usize,
    /// Those that are not as before.
    left: BTreeSet<String>,
}

/// Prints each node as it is restored, until all are or the deadline has come.
async fn wait_for_nodes(nodes: Api<NodeMirror>, deadline: Instant, out: &mut impl Write) -> anyhow::Result<Restored> {
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
    Ok(Restored { total, left: waiting })
}

fn is_restored(node: &NodeMirror) -> bool {
    node.status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.type_ == condition::READY && condition.reason == reason::RESTORED)
}
