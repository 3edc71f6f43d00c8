//! Files of others in certs.d.

use std::fs;

use anyhow::{Result, ensure};
use testbed::{Bed, Node};

use super::{CERTS_D, apply, config, files, is_served, object, plan, private_ca, restore};
use crate::{daemon, start::CONFIG};

const MIRROR: &str = "http://10.88.0.1:5000";
/// Nobody listens there: connections are refused at once.
const DEAD: &str = "http://10.88.0.1:5999";
const TLS: &str = "tls.testbed.internal:5002";
const MUTUAL: &str = "mtls.testbed.internal:5003";

/// Authorities and client certificates as Docker lays them out count for the registry itself, with a living mirror
/// before it and with a dead one.
pub(super) fn certificates(bed: &Bed, node: &Node) -> Result<()> {
    let client = bed.mirror_client();
    let (ca, of) = (private_ca(bed)?, |registry: &str, file: &str| format!("{CERTS_D}/{registry}/{file}"));
    daemon::begin(
        node,
        &[
            (CONFIG.to_owned(), config(Some(CERTS_D))),
            (of(TLS, "ca.crt"), ca.clone()),
            (of("mtls.testbed.internal_5003_", "ca.crt"), ca.clone()),
            (of("mtls.testbed.internal_5003_", "node.cert"), fs::read_to_string(&client.certificate)?),
            (of("mtls.testbed.internal_5003_", "node.key"), fs::read_to_string(&client.key)?),
        ],
    )?;
    let before = files(node)?;
    for (registry, own) in [(TLS, "tls"), (MUTUAL, "mtls")] {
        is_served(bed, node, registry, own)?;
    }
    let both = |mirror: &str| format!("{}---\n{}", object(TLS, mirror), object(MUTUAL, mirror));
    for (mirror, served) in [(MIRROR, ["mirror", "mirror"]), (DEAD, ["tls", "mtls"])] {
        apply(node, &both(mirror))?;
        is_served(bed, node, TLS, served[0])?;
        is_served(bed, node, MUTUAL, served[1])?;
    }
    // The administrator takes the authority back: the registry is trusted no longer, as without us.
    let authority = of(TLS, "ca.crt");
    node.sh(&format!("rm '{authority}'"))?;
    apply(node, &both(DEAD))?;
    ensure!(is_served(bed, node, TLS, "tls").is_err(), "{TLS} is trusted without its authority");
    node.write(&authority, &ca)?;
    node.sh(&format!("chmod 0644 '{authority}'"))?;
    apply(node, &both(DEAD))?;
    is_served(bed, node, TLS, "tls")?;
    restore(node, &before)?;
    for (registry, own) in [(TLS, "tls"), (MUTUAL, "mtls")] {
        is_served(bed, node, registry, own)?;
    }
    Ok(())
}

/// A list of directories, as on EKS: what the second one holds is hidden neither by `_default` nor by a directory of the
/// same registry in the first one.
pub(super) fn second_root(bed: &Bed, node: &Node) -> Result<()> {
    let authority = format!("/etc/docker/certs.d/{TLS}/ca.crt");
    let list = config(Some("/etc/containerd/certs.d:/etc/docker/certs.d"));
    daemon::begin(node, &[(CONFIG.to_owned(), list), (authority, private_ca(bed)?)])?;
    let before = files(node)?;
    is_served(bed, node, TLS, "tls")?;
    is_served(bed, node, "quay.io", "quay.io")?;
    node.write(super::OBJECT, object("_default", MIRROR))?;
    plan(node, "Adopt")?;
    apply(node, &object("_default", MIRROR))?;
    is_served(bed, node, "quay.io", "mirror")?;
    is_served(bed, node, TLS, "tls")?;
    apply(node, &object(TLS, DEAD))?;
    is_served(bed, node, "quay.io", "quay.io")?;
    is_served(bed, node, TLS, "tls")?;
    restore(node, &before)?;
    is_served(bed, node, TLS, "tls")
}

/// A hosts.toml that no containerd has ever read is named before a Patch turns it on.
pub(super) fn never_read(bed: &Bed, node: &Node) -> Result<()> {
    let theirs = format!("{CERTS_D}/quay.io/hosts.toml");
    let text =
        "server = \"https://quay.io\"\n[host.\"http://10.88.0.1:5001\"]\n  capabilities = [\"pull\", \"resolve\"]\n";
    daemon::begin(node, &[(CONFIG.to_owned(), config(None)), (theirs.clone(), text.to_owned())])?;
    let before = files(node)?;
    is_served(bed, node, "quay.io", "quay.io")?;
    node.write(super::OBJECT, object("docker.io", MIRROR))?;
    let planned = plan(node, "Patch")?;
    let named = &planned["newlyRead"];
    ensure!(
        named.as_array().is_some_and(|all| all.len() == 1)
            && named[0]["registry"] == "quay.io"
            && named[0]["path"] == theirs.as_str(),
        "the plan names {named}"
    );
    let said = apply(node, &object("docker.io", MIRROR))?;
    ensure!(said.contains(&theirs), "apply does not name {theirs}: {said}");
    // It was true.
    is_served(bed, node, "quay.io", "mirror2")?;
    restore(node, &before)?;
    daemon::restart(node)?;
    is_served(bed, node, "quay.io", "quay.io")
}
