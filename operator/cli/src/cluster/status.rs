//! `registry-mirror status [--watch]`: objects, nodes and the roll-out at a glance.

use std::{
    io::{IsTerminal, Write},
    pin::pin,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use futures::{StreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use registry_mirror_crds::{NodeMirror, NodeMirrorStatus, RegistryMirror, RegistryMirrorStatus, condition, reason};
use serde_json::json;
use tabwriter::TabWriter;

use super::{
    ClusterArgs,
    rollout::{self, Pause},
};
use crate::{exit::Exit, output::Format};

/// Nodes and mirrors at a glance. Exits with 1 while something is amiss: the column REASON says what.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Prints anew whenever something changes, until nothing is amiss with any object; then it ends.
    #[arg(long, short)]
    watch: bool,
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// All that is shown.
struct Snapshot {
    mirrors: Vec<RegistryMirror>,
    nodes: Vec<NodeMirror>,
    pause: Option<Pause>,
}

/// Changes come in bursts; one print for each burst is enough.
const SETTLE: Duration = Duration::from_millis(300);

/// Prints the status.
///
/// # Errors
/// Where the cluster cannot be reached.
pub async fn run(args: StatusArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let StatusArgs { watch, output, cluster } = args;
    let client = cluster.client().await?;
    let mut snapshot = read(&client, &cluster.namespace).await?;
    print(&snapshot, output, out)?;
    if watch {
        let mirrors = watcher(Api::<RegistryMirror>::all(client.clone()), watcher::Config::default());
        let nodes = watcher(Api::<NodeMirror>::all(client.clone()), watcher::Config::default());
        let changes = stream::select(
            mirrors.default_backoff().map(|event| event.map(drop)),
            nodes.default_backoff().map(|event| event.map(drop)),
        );
        let mut changes = pin!(changes);
        while !snapshot.is_settled() {
            if changes.next().await.is_none() {
                break;
            }
            while tokio::time::timeout(SETTLE, changes.next()).await.is_ok_and(|change| change.is_some()) {}
            snapshot = read(&client, &cluster.namespace).await?;
            if std::io::stdout().is_terminal() && output == Format::Table {
                // Home and clear, as `watch` does.
                write!(out, "\u{1b}[H\u{1b}[2J")?;
            }
            print(&snapshot, output, out)?;
        }
    }
    Ok(if snapshot.is_settled() { Exit::Done } else { Exit::Failed })
}

async fn read(client: &Client, namespace: &str) -> anyhow::Result<Snapshot> {
    let everything = Default::default();
    let mirrors = Api::<RegistryMirror>::all(client.clone()).list(&everything).await.context(
        "the RegistryMirrors could not be listed; is the operator installed? (`kubectl get crd registrymirrors.registry-mirror.dev`)",
    )?;
    let nodes = Api::<NodeMirror>::all(client.clone())
        .list(&everything)
        .await
        .context("the NodeMirrors could not be listed")?;
    let pause = rollout::pause(&rollout::api(client.clone(), namespace)).await?;
    Ok(Snapshot { mirrors: mirrors.items, nodes: nodes.items, pause })
}

impl Snapshot {
    /// Nothing is amiss with any object, as its column REASON says. A suspended one is as its user wants it.
    fn is_settled(&self) -> bool {
        self.pause.is_none()
            && self.mirrors.iter().all(|mirror| {
                let Some(status) = &mirror.status else { return false };
                status.observed_generation == mirror.metadata.generation
                    && status.reason.as_deref().is_none_or(|reason| reason == reason::SUSPENDED)
            })
    }
}

fn print(snapshot: &Snapshot, output: Format, out: &mut impl Write) -> anyhow::Result<()> {
    output.write(&value(snapshot), out, |out| table(snapshot, out))
}

fn value(snapshot: &Snapshot) -> serde_json::Value {
    let Snapshot { mirrors, nodes, pause } = snapshot;
    json!({
        "registryMirrors": mirrors.iter().map(|mirror| json!({
            "name": mirror.name_any(), "registry": mirror.spec.registry, "status": mirror.status,
        })).collect::<Vec<_>>(),
        "nodes": nodes.iter().map(|node| json!({
            "name": node.name_any(), "status": node.status,
        })).collect::<Vec<_>>(),
        "paused": pause.as_ref().map(|Pause { node, reason, since }| json!({
            "node": node, "reason": reason, "since": since,
        })),
    })
}

fn table(snapshot: &Snapshot, out: &mut dyn Write) -> std::io::Result<()> {
    let Snapshot { mirrors, nodes, pause } = snapshot;
    // kubectl's look: three blanks between columns, no lines.
    let mut columns = TabWriter::new(&mut *out).padding(3);
    writeln!(columns, "REGISTRYMIRROR\tREGISTRY\tMIRROR\tNODES\tREADY\tREASON")?;
    for mirror in mirrors {
        let empty = RegistryMirrorStatus::default();
        let status = mirror.status.as_ref().unwrap_or(&empty);
        writeln!(
            columns,
            "{}\t{}\t{}\t{}\t{}\t{}",
            mirror.name_any(),
            mirror.spec.registry,
            status.mirror_summary.as_deref().unwrap_or_default(),
            status.nodes.as_ref().map_or("", |nodes| nodes.summary.as_str()),
            status_of(&status.conditions, condition::PROGRAMMED),
            status.reason.as_deref().unwrap_or_default(),
        )?;
    }
    columns.flush()?;
    writeln!(out)?;
    let mut columns = TabWriter::new(&mut *out).padding(3);
    writeln!(columns, "NODE\tREADY\tCONTAINERD\tDISTRO\tPLAN\tMIRRORS\tRESTARTS\tREASON")?;
    for node in nodes {
        let empty = NodeMirrorStatus::default();
        let status = node.status.as_ref().unwrap_or(&empty);
        let summary = status.summary.clone().unwrap_or_default();
        writeln!(
            columns,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            node.name_any(),
            status_of(&status.conditions, condition::READY),
            status.containerd.as_ref().map_or("", |containerd| containerd.version.as_str()),
            status.containerd.as_ref().map_or("", |containerd| containerd.distribution.as_str()),
            status.plan.as_ref().map_or("", |plan| plan.kind.name()),
            summary.mirrors,
            status.restarts,
            summary.reason.unwrap_or_default(),
        )?;
    }
    columns.flush()?;
    if let Some(Pause { node, reason, since }) = pause {
        writeln!(out, "\nThe roll-out of restarts is paused since {since}: {node}: {reason}")?;
        writeln!(out, "Mend it, then run `registry-mirror resume`.")?;
    }
    Ok(())
}

fn status_of<'a>(conditions: &'a [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], kind: &str) -> &'a str {
    conditions.iter().find(|condition| condition.type_ == kind).map_or("", |condition| condition.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(status: &serde_json::Value) -> Snapshot {
        let object = json!({
            "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": "hub", "generation": 2},
            "spec": {"registry": "docker.io", "mirrors": [{"url": "https://m.example.com"}]},
            "status": status,
        });
        let mirror = serde_json::from_value(object).expect("an object");
        Snapshot { mirrors: vec![mirror], nodes: Vec::new(), pause: None }
    }

    /// Scripts wait for it, so it must not end while an object refers to what is not there or its mirrors are dead.
    #[test]
    fn settled_is_where_nothing_is_amiss() {
        let nodes = json!({"matched": 2, "programmed": 2, "pendingRestart": 0, "failed": 0, "summary": "2/2"});
        let settled = |generation: i64, reason: &str| {
            let reason = (!reason.is_empty()).then_some(reason);
            snapshot(&json!({"observedGeneration": generation, "reason": reason, "nodes": nodes})).is_settled()
        };
        assert!(settled(2, ""));
        assert!(settled(2, "Suspended"));
        assert!(!settled(1, ""), "an older generation");
        for reason in ["RefNotFound", "Conflict", "MirrorsUnhealthy", "NoMatchingNodes", "AgentsNotReady"] {
            assert!(!settled(2, reason), "{reason}");
        }
        assert!(!snapshot(&json!(null)).is_settled(), "the controller has said nothing yet");
    }
}
