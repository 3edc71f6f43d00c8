//! hosts.toml: parse, restrict, render.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use registry_mirror_core::{
    bundle::Header,
    containerd::Version,
    hosts_toml::{
        Capabilities, ClientPair, Endpoint, Fields, Host, HostsToml, accepts_file_without_hosts, parse, render,
        restrict,
    },
    registry::RegistryName,
    sensitive::Sensitive,
};
use registry_mirror_crds::Capability;

use crate::{daemon, progress::Progress, secret::Watch};

static PROGRESS: Progress = Progress::new(["inputs", "read", "rendered and read back"]);

/// The daemon by the first byte, then the file.
///
/// # Panics
/// What was read does not come back from a rendered file, or a secret is shown.
pub fn check_text(data: &[u8]) {
    let Some((version, rest)) = daemon::split(data) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    PROGRESS.reached(0);
    let watch = Watch::over([text], '=');
    match parse(text, version) {
        Ok(file) => {
            PROGRESS.reached(1);
            if watch.is_planted() {
                watch.check("the file as a value", &format!("{file:?}"));
            }
            let docker: RegistryName = "docker.io".parse().expect("a registry");
            for Host { url, fields } in &file.hosts {
                if let Ok(endpoint) = Endpoint::parse(url, fields.override_path) {
                    let _ = (endpoint.request(&docker, &["library/alpine", "manifests", "3.20"]), endpoint.base());
                }
            }
            check_model(&file, version);
        }
        Err(error) => watch.check("an error", &error.to_string()),
    }
}

/// `parse(render(x)) = restrict(x)`, and a second restriction changes nothing.
///
/// # Panics
/// It is not so.
pub fn check_model(file: &HostsToml, version: Version) {
    let rendered = render(file, version);
    let (restricted, omitted) = restrict(file, version);
    assert_eq!(rendered.omitted, omitted);
    assert_eq!(restrict(&restricted, version), (restricted.clone(), Vec::new()), "a second restriction");
    // with neither a host nor a server there is nothing that an old release would read
    if !restricted.hosts.is_empty() || accepts_file_without_hosts(version) {
        let read = parse(&rendered.text, version);
        assert!(read.as_ref() == Ok(&restricted), "{version}\n{}\n{read:#?}\nis not\n{restricted:#?}", rendered.text);
        PROGRESS.reached(2);
    }
}

/// The model that the bytes stand for.
///
/// # Panics
/// It does not come back from its file.
pub fn check_any_model(data: &[u8]) {
    if let Ok(model) = AnyModel::arbitrary_take_rest(Unstructured::new(data)) {
        model.check();
    }
}

/// A model of any strings, numbers and lists.
#[derive(Debug, Arbitrary)]
struct AnyModel {
    version: u8,
    server: Option<String>,
    root: AnyFields,
    hosts: Vec<(String, AnyFields)>,
}

#[derive(Debug, Arbitrary)]
struct AnyFields {
    capabilities: u8,
    ca: Vec<String>,
    client: Vec<(String, Option<String>)>,
    skip_verify: Option<bool>,
    headers: Vec<(String, Vec<String>)>,
    override_path: bool,
    dial_timeout_nanoseconds: Option<u64>,
}

impl AnyModel {
    fn check(self) {
        PROGRESS.reached(0);
        let Self { version, server, root, hosts } = self;
        let version = daemon::VERSIONS[usize::from(version) % daemon::VERSIONS.len()];
        // to containerd an empty server is none
        let server = server.filter(|server| !server.is_empty());
        let hosts = hosts.into_iter().map(|(url, fields)| Host { url, fields: fields.build() }).collect();
        PROGRESS.reached(1);
        check_model(&HostsToml { server, root: root.build(), hosts }, version);
    }
}

impl AnyFields {
    fn build(self) -> Fields {
        let Self { capabilities, ca, client, skip_verify, headers, override_path, dial_timeout_nanoseconds } = self;
        let listed = Capability::ALL.into_iter().enumerate().filter(|(bit, _)| capabilities & (1 << bit) != 0);
        Fields {
            // an empty list in the file is all of them
            capabilities: Capabilities::only(listed.map(|(_, capability)| capability)).unwrap_or_default(),
            ca,
            client: client
                .into_iter()
                .map(|(certificate, key)| ClientPair {
                    // the same file twice is one file that holds both
                    key: key.filter(|key| !key.is_empty() && *key != certificate),
                    certificate,
                })
                .collect(),
            skip_verify,
            headers: headers
                .into_iter()
                .map(|(name, values)| Header { name, values: values.into_iter().map(Sensitive::new).collect() })
                .collect(),
            override_path,
            // Go's durations have 63 bits
            dial_timeout: dial_timeout_nanoseconds.map(|n| Duration::from_nanos(n >> 1)),
        }
    }
}
