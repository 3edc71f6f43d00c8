//! What the scenarios ask of the cluster.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, Condition, Values, condition, manifest, until};
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::{Access, Cache, Image, Node};

use crate::objects::{UPSTREAM, joined, references};

pub const PATIENCE: Duration = Duration::from_secs(90);

/// When this run began: what a kept bed holds of earlier ones is no witness.
fn began() -> Timestamp {
    static BEGAN: OnceLock<Timestamp> = OnceLock::new();
    *BEGAN.get_or_init(Timestamp::now)
}

/// A tag of this run, so that no image is there from an earlier one.
pub fn tag() -> &'static str {
    static TAG: OnceLock<String> = OnceLock::new();
    TAG.get_or_init(|| format!("r{}", began().as_millisecond()))
}

/// An image that differs from all others and runs until it is stopped.
pub fn image(name: &str) -> Result<Image> {
    let pause = testbed::pause(&Cache::locate()?)?.join("pause");
    Image::filler(&format!("{name} of {}", tag()), 1).program("/pause", &pause)
}

/// Puts a new image into a registry.
pub fn push(cluster: &Cluster, registry: &str, repository: &str) -> Result<()> {
    cluster.bed().push(registry, repository, tag(), &image(repository)?).map(|_| ())
}

/// The operator with what objects refer to.
pub fn ready(cluster: &Cluster) -> Result<()> {
    cluster.installed(&Values { max_unavailable: "100%", ..Values::default() })?;
    cluster.bed().apply(&references(cluster)?).map(|_| ())
}

/// An object whose upstream is a real registry of another name.
pub fn with_upstream(name: &str, registry: &str, mirrors: &Value) -> String {
    manifest(
        name,
        &json!({
            "registry": registry,
            "mirrors": mirrors,
            "upstream": {"server": format!("https://{UPSTREAM}")},
        }),
    )
}

/// Applies objects and waits until every node has them.
pub fn apply(cluster: &Cluster, objects: Vec<String>) -> Result<()> {
    let names: Vec<String> = objects
        .iter()
        .map(|object| {
            let object: Value = serde_json::from_str(object)?;
            Ok(object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        })
        .collect::<Result<_>>()?;
    cluster.bed().apply(&joined(objects))?;
    let all = format!("{0}/{0}", cluster.nodes().len());
    names.iter().try_for_each(|name| programmed_now(cluster, name, &all))
}

/// Waits until that many nodes have the object as it is now, not as it was before its last change.
pub fn programmed_now(cluster: &Cluster, name: &str, nodes: &str) -> Result<()> {
    let mut last = Value::Null;
    until(&format!("{nodes} nodes with the RegistryMirror {name}"), PATIENCE, || {
        last = cluster.bed().kubectl_json(["get", "registrymirror", name])?;
        let current = last["status"]["observedGeneration"] == last["metadata"]["generation"];
        Ok((current && last["status"]["nodes"]["summary"] == nodes).then_some(()))
    })
    .with_context(|| format!("its status is {}", last["status"]))
}

/// Waits until a RegistryMirror has a condition that `wanted` accepts.
pub fn object_condition(
    cluster: &Cluster,
    name: &str,
    kind: &str,
    wanted: impl Fn(&Condition) -> bool,
) -> Result<Condition> {
    let mut last = None;
    until(&format!("the awaited condition {kind} of the RegistryMirror {name}"), PATIENCE, || {
        last = condition(&cluster.bed().kubectl_json(["get", "registrymirror", name])?, kind);
        Ok(last.clone().filter(&wanted))
    })
    .with_context(|| format!("it is {last:?}"))
}

/// What a registry was asked by a node's containerd about a repository; `explain` asks as well.
pub fn asked(cluster: &Cluster, registry: &str, node: &Node, repository: &str) -> Result<Vec<Access>> {
    let mut accesses = cluster.bed().accesses(registry)?;
    let path = format!("/v2/{repository}/");
    accesses.retain(|access| {
        access.client == node.address()
            && access.path.starts_with(&path)
            // A log knows whole seconds.
            && access.time.as_second() >= began().as_second()
            && !access.agent.starts_with("registry-mirror-operator/")
    });
    Ok(accesses)
}

/// Sees that a registry served the manifest and a blob of this run's image to the node, for images of `namespace`
/// (containerd's `ns=`).
pub fn served(cluster: &Cluster, registry: &str, node: &Node, repository: &str, namespace: &str) -> Result<()> {
    let accesses = asked(cluster, registry, node, repository)?;
    let good = |part: &str, end: &str| {
        accesses.iter().any(|access| {
            access.path.starts_with(&format!("/v2/{repository}/{part}/"))
                && access.path.ends_with(end)
                && access.namespace.as_deref() == Some(namespace)
                && access.status == 200
        })
    };
    ensure!(
        good("manifests", tag()) && good("blobs", ""),
        "{registry} did not serve {repository}:{} to {} with ns={namespace}: {accesses:#?}",
        tag(),
        node.name()
    );
    Ok(())
}

/// Sees that a registry was not asked about a repository by any node.
pub fn not_asked(cluster: &Cluster, registry: &str, repository: &str) -> Result<()> {
    for node in cluster.nodes() {
        let accesses = asked(cluster, registry, node, repository)?;
        ensure!(accesses.is_empty(), "{registry} was asked for {repository} by {}: {accesses:?}", node.name());
    }
    Ok(())
}

/// A pod in the host's network that runs an image of this run.
pub fn pod(name: &str, node: &Node, image: &str) -> String {
    e2e::pod(&format!("{name}-{}", node.name()), node.name(), image, &[], true)
}

/// Pods of earlier scenarios, gone.
pub fn no_pods(cluster: &Cluster) -> Result<()> {
    let delete = ["delete", "pods", "--all", "--namespace", "default", "--grace-period=0", "--force"];
    cluster.bed().kubectl(delete).map(|_| ())
}

/// Pulls this run's image over CRI and forgets it.
pub fn pull(cluster: &Cluster, node: &Node, registry: &str, repository: &str) -> Result<Duration> {
    cluster.pull_anew(node, &format!("{registry}/{repository}:{}", tag()))
}

/// What `explain --probe` says on a node, and whether a host would serve the image.
pub fn explain(cluster: &Cluster, node: &Node, image: &str) -> Result<(bool, String)> {
    let output = cluster.command_line(&["explain", image, "--node", node.name(), "--probe"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.is_empty(), "explain failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}
