//! What counts without us, and what becomes of it.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bundle::{MirrorHost, Tls},
    desired::{Target, desired},
};

const VERSION: Version = Version::new(2, 1, 9);
const CA: &str = include_str!("../../../compile/testdata/rsa.crt");
const CERTIFICATE: &str = include_str!("../../../compile/testdata/ec.crt");
const KEY: &str = include_str!("../../../compile/testdata/ec8.key");
const FIRST: &str = "/etc/containerd/certs.d";
const SECOND: &str = "/etc/docker/certs.d";

fn file(content: &str) -> FileEntry {
    FileEntry::Regular { mode: 0o644, uid: 0, gid: 0, content: Some(Bytes(content.as_bytes().to_vec())) }
}

fn directory(files: &[(&str, &str)]) -> Listed {
    Listed::Directory(Directory {
        files: files.iter().map(|(name, content)| ((*name).to_owned(), file(content))).collect(),
    })
}

fn root(path: &str, entries: Vec<(&str, Listed)>) -> Root {
    let entries = entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
    Root { path: path.into(), listing: Listing { entries }, ownership: Ownership::default() }
}

/// One root after the other.
fn roots(first: Vec<(&str, Listed)>, second: Vec<(&str, Listed)>) -> Vec<Root> {
    vec![root(FIRST, first), root(SECOND, second)]
}

fn entry(registry: &str, upstream: Upstream) -> Entry {
    let mirrors = vec![MirrorHost::new("https://mirror.example")];
    Entry { upstream, ..Entry::new("mine", registry.parse().expect("a registry"), mirrors) }
}

fn carried(entry: &Entry, roots: &[Root]) -> (Desired, Vec<Finding>) {
    let at = place(&entry.registry, roots);
    let target = Target { version: VERSION, certs_dir: &roots[at].path };
    let found = desired(entry, &BTreeMap::new(), target, &std::collections::BTreeSet::new()).expect("complete");
    carry(found, entry, roots, at, VERSION)
}

/// What is written where, and what is said.
fn shown(entry: &Entry, roots: &[Root]) -> String {
    let (found, findings) = carried(entry, roots);
    let at = &roots[place(&entry.registry, roots)].path;
    let names: Vec<&String> = found.registry.certificates.keys().collect();
    let said: Vec<String> = findings.iter().map(|finding| format!("! {finding}")).collect();
    format!("in {}: {names:?}\n{}{}\n", at.display(), found.registry.hosts_toml, said.join("\n"))
}

#[test]
fn certificates_under_any_spelling_go_on_counting() {
    for name in ["reg:5443", "reg_5443_"] {
        let files = [("ca.crt", CA), ("node.cert", CERTIFICATE), ("node.key", KEY), ("README", "mine")];
        let root = [root(FIRST, vec![(name, directory(&files))])];
        insta::assert_snapshot!(
            format!("certificates_of_{}", name.replace(':', "-")),
            shown(&entry("reg:5443", Upstream::Registry), &root)
        );
    }
}

#[test]
fn a_link_is_followed_and_a_key_may_stand_in_the_certificates_file() {
    let both = format!("{CERTIFICATE}{KEY}");
    let link =
        FileEntry::Symlink { target: "/etc/pki/ca.pem".to_owned(), content: Some(Bytes(CA.as_bytes().to_vec())) };
    let mut files = Directory { files: [("node.cert".to_owned(), file(&both))].into() };
    files.files.insert("ca.crt".to_owned(), link);
    let linked = Listed::Symlink { target: "/etc/pki/reg".to_owned(), leads_to: Some(files) };
    let (found, _) = carried(&entry("reg:5443", Upstream::Registry), &[root(FIRST, vec![("reg:5443", linked)])]);
    assert_eq!(found.hosts.root.ca.len(), 1);
    assert_eq!(found.hosts.root.client.len(), 1);
    assert_eq!(found.registry.certificates.len(), 3);
}

/// A directory of ours is not there when one asks what was there without it, and what lies there goes on counting.
#[test]
fn our_own_files_change_nothing_of_what_counts() {
    let object = entry("reg:5443", Upstream::Registry);
    let before = [root(FIRST, vec![("reg:5443", directory(&[("ca.crt", CA)]))])];
    let (written, _) = carried(&object, &before);
    let mut after = before.clone();
    let mut ours = Directory {
        files: [(HOSTS_TOML.to_owned(), file(&String::from_utf8(written.registry.file()).expect("text")))].into(),
    };
    for (name, content) in &written.registry.certificates {
        ours.files.insert(name.clone(), file(&String::from_utf8(content.clone()).expect("text")));
    }
    after[0].listing.entries.insert("reg_5443_".to_owned(), Listed::Directory(ours.clone()));
    assert_eq!(carried(&object, &after), carried(&object, &before), "without a record");
    let owned = OwnedDirectory {
        object: "mine".to_owned(),
        created: true,
        written: None,
        certificates: BTreeMap::new(),
        backup: None,
        reverts: crate::plan::put_backs::PutBacks::default(),
    };
    after[0].ownership.directories.insert("reg_5443_".to_owned(), owned);
    assert_eq!(carried(&object, &after), carried(&object, &before), "with a record");
    // The administrator renews the file, or takes it away.
    after[0].listing.entries.insert("reg:5443".to_owned(), directory(&[("ca.crt", CERTIFICATE)]));
    assert_ne!(carried(&object, &after).0, written);
    after[0].listing.entries.remove("reg:5443");
    assert_eq!(carried(&object, &after).0.hosts.root.ca, Vec::<String>::new());
}

