//! A registry that sends its clients to a token server, as Harbor does.

use anyhow::{Result, ensure};
use e2e::{Cluster, condition};
use serde_json::json;
use testbed::{Node, TOKEN_ROBOT};

use crate::{
    objects::{TOKEN, UPSTREAM, ca_ref, joined},
    run,
};

const OBJECT: &str = "token-server";
const REGISTRY: &str = "tokens.example";
const REPOSITORY: &str = "app/tokens";

/// containerd forwards credentials to a token server from 2.1 on.
fn forwards(node: &Node) -> bool {
    !node.spec().containerd.starts_with("1.")
}

pub fn pods_pull(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    run::no_pods(cluster)?;
    let stored = format!("{}/{REPOSITORY}", TOKEN_ROBOT.0);
    run::push(cluster, "token", &stored)?;
    run::push(cluster, UPSTREAM, REPOSITORY)?;
    let mirror = json!({
        "url": TOKEN,
        "repositoryPrefix": TOKEN_ROBOT.0,
        "tls": {"caRef": ca_ref("ConfigMap")},
        "auth": {"secretRef": {"name": "token-robot"}},
    });
    run::apply(cluster, vec![run::with_upstream(OBJECT, REGISTRY, &json!([mirror]))])?;

    let image = format!("{REGISTRY}/{REPOSITORY}:{}", run::tag());
    cluster.bed().apply(&joined(cluster.nodes().iter().map(|node| run::pod(OBJECT, node, &image))))?;
    for node in cluster.nodes() {
        cluster.running(&format!("{OBJECT}-{}", node.name()), run::PATIENCE)?;
        if forwards(node) {
            run::served(cluster, "token", node, &stored, REGISTRY)?;
            ensure!(run::asked(cluster, UPSTREAM, node, REPOSITORY)?.is_empty(), "{} asked the upstream", node.name());
        } else {
            let refused = run::asked(cluster, "token", node, &stored)?;
            ensure!(
                !refused.is_empty() && refused.iter().all(|access| access.status == 401),
                "the registry did not refuse {}: {refused:?}",
                node.name()
            );
            run::served(cluster, UPSTREAM, node, REPOSITORY, REGISTRY)?;
        }
    }
    said(cluster)?;
    run::no_pods(cluster)
}

/// The object and the nodes say who cannot use the credentials, and no others do.
fn said(cluster: &Cluster) -> Result<()> {
    let object = run::object_condition(cluster, OBJECT, "CredentialsUnusable", |found| {
        found.status == "True" && found.message.contains("node1") && found.message.contains("node2")
    })?;
    ensure!(
        !object.message.contains("node3") && object.message.contains("2.1") && object.message.contains("token server"),
        "the object says: {}",
        object.message
    );
    for node in cluster.nodes() {
        if forwards(node) {
            let found = condition(&cluster.node_mirror(node.name())?, "CredentialsUnusable");
            ensure!(found.is_none(), "{} says {found:?}", node.name());
            let (serves, text) = explain(cluster, node)?;
            ensure!(
                serves && text.contains("200 OK, with a token of https://") && text.contains("Served by 1."),
                "explain on {}:\n{text}",
                node.name()
            );
            continue;
        }
        let said = cluster.condition(node.name(), "CredentialsUnusable", run::PATIENCE, |found| {
            found.message.contains(&format!("RegistryMirror/{OBJECT}:"))
        })?;
        // The same credentials in basic authentication work there, and are no reason for a complaint.
        ensure!(
            said.message.contains(TOKEN)
                && !said.message.contains("basic-auth")
                && !said.message.contains("docker-config"),
            "{} says: {}",
            node.name(),
            said.message
        );
        let (serves, text) = explain(cluster, node)?;
        ensure!(
            serves
                && text.contains("401 Unauthorized, for this containerd does not forward the credentials")
                && text.contains("Served by 2."),
            "explain on {}:\n{text}",
            node.name()
        );
    }
    Ok(())
}

fn explain(cluster: &Cluster, node: &Node) -> Result<(bool, String)> {
    run::explain(cluster, node, &format!("{REGISTRY}/{REPOSITORY}:{}", run::tag()))
}
