use std::{collections::BTreeMap, path::Path};

use proptest::{prelude::*, sample::select};
use registry_mirror_crds::{Capability, LabelSelector};

use super::*;
use crate::{
    bundle::{MirrorHost, Mode, SCHEMA, Upstream},
    node_plan::{Asked, RestartBy, plan_node, tests::observation},
    plan::{
        files::{Bytes, Directory, FileEntry, HOSTS_TOML, Listing, Op},
        shared::Role,
    },
};

const HERE: &str = "/etc/containerd/certs.d";
const WRITER: &str = "node kind-worker";
const OLD: Version = Version::new(1, 6, 20);
const NEW: Version = Version::new(2, 4, 2);
/// A file and its content, below the directory.
type File = (&'static str, Vec<u8>);

fn entry(object: &str, urls: &[&str]) -> Entry {
    let mirror = |url: &&str| MirrorHost {
        capabilities: vec![Capability::Pull, Capability::Resolve, Capability::Referrers],
        has_credentials: true,
        dial_timeout_ms: Some(500),
        ..MirrorHost::new(url)
    };
    Entry::new(object, "docker.io".parse().expect("a name"), urls.iter().map(mirror).collect())
}

fn planned(role: Role, entries: &[Entry], version: Version, files: &[File], health: &MirrorHealth) -> NodePlan {
    let bundle =
        Bundle { schema: SCHEMA, mode: Mode::Enforce, entries: entries.to_vec(), blobs: BTreeMap::new(), proxy: None };
    let listed = files.iter().map(|(name, content)| {
        let content = Some(Bytes(content.clone()));
        let file = FileEntry::Regular { mode: 0o644, uid: 0, gid: 0, content };
        ((*name).to_owned(), Listed::Directory(Directory { files: [(HOSTS_TOML.to_owned(), file)].into() }))
    });
    let mut observed = Observation { role, ..observation(version) };
    observed.directories[0].listing = Listing { entries: listed.collect() };
    plan_node(&observed, Asked { bundle: Some(&bundle), proxy: None, restart: RestartBy::Operator }, health)
}

/// As the writer writes it, whichever release it has itself, with these mirrors dead.
fn written(entry: &Entry, version: Version, dead: &[&str]) -> Vec<File> {
    let version = Role::Writer { waiting: Vec::new() }.reader(version);
    let dead: BTreeSet<String> = dead.iter().map(|url| (*url).to_owned()).collect();
    let target = Target { version, certs_dir: Path::new(HERE) };
    vec![("docker.io", desired(entry, &BTreeMap::new(), target, &dead).expect("no certificates").registry.file())]
}

fn stand_by(entries: &[Entry], version: Version, files: &[File]) -> NodePlan {
    planned(Role::StandBy { writer: WRITER.to_owned() }, entries, version, files, &MirrorHealth::default())
}

/// What a node says of the one entry: whether it counts with it, and why it never will.
fn said(entry: &Entry, files: &[File]) -> (bool, Option<String>) {
    let plan = stand_by(slice::from_ref(entry), NEW, files);
    assert!(plan.files.is_empty() && plan.steps().is_empty(), "it writes nothing");
    let facts = &plan.registries[0];
    assert!(facts.hash.is_empty() || facts.hash == entry.hash().as_str());
    (!facts.hash.is_empty() && facts.error.is_none(), facts.error.clone())
}

fn never(entry: &Entry, files: &[File]) -> String {
    said(entry, files).1.expect("a reason")
}

#[test]
fn the_writer_writes_what_the_others_await() {
    let wanted = entry("hub", &["https://a", "https://b"]);
    for version in [OLD, NEW] {
        let plan = planned(
            Role::Writer { waiting: Vec::new() },
            slice::from_ref(&wanted),
            version,
            &[],
            &MirrorHealth::default(),
        );
        let content = plan.files[0].1.ops.iter().find_map(|op| match op {
            Op::Write { content, .. } => Some(content.0.clone()),
            _ => None,
        });
        assert_eq!(said(&wanted, &[("docker.io", content.expect("written"))]), (true, None), "written by {version}");
    }
}

#[test]
fn the_file_tells_what_the_writer_has_taken_out() {
    let mut wanted = entry("hub", &["https://a", "https://b"]);
    let drained = |wanted: &Entry, dead: &[&str]| -> Vec<bool> {
        let plan = stand_by(slice::from_ref(wanted), NEW, &written(wanted, OLD, dead));
        assert!(!plan.registries[0].hash.is_empty(), "in force without {dead:?}");
        plan.registries[0].mirrors.iter().map(|mirror| mirror.state == MirrorUse::Drained).collect()
    };
    assert_eq!(drained(&wanted, &["https://a"]), [true, false]);
    assert_eq!(drained(&wanted, &["https://a", "https://b"]), [true, true]);
    // Where nothing else is left they stay.
    wanted.upstream = Upstream::Denied;
    assert_eq!(drained(&wanted, &["https://a", "https://b"]), [false, false]);
}

#[test]
fn what_is_not_as_wanted_is_not_in_force() {
    let wanted = entry("hub", &["https://a", "https://b"]);
    let not_yet = (false, None);
    assert_eq!(said(&wanted, &[]), not_yet, "its agent has not heard of it");
    assert_eq!(said(&wanted, &written(&entry("hub", &["https://old"]), NEW, &[])), not_yet);
    assert_eq!(said(&wanted, &written(&entry("hub", &["https://b", "https://a"]), NEW, &[])), not_yet);
    let mut damaged = written(&wanted, NEW, &[]);
    damaged[0].1.extend(b"# edited\n");
    assert_eq!(said(&wanted, &damaged), not_yet);
    for (what, content) in [
        ("somebody's", b"server = \"https://x\"\n".to_vec()),
        ("carried over", provenance::mark(migrated::OBJECT, "server = \"https://x\"\n").into_bytes()),
    ] {
        assert_eq!(said(&wanted, &[("docker.io", content)]), not_yet, "{what}");
    }
}

#[test]
fn a_suspended_object_is_in_force_as_its_file_stands() {
    let mut wanted = entry("hub", &["https://a"]);
    wanted.suspend = true;
    assert_eq!(said(&wanted, &written(&entry("hub", &["https://earlier"]), NEW, &[])), (true, None));
    assert_eq!(said(&wanted, &[]), (false, None));
}

#[test]
fn what_the_writer_does_not_get_is_said() {
    let mut wanted = entry("hub", &["https://m"]);
    wanted.node_selector = Some(LabelSelector::default());
    let theirs = written(&wanted, NEW, &[]);
    let ipv6 = entry("hub", &["http://[fd00::1]:5000"]);
    let mut lines = vec![
        never(&wanted, &[]),
        never(&wanted, &written(&entry("older", &["https://m"]), NEW, &[])),
        never(&ipv6, &written(&ipv6, NEW, &[])),
    ];
    lines.extend(stand_by(&[], NEW, &theirs).surplus);
    lines.extend(stand_by(&[], NEW, &[]).standing_by);
    assert_eq!(stand_by(&[wanted], NEW, &theirs).surplus, [""; 0]);
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn credentials_are_each_nodes_own_matter() {
    let wanted = entry("hub", &["https://m"]);
    let notes = |version| {
        let plan = stand_by(slice::from_ref(&wanted), version, &written(&wanted, NEW, &[]));
        plan.registries[0].notes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(notes(NEW), [""; 0]);
    assert!(notes(OLD).len() == 1 && notes(OLD)[0].contains("containerd 1.6.20"), "{:?}", notes(OLD));
}

#[test]
fn the_writer_takes_mirrors_out() {
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

proptest! {
    /// A node never counts as programmed with another state than its own.
    #[test]
    fn only_the_same_entry_is_in_force(
        urls in (select(vec!["https://a", "https://b"]), select(vec!["https://a", "https://b"])),
        objects in (select(vec!["x", "y"]), select(vec!["x", "y"])),
        writer in select(vec![OLD, NEW]),
        dead: bool,
    ) {
        let (theirs, wanted) = (entry(objects.0, &[urls.0, "https://z"]), entry(objects.1, &[urls.1, "https://z"]));
        let files = written(&theirs, writer, if dead { &["https://z"] } else { &[] });
        prop_assert_eq!(said(&wanted, &files).0, theirs == wanted);
    }
}