#[test]
fn a_hosts_toml_that_is_hidden_is_told_and_others_are_not() {
    let theirs = || directory(&[(HOSTS_TOML, "server = \"https://theirs\"\n")]);
    let object = entry("reg:5000", Upstream::Registry);
    let said =
        |roots: &[Root]| carried(&object, roots).1.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let other_spelling = [root(FIRST, vec![("reg:5000", theirs())])];
    insta::assert_snapshot!("hidden_by_another_spelling", said(&other_spelling));
    let later_root = roots(vec![], vec![("reg_5000_", theirs())]);
    insta::assert_snapshot!("hidden_by_an_earlier_root", said(&later_root));
    // What gives way is backed up, and what was not read before is not hidden.
    assert_eq!(said(&[root(FIRST, vec![("reg_5000_", theirs())])]), "");
    assert_eq!(said(&[root(FIRST, vec![("reg_5000_", theirs()), ("reg:5000", theirs())])]), "");
    assert_eq!(said(&[root(FIRST, vec![("_default", theirs()), ("other", theirs())])]), "");
}

#[test]
fn the_default_goes_into_the_last_root_unless_somebody_has_one_before_it() {
    let default = entry("_default", Upstream::Registry).registry;
    let named = entry("reg:5000", Upstream::Registry).registry;
    let ca = || directory(&[("ca.crt", CA)]);
    assert_eq!(place(&default, &roots(vec![], vec![("reg:5000", ca())])), 1);
    assert_eq!(place(&default, &roots(vec![("_default", ca())], vec![])), 0);
    assert_eq!(place(&named, &roots(vec![("_default", ca())], vec![("reg:5000", ca())])), 0);
    assert_eq!(place(&default, &[root(FIRST, vec![])]), 0);
    assert_eq!(place(&default, &[]), 0);
    // One of ours in the first root, from a time when it was the only one, moves.
    let ours = crate::provenance::mark("mine", "[host.\"https://mirror.example\"]\n");
    assert_eq!(place(&default, &roots(vec![("_default", directory(&[(HOSTS_TOML, &ours)]))], vec![])), 1);
}

#[test]
fn what_lies_in_a_later_root_or_in_the_default_goes_on_counting() {
    let object = entry("reg:5443", Upstream::Registry);
    let ca = || directory(&[("ca.crt", CA)]);
    insta::assert_snapshot!("certificates_of_a_later_root", shown(&object, &roots(vec![], vec![("reg:5443", ca())])));
    insta::assert_snapshot!("certificates_of_the_default", shown(&object, &roots(vec![("_default", ca())], vec![])));
    insta::assert_snapshot!(
        "certificates_for_the_default",
        shown(&entry("_default", Upstream::Registry), &[root(FIRST, vec![("_default", ca())])])
    );
    // `_default` of the first root beats the registry's own directory of the second one.
    let beaten = roots(vec![("_default", directory(&[]))], vec![("reg:5443", ca())]);
    assert_eq!(carried(&object, &beaten).0.registry.certificates.len(), 0);
}

#[test]
fn certificates_are_for_the_registry_alone() {
    let root = [root(FIRST, vec![("reg:5443", directory(&[("ca.crt", CA)]))])];
    let count = |upstream| carried(&entry("reg:5443", upstream), &root).0.registry.certificates.len();
    let server = |url: &str| Upstream::Server { url: Some(url.to_owned()), tls: Tls::default() };
    assert_eq!(count(Upstream::Registry), 1);
    assert_eq!(count(server("https://reg:5443")), 1);
    assert_eq!(count(server("https://reg:5443/v2/library")), 1);
    assert_eq!(count(server("https://elsewhere.example")), 0);
    assert_eq!(count(Upstream::Denied), 0);
}

#[test]
fn what_containerd_cannot_read_is_left_out_and_told() {
    let files = [("broken.crt", "hello"), ("ca.crt", CA), ("node.cert", CA), ("node.key", KEY)];
    insta::assert_snapshot!(shown(
        &entry("reg:5443", Upstream::Registry),
        &[root(FIRST, vec![("reg:5443", directory(&files))])]
    ));
}
