//! Generated hosts.toml models.

use std::time::Duration;

use proptest::{
    collection::vec,
    option, prop_oneof,
    sample::{select, subsequence},
    strategy::{Just, Strategy},
};
use registry_mirror_core::{
    bundle::Header,
    containerd::Version,
    hosts_toml::{Capabilities, ClientPair, Fields, Host, HostsToml},
    sensitive::Sensitive,
};
use registry_mirror_crds::Capability;

/// One release of each parser: go-toml 1 with the strict and the lax rule for files without hosts, and go-toml 2.
pub const VERSIONS: [Version; 5] = [
    Version::new(1, 6, 20),
    Version::new(1, 7, 35),
    Version::new(2, 0, 14),
    Version::new(2, 2, 9),
    Version::new(2, 4, 2),
];

pub const CA: &str = "/certs/ca.pem";
pub const CERTIFICATE: &str = "/certs/client.pem";
pub const KEY: &str = "/certs/key.pem";

/// Any model with urls that containerd can use.
pub fn file() -> impl Strategy<Value = HostsToml> {
    (option::of(url()), fields(true), vec((url(), fields(false)), 1..5)).prop_map(|(server, root, hosts)| {
        let mut listed: Vec<Host> = Vec::new();
        for (url, fields) in hosts {
            if listed.iter().all(|earlier| earlier.url != url) {
                listed.push(Host { url, fields });
            }
        }
        // without a server the path is the registry's own
        let root = Fields { override_path: root.override_path && server.is_some(), ..root };
        HostsToml { server, root, hosts: listed }
    })
}

fn url() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z][a-z0-9-]{0,8}[a-z0-9](\\.[a-z]{2,4}){0,2}",
        Just("10.88.0.1".to_owned()),
        Just("[fd00::1]".to_owned()),
        Just("[::1]".to_owned()),
    ];
    (select(vec!["https", "http"]), host, option::of(1_u16..), option::of("(/[a-zA-Z0-9._~-]{1,6}){1,3}/?")).prop_map(
        |(scheme, host, port, path)| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}://{host}{port}{}", path.unwrap_or_default())
        },
    )
}

fn fields(root: bool) -> impl Strategy<Value = Fields> {
    let capabilities =
        subsequence(Capability::ALL.to_vec(), 0..=4).prop_map(move |list| match Capabilities::only(list) {
            Some(capabilities) => capabilities,
            None if root => Capabilities::ALL,
            None => Capabilities::only([Capability::Pull, Capability::Resolve]).unwrap_or_default(),
        });
    let ca = vec(Just(CA.to_owned()), 0..=2);
    let client = vec(
        option::of(Just(KEY.to_owned())).prop_map(|key| {
            // a file that holds both has another name
            let certificate = if key.is_some() { CERTIFICATE.to_owned() } else { "/certs/both.pem".to_owned() };
            ClientPair { certificate, key }
        }),
        0..=2,
    );
    let timeout = (1_u64..100_000).prop_map(Duration::from_millis);
    (capabilities, ca, client, option::of(proptest::bool::ANY), headers(), proptest::bool::ANY, option::of(timeout))
        .prop_map(|(capabilities, ca, client, skip_verify, headers, override_path, dial_timeout)| Fields {
            capabilities,
            ca,
            client,
            skip_verify,
            headers,
            override_path,
            dial_timeout,
        })
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    // the characters of a token, as HTTP allows them in a header's name
    vec(("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}", vec("[ -~\\t\u{e4}\u{4e2d}\"\\\\]{0,16}", 1..3)), 0..3).prop_map(
        |headers| {
            let mut listed: Vec<Header> = Vec::new();
            for (name, values) in headers {
                if listed.iter().all(|earlier| earlier.name != name) {
                    listed.push(Header { name, values: values.into_iter().map(Sensitive::new).collect() });
                }
            }
            listed
        },
    )
}
