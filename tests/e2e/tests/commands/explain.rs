//! `explain IMAGE --node NODE`, run in the agent's pod, beside the access logs of a real pull.
//!
//! The logs tell the second alone, so an order is proved in another way: the image stands on one host of the list, and
//! containerd asks the hosts up to that one and none behind it. Once for each host, and once for an image that nobody
//! has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, NAMESPACE, until};
use serde_json::{Value, json};
use testbed::{Image, Node, ROBOT};

use crate::traffic::{Mark, registry_at};

const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody listens there: connections are refused at once.
const DEAD: &str = "http://10.88.0.1:5999";
const UNAVAILABLE: &str = "http://unavailable.testbed.internal:5503";
const HARBOR: &str = "https://harbor.testbed.internal:5004";

/// One way of configuring a registry.
struct SetUp {
    name: &'static str,
    /// The registry that images name.
    registry: &'static str,
    spec: Value,
    /// By digest instead of by tag.
    by_digest: bool,
    /// Whom `explain` must name, in order: the bed's names, or the url of a host that is not in the bed.
    expected: &'static [&'static str],
}

impl SetUp {
    fn new(name: &'static str, spec: Value, expected: &'static [&'static str]) -> Self {
        Self { name, registry: "docker.io", spec, by_digest: false, expected }
    }

    /// The RegistryMirror.
    fn manifest(&self) -> Value {
        let mut spec = self.spec.clone();
        if spec["registry"].is_null() {
            spec["registry"] = json!(self.registry);
        }
        // A mirror that refuses connections is to stay in the file.
        spec["healthCheck"] = json!({"enabled": false});
        json!({
            "apiVersion": "registry-mirror.dev/v1alpha1",
            "kind": "RegistryMirror",
            "metadata": {"name": self.name},
            "spec": spec,
        })
    }
}

fn set_ups() -> Vec<SetUp> {
    let ca = json!({"caRef": {"kind": "ConfigMap", "name": "private-ca", "key": "ca.crt"}});
    vec![
        SetUp::new(
            "order",
            json!({"mirrors": [{"url": MIRROR2}, {"url": MIRROR}]}),
            &["mirror2", "mirror", "docker.io"],
        ),
        SetUp::new(
            "prefix",
            json!({"mirrors": [
                {"url": HARBOR, "repositoryPrefix": "hub", "tls": ca, "auth": {"secretRef": {"name": "explain-robot"}}},
                {"url": MIRROR},
            ]}),
            &["harbor", "mirror", "docker.io"],
        ),
        SetUp::new(
            "deny",
            json!({"mirrors": [{"url": MIRROR}, {"url": MIRROR2}], "upstream": {"fallback": "Deny"}}),
            &["mirror", "mirror2", "mirror2"],
        ),
        SetUp::new(
            "capabilities",
            json!({"mirrors": [{"url": MIRROR, "capabilities": ["pull"]}, {"url": MIRROR2}]}),
            &["mirror2", "docker.io"],
        ),
        SetUp::new("dead", json!({"mirrors": [{"url": DEAD}, {"url": MIRROR}]}), &[DEAD, "mirror", "docker.io"]),
        SetUp::new(
            "unavailable",
            json!({"mirrors": [{"url": UNAVAILABLE}, {"url": MIRROR}]}),
            &["unavailable", "mirror", "docker.io"],
        ),
        SetUp {
            registry: "ghcr.io",
            ..SetUp::new(
                "default",
                json!({"registry": "_default", "mirrors": [{"url": MIRROR2}]}),
                &["mirror2", "ghcr.io"],
            )
        },
        SetUp {
            registry: "quay.io",
            ..SetUp::new(
                "server",
                json!({"mirrors": [{"url": MIRROR}], "upstream": {"server": MIRROR2}}),
                &["mirror", "mirror2"],
            )
        },
        SetUp {
            by_digest: true,
            ..SetUp::new(
                "digest",
                json!({"mirrors": [{"url": MIRROR, "capabilities": ["pull"]}, {"url": MIRROR2}]}),
                &["mirror", "mirror2", "docker.io"],
            )
        },
        SetUp {
            registry: "tls.testbed.internal:5002",
            ..SetUp::new(
                "host-and-port",
                json!({"mirrors": [{"url": MIRROR}], "upstream": {"tls": ca}}),
                &["mirror", "tls"],
            )
        },
    ]
}

pub fn order(cluster: &Cluster) -> Result<()> {
    let bed = cluster.bed();
    cluster.settled()?;
    let ca = fs::read_to_string(bed.private_ca())?;
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    bed.apply(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("private-ca"), "data": {"ca.crt": ca}})
            .to_string(),
    )?;
    let (username, password) = ROBOT;
    bed.apply(
        &json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
            "metadata": metadata("explain-robot"), "stringData": {"username": username, "password": password}})
        .to_string(),
    )?;
    cluster.delete("registrymirror", "docker-hub")?;
    let mut seen = String::new();
    for set_up in set_ups() {
        let name = set_up.name;
        bed.apply(&set_up.manifest().to_string())?;
        cluster.programmed(name, "2/2", PATIENCE)?;
        for node in cluster.nodes() {
            check(cluster, node, &set_up).with_context(|| format!("set-up `{name}` on {}", node.name()))?;
        }
        if name == "order" {
            suspended(cluster, &set_up)?;
        }
        cluster.delete("registrymirror", name)?;
        seen += &format!("{name} ");
    }
    eprintln!("explained as asked: {seen}");
    for (kind, name) in [("configmap", "private-ca"), ("secret", "explain-robot")] {
        bed.kubectl(["delete", kind, name, "--namespace", NAMESPACE])?;
    }
    Ok(())
}

