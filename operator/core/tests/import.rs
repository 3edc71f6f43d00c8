//! What others configured comes out as objects whose hosts.toml does the same.
#![allow(clippy::expect_used, clippy::panic, reason = "a helper of a test fails as its body does")]

use std::{collections::BTreeSet, path::Path};

use registry_mirror_core::{
    compile::{CompileOptions, References, compile},
    config_toml::{self, MapSource},
    containerd::Version,
    desired::{Target, desired},
    import::{self, Imported, RegistryFile},
};

const NAMESPACE: &str = "registry-mirror-system";
const V2_4: Version = Version::new(2, 4, 2);

const PEM: &str = include_str!("../src/compile/testdata/ec.crt");
const KEY: &str = include_str!("../src/compile/testdata/ec8.key");

fn files() -> MapSource {
    let both = format!("{KEY}{PEM}");
    MapSource(
        [
            ("/etc/ssl/ca.crt", PEM),
            ("/etc/ssl/client.crt", PEM),
            ("/etc/ssl/client.key", KEY),
            ("/etc/ssl/both.pem", &both),
        ]
        .into_iter()
        .map(|(path, text)| (path.into(), text.as_bytes().to_vec()))
        .collect(),
    )
}

/// The objects and what an agent would write for them.
fn shown(imported: &Imported) -> String {
    let Imported { mirrors, secrets, left_out, remarks } = imported;
    let mut text = String::new();
    for sentence in left_out {
        text += &format!("left out: {sentence}\n");
    }
    for remark in remarks {
        text += &format!("note: {remark}\n");
    }
    for mirror in mirrors {
        text += &format!("---\n{}", serde_saphyr::to_string(mirror).expect("YAML"));
    }
    let mut references = References::default();
    for secret in secrets {
        text += &format!("---\n{}", serde_saphyr::to_string(secret).expect("YAML"));
        references.insert_secret(secret.clone());
    }
    let compiled = compile(mirrors, &references, &CompileOptions { namespace: NAMESPACE, ..CompileOptions::default() });
    for (name, verdict) in &compiled.verdicts {
        let problems: Vec<String> = verdict.problems().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{name}: {problems:?}");
    }
    let target = Target { version: V2_4, certs_dir: Path::new("/certs.d") };
    for entry in &compiled.bundle.entries {
        let wanted = desired(entry, &compiled.bundle.blobs, target, &BTreeSet::new()).expect("all blobs");
        text += &format!("=== {}/hosts.toml\n{}", entry.registry.directory(), wanted.registry.hosts_toml);
    }
    text
}

fn k3s(text: &str) -> String {
    shown(&import::k3s(text, &files(), NAMESPACE).expect("an import"))
}

