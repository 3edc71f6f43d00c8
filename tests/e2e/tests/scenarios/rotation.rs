//! The client's certificate and the authority of a mirror are renewed again and again while nodes pull through it.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{CERTS_D, Cluster, NAMESPACE, during, until};
use serde_json::{Value, json};
use testbed::{Image, Node, Pair};

const MTLS: &str = "https://mtls.testbed.internal:5003";
const REGISTRY: &str = "quay.io";
const IMAGE: &str = "library/rotating";
/// Each of them has reached every node before the next begins.
const AT_ONCE: Duration = Duration::from_secs(10);

/// `E2E_ROTATIONS` is how often; every image is a new one and only the mirror has it, so that a pull that the mirror
/// does not let in fails.
pub fn certificates(cluster: &Cluster) -> Result<()> {
    let rotations = match std::env::var("E2E_ROTATIONS") {
        Ok(number) => number.parse().context("E2E_ROTATIONS is to be a number")?,
        Err(_) => 50,
    };
    cluster.settled()?;
    let bed = cluster.bed();
    let private = fs::read_to_string(bed.private_ca())?;
    // The nodes trust the other one anyway; beside the first it makes another file.
    let both = format!("{private}{}", fs::read_to_string(bed.state().join("pki/public-ca.pem"))?);
    let authorities = [private, both];

    rotate(cluster, &bed.mirror_client(), &authorities[0])?;
    bed.apply(&mirror().to_string())?;
    cluster.programmed("rotating", "2/2", Duration::from_secs(30))?;
    let before = cluster.witnesses()?;
    let served = bed.accesses("mtls")?.len();
    let start = Instant::now();
    let image = |node: &Node, number| {
        let tag = format!("{}-{number}", node.name());
        bed.push("mtls", IMAGE, &tag, &Image::filler(&tag, 1))?;
        Ok(format!("{REGISTRY}/{IMAGE}:{tag}"))
    };
    let (slowest, pulls) = during(cluster.nodes(), image, || {
        let mut slowest = Duration::ZERO;
        for number in 0..rotations {
            let client = bed.another_mirror_client(&format!("client-{number}"))?;
            let authority = &authorities[(number + 1) % authorities.len()];
            rotate(cluster, &client, authority)?;
            let began = Instant::now();
            let certificate = fs::read_to_string(&client.certificate)?;
            for node in cluster.nodes() {
                until(&format!("certificate {number} on {}", node.name()), AT_ONCE, || {
                    let named = named_certificates(cluster, node)?;
                    let has = |pem: &str| named.iter().any(|file| file.contains(pem.trim()));
                    Ok((has(&certificate) && named.iter().any(|file| file.trim() == authority.trim())).then_some(()))
                })?;
            }
            slowest = slowest.max(began.elapsed());
        }
        Ok(slowest)
    })?;
    let took = start.elapsed();
    cluster.programmed("rotating", "2/2", Duration::from_secs(30))?;
    cluster.no_restart_since(&before)?;
    pulls.all_went_well(20)?;
    let accesses = bed.accesses("mtls")?.split_off(served);
    for node in cluster.nodes() {
        let manifests = accesses.iter().filter(|access| {
            access.client == node.address() && access.path.contains("/manifests/") && access.status == 200
        });
        ensure!(manifests.count() > 0, "the mirror served nothing to {}", node.name());
    }
    eprintln!(
        "{rotations} rotations, {} pulls, none failed, in {:.0} s; the slowest reached both nodes after {slowest:.1?}",
        pulls.asked,
        took.as_secs_f64()
    );
    cluster.delete("registrymirror", "rotating")?;
    bed.kubectl(["delete", "secret/rotating-client", "configmap/rotating-ca", "--namespace", NAMESPACE])?;
    cluster.settled()
}

fn mirror() -> Value {
    json!({
        "apiVersion": "registry-mirror.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": "rotating"},
        "spec": {
            "registry": REGISTRY,
            "mirrors": [{
                "url": MTLS,
                "tls": {
                    "caRef": {"kind": "ConfigMap", "name": "rotating-ca", "key": "ca.crt"},
                    "clientCertRef": {"name": "rotating-client"},
                },
            }],
        },
    })
}

/// A new client certificate and another authority, as cert-manager would write them: two objects, one after the other.
fn rotate(cluster: &Cluster, client: &Pair, authority: &str) -> Result<()> {
    let read = |path: &std::path::Path| fs::read_to_string(path).with_context(|| format!("{}", path.display()));
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "rotating-client", "namespace": NAMESPACE},
            "stringData": {"tls.crt": read(&client.certificate)?, "tls.key": read(&client.key)?},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "rotating-ca", "namespace": NAMESPACE},
            "data": {"ca.crt": authority},
        },
    ]});
    cluster.bed().apply(&objects.to_string()).map(|_| ())
}

/// The contents of all certificate files that the registry's hosts.toml names on a node.
fn named_certificates(cluster: &Cluster, node: &Node) -> Result<Vec<String>> {
    let Some(text) = cluster.hosts_toml(node, REGISTRY)? else { return Ok(Vec::new()) };
    let names = text.split('"').filter(|word| word.starts_with(CERTS_D) && word.ends_with(".pem"));
    // One that is gone by now was named by an older file.
    Ok(names.filter_map(|name| node.read(name).ok()).map(|pem| String::from_utf8_lossy(&pem).into_owned()).collect())
}
