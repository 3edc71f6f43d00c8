//! hosts.toml as text, and read back.

use std::hint::black_box;

use anyhow::{Result, ensure};
use bench::Table;
use registry_mirror_core::{
    bundle::Header,
    containerd::Version,
    hosts_toml::{Capabilities, ClientPair, Fields, Host, HostsToml, parse, render},
};
use registry_mirror_crds::Capability;
use toml_edit::DocumentMut;

use crate::clock::{repeated, throughput};

const VERSION: Version = Version::new(2, 4, 2);

pub fn measure(table: &mut Table) -> Result<()> {
    let file = file();
    let text = render(&file, VERSION).text;
    let document: DocumentMut = text.parse()?;
    ensure!(parse(&text, VERSION).is_ok(), "a rendered file is not read back");
    let pair = repeated(
        || drop(black_box(render(black_box(&file), VERSION))),
        || drop(black_box(black_box(&document).to_string())),
    );
    table.row(
        &format!("render of hosts.toml, {} hosts", file.hosts.len()),
        &throughput(text.len(), pair.one),
        &throughput(text.len(), pair.other),
        &pair.ratio(),
    );
    let pair = repeated(
        || drop(black_box(parse(black_box(&text), VERSION))),
        || drop(black_box(black_box(&text).parse::<DocumentMut>())),
    );
    table.row(
        "the same file read",
        &throughput(text.len(), pair.one),
        &throughput(text.len(), pair.other),
        &pair.ratio(),
    );
    Ok(())
}

/// Sixteen mirrors, which is the most that an object has, with all that a mirror can have.
fn file() -> HostsToml {
    let hosts = (0..16).map(|number| Host {
        url: format!("https://mirror{number}.example.com/v2/dockerhub"),
        fields: Fields {
            capabilities: Capabilities::only([Capability::Pull, Capability::Resolve]).unwrap_or_default(),
            ca: vec![format!("/etc/containerd/certs.d/docker.io/ca-{number}.pem")],
            client: vec![ClientPair {
                certificate: format!("/etc/containerd/certs.d/docker.io/client-{number}.pem"),
                key: Some(format!("/etc/containerd/certs.d/docker.io/key-{number}.pem")),
            }],
            headers: vec![Header {
                name: "Authorization".to_owned(),
                values: vec!["Basic cm9ib3Q6eA==".to_owned().into()],
            }],
            override_path: true,
            ..Fields::default()
        },
    });
    HostsToml { hosts: hosts.collect(), ..HostsToml::default() }
}
