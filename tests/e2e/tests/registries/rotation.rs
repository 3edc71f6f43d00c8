//! Credentials and authorities that change while they are in use.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{CERTS_D, Cluster, until};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use testbed::{Account, ROBOT};

use crate::{
    objects::{HARBOR, TLS, basic_auth, ca_ref, config_map, private_ca},
    run,
};

pub fn password(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, first, second) = ("rotated-password.example", "app/first-password", "app/second-password");
    for repository in [first, second] {
        run::push(cluster, "harbor", repository)?;
    }
    cluster.bed().apply(&basic_auth("rotated", ROBOT))?;
    let mirror = json!({
        "url": HARBOR,
        "tls": {"caRef": ca_ref("ConfigMap")},
        "auth": {"secretRef": {"name": "rotated"}},
    });
    run::apply(cluster, vec![run::with_upstream("rotated-password", host, &json!([mirror]))])?;
    for node in cluster.nodes() {
        run::pull(cluster, node, host, first)?;
        run::served(cluster, "harbor", node, first, host)?;
    }

    let new = "another-s3cret-robot-token";
    cluster.bed().set_password("harbor", &Account { user: ROBOT.0.to_owned(), password: new.to_owned() })?;
    let header = STANDARD.encode(format!("{}:{new}", ROBOT.0));
    let outcome = write_and_wait(cluster, &basic_auth("rotated", (ROBOT.0, new)), |node| {
        Ok(cluster.hosts_toml(node, host)?.is_some_and(|text| text.contains(&header)))
    })
    .and_then(|took| {
        eprintln!("a new password in a Secret was in hosts.toml on every node after {took:.2?}");
        cluster.nodes().iter().try_for_each(|node| {
            run::pull(cluster, node, host, second)?;
            run::served(cluster, "harbor", node, second, host)
        })
    });
    // The other objects have the old one.
    cluster.bed().set_password("harbor", &Account { user: ROBOT.0.to_owned(), password: ROBOT.1.to_owned() })?;
    outcome
}

/// As it is done without an interruption: the new authority beside the old one, then the server's certificate, then
/// the old one out.
pub fn authority(cluster: &Cluster) -> Result<()> {
    run::ready(cluster)?;
    let (host, old_ca) = ("rotated-ca.example", private_ca(cluster)?);
    let repositories = ["app/old-ca", "app/both-cas", "app/new-certificate", "app/new-ca"];
    for repository in repositories {
        run::push(cluster, "tls", repository)?;
    }
    let pull = |repository: &str| {
        cluster.nodes().iter().try_for_each(|node| {
            run::pull(cluster, node, host, repository)?;
            run::served(cluster, "tls", node, repository, host)
        })
    };
    cluster.bed().apply(&config_map("rotated-ca", "ca.crt", &old_ca))?;
    let mirror = json!({
        "url": TLS,
        "tls": {"caRef": {"kind": "ConfigMap", "name": "rotated-ca", "key": "ca.crt"}},
    });
    run::apply(cluster, vec![run::with_upstream("rotated-ca", host, &json!([mirror]))])?;
    pull(repositories[0])?;

    let new = NewAuthority::create()?;
    let rotate = |ca: &str, what: &str| -> Result<()> {
        let took = write_and_wait(cluster, &config_map("rotated-ca", "ca.crt", ca), |node| {
            // The file that hosts.toml names, read as containerd does.
            let named = format!("cat $(sed -n 's/^ca = .*\"\\(.*\\)\".*/\\1/p' {CERTS_D}/{host}/hosts.toml)");
            Ok(node.sh(&named)?.trim() == ca.trim())
        })?;
        eprintln!("{what} in a ConfigMap was on every node after {took:.2?}");
        Ok(())
    };
    rotate(&format!("{old_ca}{}", new.certificate), "an authority beside the old one")?;
    pull(repositories[1])?;

    let files = cluster.bed().certificate("tls")?;
    let old_server = (fs::read(&files.certificate)?, fs::read(&files.key)?);
    let (certificate, key) = new.sign("tls.testbed.internal")?;
    let serve = |certificate: &[u8], key: &[u8]| -> Result<()> {
        cluster.bed().stop("tls")?;
        fs::write(&files.certificate, certificate)?;
        fs::write(&files.key, key)?;
        cluster.bed().start("tls")
    };
    let outcome = serve(certificate.as_bytes(), key.as_bytes()).and_then(|()| {
        pull(repositories[2])?;
        rotate(&new.certificate, "the new authority alone")?;
        pull(repositories[3])
    });
    serve(&old_server.0, &old_server.1).context("the registry could not be put back")?;
    outcome
}

/// Writes an object and waits until every node has what it says; returns how long the last one took, from before the
/// write.
fn write_and_wait(
    cluster: &Cluster,
    object: &str,
    arrived: impl Fn(&testbed::Node) -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    cluster.bed().apply(object)?;
    until("the new content on every node", Duration::from_secs(30), || {
        for node in cluster.nodes() {
            if !arrived(node)? {
                return Ok(None);
            }
        }
        Ok(Some(start.elapsed()))
    })
}

struct NewAuthority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl NewAuthority {
    fn create() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the next authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        ensure!(certificate.contains("BEGIN CERTIFICATE"), "the new authority has no certificate");
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// A server's certificate and key.
    fn sign(&self, host: &str) -> Result<(String, String)> {
        let params = CertificateParams::new(vec![host.to_owned()])?;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}
