//! Who goes first, and what is kept.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bundle::{MirrorHost, Tls},
    desired::{Target, desired},
    plan::files::{Bytes, FileEntry, HOSTS_TOML},
    provenance,
};

const VERSION: Version = Version::new(2, 1, 9);

fn endpoint(url: &str) -> MigratedEndpoint {
    MigratedEndpoint { url: url.to_owned(), override_path: false, ca_file: None, client: None, skip_verify: false }
}

fn old(registry: &str, endpoints: &[&str], server: Option<&str>) -> MigratedRegistry {
    MigratedRegistry {
        registry: registry.parse().expect("a registry"),
        endpoints: endpoints.iter().map(|url| endpoint(url)).collect(),
        server: server.map(endpoint),
    }
}

fn entry(mirrors: &[&str], upstream: Upstream) -> Entry {
    let mirrors = mirrors.iter().map(|url| MirrorHost::new(url)).collect();
    Entry { upstream, ..Entry::new("docker-hub", "docker.io".parse().expect("a registry"), mirrors) }
}

fn merged(entry: &Entry, migrated: &[MigratedRegistry], drained: &[&str]) -> DesiredRegistry {
    let target = Target { version: VERSION, certs_dir: std::path::Path::new("/etc/containerd/certs.d") };
    let drained = drained.iter().map(|url| (*url).to_owned()).collect();
    let found = desired(entry, &BTreeMap::new(), target, &drained).expect("complete");
    beneath(found, entry, migrated, VERSION).registry
}

#[test]
fn old_settings_alone() {
    let mut migrated = old("quay.io", &["https://a.example/path", "http://b.example:5000"], Some("https://quay.io"));
    migrated.endpoints[0] = MigratedEndpoint {
        override_path: true,
        ca_file: Some("/etc/ca.pem".to_owned()),
        client: Some(("/etc/c.pem".to_owned(), "/etc/k.pem".to_owned())),
        skip_verify: true,
        ..migrated.endpoints[0].clone()
    };
    let files = alone(&migrated, VERSION);
    assert!(!files.secret);
    insta::assert_snapshot!(String::from_utf8(files.file()).expect("text"));
}

#[test]
fn mirrors_then_old_endpoints_then_upstream() {
    let migrated =
        [old("docker.io", &["https://old.example", "https://new.example/"], Some("https://registry-1.docker.io"))];
    let files = merged(&entry(&["https://new.example"], Upstream::Registry), &migrated, &[]);
    insta::assert_snapshot!(files.hosts_toml);
    assert!(!files.secret);
}

#[test]
fn a_mirror_that_was_taken_out_does_not_come_back_as_an_old_endpoint() {
    let migrated = [old("docker.io", &["https://dead.example"], Some("https://registry-1.docker.io"))];
    let files = merged(
        &entry(&["https://dead.example", "https://b"], Upstream::Registry),
        &migrated,
        &["https://dead.example"],
    );
    assert!(!files.hosts_toml.contains("dead.example"), "{}", files.hosts_toml);
}

#[test]
fn deny_means_these_mirrors_alone_and_a_server_of_ones_own_stays() {
    let migrated = [old("docker.io", &["https://old.example"], Some("https://registry-1.docker.io"))];
    let denied = merged(&entry(&["https://new.example"], Upstream::Denied), &migrated, &[]);
    assert!(!denied.hosts_toml.contains("old.example") && !denied.hosts_toml.contains("docker.io"));
    let upstream = Upstream::Server { url: Some("https://mine.example".to_owned()), tls: Tls::default() };
    let server = merged(&entry(&["https://new.example"], upstream), &migrated, &[]);
    assert!(server.hosts_toml.starts_with("server = \"https://mine.example\"\n"), "{}", server.hosts_toml);
    assert!(server.hosts_toml.contains("old.example") && !server.hosts_toml.contains("registry-1"));
}

#[test]
fn the_old_wildcard_goes_beneath_every_registry_without_a_table_of_its_own() {
    let migrated =
        [old("_default", &["https://any.example"], None), old("quay.io", &["https://q"], Some("https://quay.io"))];
    let files = merged(&entry(&["https://new.example"], Upstream::Registry), &migrated, &[]);
    assert!(files.hosts_toml.contains("[host.\"https://any.example\"]") && !files.hosts_toml.contains("https://q\""));
    assert!(files.hosts_toml.contains("server = \"https://registry-1.docker.io\""));
}

#[test]
fn without_its_record_a_carried_file_is_held() {
    let directory = |object: &str| {
        let content = Some(Bytes(provenance::mark(object, "server = \"https://x\"\n").into_bytes()));
        let file = FileEntry::Regular { mode: 0o644, uid: 0, gid: 0, content };
        ListedEntry::Directory(Directory { files: [(HOSTS_TOML.to_owned(), file)].into() })
    };
    let entries = [("a.example_5000_", OBJECT), ("_default", OBJECT), ("docker.io", "docker-hub"), ("quay.io", OBJECT)];
    let listing =
        Listing { entries: entries.map(|(name, object)| (name.to_owned(), directory(object))).into_iter().collect() };
    let held: Vec<String> =
        orphans(&listing, &[old("quay.io", &[], None)]).into_iter().map(|name| name.to_string()).collect();
    assert_eq!(held, ["_default", "a.example:5000"]);
}
