use registry_mirror_core::{
    bundle::{Entry, MirrorHost, Mode, SCHEMA, Tls, Upstream},
    containerd::Version,
};
use registry_mirror_crds::Capability;

use super::*;

const HERE: &str = "/etc/containerd/certs.d";
const OLD: Version = Version::new(1, 6, 20);

fn slice() -> Bundle {
    let mirror = MirrorHost {
        url: "https://m".to_owned(),
        display_url: "https://m".to_owned(),
        override_path: false,
        capabilities: vec![Capability::Pull, Capability::Resolve],
        tls: Tls::default(),
        headers: Vec::new(),
        has_credentials: true,
        dial_timeout_ms: None,
    };
    let entry = Entry {
        object: "hub".to_owned(),
        registry: "docker.io".parse().expect("a name"),
        node_selector: None,
        suspend: false,
        health_interval_seconds: None,
        mirrors: vec![mirror],
        upstream: Upstream::Registry,
    };
    Bundle { schema: SCHEMA, mode: Mode::Enforce, entries: vec![entry], blobs: [].into(), proxy: None }
}

fn record(drained: &[&str]) -> OwnerRecord {
    let slice = slice();
    let drained = drained.iter().map(|url| (*url).to_owned()).collect();
    let entry = &slice.entries[0];
    let hash = entry.hash().as_str().to_owned();
    let found = InForce { object: entry.object.clone(), hash, error: None, drained };
    OwnerRecord::new("kind-worker".to_owned(), HERE.into(), OLD, [(entry.registry.clone(), found)].into())
}

#[test]
fn what_the_writer_tells_is_what_its_own_status_says() {
    let entry = &slice().entries[0];
    let mut facts = RegistryFacts::of(entry);
    facts.mirrors[0].state = MirrorUse::Drained;
    let told = in_force(&facts);
    let expected = record(&["https://m"]);
    assert_eq!(Some(&told), expected.registries.get(&entry.registry));
}