#[test]
fn k3s_mirrors_with_credentials_and_mutual_tls() {
    insta::assert_snapshot!(k3s("mirrors:
  docker.io:
    endpoint:
    - https://harbor.example:8443/v2/dockerhub
    - mirror.example
  '*':
    endpoint: ['http://10.0.0.1:5000']
  registry.k8s.io:
configs:
  harbor.example:8443:
    auth: {username: robot, password: s3cret}
    tls: {ca_file: /etc/ssl/ca.crt, cert_file: /etc/ssl/client.crt, key_file: /etc/ssl/client.key}
  private.example:
    auth: {auth: dXNlcjpwYXNz}
    tls: {insecure_skip_verify: true}
"));
}

#[test]
fn k3s_rewrites_that_are_a_prefix_become_one() {
    insta::assert_snapshot!(k3s("mirrors:
  docker.io:
    endpoint: [https://harbor.example]
    rewrite: {'^(.*)$': 'dockerhub/$1'}
  quay.io:
    endpoint: [https://harbor.example]
    rewrite: {'^rancher/(.*)': 'mirror/$1'}
configs:
  docker.io:
    auth: {username: me, password: mine, identity_token: t}
"));
}

#[test]
fn k3s_passes_over_fields_that_it_does_not_know() {
    insta::assert_snapshot!(k3s("version: 1
mirrors:
  docker.io: {endpoint: [https://m], endpoints: [https://n]}
configs:
  m: {auth: {user: s3cret}, tls: {ca: x}, headers: {a: s3cret}}
"));
}

#[test]
fn k3s_refuses_what_it_cannot_read_without_showing_it() {
    let refusals: Vec<String> = [
        "mirrors: [",
        "configs: {h.example: {auth: {username: 1, password: [s3cret]}}}",
        "mirrors: {docker.io: {endpoint: [https://m]}}\nconfigs: {m: {tls: {ca_file: /lost.crt}}}",
    ]
    .iter()
    .map(|text| import::k3s(text, &files(), NAMESPACE).err().map(|error| error.to_string()).unwrap_or_default())
    .collect();
    assert!(!refusals.join("").contains("s3cret"));
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn docker_mirrors_are_for_docker_hub_alone() {
    let text = r#"{"registry-mirrors": ["https://m1.example/", "https://m2.example:5000"],
        "insecure-registries": ["m2.example:5000", "plain.example", "10.0.0.0/8"], "log-level": "info"}"#;
    insta::assert_snapshot!(shown(&import::docker(text, NAMESPACE).expect("an import")));
}

fn certs_d(directory: &str, text: &str) -> String {
    let file = RegistryFile {
        directory: directory.to_owned(),
        path: Path::new("/etc/ssl").join("hosts.toml"),
        text: text.to_owned(),
    };
    shown(&import::certs_d(&[file], V2_4, &files(), NAMESPACE).expect("an import"))
}

#[test]
fn certs_d_comes_out_as_it_went_in() {
    // what the operator writes itself
    for text in [
        "server = \"https://registry-1.docker.io\"\n\n[host.\"https://m1.example\"]\ncapabilities = [\"pull\", \"resolve\"]\n\n\
         [host.\"http://m2.example:5000\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\ndial_timeout = \"3s\"\n",
        "server = \"https://m.example/v2/dockerhub\"\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\n\n[header]\n\
         X-Tenant = [\"blue\"]\nAuthorization = [\"Basic dXNlcjpwYXNz\"]\n\n[host.\"https://m.example/v2/dockerhub\"]\n\
         capabilities = [\"pull\", \"resolve\"]\noverride_path = true\n\n[host.\"https://m.example/v2/dockerhub\".header]\n\
         X-Tenant = [\"blue\"]\nAuthorization = [\"Basic dXNlcjpwYXNz\"]\n",
    ] {
        let out = certs_d("docker.io", text);
        let written = out.split("=== docker.io/hosts.toml\n").nth(1).unwrap_or_default();
        assert_eq!(written, text);
    }
}

#[test]
fn certs_d_with_relative_certificates_and_a_root_with_headers() {
    insta::assert_snapshot!(certs_d(
        "host.example_5000_",
        "server = \"https://up.example\"\n[header]\nAuthorization = \"Bearer t0ken\"\n[host.\"https://m.example/v2\"]\n\
         ca = \"ca.crt\"\nclient = \"both.pem\"\n"
    ));
}

#[test]
fn certs_d_says_what_containerd_ignores() {
    insta::assert_snapshot!(certs_d("quay.io", "server = 1\n"));
}

#[test]
fn containerd_tables_become_objects() {
    let text = "version = 2
[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]
endpoint = [\"https://m1.example\", \"https://registry-1.docker.io\"]
[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m1.example\".tls]
ca_file = \"/etc/ssl/ca.crt\"
[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m1.example\".auth]
username = \"robot\"
password = \"s3cret\"
";
    let mut source = files();
    source.0.insert("/etc/containerd/config.toml".into(), text.as_bytes().to_vec());
    let config =
        config_toml::load(Path::new("/etc/containerd/config.toml"), Version::new(1, 7, 35), &source).expect("a config");
    insta::assert_snapshot!(shown(&import::containerd(&config, &source, NAMESPACE).expect("an import")));
}

/// `auths` go by url, and over what `configs` say of the same host.
#[test]
fn containerd_auths_become_credentials_too() {
    let text = "version = 2
[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]
endpoint = [\"https://m1.example\", \"https://m2.example:5000\"]
[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m1.example\".auth]
username = \"older\"
password = \"older\"
[plugins.\"io.containerd.grpc.v1.cri\".registry.auths.\"https://m1.example\"]
username = \"robot\"
password = \"s3cret\"
[plugins.\"io.containerd.grpc.v1.cri\".registry.auths.\"https://m2.example:5000\"]
auth = \"dXNlcjpwYXNz\"
[plugins.\"io.containerd.grpc.v1.cri\".registry.auths.\"private.example\"]
username = \"me\"
password = \"mine\"
[plugins.\"io.containerd.grpc.v1.cri\".registry.auths.\"token.example\"]
identitytoken = \"t\"
";
    let mut source = files();
    source.0.insert("/etc/containerd/config.toml".into(), text.as_bytes().to_vec());
    let import = |version| {
        let config = config_toml::load(Path::new("/etc/containerd/config.toml"), version, &source).expect("a config");
        import::containerd(&config, &source, NAMESPACE).expect("an import")
    };
    let old = import(Version::new(1, 7, 35));
    insta::assert_snapshot!(shown(&old));
    assert_eq!(shown(&import(V2_4)), shown(&old));
}
