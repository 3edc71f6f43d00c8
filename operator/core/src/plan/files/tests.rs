use proptest::{prelude::*, sample::Index};

use super::{simulation::SimulatedHost, *};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A wish list and the rest of an [`Input`].
#[derive(Debug, Clone, Default)]
struct Wish {
    desired: Vec<DesiredRegistry>,
    on_hold: BTreeSet<RegistryName>,
    claimed: BTreeMap<RegistryName, String>,
}

fn plan_at(host: &SimulatedHost, wish: &Wish, now: Timestamp, grace: SignedDuration) -> FilesPlan {
    plan_files(&Input {
        certs_d: Path::new("/etc/containerd/certs.d"),
        listing: &host.listing,
        writer: 0,
        ownership: &host.ownership,
        desired: &wish.desired,
        on_hold: &wish.on_hold,
        claimed: &wish.claimed,
        now,
        grace,
    })
}

fn plan_now(host: &SimulatedHost, wish: &Wish) -> FilesPlan {
    plan_at(host, wish, NOW, GRACE)
}

fn name(text: &str) -> RegistryName {
    text.parse().expect(text)
}

fn want(registry: &str, text: &str) -> DesiredRegistry {
    DesiredRegistry {
        object: format!("mirror-{}", registry.replace([':', '_'], "-")),
        registry: name(registry),
        hosts_toml: format!("[host.\"https://{text}\"]\n"),
        certificates: BTreeMap::new(),
        secret: false,
    }
}

fn with_certificate(mut want: DesiredRegistry, pem: &str) -> DesiredRegistry {
    let file = format!("ca-{}.pem", Digest::of(pem.as_bytes()).short());
    want.hosts_toml.push_str(&format!("ca = \"{file}\"\n"));
    want.certificates.insert(file, pem.as_bytes().to_vec());
    want
}

fn wish(desired: impl IntoIterator<Item = DesiredRegistry>) -> Wish {
    Wish { desired: desired.into_iter().collect(), ..Wish::default() }
}

fn regular(content: &str) -> FileEntry {
    FileEntry::Regular { mode: 0o640, uid: 7, gid: 8, content: Some(Bytes(content.as_bytes().to_vec())) }
}

fn directory<'a>(files: impl IntoIterator<Item = (&'a str, FileEntry)>) -> Entry {
    Entry::Directory(Directory { files: files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect() })
}

fn host<'a>(entries: impl IntoIterator<Item = (&'a str, Entry)>) -> SimulatedHost {
    let entries = entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
    SimulatedHost { listing: Listing { entries }, ..Default::default() }
}

/// The plan as people read it.
fn words(plan: &FilesPlan) -> String {
    let certs_d = Path::new("certs.d");
    let steps = plan.ops.iter().map(|op| op.describe(certs_d));
    let findings = plan.findings.iter().map(|finding| format!("! {finding}"));
    steps.chain(findings).collect::<Vec<_>>().join("\n")
}

