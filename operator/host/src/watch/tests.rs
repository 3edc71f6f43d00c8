use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use tokio::time::timeout;

use super::*;
use crate::files::{Attributes, HostWriter, Owner, WriteScope};

const LONG: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(10);

fn certs_d() -> Vec<PathBuf> {
    vec![PathBuf::from("/etc/containerd/certs.d"), PathBuf::from("/etc/containerd")]
}

fn watch(host: &tempfile::TempDir, period: Duration) -> Watch {
    Watch::new(HostRoot::open(host.path()).expect("open"), certs_d(), period)
}

async fn changed(watch: &mut Watch, what: &str) {
    let hint = timeout(DEADLINE, watch.changed()).await.unwrap_or_else(|_| panic!("{what} was not noticed"));
    assert_eq!(hint, Hint::Changed, "{what}");
}

#[tokio::test]
async fn every_kind_of_change_is_noticed() {
    let host = tempfile::tempdir().expect("tempdir");
    let base = host.path().join("etc/containerd");
    fs::create_dir_all(host.path().join("etc")).expect("mkdir");
    let mut watch = watch(&host, LONG);
    fs::create_dir(&base).expect("mkdir");
    changed(&mut watch, "the parent that came into being").await;
    fs::create_dir_all(base.join("certs.d/docker.io")).expect("mkdir");
    changed(&mut watch, "certs.d").await;
    fs::write(base.join("certs.d/docker.io/hosts.toml"), "a").expect("write");
    changed(&mut watch, "a new file in a directory that is new itself").await;
    fs::write(base.join("certs.d/docker.io/hosts.toml"), "b").expect("write");
    changed(&mut watch, "an edit").await;
    fs::remove_file(base.join("certs.d/docker.io/hosts.toml")).expect("remove");
    changed(&mut watch, "a removal").await;
    fs::rename(base.join("certs.d/docker.io"), base.join("certs.d/moved")).expect("rename");
    changed(&mut watch, "a rename").await;
    fs::write(base.join("config.toml"), "version = 2").expect("write");
    changed(&mut watch, "config.toml").await;
    fs::remove_dir_all(base.join("certs.d")).expect("remove");
    changed(&mut watch, "certs.d taken away").await;
}

#[tokio::test]
async fn a_burst_is_one_change() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd/certs.d")).expect("mkdir");
    let mut watch = watch(&host, LONG);
    for number in 0..200 {
        fs::write(host.path().join(format!("etc/containerd/certs.d/{number}")), "").expect("write");
    }
    changed(&mut watch, "the burst").await;
    let again = timeout(QUIET * 3, watch.changed()).await;
    assert!(again.is_err(), "{again:?}");
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd/certs.d")).expect("mkdir");
    let mut watch = watch(&host, LONG);
    fs::write(host.path().join("etc/containerd/certs.d/a"), "").expect("write");
    // long enough to see the event, too short for the quiet after it
    let _ = timeout(QUIET / 2, watch.changed()).await;
    changed(&mut watch, "the change before").await;
}

#[tokio::test]
async fn the_period_comes_round_without_a_change() {
    let host = tempfile::tempdir().expect("tempdir");
    let mut watch = watch(&host, Duration::from_millis(20));
    for _ in 0..3 {
        assert_eq!(timeout(DEADLINE, watch.changed()).await.expect("in time"), Hint::Periodic);
    }
}

