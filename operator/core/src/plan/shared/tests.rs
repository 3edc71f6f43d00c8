use proptest::{collection::vec, option, prelude::*, sample::select};
use registry_mirror_crds::{Capability, LabelSelector};

use super::*;
use crate::bundle::{MirrorHost, Mode, SCHEMA, Tls};

const HERE: &str = "/etc/containerd/certs.d";
const OLD: Version = Version::new(1, 6, 20);
const MIDDLE: Version = Version::new(1, 7, 27);
const NEW: Version = Version::new(2, 4, 2);

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3600).expect("in range")
}

fn neighbour(node: &str, containerd: Version, running: bool, absent_since: Option<Timestamp>) -> Neighbour {
    let record = NodeRecord { absent_since, ..NodeRecord::new(containerd) };
    Neighbour { node: node.to_owned(), record: Some(record), running }
}

fn entry(object: &str, url: &str) -> Entry {
    Entry {
        object: object.to_owned(),
        registry: "docker.io".parse().expect("a name"),
        node_selector: None,
        suspend: false,
        health_interval_seconds: None,
        mirrors: vec![MirrorHost {
            url: url.to_owned(),
            display_url: url.to_owned(),
            override_path: false,
            capabilities: vec![Capability::Pull, Capability::Resolve],
            tls: Tls::default(),
            headers: Vec::new(),
            has_credentials: false,
            dial_timeout_ms: None,
        }],
        upstream: Upstream::Registry,
    }
}

fn in_force(entry: &Entry) -> InForce {
    let hash = entry.hash().as_str().to_owned();
    InForce { object: entry.object.clone(), hash, error: None, drained: BTreeSet::new() }
}

fn record(containerd: Version, entries: &[&Entry]) -> OwnerRecord {
    let registries = entries.iter().map(|entry| (entry.registry.clone(), in_force(entry))).collect();
    OwnerRecord::new("kind-worker".to_owned(), HERE.into(), containerd, registries)
}

