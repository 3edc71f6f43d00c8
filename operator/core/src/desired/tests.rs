use proptest::{
    collection::btree_set, prop_assert, prop_assert_eq, prop_oneof, proptest, sample::select, strategy::Just,
};

use super::*;
use crate::{bundle::Header, sensitive::Sensitive};

const V1_6: Version = Version::new(1, 6, 20);
const V1_7: Version = Version::new(1, 7, 35);
const V2_4: Version = Version::new(2, 4, 2);

fn mirror(url: &str) -> MirrorHost {
    MirrorHost::new(url)
}

fn entry(registry: &str, mirrors: Vec<MirrorHost>, upstream: Upstream) -> Entry {
    Entry { upstream, ..Entry::new("mirror", registry.parse().expect("a registry"), mirrors) }
}

fn blob(pem: &str, private: bool) -> (Digest, Blob) {
    (Digest::of(pem.as_bytes()), Blob { pem: Sensitive::new(pem.to_owned()), private })
}

fn wanted(entry: &Entry, version: Version, drained: &[&str]) -> Desired {
    let blobs = [blob("the ca", false), blob("the certificate", false), blob("the key", true)].into();
    let drained = drained.iter().map(|url| (*url).to_owned()).collect();
    let target = Target { version, certs_dir: Path::new("/etc/containerd/certs.d") };
    desired(entry, &blobs, target, &drained).expect("all blobs are there")
}

fn shown(desired: &Desired) -> String {
    let Desired { registry, hosts: _, notes } = desired;
    let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
    let files: String = registry.certificates.keys().map(|name| format!("# {name}\n")).collect();
    format!("{notes}{files}{}", registry.hosts_toml)
}

#[test]
fn a_mirror_before_the_registry_itself() {
    insta::assert_snapshot!(shown(&wanted(
        &entry("docker.io", vec![mirror("https://m1.example"), mirror("https://m2.example")], Upstream::Registry),
        V1_6,
        &[],
    )));
}

#[test]
fn deny_repeats_the_last_mirror_that_can_resolve() {
    let harbor = MirrorHost {
        override_path: true,
        tls: Tls {
            skip_verify: false,
            ca: Some(blob("the ca", false).0),
            client: Some(ClientCertificate {
                certificate: blob("the certificate", false).0,
                key: blob("the key", true).0,
            }),
        },
        headers: vec![Header {
            name: "Authorization".to_owned(),
            values: vec![Sensitive::new("Basic dTpw".to_owned())],
        }],
        has_credentials: true,
        ..mirror("https://harbor.example/v2/dockerhub")
    };
    let pull_only = MirrorHost { capabilities: vec![Capability::Pull], ..mirror("https://blobs.example") };
    let desired = wanted(&entry("docker.io", vec![harbor, pull_only], Upstream::Denied), V1_7, &[]);
    insta::assert_snapshot!(shown(&desired));
    assert!(desired.registry.secret);
    assert_eq!(desired.registry.certificates.len(), 3);
}

#[test]
fn the_upstream_has_its_own_url_and_tls() {
    let tls = Tls { ca: Some(blob("the ca", false).0), ..Tls::default() };
    let upstream = Upstream::Server { url: Some("https://up.example/prefix".to_owned()), tls: tls.clone() };
    insta::assert_snapshot!(shown(&wanted(
        &entry("host.example:5000", vec![mirror("https://m")], upstream),
        V2_4,
        &[]
    )));
    // TLS settings for the registry's own address
    let own = entry("quay.io", vec![mirror("https://m")], Upstream::Server { url: None, tls });
    assert_eq!(wanted(&own, V2_4, &[]).hosts.server.as_deref(), Some("https://quay.io"));
}

#[test]
fn registries_whose_own_address_must_not_be_named() {
    for registry in ["_default", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000", "[::1]"] {
        let desired = wanted(&entry(registry, vec![mirror("https://m")], Upstream::Registry), V2_4, &[]);
        assert_eq!(desired.hosts.server, None, "{registry}");
    }
}

#[test]
fn old_releases_get_what_they_can_express_and_a_note_for_the_rest() {
    let mut referrers = mirror("https://referrers.example");
    referrers.capabilities = vec![Capability::Referrers];
    let slow = MirrorHost { dial_timeout_ms: Some(3_000), has_credentials: true, ..mirror("https://m.example") };
    let asked = entry("_default", vec![referrers, slow], Upstream::Registry);
    insta::assert_snapshot!(shown(&wanted(&asked, Version::new(1, 6, 10), &[])));
    assert_eq!(wanted(&asked, V2_4, &[]).notes, []);
}

/// A note belongs to its mirror by its place, whatever the url looks like to people and to containerd.
#[test]
fn a_note_says_which_mirror_and_not_which_text() {
    let slow = |url: &str, shown: &str| MirrorHost {
        display_url: shown.to_owned(),
        dial_timeout_ms: Some(3_000),
        ..mirror(url)
    };
    let mirrors = vec![
        mirror("https://m.example.com.cn"),
        slow("https://m.example.com", "https://m.example.com:443"),
        slow("https://harbor.example/v2/hub", "https://harbor.example/"),
    ];
    let notes = wanted(&entry("docker.io", mirrors, Upstream::Registry), V1_7, &[]).notes;
    let about: Vec<_> = notes.iter().map(|note| (note.mirror, note.what.reason())).collect();
    assert_eq!(about, [1, 2].map(|place| (Some(place), NoteReason::DialTimeoutIgnored)));
    assert!(notes[0].to_string().contains(" https://m.example.com:443 "), "as the user wrote it: {}", notes[0]);
}