/// What is done through the host's root is no news, down to the proof of another process; whoever else touches the same
/// names is heard.
#[tokio::test]
async fn own_work_wakes_nobody_and_others_on_the_same_names_do() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd/certs.d")).expect("mkdir");
    let root = HostRoot::open(host.path()).expect("open");
    let writer = HostWriter::new(root.clone(), WriteScope::of([Path::new("/etc/containerd")]));
    let attributes = Attributes { mode: 0o644, owner: Owner::Root };
    let (config, directory) =
        (Path::new("/etc/containerd/config.toml"), Path::new("/etc/containerd/certs.d/docker.io"));
    let hosts = directory.join("hosts.toml");
    let on_disk = |path: &Path| host.path().join(path.strip_prefix("/").expect("absolute"));
    let mut watch = Watch::new(root, certs_d(), LONG);

    for content in ["a", "b"] {
        writer.write(config, content.as_bytes(), attributes).expect("write");
        writer.create_dir(directory, 0o755).expect("mkdir");
        writer.write(&hosts, content.as_bytes(), attributes).expect("write");
        writer.rename(&hosts, &directory.join("other.toml")).expect("rename");
        writer.write(&hosts, content.as_bytes(), attributes).expect("write");
        writer.remove(&directory.join("other.toml")).expect("remove");
        let proof = on_disk(Path::new("/etc/containerd/certs.d/127.0.0.1_1_"));
        fs::create_dir(&proof).expect("mkdir");
        fs::write(proof.join("hosts.toml"), "").expect("write");
        fs::remove_dir_all(&proof).expect("remove");
        let hint = timeout(QUIET * 4, watch.changed()).await;
        assert!(hint.is_err(), "{hint:?}");
    }
    fs::write(on_disk(&hosts), "b").expect("write");
    changed(&mut watch, "our file in our directory, written by somebody else").await;
    fs::set_permissions(on_disk(&hosts), fs::Permissions::from_mode(0o600)).expect("chmod");
    changed(&mut watch, "its mode").await;
    writer.write(config, b"c", attributes).expect("write");
    fs::write(on_disk(Path::new("/etc/containerd/new")), "theirs").expect("write");
    fs::rename(on_disk(Path::new("/etc/containerd/new")), on_disk(config)).expect("rename");
    changed(&mut watch, "a file that took the place of ours").await;
    writer.write(config, b"d", attributes).expect("write");
    fs::remove_file(on_disk(config)).expect("remove");
    changed(&mut watch, "our file removed").await;
    writer.remove(&hosts).expect("remove");
    writer.remove_dir_if_empty(directory).expect("remove");
    let hint = timeout(QUIET * 4, watch.changed()).await;
    assert!(hint.is_err(), "{hint:?}");
    fs::create_dir(on_disk(directory)).expect("mkdir");
    changed(&mut watch, "a directory where we removed ours").await;
}

/// Somebody who writes without end costs a look a second.
#[tokio::test]
async fn the_rate_of_looks_is_bounded() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd/certs.d")).expect("mkdir");
    let mut watch = watch(&host, LONG);
    let (began, mut looks) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(2500) {
        fs::write(host.path().join("etc/containerd/config.toml"), format!("{looks}")).expect("write");
        changed(&mut watch, "an edit").await;
        looks += 1;
    }
    assert!((11..=14).contains(&looks), "ten at once and one a second, not {looks}");
}

/// Runs again in a user namespace of its own, whose limit of instances is its own too and no other program's.
#[tokio::test]
async fn without_inotify_the_period_is_enough_and_inotify_comes_back() {
    const MARK: &str = "REGISTRY_MIRROR_TEST_NO_INOTIFY";
    const LIMIT: &str = "/proc/sys/user/max_inotify_instances";
    if std::env::var_os(MARK).is_none() {
        if !Command::new("unshare").args(["-Ur", "true"]).status().is_ok_and(|status| status.success()) {
            eprintln!("not tested: no user namespace is to be had here");
            return;
        }
        let this = std::env::current_exe().expect("the test's own binary");
        let name = "watch::tests::without_inotify_the_period_is_enough_and_inotify_comes_back";
        let status = Command::new("unshare")
            .arg("-Ur")
            .arg(this)
            .args(["--exact", "--nocapture", "--test-threads=1", name])
            .env(MARK, "1")
            .status()
            .expect("unshare");
        assert!(status.success(), "{status}");
        return;
    }
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd/certs.d")).expect("mkdir");
    fs::write(LIMIT, "0").expect("the limit of this namespace");
    let refused = inotify::init(CreateFlags::CLOEXEC).expect_err("no instance");
    assert_eq!(refused, Errno::MFILE);

    let mut watch = watch(&host, Duration::from_millis(20));
    assert!(watch.inotify.is_none());
    fs::write(host.path().join("etc/containerd/certs.d/a"), "").expect("write");
    for _ in 0..3 {
        assert_eq!(timeout(DEADLINE, watch.changed()).await.expect("in time"), Hint::Periodic);
    }
    fs::write(LIMIT, "1").expect("the limit of this namespace");
    assert_eq!(timeout(DEADLINE, watch.changed()).await.expect("in time"), Hint::Periodic);
    assert!(watch.inotify.is_some());
}
