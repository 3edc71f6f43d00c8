//! The text itself, for people who read it on a node.

use std::time::Duration;

use registry_mirror_core::{
    bundle::Header,
    containerd::Version,
    hosts_toml::{Capabilities, ClientPair, Fields, Host, HostsToml, render},
    sensitive::Sensitive,
};
use registry_mirror_crds::Capability::{Pull, Push, Referrers, Resolve};

fn header(name: &str, values: &[&str]) -> Header {
    Header { name: name.to_owned(), values: values.iter().map(|value| Sensitive::new((*value).to_owned())).collect() }
}

fn pull_and_resolve() -> Capabilities {
    Capabilities::only([Resolve, Pull]).expect("two capabilities")
}

fn host(url: &str, fields: Fields) -> Host {
    Host { url: url.to_owned(), fields }
}

fn rich() -> HostsToml {
    HostsToml {
        server: Some("https://registry-1.docker.io".to_owned()),
        root: Fields { skip_verify: Some(true), headers: vec![header("X-Root", &["1"])], ..Fields::default() },
        hosts: vec![
            host(
                "https://harbor.example.com/v2/dockerhub",
                Fields {
                    capabilities: pull_and_resolve(),
                    ca: vec!["/etc/containerd/certs.d/docker.io/ca-0123456789abcdef.pem".to_owned()],
                    client: vec![ClientPair {
                        certificate: "/etc/containerd/certs.d/docker.io/client-0123456789abcdef.pem".to_owned(),
                        key: Some("/etc/containerd/certs.d/docker.io/key-0123456789abcdef.pem".to_owned()),
                    }],
                    headers: vec![
                        header("Authorization", &["Basic dTpw"]),
                        header("X.Dotted \"name\"", &["a\\b", "\t"]),
                    ],
                    override_path: true,
                    dial_timeout: Some(Duration::from_secs(3)),
                    ..Fields::default()
                },
            ),
            host(
                "http://10.88.0.1:5000",
                Fields {
                    capabilities: Capabilities::only([Pull, Resolve, Push, Referrers]).expect("four"),
                    dial_timeout: Some(Duration::from_millis(1500)),
                    ..Fields::default()
                },
            ),
            host(
                "https://referrers.example.com",
                Fields { capabilities: Capabilities::only([Referrers]).expect("one"), ..Fields::default() },
            ),
        ],
    }
}

/// The text, with what was left out as comments above it.
fn shown(file: &HostsToml, version: Version) -> String {
    let rendered = render(file, version);
    let notes: String = rendered.omitted.iter().map(|note| format!("# {note}\n")).collect();
    format!("{notes}{}", rendered.text)
}

#[test]
fn every_field_on_the_newest_release() {
    insta::assert_snapshot!(shown(&rich(), Version::new(2, 4, 2)));
}

#[test]
fn what_an_old_release_cannot_express_is_left_out_and_named() {
    insta::assert_snapshot!(shown(&rich(), Version::new(1, 6, 20)));
}

#[test]
fn a_dial_timeout_on_plain_http_is_left_out_where_it_would_mean_https() {
    let timeout = |url| {
        let dial_timeout = Some(Duration::from_secs(1));
        host(url, Fields { capabilities: pull_and_resolve(), dial_timeout, ..Fields::default() })
    };
    let file =
        HostsToml { hosts: vec![timeout("http://a.example"), timeout("https://b.example")], ..HostsToml::default() };
    insta::assert_snapshot!(shown(&file, Version::new(2, 0, 14)));
}

#[test]
fn ipv6_hosts_take_dotted_keys_on_1_x_with_all_others() {
    let file = HostsToml {
        server: Some("https://quay.io".to_owned()),
        root: Fields { headers: vec![header("X-Root", &["1"])], ..Fields::default() },
        hosts: vec![
            host("https://a.example", Fields { capabilities: pull_and_resolve(), ..Fields::default() }),
            host(
                "https://[fd00::1]:5000",
                Fields {
                    capabilities: pull_and_resolve(),
                    headers: vec![header("Authorization", &["Basic dTpw"])],
                    ..Fields::default()
                },
            ),
        ],
    };
    insta::assert_snapshot!("ipv6_on_1_7", shown(&file, Version::new(1, 7, 35)));
    insta::assert_snapshot!("ipv6_on_2_4", shown(&file, Version::new(2, 4, 2)));
}

#[test]
fn a_file_without_hosts_lists_its_server() {
    let file = HostsToml { server: Some("https://quay.io".to_owned()), ..HostsToml::default() };
    assert_eq!(
        render(&file, Version::new(1, 6, 20)).text,
        "server = \"https://quay.io\"\n\n[host.\"https://quay.io\"]\n"
    );
}

#[test]
fn a_rendered_file_keeps_its_credentials_out_of_debug_output() {
    assert!(!format!("{:?}", render(&rich(), Version::new(2, 4, 2))).contains("dTpw"));
    assert!(!format!("{:?}", rich()).contains("dTpw"));
}
