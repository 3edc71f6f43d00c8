//! The other fields of a RegistryMirror, seen in what containerd then does.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, manifest, until};
use serde_json::{Value, json};
use testbed::{BLACKHOLE, Node};

use crate::{
    objects::{TLS, UPSTREAM, ca_ref, secret},
    run,
};

pub fn capabilities(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, repository) = ("capabilities.example", "app/capabilities");
    run::push(cluster, "mirror", repository)?;
    run::push(cluster, "mirror2", repository)?;
    let mirrors = json!([
        {"url": MIRROR, "capabilities": ["pull"]},
        {"url": MIRROR2, "capabilities": ["pull", "resolve", "referrers"]},
    ]);
    run::apply(cluster, vec![run::with_upstream("capabilities", host, &mirrors)])?;
    for node in cluster.nodes() {
        run::pull(cluster, node, host, repository)?;
        let (pulled, resolved) =
            (run::asked(cluster, "mirror", node, repository)?, run::asked(cluster, "mirror2", node, repository)?);
        ensure!(
            !pulled.is_empty()
                && pulled.iter().all(|access| !access.path.ends_with(run::tag()) && access.status == 200),
            "the mirror that does not resolve was asked for the tag by {}: {pulled:?}",
            node.name()
        );
        ensure!(
            !resolved.is_empty() && resolved.iter().all(|access| access.path.ends_with(run::tag())),
            "the second mirror was asked for more than the tag by {}: {resolved:?}",
            node.name()
        );
        let text = cluster.hosts_toml(node, host)?.unwrap_or_default();
        let knows_referrers = node.spec().containerd == "2.4.2";
        ensure!(text.contains("referrers") == knows_referrers, "{} has:\n{text}", node.name());
        if !knows_referrers {
            told(cluster, node, host, "ReferrersNotAsked", Some(MIRROR2))?;
        }
    }
    run::not_asked(cluster, UPSTREAM, repository)
}

/// The `Referer` header is the one that a registry writes into its log and containerd does not send by itself.
pub fn headers(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    cluster.bed().apply(&secret("tenant", "Opaque", &[("name", "tenant-of-a-secret")]))?;
    let mirror = |header: Value| json!([{"url": MIRROR, "headers": [header]}]);
    let cases = [
        ("header-plain", mirror(json!({"name": "Referer", "values": ["tenant-blue"]})), "tenant-blue"),
        (
            "header-secret",
            mirror(json!({"name": "Referer", "valueFrom": {"name": "tenant", "key": "name"}})),
            "tenant-of-a-secret",
        ),
    ];
    let mut objects = Vec::new();
    for (name, mirrors, _) in &cases {
        run::push(cluster, "mirror", &format!("app/{name}"))?;
        objects.push(run::with_upstream(name, &format!("{name}.example"), mirrors));
    }
    run::apply(cluster, objects)?;
    for (name, _, value) in &cases {
        let (host, repository) = (format!("{name}.example"), format!("app/{name}"));
        for node in cluster.nodes() {
            run::pull(cluster, node, &host, &repository)?;
            let accesses = run::asked(cluster, "mirror", node, &repository)?;
            ensure!(
                accesses.len() >= 3 && accesses.iter().all(|access| access.referer == *value),
                "requests of {} without the header: {accesses:?}",
                node.name()
            );
            let mode = node.run(["stat", "-c", "%a %U", &format!("{}/{host}/hosts.toml", e2e::CERTS_D)])?;
            ensure!(mode.trim() == "600 root", "{} on {} may be read by others: {mode}", host, node.name());
        }
    }
    Ok(())
}

pub fn dial_timeout(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, repository) = ("dial.example", "app/dial");
    run::push(cluster, "mirror2", repository)?;
    let dead = format!("http://{BLACKHOLE}:5000");
    let spec = json!({
        "registry": host,
        "mirrors": [{"url": dead, "dialTimeout": "300ms"}, {"url": MIRROR2}],
        // Otherwise the dead mirror is taken out, and no time-out is seen.
        "healthCheck": {"enabled": false},
    });
    // Written as people write it, and in good health: what an old containerd does not do is no fault of the mirror.
    let answers = format!("{MIRROR2}/");
    let alive = json!({"registry": "dial-answers.example", "mirrors": [{"url": answers, "dialTimeout": "3s"}]});
    run::apply(cluster, vec![manifest("dial-timeout", &spec), manifest("dial-answers", &alive)])?;
    run::object_condition(cluster, "dial-answers", "Healthy", |healthy| healthy.status == "True")?;
    for node in cluster.nodes() {
        if node.spec().containerd == "2.4.2" {
            let took = run::pull(cluster, node, host, repository)?;
            run::served(cluster, "mirror2", node, repository, host)?;
            eprintln!("{}: a pull past a black hole took {took:.1?} with dialTimeout 300ms", node.name());
            // A single request that waits for the default would take 30 s.
            ensure!(took < Duration::from_secs(15), "the pull took {took:.1?}");
        } else {
            told(cluster, node, host, "DialTimeoutIgnored", Some(&dead))?;
            told(cluster, node, "dial-answers.example", "DialTimeoutIgnored", Some(&answers))?;
        }
    }
    Ok(())
}

