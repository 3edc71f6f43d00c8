//! Secrets, ConfigMaps and RegistryMirrors as text for `kubectl apply`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{Cluster, NAMESPACE};
use serde_json::{Map, Value, json};

/// The bed's registries, as nodes reach them.
pub const TLS: &str = "https://tls.testbed.internal:5002";
pub const MUTUAL_TLS: &str = "https://mtls.testbed.internal:5003";
pub const HARBOR: &str = "https://harbor.testbed.internal:5004";
pub const TOKEN: &str = "https://token.testbed.internal:5005";

/// A real registry that stands behind the made-up ones, so that its log shows whether the upstream was asked.
pub const UPSTREAM: &str = "quay.io";

/// Several objects in one text.
pub fn joined(objects: impl IntoIterator<Item = String>) -> String {
    objects.into_iter().collect::<Vec<_>>().join("\n---\n")
}

pub fn secret(name: &str, kind: &str, data: &[(&str, &str)]) -> String {
    let data: Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), STANDARD.encode(value).into())).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data,
    })
    .to_string()
}

pub fn basic_auth(name: &str, (user, password): (&str, &str)) -> String {
    secret(name, "kubernetes.io/basic-auth", &[("username", user), ("password", password)])
}

pub fn docker_config(name: &str, host: &str, (user, password): (&str, &str)) -> String {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let config = json!({"auths": {host: {"auth": auth}}}).to_string();
    secret(name, "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", &config)])
}

pub fn config_map(name: &str, key: &str, text: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {key: text},
    })
    .to_string()
}

/// The private authority in a ConfigMap and in a Secret, a client certificate, and the robot account in both forms.
pub fn references(cluster: &Cluster) -> Result<String> {
    let ca = private_ca(cluster)?;
    let client = cluster.bed().mirror_client();
    let (certificate, key) = (read(&client.certificate)?, read(&client.key)?);
    Ok(joined([
        config_map("private-ca", "ca.crt", &ca),
        secret("private-ca", "Opaque", &[("ca.crt", &ca)]),
        secret("mirror-client", "kubernetes.io/tls", &[("tls.crt", &certificate), ("tls.key", &key)]),
        basic_auth("robot", testbed::ROBOT),
        docker_config("robot-docker", "harbor.testbed.internal:5004", testbed::ROBOT),
        basic_auth("token-robot", testbed::TOKEN_ROBOT),
    ]))
}

pub fn private_ca(cluster: &Cluster) -> Result<String> {
    read(&cluster.bed().private_ca())
}

/// An authority that has signed none of the mirrors' certificates.
pub fn other_ca(cluster: &Cluster) -> Result<String> {
    read(&cluster.bed().state().join("pki/public-ca.pem"))
}

/// `tls.caRef`, the private authority.
pub fn ca_ref(kind: &str) -> Value {
    json!({"kind": kind, "name": "private-ca", "key": "ca.crt"})
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
