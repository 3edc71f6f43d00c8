pub(super) use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};
use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
pub(super) use registry_mirror_core::plan::files::{DesiredRegistry, GRACE};
use registry_mirror_core::{
    digest::Digest,
    plan::files::{Input, Ownership, plan_files},
};

use super::*;
use crate::files::WriteScope;

pub(super) const CERTS_D: &str = "/etc/containerd/certs.d";

pub(super) struct Host {
    pub(super) directory: tempfile::TempDir,
    state: StateDir,
}

impl Host {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(directory.path().join("var/lib")).expect("mkdir");
        fs::create_dir_all(directory.path().join("etc/containerd")).expect("mkdir");
        let state = open(directory.path());
        Self { directory, state }
    }

    pub(super) fn certs_d(&self, path: &str) -> PathBuf {
        self.directory.path().join("etc/containerd/certs.d").join(path)
    }

    fn plan(&self, desired: &[DesiredRegistry], now: Timestamp) -> FilesPlan {
        plan(&self.state, desired, now)
    }

    fn apply(&self, desired: &[DesiredRegistry], now: Timestamp) -> FilesPlan {
        let plan = self.plan(desired, now);
        apply(&self.state, Path::new(CERTS_D), &plan).expect("apply");
        plan
    }
}

pub(super) fn open(root: &Path) -> StateDir {
    let scope = WriteScope::for_host([Path::new("/etc/containerd/config.toml")], Path::new(CERTS_D));
    StateDir::open(&HostWriter::new(HostRoot::open(root).expect("open"), scope)).expect("state")
}

pub(super) fn plan(state: &StateDir, desired: &[DesiredRegistry], now: Timestamp) -> FilesPlan {
    let certs_d = Path::new(CERTS_D);
    plan_files(&Input {
        certs_d,
        listing: &observe(state.writer().root(), certs_d).expect("observe"),
        writer: writer_uid(),
        ownership: &state.ownership(certs_d).expect("ownership").0,
        desired,
        on_hold: &BTreeSet::new(),
        claimed: &BTreeMap::new(),
        now,
        grace: GRACE,
    })
}

pub(super) fn want(registry: &str, pem: &str) -> DesiredRegistry {
    let file = format!("key-{}.pem", Digest::of(pem.as_bytes()).short());
    DesiredRegistry {
        object: "hub".to_owned(),
        registry: registry.parse().expect(registry),
        hosts_toml: format!("[host.\"https://mirror\"]\n  client = \"{CERTS_D}/{registry}/{file}\"\n"),
        certificates: BTreeMap::from([(file, pem.as_bytes().to_vec())]),
        secret: true,
    }
}

pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;
pub(super) const KEY: &str = "-----BEGIN PRIVATE KEY-----\n";

/// Every path beneath a directory with its mode, owner and content.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("entry").path();
            let stat = fs::symlink_metadata(&path).expect("stat");
            let content = if stat.is_dir() {
                todo.push(path.clone());
                "directory".to_owned()
            } else if stat.is_symlink() {
                fs::read_link(&path).expect("readlink").display().to_string()
            } else {
                String::from_utf8_lossy(&fs::read(&path).expect("read")).into_owned()
            };
            let told = format!("{:o} {}:{} {content}", stat.mode(), stat.uid(), stat.gid());
            found.insert(path.strip_prefix(root).expect("below").to_owned(), told);
        }
    }
    found
}

#[test]
fn what_was_planned_stands_there_with_its_modes() {
    let host = Host::new();
    host.apply(&[want("docker.io", KEY)], NOW);
    let names: Vec<String> = tree(&host.certs_d(""))
        .iter()
        .map(|(path, told)| format!("{} {}", told.split(' ').next().unwrap_or_default(), path.display()))
        .collect();
    let key = format!("100600 docker.io/key-{}.pem", Digest::of(KEY.as_bytes()).short());
    assert_eq!(names, ["40755 docker.io", "100600 docker.io/hosts.toml", &key]);

    let before = fs::metadata(host.certs_d("docker.io/hosts.toml")).expect("stat").ino();
    let again = host.plan(&[want("docker.io", KEY)], NOW);
    assert!(again.is_empty());
    assert_eq!(apply(&host.state, Path::new(CERTS_D), &again), Ok(Written::Unchanged));
    assert_eq!(fs::metadata(host.certs_d("docker.io/hosts.toml")).expect("stat").ino(), before);
}

#[test]
fn a_changed_mode_is_put_back() {
    let host = Host::new();
    host.apply(&[want("docker.io", KEY)], NOW);
    for file in tree(&host.certs_d("docker.io")).keys() {
        fs::set_permissions(host.certs_d("docker.io").join(file), fs::Permissions::from_mode(0o666)).expect("chmod");
    }
    host.apply(&[want("docker.io", KEY)], NOW);
    assert!(tree(&host.certs_d("docker.io")).values().all(|told| told.starts_with("100600")));
}

