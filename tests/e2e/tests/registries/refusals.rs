//! Mirrors that refuse: the wrong authority, no client certificate, the wrong password.

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, MIRROR2, manifest, until};
use serde_json::{Value, json};
use testbed::{Node, ROBOT};

use crate::{
    objects::{HARBOR, MUTUAL_TLS, TLS, UPSTREAM, basic_auth, ca_ref, joined, other_ca},
    run,
};

struct Wrong {
    name: &'static str,
    /// What the bed calls the registry that refuses.
    registry: &'static str,
    mirror: Value,
    /// A real upstream, which has the image and must not be asked with `Deny`.
    upstream: &'static str,
    /// What containerd says in a pod's event.
    event: &'static [&'static str],
    /// What 1.6 says, where that is something else.
    event_of_1_6: Option<&'static [&'static str]>,
    /// Part of what `explain --probe` says.
    explained: &'static str,
}

fn wrongs(cluster: &Cluster) -> Result<[Wrong; 3]> {
    let trusted = json!({"caRef": ca_ref("Secret")});
    Ok([
        Wrong {
            name: "wrong-ca",
            registry: "tls",
            mirror: json!({"url": TLS, "tls": {"ca": other_ca(cluster)?}}),
            upstream: "ghcr.io",
            event: &["tls.testbed.internal:5002", "certificate signed by unknown authority"],
            event_of_1_6: None,
            explained: "TLS handshake: invalid peer certificate: UnknownIssuer",
        },
        Wrong {
            name: "no-certificate",
            registry: "mtls",
            mirror: json!({"url": MUTUAL_TLS, "tls": trusted}),
            upstream: "quay.io",
            event: &["mtls.testbed.internal:5003", "remote error: tls: bad certificate"],
            event_of_1_6: None,
            explained: "it wants a client certificate and got none that it accepts",
        },
        Wrong {
            name: "wrong-password",
            registry: "harbor",
            mirror: json!({"url": HARBOR, "tls": trusted, "auth": {"secretRef": {"name": "wrong-password"}}}),
            upstream: "docker.io",
            // Here 1.7 and later do not name the host: `explain` does.
            event: &["authorization failed: no basic auth credentials"],
            event_of_1_6: Some(&["harbor.testbed.internal:5004", "401 Unauthorized"]),
            explained: "401 Unauthorized: it refuses the credentials",
        },
    ])
}

fn prepare(cluster: &Cluster) -> Result<[Wrong; 3]> {
    run::ready(cluster)?;
    run::no_pods(cluster)?;
    cluster.bed().apply(&basic_auth("wrong-password", (ROBOT.0, "not-the-password")))?;
    wrongs(cluster)
}

pub fn passed_over(cluster: &Cluster) -> Result<()> {
    let wrongs = prepare(cluster)?;
    let (host, repository) =
        (|wrong: &Wrong| format!("{}.example", wrong.name), |wrong: &Wrong| format!("app/{}", wrong.name));
    let mut objects = Vec::new();
    for wrong in &wrongs {
        run::push(cluster, wrong.registry, &repository(wrong))?;
        run::push(cluster, "mirror2", &repository(wrong))?;
        objects.push(run::with_upstream(wrong.name, &host(wrong), &json!([wrong.mirror, {"url": MIRROR2}])));
    }
    run::apply(cluster, objects)?;
    let image = |wrong: &Wrong| format!("{}/{}:{}", host(wrong), repository(wrong), run::tag());
    let pods = wrongs
        .iter()
        .flat_map(|wrong| cluster.nodes().iter().map(move |node| run::pod(wrong.name, node, &image(wrong))));
    cluster.bed().apply(&joined(pods))?;
    for wrong in &wrongs {
        for node in cluster.nodes() {
            cluster.running(&format!("{}-{}", wrong.name, node.name()), run::PATIENCE)?;
            run::served(cluster, "mirror2", node, &repository(wrong), &host(wrong))?;
            let refused = run::asked(cluster, wrong.registry, node, &repository(wrong))?;
            ensure!(
                refused.iter().all(|access| access.status == 401),
                "{} did not refuse {}: {refused:?}",
                wrong.registry,
                node.name()
            );
            let (serves, text) = run::explain(cluster, node, &image(wrong))?;
            ensure!(
                serves && text.contains(wrong.explained) && text.contains("Served by 2."),
                "explain of {} on {}:\n{text}",
                wrong.name,
                node.name()
            );
        }
        run::not_asked(cluster, UPSTREAM, &repository(wrong))?;
    }
    run::no_pods(cluster)
}

pub fn denied(cluster: &Cluster) -> Result<()> {
    let wrongs = prepare(cluster)?;
    let outcome = each_denied(cluster, &wrongs);
    // Their registries are real ones, which other scenarios need.
    run::no_pods(cluster)?;
    for wrong in &wrongs {
        cluster.delete("registrymirror", &name(wrong))?;
    }
    outcome
}

fn name(wrong: &Wrong) -> String {
    format!("deny-{}", wrong.name)
}

fn each_denied(cluster: &Cluster, wrongs: &[Wrong]) -> Result<()> {
    let mut objects = Vec::new();
    for wrong in wrongs {
        let repository = format!("app/{}", name(wrong));
        run::push(cluster, wrong.registry, &repository)?;
        run::push(cluster, wrong.upstream, &repository)?;
        let spec = json!({"registry": wrong.upstream, "mirrors": [wrong.mirror], "upstream": {"fallback": "Deny"}});
        objects.push(manifest(&name(wrong), &spec));
    }
    run::apply(cluster, objects)?;
    let image = |wrong: &Wrong| format!("{}/app/{}:{}", wrong.upstream, name(wrong), run::tag());
    let pods = wrongs
        .iter()
        .flat_map(|wrong| cluster.nodes().iter().map(move |node| run::pod(&name(wrong), node, &image(wrong))));
    cluster.bed().apply(&joined(pods))?;
    for wrong in wrongs {
        for node in cluster.nodes() {
            let says = match wrong.event_of_1_6 {
                Some(says) if node.spec().containerd.starts_with("1.6.") => says,
                _ => wrong.event,
            };
            failed_pull(cluster, &format!("{}-{}", name(wrong), node.name()), says)?;
            explained(cluster, wrong, node, &image(wrong))?;
        }
        run::not_asked(cluster, wrong.upstream, &format!("app/{}", name(wrong)))?;
    }
    Ok(())
}

fn explained(cluster: &Cluster, wrong: &Wrong, node: &Node, image: &str) -> Result<()> {
    let (serves, text) = run::explain(cluster, node, image)?;
    ensure!(
        !serves && text.contains(wrong.explained) && text.contains("No host serves it"),
        "explain of {} on {}:\n{text}",
        wrong.name,
        node.name()
    );
    Ok(())
}

/// Waits for an event that a pod's image could not be pulled which says all of this.
fn failed_pull(cluster: &Cluster, pod: &str, says: &[&str]) -> Result<()> {
    let filter = format!("involvedObject.name={pod},reason=Failed");
    let mut seen = Value::Null;
    until(&format!("an event of {pod} that says {says:?}"), run::PATIENCE, || {
        seen = cluster.bed().kubectl_json(["get", "events", "--field-selector", &filter])?;
        let mut messages = seen["items"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
        let right = |message: &str| message.contains(run::tag()) && says.iter().all(|what| message.contains(what));
        Ok(messages.any(right).then_some(()))
    })
    .with_context(|| format!("its events are {seen}"))
}
