use registry_mirror_crds::Capability;

use super::*;
use crate::{
    bundle::{Entry, MirrorHost, Mode, SCHEMA, Tls, Upstream},
    node_plan::{Asked, Observation, RestartBy, plan_node, tests::observation},
    plan::shared::{InForce, Role},
};

const HERE: &str = "/etc/containerd/certs.d";
const OLD: Version = Version::new(1, 6, 20);
const NEW: Version = Version::new(2, 4, 2);

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

fn applied(record: Option<&OwnerRecord>, version: Version) -> NodePlan {
    let observed = Observation { role: Role::StandBy(record.cloned()), ..observation(version) };
    let slice = slice();
    let asked = Asked { bundle: Some(&slice), proxy: None, restart: RestartBy::Operator };
    plan_node(&observed, asked, &MirrorHealth::default())
}

#[test]
fn what_is_in_force_is_reported_with_its_hash_and_nothing_else_is() {
    let slice = slice();
    let wanted = slice.entries[0].hash();
    let found = applied(Some(&record(&[])), NEW);
    assert_eq!((found.registries[0].hash.as_str(), &found.registries[0].error), (wanted.as_str(), &None));
    assert!(found.files.is_empty());
    let unknown = applied(None, NEW);
    assert_eq!((unknown.registries[0].hash.as_str(), &unknown.registries[0].error), ("", &None));
}

#[test]
fn credentials_are_each_nodes_own_matter() {
    assert_eq!(applied(Some(&record(&[])), NEW).registries[0].notes, []);
    let notes = &applied(Some(&record(&[])), OLD).registries[0].notes;
    assert!(notes.len() == 1 && notes[0].to_string().contains("containerd 1.6.20"), "{notes:?}");
}

#[test]
fn the_writer_takes_mirrors_out() {
    let found = applied(Some(&record(&["https://m"])), NEW);
    assert_eq!(found.registries[0].mirrors[0].state, MirrorUse::Drained);
    let dead = Health::Dead("no answer".to_owned());
    assert_eq!(decided_elsewhere(&dead, true), (MirrorUse::Drained, Some("no answer".to_owned())));
    let (state, why) = decided_elsewhere(&dead, false);
    assert_eq!(state, MirrorUse::Active);
    assert_eq!(
        why.as_deref(),
        Some("no answer; it stays in place because the node that writes the shared directory has not taken it out")
    );
    assert_eq!(decided_elsewhere(&Health::Alive, false), (MirrorUse::Active, None));
}

#[test]
fn the_writer_is_named() {
    let said = sentence(Some(&record(&[])), Path::new(HERE));
    assert_eq!(
        said,
        "/etc/containerd/certs.d is shared with other nodes; node kind-worker writes it for all of them, and this node takes over when that one goes away."
    );
}
