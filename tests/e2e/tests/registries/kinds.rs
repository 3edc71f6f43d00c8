//! Each kind of registry that a mirror can be, and the object for it.

use anyhow::Result;
use e2e::{Cluster, MIRROR};
use serde_json::{Value, json};

use crate::{
    objects::{HARBOR, MUTUAL_TLS, TLS, UPSTREAM, ca_ref, joined, private_ca},
    run,
};

/// A mirror and the registry that it leads to.
struct Kind {
    name: &'static str,
    /// What the bed calls the registry.
    registry: &'static str,
    mirror: Value,
    /// Where the images of the mirrored registry stand there.
    prefix: &'static str,
}

fn kinds(cluster: &Cluster) -> Result<Vec<Kind>> {
    let ca = private_ca(cluster)?;
    let trusted = json!({"caRef": ca_ref("ConfigMap")});
    let robot = json!({"secretRef": {"name": "robot"}});
    let kind = |name, registry, mirror| Kind { name, registry, mirror, prefix: "" };
    Ok(vec![
        kind("plain", "mirror", json!({"url": MIRROR})),
        kind("ca-config-map", "tls", json!({"url": TLS, "tls": trusted})),
        kind("ca-secret", "tls", json!({"url": TLS, "tls": {"caRef": ca_ref("Secret")}})),
        kind("ca-inline", "tls", json!({"url": TLS, "tls": {"ca": ca}})),
        kind("skip-verify", "tls", json!({"url": TLS, "tls": {"insecureSkipVerify": true}})),
        kind(
            "mutual-tls",
            "mtls",
            json!({
                "url": MUTUAL_TLS,
                "tls": {"caRef": ca_ref("Secret"), "clientCertRef": {"name": "mirror-client"}},
            }),
        ),
        kind("basic-auth", "harbor", json!({"url": HARBOR, "tls": trusted, "auth": robot})),
        kind(
            "docker-config",
            "harbor",
            json!({"url": HARBOR, "tls": trusted, "auth": {"secretRef": {"name": "robot-docker"}}}),
        ),
        Kind {
            prefix: "dockerhub/",
            ..kind(
                "proxy-cache",
                "harbor",
                json!({"url": HARBOR, "repositoryPrefix": "dockerhub", "tls": trusted, "auth": robot}),
            )
        },
        Kind {
            prefix: "dockerhub/",
            ..kind(
                "override-path",
                "harbor",
                json!({"url": format!("{HARBOR}/v2/dockerhub"), "overridePath": true, "tls": trusted, "auth": robot}),
            )
        },
    ])
}

pub fn pods_pull(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    run::no_pods(cluster)?;
    let kinds = kinds(cluster)?;
    let mut objects = Vec::new();
    for kind in &kinds {
        objects.push(run::with_upstream(kind.name, &kind.host(), &json!([kind.mirror])));
        run::push(cluster, kind.registry, &kind.stored())?;
    }
    run::apply(cluster, objects)?;

    let before = cluster.witnesses()?;
    let mut pods = Vec::new();
    for kind in &kinds {
        for node in cluster.nodes() {
            pods.push(run::pod(kind.name, node, &format!("{}/{}:{}", kind.host(), kind.repository(), run::tag())));
        }
    }
    cluster.bed().apply(&joined(pods))?;
    for kind in &kinds {
        for node in cluster.nodes() {
            cluster.running(&format!("{}-{}", kind.name, node.name()), run::PATIENCE)?;
            run::served(cluster, kind.registry, node, &kind.stored(), &kind.host())?;
        }
        run::not_asked(cluster, UPSTREAM, &kind.repository())?;
    }
    run::no_pods(cluster)?;
    cluster.no_restart_since(&before)
}

impl Kind {
    /// The mirrored registry, which exists in name alone.
    fn host(&self) -> String {
        format!("{}.example", self.name)
    }

    fn repository(&self) -> String {
        format!("app/{}", self.name)
    }

    fn stored(&self) -> String {
        format!("{}{}", self.prefix, self.repository())
    }
}