#[test]
fn undo_leaves_the_host_as_it_was() {
    let host = Host::new();
    fs::create_dir_all(host.certs_d("docker.io")).expect("mkdir");
    fs::create_dir_all(host.certs_d("quay.io")).expect("mkdir");
    fs::create_dir_all(host.certs_d("ghcr.io")).expect("mkdir");
    fs::write(host.certs_d("docker.io/hosts.toml"), "theirs").expect("write");
    fs::set_permissions(host.certs_d("docker.io/hosts.toml"), fs::Permissions::from_mode(0o640)).expect("chmod");
    symlink("../docker.io/hosts.toml", host.certs_d("quay.io/hosts.toml")).expect("symlink");
    let without_state = |host: &Host| {
        let mut tree = tree(host.directory.path());
        tree.retain(|path, _| !path.starts_with("var/lib/registry-mirror-operator"));
        tree
    };
    let original = without_state(&host);
    let wanted = ["docker.io", "quay.io", "ghcr.io", "new.io"].map(|registry| want(registry, KEY));
    let plan = host.apply(&wanted, NOW);
    assert_eq!(plan.findings.iter().filter(|finding| finding.is_conflict()).count(), 2);
    host.apply(&["docker.io", "quay.io", "new.io"].map(|registry| want(registry, "other")), NOW);
    host.apply(&[], NOW);
    host.apply(&[], NOW + GRACE);
    assert_eq!(without_state(&host), original);
    assert_eq!(host.state.ownership(Path::new(CERTS_D)).expect("ownership").0, Ownership::default());
    assert_eq!(
        fs::read_dir(host.directory.path().join("var/lib/registry-mirror-operator/backups")).expect("list").count(),
        0
    );
}

#[test]
fn a_file_that_changes_between_look_and_copy_is_not_lost() {
    let host = Host::new();
    fs::create_dir_all(host.certs_d("docker.io")).expect("mkdir");
    fs::write(host.certs_d("docker.io/hosts.toml"), "theirs").expect("write");
    let plan = host.plan(&[want("docker.io", KEY)], NOW);
    fs::write(host.certs_d("docker.io/hosts.toml"), "theirs, newer").expect("write");
    let error = apply(&host.state, Path::new(CERTS_D), &plan).expect_err("changed");
    insta::assert_snapshot!(error, @"/etc/containerd/certs.d/docker.io/hosts.toml changed while it was being backed up; nothing was done to it, and the next look starts over");
    assert_eq!(fs::read_to_string(host.certs_d("docker.io/hosts.toml")).expect("read"), "theirs, newer");
    host.apply(&[want("docker.io", KEY)], NOW);
    host.apply(&[], NOW);
    assert_eq!(fs::read_to_string(host.certs_d("docker.io/hosts.toml")).expect("read"), "theirs, newer");
}

#[test]
fn a_file_where_certs_d_should_be_is_named() {
    let host = Host::new();
    fs::write(host.directory.path().join("etc/containerd/certs.d"), "x").expect("write");
    let error = observe(host.state.writer().root(), Path::new(CERTS_D)).expect_err("a file");
    insta::assert_snapshot!(error, @"cannot list /etc/containerd/certs.d: it is a regular file, and a directory is needed there; move it away");
}

/// Certificates rotate while a reader does what containerd does: read hosts.toml, then what it names.
#[test]
fn a_reader_of_rotating_certificates_never_misses_one() {
    let host = Host::new();
    let pem = |round: u32| format!("{KEY}{round}\n");
    host.apply(&[want("docker.io", &pem(0))], NOW);
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU32::new(0));
    let reader = std::thread::spawn({
        let (root, done, reads) = (host.directory.path().to_owned(), Arc::clone(&done), Arc::clone(&reads));
        move || {
            while !done.load(Ordering::SeqCst) {
                let hosts =
                    fs::read_to_string(root.join("etc/containerd/certs.d/docker.io/hosts.toml")).expect("hosts");
                let named = hosts.lines().find_map(|line| line.trim().strip_prefix("client = ")).expect("client");
                let named = named.trim_matches('"').trim_start_matches('/');
                assert!(fs::read_to_string(root.join(named)).expect("the certificate").starts_with(KEY));
                reads.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let (mut seen, mut since) = (0, 0);
    for round in 1..=200_u32 {
        // The rounds are this test's clock: a reader that a busy machine does not let run must not see ten of them pass.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while reads.load(Ordering::SeqCst) == seen && round - since >= 5 && !reader.is_finished() {
            assert!(std::time::Instant::now() < deadline, "the reader does not get on");
            std::thread::yield_now();
        }
        if reads.load(Ordering::SeqCst) != seen {
            (seen, since) = (reads.load(Ordering::SeqCst), round);
        }
        // a second for each rotation: the grace of ten ends during the run, and old certificates go
        host.apply(&[want("docker.io", &pem(round))], NOW + SignedDuration::from_secs(i64::from(round)));
    }
    done.store(true, Ordering::SeqCst);
    reader.join().expect("no read failed");
    assert!(reads.load(Ordering::SeqCst) > 0);
    assert!(fs::read_dir(host.certs_d("docker.io")).expect("list").count() <= 13);
}