/// A suspended object's nodes stay as they are, and `explain` says what they are, not what the object says.
fn suspended(cluster: &Cluster, set_up: &SetUp) -> Result<()> {
    let mut object = set_up.manifest();
    object["spec"]["suspend"] = json!(true);
    object["spec"]["mirrors"] = json!([{"url": "http://nobody.testbed.internal:1"}]);
    cluster.bed().apply(&object.to_string())?;
    until("the controller's look at the suspended object", PATIENCE, || {
        let object = cluster.bed().kubectl_json(["get", "registrymirror", set_up.name])?;
        Ok((object["status"]["observedGeneration"] == object["metadata"]["generation"]).then_some(()))
    })?;
    for node in cluster.nodes() {
        check(cluster, node, set_up).with_context(|| format!("suspended, on {}", node.name()))?;
    }
    Ok(())
}

/// One line of `explain` that is asked for the manifest.
#[derive(Debug)]
struct Line {
    order: u64,
    /// The bed's name, or the url of a host that is not in the bed.
    host: String,
    /// Up to the tag or digest.
    path: String,
    namespace: Option<String>,
}

fn explained(report: &Value) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for attempt in report["attempts"].as_array().context("explain lists no attempts")? {
        let Some(order) = attempt["order"].as_u64() else { continue };
        let url = attempt["url"].as_str().context("an attempt has no url")?;
        let (scheme, rest) = url.split_once("://").context("a url has no scheme")?;
        let (authority, rest) = rest.split_once('/').context("a url has no path")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, _) = path.rsplit_once('/').context("a url ends early")?;
        let namespace = query.strip_prefix("ns=").map(|text| text.replace("%3A", ":"));
        let authority =
            if scheme == "http" || authority.contains(':') { authority.to_owned() } else { format!("{authority}:443") };
        let host = registry_at(&authority).unwrap_or_else(|| format!("{scheme}://{authority}"));
        lines.push(Line { order, host, path: format!("/{path}"), namespace });
    }
    Ok(lines)
}

/// Whether one of them would serve, and what was printed.
fn explain(cluster: &Cluster, node: &Node, image: &str) -> Result<(bool, Value)> {
    let arguments = ["explain", image, "--node", node.name(), "--probe", "-o", "json"];
    let output = cluster.command_line(&arguments)?;
    let report = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("`{}` printed no JSON and said: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
    })?;
    Ok((output.status.success(), report))
}