#[test]
fn a_drained_mirror_is_left_out_while_another_way_is_left() {
    let two = vec![mirror("https://m1"), mirror("https://m2")];
    let urls = |desired: &Desired| -> Vec<String> { desired.hosts.hosts.iter().map(|host| host.url.clone()).collect() };
    let registry = entry("quay.io", two.clone(), Upstream::Registry);
    assert_eq!(urls(&wanted(&registry, V2_4, &["https://m1"])), ["https://m2"]);
    // the registry itself is the way that is left, and old releases want a host
    assert_eq!(urls(&wanted(&registry, V1_6, &["https://m1", "https://m2"])), ["https://quay.io"]);

    let denied = entry("quay.io", two.clone(), Upstream::Denied);
    let one_left = wanted(&denied, V2_4, &["https://m2"]);
    assert_eq!(
        (urls(&one_left), one_left.hosts.server.as_deref()),
        (vec!["https://m1".to_owned()], Some("https://m1"))
    );
    let none_left = wanted(&denied, V2_4, &["https://m1", "https://m2"]);
    assert_eq!(urls(&none_left), ["https://m1", "https://m2"]);
    let stay: Vec<_> = none_left.notes.iter().map(|note| (note.mirror, note.what.reason())).collect();
    assert_eq!(stay, [(Some(0), NoteReason::NotTakenOut), (Some(1), NoteReason::NotTakenOut)]);

    let default = entry("_default", two, Upstream::Registry);
    assert_eq!(urls(&wanted(&default, V2_4, &["https://m1", "https://m2"])), [""; 0]);
    assert_eq!(urls(&wanted(&default, V1_7, &["https://m1", "https://m2"])), [""; 0]);
    assert_eq!(urls(&wanted(&default, V1_6, &["https://m1", "https://m2"])), ["https://m1", "https://m2"]);
}

#[test]
fn a_certificate_that_is_missing_is_an_error_that_names_the_object() {
    let lost = MirrorHost { tls: Tls { ca: Some(Digest::of(b"lost")), ..Tls::default() }, ..mirror("https://m") };
    let target = Target { version: V2_4, certs_dir: Path::new("/etc/containerd/certs.d") };
    let error = desired(&entry("quay.io", vec![lost], Upstream::Registry), &BTreeMap::new(), target, &BTreeSet::new());
    insta::assert_snapshot!(error.err().map(|error| error.to_string()).unwrap_or_default());
}

#[test]
fn hash_changes_with_the_entry() {
    let one = entry("quay.io", vec![mirror("https://m1")], Upstream::Registry);
    let other = entry("quay.io", vec![mirror("https://m2")], Upstream::Registry);
    assert_eq!(one.hash(), one.clone().hash());
    assert_ne!(one.hash(), other.hash());
}

proptest! {
    /// Whatever is drained, a pull has somewhere to go, the file is read, and nothing is asked of the upstream that
    /// `Deny` forbids.
    #[test]
    fn draining_always_leaves_a_way(
        count in 1_usize..4,
        drained in btree_set(0_usize..4, 0..4),
        denied in proptest::bool::ANY,
        registry in prop_oneof![Just("docker.io"), Just("_default"), Just("localhost:5000"), Just("h.example:5000")],
        version in select(vec![V1_6, V1_7, Version::new(2, 0, 14), V2_4]),
    ) {
        let url = |number: usize| format!("https://m{number}.example");
        let upstream = if denied { Upstream::Denied } else { Upstream::Registry };
        let asked = entry(registry, (0..count).map(|number| mirror(&url(number))).collect(), upstream);
        let drained: Vec<String> = drained.into_iter().map(url).collect();
        let desired = wanted(&asked, version, &drained.iter().map(String::as_str).collect::<Vec<_>>());
        let read = hosts_toml::parse(&desired.registry.hosts_toml, version);
        prop_assert!(read.as_ref() == Ok(&desired.hosts), "{:?}", read);
        if denied {
            let server = desired.hosts.server.unwrap_or_default();
            prop_assert!(asked.mirrors.iter().any(|mirror| mirror.url == server), "{server}");
        }
        let listed: BTreeSet<&str> = desired.hosts.hosts.iter().map(|host| host.url.as_str()).collect();
        let answers = |mirror: &&MirrorHost| !drained.contains(&mirror.url);
        prop_assert!(asked.mirrors.iter().filter(answers).all(|mirror| listed.contains(mirror.url.as_str())));
        if denied && !asked.mirrors.iter().any(|mirror| answers(&mirror)) {
            prop_assert_eq!(listed.len(), count, "nothing answers, so nothing changes");
        }
    }
}