pub fn host_and_port(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, repository) = ("port.example:5000", "app/port");
    run::push(cluster, "mirror", repository)?;
    run::apply(cluster, vec![run::with_upstream("host-and-port", host, &json!([{"url": MIRROR}]))])?;
    for node in cluster.nodes() {
        run::pull(cluster, node, host, repository)?;
        run::served(cluster, "mirror", node, repository, host)?;
    }
    run::not_asked(cluster, UPSTREAM, repository)
}

/// No mirror has the image, so the server that is named is asked, with its own authority.
pub fn upstream_server(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, repository) = ("server.example", "app/server");
    run::push(cluster, "tls", repository)?;
    let spec = json!({
        "registry": host,
        "mirrors": [{"url": "http://unavailable.testbed.internal:5503"}, {"url": MIRROR}],
        "upstream": {"server": TLS, "tls": {"caRef": ca_ref("ConfigMap")}},
    });
    run::apply(cluster, vec![manifest("upstream-server", &spec)])?;
    for node in cluster.nodes() {
        run::pull(cluster, node, host, repository)?;
        run::served(cluster, "tls", node, repository, host)?;
        for (registry, status) in [("unavailable", 503), ("mirror", 404)] {
            let accesses = run::asked(cluster, registry, node, repository)?;
            ensure!(accesses.iter().any(|access| access.status == status), "{registry} was passed over: {accesses:?}");
        }
    }
    Ok(())
}

pub fn node_selector(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, repository) = ("ghcr.io", "app/selected");
    run::push(cluster, "mirror", repository)?;
    run::push(cluster, host, repository)?;
    let spec = json!({
        "registry": host,
        "mirrors": [{"url": MIRROR}],
        "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node2"}},
    });
    cluster.bed().apply(&manifest("selected", &spec))?;
    run::programmed_now(cluster, "selected", "1/1")?;
    for node in cluster.nodes() {
        run::pull(cluster, node, host, repository)?;
        let through = !run::asked(cluster, "mirror", node, repository)?.is_empty();
        let direct = !run::asked(cluster, host, node, repository)?.is_empty();
        let selected = node.name() == "node2";
        ensure!(
            (through, direct) == (selected, !selected),
            "{}: through the mirror: {through}, directly: {direct}",
            node.name()
        );
    }
    cluster.delete("registrymirror", "selected")
}

pub fn default_registry(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let repository = "app/default";
    run::push(cluster, "mirror2", repository)?;
    let spec = json!({"registry": "_default", "mirrors": [{"url": MIRROR2}]});
    run::apply(cluster, vec![manifest("all-others", &spec)])?;
    for node in cluster.nodes() {
        for host in ["nobody-names.example", "nor-this.example:8443"] {
            run::pull(cluster, node, host, repository)?;
            run::served(cluster, "mirror2", node, repository, host)?;
        }
    }
    cluster.delete("registrymirror", "all-others")
}

/// Waits until a node says of a registry, or of one of its mirrors, what its containerd does not do.
fn told(cluster: &Cluster, node: &Node, registry: &str, reason: &str, mirror: Option<&str>) -> Result<()> {
    let mut seen = Value::Null;
    until(&format!("{reason} in the NodeMirror {}", node.name()), run::PATIENCE, || {
        seen = cluster.node_mirror(node.name())?["status"]["registries"].clone();
        let entries = seen.as_array().into_iter().flatten().filter(|entry| entry["registry"] == registry);
        let mut notes = entries.flat_map(|entry| entry["notes"].as_array().into_iter().flatten());
        Ok(notes.any(|note| note["reason"] == reason && note["mirror"].as_str() == mirror).then_some(()))
    })
    .map_err(|error| error.context(format!("it says {seen}")))
}