fn check(cluster: &Cluster, node: &Node, set_up: &SetUp) -> Result<()> {
    let bed = cluster.bed();
    let SetUp { name, registry, spec: _, by_digest, expected } = set_up;
    let repository = format!("explain-{name}/{}", node.name());
    let nobody = if *by_digest { format!("@sha256:{}", "0".repeat(64)) } else { ":nobody".to_owned() };
    let probe = |reference: &str| explain(cluster, node, &format!("{registry}/{repository}{reference}"));
    let (success, report) = probe(&nobody)?;
    let lines = explained(&report)?;
    let hosts: Vec<&str> = lines.iter().map(|line| line.host.as_str()).collect();
    ensure!(hosts == *expected, "explain names {hosts:?}, expected {expected:?}: {report}");

    answered(&report, success, &lines, None)?;
    // On one node for every place of the image; on the others the probe of what nobody has is enough.
    let probes_all = cluster.nodes().first().is_some_and(|first| first.name() == node.name());

    // The image on one host after the other, and at last on none.
    for place in (0..=lines.len()).rev() {
        let holder = lines.get(place);
        let reference = match holder {
            // Nothing can be laid there, or the host stood earlier in the list.
            Some(Line { host, .. })
                if host.contains("://") || host == "unavailable" || hosts[..place].contains(&host.as_str()) =>
            {
                continue;
            }
            Some(Line { host, path, order, .. }) => {
                let stored = path.trim_start_matches("/v2/").trim_end_matches("/manifests");
                let tag = format!("at-{order}");
                let digest = bed.push(host, stored, &tag, &Image::filler(&format!("{repository}-{tag}"), 1))?;
                if *by_digest { format!("@{digest}") } else { format!(":{tag}") }
            }
            None => nobody.clone(),
        };
        let image = format!("{registry}/{repository}{reference}");
        let asked = &lines[..lines.len().min(place + 1)];
        if probes_all && holder.is_some() {
            let (success, report) = probe(&reference)?;
            answered(&report, success, asked, holder).with_context(|| image.clone())?;
        }
        let mark = Mark::now(bed)?;
        let pulled = node.pull(&image);
        match (holder, &pulled) {
            (Some(_), Err(error)) => bail!("{image} was not pulled: {error:#}"),
            (None, Ok(_)) => bail!("{image} was pulled, and nobody has it"),
            _ => {}
        }
        let expected: BTreeSet<(String, String, Option<String>)> = asked
            .iter()
            .filter(|line| !line.host.contains("://"))
            .map(|line| (line.host.clone(), line.path.clone(), line.namespace.clone()))
            .collect();
        let mut found = BTreeSet::new();
        // A registry writes a request down after answering it.
        until("the requests that explain names", Duration::from_secs(5), || {
            found = heads(&mark, cluster, node, reference.trim_start_matches([':', '@']))?;
            Ok(found.is_superset(&expected).then_some(()))
        })
        .with_context(|| format!("{image}: asked were {found:?}, explained {expected:?}"))?;
        ensure!(found == expected, "{image}: asked were {found:?}, explained {expected:?}");
        if holder.is_some() {
            node.remove_image(&image)?;
        }
    }
    Ok(())
}

/// Who was asked with HEAD for that tag or digest.
fn heads(
    mark: &Mark,
    cluster: &Cluster,
    node: &Node,
    reference: &str,
) -> Result<BTreeSet<(String, String, Option<String>)>> {
    let requests = mark.since(cluster.bed(), node)?;
    Ok(requests
        .into_iter()
        .filter(|request| request.method == "HEAD")
        .filter_map(|request| {
            let path = request.path.strip_suffix(reference)?.strip_suffix("/manifests/")?;
            Some((request.registry, format!("{path}/manifests"), request.namespace))
        })
        .collect())
}

/// `--probe` asked the same hosts from the node, and says which one would serve.
fn answered(report: &Value, success: bool, asked: &[Line], holder: Option<&Line>) -> Result<()> {
    let served_by = holder.map(|line| line.order);
    ensure!(
        report["servedBy"].as_u64() == served_by && success == holder.is_some(),
        "the image is on {served_by:?}, and --probe says {} (success: {success}): {report}",
        report["servedBy"]
    );
    let attempts = report["attempts"].as_array().cloned().unwrap_or_default();
    let answers = report["answers"].as_array().cloned().unwrap_or_default();
    let by_order: BTreeMap<u64, &Value> = attempts
        .iter()
        .zip(&answers)
        .filter_map(|(attempt, answer)| Some((attempt["order"].as_u64()?, answer)))
        .collect();
    for line in asked {
        let answer = by_order.get(&line.order).with_context(|| format!("no answer of {line:?}"))?;
        let wanted = match (line.host.as_str(), holder.is_some_and(|holder| holder.host == line.host)) {
            (_, true) => Some(200),
            ("unavailable", _) => Some(503),
            (host, _) if host.contains("://") => None,
            _ => Some(404),
        };
        ensure!(answer["status"].as_u64() == wanted, "{} answered {answer}, expected status {wanted:?}", line.host);
    }
    Ok(())
}
