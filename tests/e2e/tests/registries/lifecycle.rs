//! Objects that are suspended, in each other's way, or refer to what is not there.

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, NAMESPACE};
use serde_json::json;
use testbed::ROBOT;

use crate::{
    objects::{HARBOR, basic_auth, ca_ref, secret},
    run,
};

pub fn suspend(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (name, host, repository) = ("suspended", "suspended.example", "app/suspended");
    for registry in ["mirror", "mirror2"] {
        run::push(cluster, registry, repository)?;
    }
    let object = |url: &str, suspend: bool| {
        e2e::manifest(name, &json!({"registry": host, "mirrors": [{"url": url}], "suspend": suspend}))
    };
    run::apply(cluster, vec![object(MIRROR, false)])?;
    // Changed and suspended in one: the change must not arrive.
    cluster.bed().apply(&object(MIRROR2, true))?;
    let from_the_start = "suspended-from-the-start";
    let spec = json!({"registry": "never-set-up.example", "mirrors": [{"url": MIRROR}], "suspend": true});
    cluster.bed().apply(&e2e::manifest(from_the_start, &spec))?;
    // What comes after it has arrived, so has this.
    run::apply(
        cluster,
        vec![run::with_upstream("after-suspended", "after-suspended.example", &json!([{"url": MIRROR}]))],
    )?;
    for node in cluster.nodes() {
        ensure!(
            cluster.hosts(node, host)? == Some(vec![MIRROR.to_owned()]),
            "the change of a suspended object reached {}",
            node.name()
        );
        run::pull(cluster, node, host, repository)?;
        run::served(cluster, "mirror", node, repository, host)?;
    }
    // Where the files stand the node counts, and where none ever stood it does not.
    let nodes = cluster.nodes().len();
    cluster.programmed(name, &format!("{nodes}/{nodes}"), run::PATIENCE)?;
    cluster.programmed(from_the_start, &format!("0/{nodes}"), run::PATIENCE)?;
    cluster.delete("registrymirror", from_the_start)?;
    run::apply(cluster, vec![object(MIRROR2, false)])?;
    cluster.files(host, Some(&[MIRROR2]), run::PATIENCE).map(|_| ())
}

pub fn conflict(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let host = "wanted-twice.example";
    for name in ["elder", "younger"] {
        cluster.delete("registrymirror", name)?;
    }
    run::apply(cluster, vec![run::with_upstream("elder", host, &json!([{"url": MIRROR}]))])?;
    cluster.bed().apply(&run::with_upstream("younger", host, &json!([{"url": MIRROR2}])))?;
    let said = run::object_condition(cluster, "younger", "Accepted", |found| found.reason == "Conflict")?;
    ensure!(said.message.contains("elder") && said.message.contains('3'), "it says: {}", said.message);
    cluster.files(host, Some(&[MIRROR]), run::PATIENCE)?;
    cluster.delete("registrymirror", "elder")?;
    cluster.files(host, Some(&[MIRROR2]), run::PATIENCE)?;
    run::object_condition(cluster, "younger", "Accepted", |found| found.status == "True")?;
    cluster.delete("registrymirror", "younger")
}

/// The nodes keep the last good state, and pulls go on.
pub fn references(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (name, host, repository) = ("references", "references.example", "app/references");
    run::push(cluster, "harbor", repository)?;
    let good = basic_auth("refers-to-me", ROBOT);
    cluster.bed().apply(&good)?;
    let mirror = json!({
        "url": HARBOR,
        "tls": {"caRef": ca_ref("ConfigMap")},
        "auth": {"secretRef": {"name": "refers-to-me"}},
    });
    run::apply(cluster, vec![run::with_upstream(name, host, &json!([mirror]))])?;
    let before: Vec<_> = cluster.nodes().iter().map(|node| cluster.hosts_toml(node, host)).collect::<Result<_>>()?;

    let pulls_go_on = |cluster: &Cluster| -> Result<()> {
        for (node, before) in cluster.nodes().iter().zip(&before) {
            ensure!(cluster.hosts_toml(node, host)? == *before, "the file changed on {}", node.name());
            run::pull(cluster, node, host, repository)?;
            run::served(cluster, "harbor", node, repository, host)?;
        }
        Ok(())
    };
    cluster.bed().kubectl(["delete", "secret", "refers-to-me", "--namespace", NAMESPACE])?;
    let gone = run::object_condition(cluster, name, "ResolvedRefs", |found| found.status == "False")?;
    ensure!(
        gone.message.contains("`refers-to-me`") && gone.message.contains(NAMESPACE),
        "the missing Secret is not named: {}",
        gone.message
    );
    pulls_go_on(cluster)?;

    cluster.bed().apply(&secret("refers-to-me", "Opaque", &[("username", ROBOT.0)]))?;
    let keyless = run::object_condition(cluster, name, "ResolvedRefs", |found| found.message.contains("`password`"))?;
    ensure!(
        keyless.status == "False" && keyless.message.contains("`refers-to-me`") && !keyless.message.contains(ROBOT.0),
        "the missing key is not named, or a value is: {}",
        keyless.message
    );
    pulls_go_on(cluster)?;

    // The type of a Secret cannot be changed.
    cluster.bed().kubectl(["delete", "secret", "refers-to-me", "--namespace", NAMESPACE])?;
    cluster.bed().apply(&good)?;
    run::object_condition(cluster, name, "ResolvedRefs", |found| found.status == "True").map(|_| ())
}