fn never(standing: Standing<'_>) -> String {
    match standing {
        Standing::Never(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_oldest_containerd_decides() {
    let count = |neighbours: &[Neighbour]| census(MIDDLE, neighbours, at(0));
    assert_eq!((count(&[]).readers.oldest, count(&[]).has_neighbours), (MIDDLE, false));
    assert_eq!(count(&[neighbour("a", NEW, true, None)]).readers.oldest, MIDDLE);
    let both = count(&[neighbour("a", NEW, true, None), neighbour("b", OLD, false, None)]);
    assert_eq!((both.readers.oldest, both.has_neighbours), (OLD, true), "its agent may be starting anew");
}

#[test]
fn a_node_that_is_gone_is_forgotten_after_a_day() {
    let first = census(NEW, &[neighbour("a", OLD, false, None)], at(0));
    let noted = first.absent.get("a").expect("noted once").clone();
    assert_eq!(noted.absent_since, Some(at(0)));
    let later = |hour| census(NEW, &[neighbour("a", OLD, false, noted.absent_since)], at(hour));
    assert_eq!(
        (later(23).readers.oldest, later(23).absent.len(), later(23).gone.len()),
        (OLD, 0, 0),
        "and not written again"
    );
    assert_eq!((later(24).readers.oldest, later(24).has_neighbours), (NEW, false));
    assert!(later(24).gone.contains("a"));
    let back = census(NEW, &[neighbour("a", OLD, true, noted.absent_since)], at(100));
    assert_eq!((back.readers.oldest, back.gone.len()), (OLD, 0), "it came back");
    let set_back = census(NEW, &[neighbour("a", OLD, false, Some(at(9_000)))], at(0));
    assert_eq!(set_back.absent["a"].absent_since, Some(at(0)), "the clock was set back");
}

#[test]
fn one_file_does_not_serve_all_releases_where_a_host_is_an_ipv6_address() {
    let wanted = entry("hub", "http://[fd00::1]:5000");
    let readers = |oldest, newest| Readers { oldest, newest };
    let why = readers(OLD, NEW).obstacle(&wanted).expect("1.x and 2.x");
    assert!(why.contains("containerd 1.6.20 and 2.4.2") && why.contains("http://[fd00::1]:5000"), "{why}");
    assert_eq!(readers(OLD, MIDDLE).obstacle(&wanted), None);
    assert_eq!(Readers::only(NEW).obstacle(&wanted), None);
    assert_eq!(readers(OLD, NEW).obstacle(&entry("hub", "http://m")), None);
}

#[test]
fn a_broken_record_counts_while_its_agent_runs() {
    let broken = |running| Neighbour { node: "a".to_owned(), record: None, running };
    let running = census(NEW, &[broken(true)], at(0));
    assert!(running.has_neighbours && running.gone.is_empty());
    let gone = census(NEW, &[broken(false)], at(0));
    assert!(!gone.has_neighbours && gone.gone.contains("a"));
}

#[test]
fn who_keeps_the_files() {
    let others = [neighbour("a", OLD, true, None), neighbour("b", OLD, false, None)];
    assert_eq!(who_stays(&others, Staying::Running), ["a"]);
    assert_eq!(who_stays(&others, Staying::Recorded), ["a", "b"]);
}

#[test]
fn what_the_writer_wrote_is_in_force_for_all() {
    let here = Path::new(HERE);
    let wanted = entry("hub", "https://m");
    let written = record(OLD, &[&wanted]);
    assert_eq!(written.standing(&wanted, NEW, here), Standing::InForce(&in_force(&wanted)));
    let old = entry("hub", "https://old");
    let stale = record(OLD, &[&old]);
    let standing = stale.standing(&wanted, NEW, here);
    assert_eq!(standing, Standing::NotYet(Some(old.hash().as_str())));
    assert_eq!(standing.hash(&wanted), old.hash().as_str());
    let empty = record(OLD, &[]);
    assert_eq!(empty.standing(&wanted, NEW, here), Standing::NotYet(None), "its agent has not heard of it");
    let too_new = record(NEW, &[&wanted]);
    assert_eq!(too_new.standing(&wanted, OLD, here), Standing::NotYet(None), "written before this node had joined");
}

#[test]
fn what_the_writer_does_not_get_is_said() {
    let here = Path::new(HERE);
    let mut wanted = entry("hub", "https://m");
    wanted.node_selector = Some(LabelSelector::default());
    let mut said = vec![never(record(OLD, &[]).standing(&wanted, NEW, here))];
    said.push(never(record(OLD, &[&entry("older", "https://m")]).standing(&wanted, NEW, here)));
    let mut failed = record(OLD, &[&wanted]);
    failed.registries.get_mut(&wanted.registry).expect("there").error = Some("the disk is full".to_owned());
    said.push(never(failed.standing(&wanted, NEW, here)));
    let slice =
        Bundle { schema: SCHEMA, mode: Mode::Enforce, entries: Vec::new(), blobs: BTreeMap::new(), proxy: None };
    said.extend(record(OLD, &[&wanted]).surplus(&slice, here));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn another_path_matters_only_for_certificates() {
    let elsewhere = Path::new("/var/lib/certs.d");
    let mut wanted = entry("hub", "https://m");
    assert!(matches!(record(OLD, &[&wanted]).standing(&wanted, NEW, elsewhere), Standing::InForce(_)));
    wanted.mirrors[0].tls.ca = Some(crate::digest::Digest::of(b"a certificate"));
    let why = never(record(OLD, &[&wanted]).standing(&wanted, NEW, elsewhere));
    assert!(why.contains("mount it at the same path on both"), "{why}");
}

#[test]
fn a_record_is_read_back_and_a_broken_one_is_none() {
    let written = record(OLD, &[&entry("hub", "https://m")]);
    assert_eq!(OwnerRecord::parse(&written.to_json()), Some(written.clone()));
    let node = NodeRecord { absent_since: Some(at(0)), ..NodeRecord::new(OLD) };
    assert_eq!(NodeRecord::parse(&node.to_json()), Some(node));
    assert_eq!((OwnerRecord::parse(b"{"), NodeRecord::parse(b"")), (None, None));
    let newer = String::from_utf8(written.to_json()).expect("text").replace("\"layout\": 1", "\"layout\": 2");
    assert_eq!(OwnerRecord::parse(newer.as_bytes()), None);
}

fn any_version() -> impl Strategy<Value = Version> {
    select(vec![OLD, MIDDLE, Version::new(2, 0, 14), NEW])
}

fn any_neighbour() -> impl Strategy<Value = Neighbour> {
    let record = option::weighted(0.9, (any_version(), option::of((-100_i64..100).prop_map(at))));
    ("[a-e]", record, any::<bool>()).prop_map(|(node, record, running)| {
        let record = record.map(|(version, absent_since)| NodeRecord { absent_since, ..NodeRecord::new(version) });
        Neighbour { node, record, running }
    })
}

proptest! {
    /// Whoever may still read the directory can: nobody that runs is forgotten, and none that counts is newer than the
    /// files are for.
    #[test]
    fn nobody_who_reads_is_left_behind(
        own in any_version(),
        neighbours in vec(any_neighbour(), 0..6),
        hour in -50_i64..50,
    ) {
        let census = census(own, &neighbours, at(hour));
        prop_assert!(census.readers.oldest <= own);
        for Neighbour { node, record, running } in &neighbours {
            let day_away = record.as_ref().and_then(|record| record.absent_since).is_some_and(|since| since <= at(hour - 24));
            if let Some(record) = record && (*running || !day_away) {
                prop_assert!(census.readers.oldest <= record.containerd, "{node}");
                prop_assert!(census.has_neighbours);
            }
        }
        let alone = neighbours.iter().all(|neighbour| !neighbour.running) && census.gone.len() == neighbours.len();
        prop_assert!(!alone || census.readers.oldest == own);
    }

    /// Counting again what was written down changes nothing more.
    #[test]
    fn an_idle_directory_is_not_written(own in any_version(), neighbour in any_neighbour(), hour in -50_i64..50) {
        let first = census(own, std::slice::from_ref(&neighbour), at(hour));
        if first.gone.is_empty() {
            let record = first.absent.values().next().cloned().or(neighbour.record);
            let second = census(own, &[Neighbour { record, ..neighbour }], at(hour));
            prop_assert!(second.absent.is_empty() && second.gone.is_empty() && second.readers.oldest == first.readers.oldest);
        }
    }

    /// A node never counts as programmed with another state than its own.
    #[test]
    fn only_the_same_entry_is_in_force(
        urls in (select(vec!["https://a", "https://b"]), select(vec!["https://a", "https://b"])),
        objects in (select(vec!["x", "y"]), select(vec!["x", "y"])),
        rendered in any_version(),
        own in any_version(),
    ) {
        let (theirs, wanted) = (entry(objects.0, urls.0), entry(objects.1, urls.1));
        let record = record(rendered, &[&theirs]);
        let standing = record.standing(&wanted, own, Path::new(HERE));
        let same = theirs == wanted && rendered <= own;
        prop_assert_eq!(matches!(standing, Standing::InForce(_)), same);
        let counts = standing.hash(&wanted) == wanted.hash().as_str() && !matches!(standing, Standing::Never(_));
        prop_assert_eq!(counts, same);
    }
}