fn file_text(host: &SimulatedHost, directory: &str, file: &str) -> Option<String> {
    let Some(Entry::Directory(directory)) = host.listing.entries.get(directory) else { return None };
    match directory.files.get(file)? {
        FileEntry::Regular { content: Some(Bytes(content)), .. } => Some(String::from_utf8_lossy(content).into_owned()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn a_new_directory_is_filled_before_it_is_seen() {
    let mut host = host([]);
    let wish = wish([with_certificate(want("host:5000", "a"), "CA")]);
    let plan = plan_now(&host, &wish);
    insta::assert_snapshot!(words(&plan));
    host.apply(&plan);
    assert!(file_text(&host, "host_5000_", HOSTS_TOML).expect("written").contains("https://a"));
    let again = plan_now(&host, &wish);
    assert!(again.is_empty() && again.after == host.ownership);
}

#[test]
fn rotation_writes_certificates_first_and_removes_them_last() {
    let mut host = host([]);
    host.apply(&plan_now(&host, &wish([with_certificate(want("docker.io", "a"), "OLD")])));
    let rotated = wish([with_certificate(want("docker.io", "b"), "NEW")]);
    let plan = plan_now(&host, &rotated);
    insta::assert_snapshot!("rotation_before_the_grace_is_over", words(&plan));
    assert_eq!(plan.next_look, Some(NOW + GRACE));
    host.apply(&plan);

    let early = plan_at(&host, &rotated, NOW + SignedDuration::from_secs(9), GRACE);
    assert!(early.is_empty() && early.next_look == Some(NOW + GRACE));
    let late = plan_at(&host, &rotated, NOW + GRACE, GRACE);
    insta::assert_snapshot!("rotation_after_the_grace_is_over", words(&late));
    host.apply(&late);
    let last = plan_at(&host, &rotated, NOW + GRACE, GRACE);
    assert!(last.is_empty() && last.next_look.is_none() && last.after == host.ownership);
}

#[test]
fn a_certificate_that_is_wanted_again_stays() {
    let mut host = host([]);
    let first = wish([with_certificate(want("docker.io", "a"), "CA")]);
    host.apply(&plan_now(&host, &first));
    host.apply(&plan_now(&host, &wish([want("docker.io", "a")])));
    host.apply(&plan_now(&host, &first));
    let late = plan_at(&host, &first, NOW + SignedDuration::from_hours(1), GRACE);
    assert!(late.is_empty(), "{}", words(&late));
}

#[test]
fn secrets_are_for_root_alone() {
    let mut secret = want("docker.io", "a");
    secret.secret = true;
    let secret = with_certificate(secret, "-----BEGIN EC PRIVATE KEY-----");
    let plan = plan_now(&host([]), &wish([with_certificate(secret, "-----BEGIN CERTIFICATE-----")]));
    let modes: Vec<u32> =
        plan.ops.iter().filter_map(|op| if let Op::Write { mode, .. } = op { Some(*mode) } else { None }).collect();
    assert_eq!(modes.iter().filter(|&&mode| mode == 0o600).count(), 2, "{modes:?}");
    let shown = format!("{plan:?}");
    assert!(!shown.contains("BEGIN") && !shown.contains("https://"), "{shown}");
}

#[test]
fn a_foreign_file_is_backed_up_once_and_comes_back() {
    let mut host = host([("docker.io", directory([(HOSTS_TOML, regular("theirs")), ("readme", regular("x"))]))]);
    let original = host.listing.clone();
    let wish_ours = wish([want("docker.io", "a")]);
    let plan = plan_now(&host, &wish_ours);
    insta::assert_snapshot!("foreign_is_backed_up", words(&plan));
    host.apply(&plan);
    host.apply(&plan_now(&host, &wish([want("docker.io", "b")])));
    assert_eq!(host.backups.len(), 1);

    let undo = plan_now(&host, &Wish::default());
    insta::assert_snapshot!("foreign_comes_back", words(&undo));
    host.apply(&undo);
    assert_eq!(host.listing, original);
    assert!(host.backups.is_empty() && host.ownership == Ownership::default());
}

#[test]
fn what_nobody_names_is_never_touched() {
    let host = host([
        ("quay.io", directory([(HOSTS_TOML, regular("theirs"))])),
        ("file", Entry::File),
        ("socket", Entry::Other),
        ("link", Entry::Symlink { target: "quay.io".to_owned(), leads_to: None }),
    ]);
    assert_eq!(plan_now(&host, &Wish::default()), FilesPlan::default());
}

fn registry<'a>(host: &'a mut SimulatedHost, name: &str) -> &'a mut BTreeMap<String, FileEntry> {
    let Some(Entry::Directory(directory)) = host.listing.entries.get_mut(name) else { panic!("{name} is gone") };
    &mut directory.files
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

#[test]
fn whatever_somebody_does_to_a_file_it_is_put_back_and_from_the_third_time_on_it_is_a_conflict() {
    let mut host = host([]);
    let wish_ours = wish([want("docker.io", "a")]);
    host.apply(&plan_now(&host, &wish_ours));
    let ours = file_text(&host, "docker.io", HOSTS_TOML).expect("written");
    let mut said = Vec::new();
    let mut now = NOW;
    for change in ["edited", "removed", "replaced", "other permissions"] {
        now += SignedDuration::from_mins(1);
        let files = registry(&mut host, "docker.io");
        match change {
            "edited" => drop(files.insert(HOSTS_TOML.to_owned(), regular(&format!("{ours}# mine\n")))),
            "removed" => drop(files.remove(HOSTS_TOML)),
            "replaced" => drop(files.insert(HOSTS_TOML.to_owned(), regular("theirs"))),
            _ => drop(files.insert(HOSTS_TOML.to_owned(), regular(&ours))),
        }
        let plan = plan_at(&host, &wish_ours, now, GRACE);
        assert!(plan.findings.iter().all(|finding| !finding.is_away()), "{change}: {}", words(&plan));
        said.push(words(&plan));
        host.apply(&plan);
        assert_eq!(file_text(&host, "docker.io", HOSTS_TOML).as_ref(), Some(&ours), "{change}");
    }
    insta::assert_snapshot!(said.join("\n--\n"));

    let conflicts = |now| {
        let plan = plan_at(&host, &wish_ours, now, GRACE);
        assert!(plan.is_empty(), "{}", words(&plan));
        plan.findings.iter().filter(|finding| matches!(finding.what, What::Contested { .. })).count()
    };
    assert_eq!(conflicts(now), 1, "it is told while the file stands");
    assert_eq!(conflicts(now + SignedDuration::from_hours(25)), 0, "and not for ever");
}

#[test]
fn a_file_that_is_changed_at_once_again_waits_and_says_until_when() {
    let mut host = host([]);
    let wish_ours = wish([want("docker.io", "a")]);
    host.apply(&plan_now(&host, &wish_ours));
    let mut now = NOW;
    let mut pauses = Vec::new();
    let mut last = FilesPlan::default();
    for _ in 0..12 {
        registry(&mut host, "docker.io").remove(HOSTS_TOML);
        let mut plan = plan_at(&host, &wish_ours, now, GRACE);
        let found = now;
        if let Some(next) = plan.next_look {
            assert!(plan.is_empty() && plan.after == host.ownership, "{}", words(&plan));
            let is_said = |finding: &Finding| finding.is_away() && finding.prevents() && finding.is_conflict();
            assert!(plan.findings.iter().any(is_said), "{}", words(&plan));
            let early = plan_at(&host, &wish_ours, next - SignedDuration::from_millis(1), GRACE);
            assert!(early.is_empty(), "{}", words(&early));
            (now, last) = (next, plan);
            plan = plan_at(&host, &wish_ours, now, GRACE);
        }
        assert!(!plan.is_empty(), "{}", words(&plan));
        host.apply(&plan);
        pauses.push(now.duration_since(found).as_secs());
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    insta::assert_snapshot!(words(&last));

    registry(&mut host, "docker.io").remove(HOSTS_TOML);
    let other_wish = plan_at(&host, &wish([want("docker.io", "b")]), now, GRACE);
    assert!(!other_wish.is_empty(), "a new wish does not wait");
}

/// A certificate that is gone ends every pull of its registry, and one that is put back in a hot loop ends the host.
#[test]
fn a_certificate_that_somebody_changes_is_drift_like_hosts_toml() {
    let mut host = host([]);
    let wish_ours = wish([with_certificate(want("docker.io", "a"), "CA")]);
    host.apply(&plan_now(&host, &wish_ours));
    let file = wish_ours.desired[0].certificates.keys().next().expect("one").clone();
    let whole = registry(&mut host, "docker.io")[&file].clone();
    let mut now = NOW;
    let mut said = Vec::new();
    for change in ["removed", "edited", "other permissions"] {
        now += seconds(10);
        let files = registry(&mut host, "docker.io");
        match change {
            "removed" => drop(files.remove(&file)),
            "edited" => drop(files.insert(file.clone(), regular("another"))),
            _ => drop(files.insert(file.clone(), regular("CA"))),
        }
        let plan = plan_at(&host, &wish_ours, now, GRACE);
        said.push(words(&plan));
        host.apply(&plan);
        assert_eq!(registry(&mut host, "docker.io")[&file], whole, "{change}");
    }
    registry(&mut host, "docker.io").remove(&file);
    let again = plan_at(&host, &wish_ours, now, GRACE);
    assert!(again.is_empty() && again.next_look == Some(now + seconds(4)), "{}", words(&again));
    said.push(words(&again));
    insta::assert_snapshot!(said.join("\n--\n"));

    let rotated = wish([with_certificate(want("docker.io", "a"), "NEW")]);
    let plan = plan_at(&host, &rotated, now, GRACE);
    assert!(!plan.is_empty() && !plan.findings.iter().any(Finding::is_drift), "a rotation is none: {}", words(&plan));
}

#[test]
fn an_older_file_of_ours_that_is_copied_back_is_drift() {
    let mut host = host([]);
    host.apply(&plan_now(&host, &wish([want("docker.io", "a")])));
    let before = host.listing.clone();
    let newer = wish([want("docker.io", "b")]);
    host.apply(&plan_now(&host, &newer));
    host.listing = before;
    let plan = plan_now(&host, &newer);
    assert!(matches!(plan.findings[0].what, What::Drift(DriftKind::Edited)), "{}", words(&plan));
}

#[test]
fn undo_leaves_what_others_did_meanwhile() {
    let mut host = host([("docker.io", directory([(HOSTS_TOML, regular("theirs"))]))]);
    host.apply(&plan_now(&host, &wish([want("docker.io", "a")])));
    let Some(Entry::Directory(registry)) = host.listing.entries.get_mut("docker.io") else { panic!("gone") };
    registry.files.insert(HOSTS_TOML.to_owned(), regular("theirs, newer"));
    let undo = plan_now(&host, &Wish::default());
    insta::assert_snapshot!(words(&undo));
    host.apply(&undo);
    assert_eq!(file_text(&host, "docker.io", HOSTS_TOML).as_deref(), Some("theirs, newer"));
    assert_eq!(host.backups.len(), 1, "the first one is kept for its owner");
}

#[test]
fn obstacles_are_reported_in_sentences() {
    let host = host([
        ("a.io", Entry::File),
        ("b.io", Entry::Symlink { target: "/elsewhere".to_owned(), leads_to: None }),
        ("c.io", directory([(HOSTS_TOML, FileEntry::Directory)])),
        ("d.io", directory([("ca.crt", regular("x")), ("client.key", regular("x"))])),
        ("host:5000", directory([(HOSTS_TOML, regular("theirs"))])),
        ("e.io", directory([(HOSTS_TOML, regular("theirs"))])),
    ]);
    let mut wish = wish(["a.io", "b.io", "c.io", "d.io", "host:5000", "e.io"].map(|registry| want(registry, "m")));
    wish.claimed.insert(name("e.io"), "/etc/rancher/k3s/registries.yaml".to_owned());
    wish.desired.push(want("_default", "m"));
    wish.claimed.insert(name("_default"), "/etc/rancher/k3s/registries.yaml".to_owned());
    insta::assert_snapshot!(words(&plan_now(&host, &wish)));
}

/// K3s makes `host:5000` beside our `host_5000_`, which containerd reads first.
#[test]
fn our_file_makes_way_where_another_program_claims_the_registry() {
    let mut host = host([("quay.io", directory([(HOSTS_TOML, regular("theirs"))]))]);
    let mut wish = wish(["host:5000", "docker.io", "quay.io"].map(|registry| want(registry, "m")));
    host.apply(&plan_now(&host, &wish));
    wish.claimed = ["host:5000", "docker.io"].map(|registry| (name(registry), "/r.yaml".to_owned())).into();
    let plan = plan_now(&host, &wish);
    let conflict = plan.findings.iter().find(|finding| finding.to_string().contains("host:5000")).expect("told");
    assert_eq!(conflict.path, Path::new("/etc/containerd/certs.d/host:5000"), "where the other program writes");
    host.apply(&plan);
    assert!(!host.listing.entries.contains_key("host_5000_"));
    // This one the other program removes itself, at the start at which it begins to serve the registry.
    assert!(host.listing.entries.contains_key("docker.io"));
    host.listing.entries.insert("docker.io".to_owned(), directory([(HOSTS_TOML, regular("generated"))]));
    host.apply(&plan_now(&host, &wish));
    assert!(!host.ownership.directories.contains_key("docker.io"), "no later absence of it is a change of ours");

    // What nobody wants goes in any case, and what was edited is for its author to keep.
    wish.claimed = [(name("quay.io"), "/r.yaml".to_owned())].into();
    wish.desired.retain(|want| want.registry != name("quay.io"));
    host.apply(&plan_now(&host, &wish));
    assert_eq!(file_text(&host, "quay.io", HOSTS_TOML).as_deref(), Some("theirs"));
    let edited = format!("{}# edited\n", file_text(&host, "host_5000_", HOSTS_TOML).expect("written anew"));
    host.listing.entries.insert("host_5000_".to_owned(), directory([(HOSTS_TOML, regular(&edited))]));
    wish.claimed = [(name("host:5000"), "/r.yaml".to_owned())].into();
    assert!(plan_now(&host, &wish).is_empty());
}

#[test]
fn a_suspended_registry_stays_as_it_is() {
    let mut host = host([]);
    host.apply(&plan_now(&host, &wish([want("docker.io", "a"), want("quay.io", "a")])));
    let mut suspended = wish([want("quay.io", "b")]);
    suspended.on_hold.insert(name("docker.io"));
    let plan = plan_now(&host, &suspended);
    assert!(plan.ops.iter().all(|op| !op.describe(Path::new("")).contains("docker.io")), "{}", words(&plan));
    assert!(plan.after.directories.contains_key("docker.io"));
}

#[test]
fn a_directory_of_ours_is_moved_away_whole_and_a_found_one_stays() {
    let mut host = host([("quay.io", directory([]))]);
    host.apply(&plan_now(&host, &wish([want("docker.io", "a"), want("quay.io", "a")])));
    let undo = plan_now(&host, &Wish::default());
    insta::assert_snapshot!(words(&undo));
    host.apply(&undo);
    assert_eq!(host.listing.entries, BTreeMap::from([("quay.io".to_owned(), directory([]))]));
}

#[test]
fn a_lost_record_is_made_up_for_by_the_files() {
    let mut host = host([]);
    host.apply(&plan_now(&host, &wish([with_certificate(want("docker.io", "a"), "CA")])));
    host.ownership = Ownership::default();
    host.apply(&plan_at(&host, &Wish::default(), NOW, SignedDuration::ZERO));
    assert_eq!(host.listing, Listing::default());
}

fn any_registry() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["docker.io", "host:5000", "_default", "quay.io"])
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let registry = (any_registry(), "[ab]", proptest::option::of("[PQ]"), any::<bool>());
    let desired = proptest::collection::vec(registry, 0..4);
    let on_hold = proptest::collection::btree_set(any_registry(), 0..2);
    (desired, proptest::bool::weighted(0.2), on_hold).prop_map(|(desired, hold, on_hold)| Wish {
        desired: desired
            .into_iter()
            .map(|(registry, text, pem, secret)| {
                let mut want = want(registry, &text);
                want.secret = secret;
                pem.into_iter().fold(want, |want, pem| with_certificate(want, &pem))
            })
            .collect(),
        on_hold: if hold { on_hold.into_iter().map(name).collect() } else { BTreeSet::new() },
        claimed: BTreeMap::new(),
    })
}

fn any_file() -> impl Strategy<Value = FileEntry> {
    prop_oneof![
        6 => "[xyz]{0,3}".prop_map(|text| regular(&text)),
        1 => "[xyz]{1,2}".prop_map(|target| FileEntry::Symlink { target, content: None }),
        1 => Just(FileEntry::Directory),
        1 => Just(FileEntry::Other),
    ]
}

/// What others may have in certs.d, nothing of ours in it.
fn any_foreign_host() -> impl Strategy<Value = SimulatedHost> {
    let file_name = proptest::sample::select(vec![HOSTS_TOML, "ca.crt", "readme", "ca-0123456789abcdef.pem"]);
    let files = proptest::collection::btree_map(file_name, any_file(), 0..3);
    let entry = prop_oneof![
        8 => files.prop_map(directory),
        1 => Just(Entry::File),
        1 => Just(Entry::Other),
        1 => Just(Entry::Symlink { target: "quay.io".to_owned(), leads_to: None }),
    ];
    let entry_name = proptest::sample::select(vec!["docker.io", "host_5000_", "host:5000", "_default", "quay.io", "x"]);
    proptest::collection::btree_map(entry_name, entry, 0..5).prop_map(host)
}

proptest! {
    #[test]
    fn the_plan_of_what_was_applied_is_empty(start in any_foreign_host(), wishes in proptest::collection::vec(any_wish(), 1..4)) {
        let mut host = start;
        for wish in &wishes {
            let plan = plan_now(&host, wish);
            host.apply(&plan);
            let again = plan_now(&host, wish);
            prop_assert!(again.is_empty(), "{}", words(&again));
            prop_assert_eq!(&again.after, &host.ownership);
            let late = plan_at(&host, wish, NOW + GRACE, GRACE);
            let mut aged = host.clone();
            aged.apply(&late);
            let again = plan_at(&aged, wish, NOW + GRACE, GRACE);
            prop_assert!(again.is_empty() && again.next_look.is_none(), "{}", words(&again));
        }
    }

    #[test]
    fn undo_gives_back_the_original_files(start in any_foreign_host(), wishes in proptest::collection::vec(any_wish(), 1..4)) {
        let mut host = start.clone();
        for wish in &wishes {
            host.apply(&plan_now(&host, wish));
        }
        host.apply(&plan_now(&host, &Wish::default()));
        host.apply(&plan_at(&host, &Wish::default(), NOW + GRACE, GRACE));
        prop_assert_eq!(&host.listing, &start.listing);
        prop_assert_eq!(&host.ownership, &Ownership::default());
    }

    /// The process ends after any step of any plan: the next look ends where an undisturbed run ends, and undo still
    /// gives back the original files.
    #[test]
    fn a_crash_between_any_two_steps_loses_nothing(
        start in any_foreign_host(),
        wishes in proptest::collection::vec((any_wish(), any::<Index>()), 1..4),
    ) {
        let mut host = start.clone();
        for (wish, at) in &wishes {
            let plan = plan_now(&host, wish);
            host.apply_until(&plan, at.index(plan.ops.len() + 3));
        }
        let (last, _) = wishes.last().expect("at least one");
        if last.on_hold.is_empty() {
            let mut crashed = host.clone();
            crashed.apply(&plan_now(&crashed, last));
            crashed.apply(&plan_at(&crashed, last, NOW + GRACE, GRACE));
            let mut undisturbed = start.clone();
            undisturbed.apply(&plan_now(&undisturbed, last));
            prop_assert_eq!(&crashed.listing, &undisturbed.listing);
        }
        host.apply(&plan_now(&host, &Wish::default()));
        host.apply(&plan_at(&host, &Wish::default(), NOW + GRACE, GRACE));
        prop_assert_eq!(&host.listing, &start.listing);
    }

    /// At every moment each registry's hosts.toml names only certificates that stand beside it.
    #[test]
    fn no_moment_shows_a_hosts_toml_without_its_certificates(
        start in any_foreign_host(),
        first in any_wish(),
        second in any_wish(),
    ) {
        let mut host = start;
        host.apply(&plan_now(&host, &first));
        let plan = plan_now(&host, &second);
        for steps in 0..plan.ops.len() + 3 {
            let mut moment = host.clone();
            moment.apply_until(&plan, steps);
            for wish in [&first, &second] {
                for want in &wish.desired {
                    let directory = want.registry.directory();
                    if file_text(&moment, &directory, HOSTS_TOML).is_some_and(|text| text.into_bytes() == want.file()) {
                        for certificate in want.certificates.keys() {
                            let beside = file_text(&moment, &directory, certificate);
                            prop_assert!(beside.is_some(), "step {steps}: {certificate} is missing");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_record_survives_json() {
    let mut host = host([("docker.io", directory([(HOSTS_TOML, regular("theirs"))]))]);
    host.apply(&plan_now(&host, &wish([with_certificate(want("docker.io", "a"), "CA")])));
    let json = serde_json::to_string_pretty(&host.ownership).expect("json");
    insta::assert_snapshot!(json);
    assert_eq!(serde_json::from_str::<Ownership>(&json).expect("read back"), host.ownership);
}
