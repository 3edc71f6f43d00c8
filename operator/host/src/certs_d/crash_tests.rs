//! The process is killed at every effect of a plan, and the next run must end where an undisturbed one ends.
//!
//! `cargo test -p registry-mirror-host --features fault-injection crash`

use std::process::Command;

use super::{tests::*, *};

const HOST: &str = "REGISTRY_MIRROR_CRASH_HOST";
const SCENARIO: &str = "REGISTRY_MIRROR_CRASH_SCENARIO";

/// What stands before and what is wanted, by the scenario's name.
fn wanted(scenario: &str) -> Vec<DesiredRegistry> {
    match scenario {
        "before" => vec![want("docker.io", "old"), want("gone.io", "old")],
        "change" => vec![want("docker.io", KEY), want("new.io", KEY), want("quay.io", KEY)],
        "undo" => Vec::new(),
        other => panic!("no scenario {other}"),
    }
}

/// Both looks: the second one after the grace.
fn run(root: &Path, scenario: &str) {
    let state = open(root);
    for now in [NOW, NOW + GRACE] {
        let plan = plan(&state, &wanted(scenario), now);
        apply(&state, Path::new(CERTS_D), &plan).expect("apply");
    }
}

fn host() -> tempfile::TempDir {
    let host = Host::new();
    for registry in ["docker.io", "quay.io"] {
        fs::create_dir_all(host.certs_d(registry)).expect("mkdir");
        fs::write(host.certs_d(registry).join(HOSTS_TOML), format!("{registry}, theirs")).expect("write");
    }
    run(host.directory.path(), "before");
    host.directory
}

fn child(root: &Path, scenario: &str, fault: Option<usize>, log: Option<&Path>) -> std::process::ExitStatus {
    let mut command = Command::new(std::env::current_exe().expect("the test's own binary"));
    command.args(["--exact", "certs_d::crash_tests::the_child", "--test-threads=1"]);
    command.env(HOST, root).env(SCENARIO, scenario).stdout(std::process::Stdio::null());
    command.envs(fault.map(|number| ("REGISTRY_MIRROR_FAULT", format!("#{number}"))));
    command.envs(log.map(|log| ("REGISTRY_MIRROR_FAULT_LOG", log)));
    command.status().expect("the child")
}

#[test]
fn the_child() {
    if let (Some(root), Ok(scenario)) = (std::env::var_os(HOST), std::env::var(SCENARIO)) {
        run(Path::new(&root), &scenario);
    }
}

fn every_point_of(scenario: &str) {
    let undisturbed = host();
    let logs = tempfile::tempdir().expect("tempdir");
    let log = logs.path().join("points");
    assert!(child(undisturbed.path(), scenario, None, Some(&log)).success());
    let expected = tree(undisturbed.path());
    let points = fs::read_to_string(&log).expect("the log").lines().count();
    assert!(points > 30, "only {points} points");

    for point in 1..=points {
        let host = host();
        let before = tree(host.path());
        let status = child(host.path(), scenario, Some(point), None);
        assert!(!status.success(), "point {point} of {points} did not kill");
        for registry in ["docker.io", "quay.io", "gone.io", "new.io"] {
            let hosts = Path::new("etc/containerd/certs.d").join(registry).join(HOSTS_TOML);
            let now = tree(host.path()).get(&hosts).cloned();
            let is_whole = now.as_ref() == before.get(&hosts) || now.as_ref() == expected.get(&hosts);
            assert!(is_whole, "point {point}: {registry} is neither old nor new: {now:?}");
        }
        run(host.path(), scenario);
        assert_eq!(without_times(tree(host.path())), without_times(expected.clone()), "point {point} of {points}");
    }
}

/// Copies say when they were made.
fn without_times(mut tree: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    for content in tree.values_mut() {
        *content = content.lines().filter(|line| !line.contains("takenAt")).collect::<Vec<_>>().join("\n");
    }
    tree
}

#[test]
fn a_change_survives_a_kill_at_every_effect() {
    every_point_of("change");
}

#[test]
fn an_undo_survives_a_kill_at_every_effect() {
    every_point_of("undo");
}

#[test]
fn the_fault_file_kills_once() {
    // only children open this root: the file counts for every process that does
    let host = tempfile::tempdir().expect("tempdir");
    for directory in ["var/lib", "etc/containerd", "run"] {
        fs::create_dir_all(host.path().join(directory)).expect("mkdir");
    }
    let fault = host.path().join("run/registry-mirror-fault");
    fs::write(&fault, "write:renamed\n").expect("write");
    assert!(!child(host.path(), "change", None, None).success());
    assert!(!fault.exists());
    assert!(child(host.path(), "change", None, None).success());
}

/// As an agent is in its container: there a SIGKILL to itself does nothing.
#[test]
fn the_first_process_of_a_pid_namespace_dies_too() {
    if !Command::new("unshare").args(["-pf", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: no pid namespace is to be had here");
        return;
    }
    let host = host();
    let before = tree(host.path());
    let status = Command::new("unshare")
        .args(["-pf", "--kill-child"])
        .arg(std::env::current_exe().expect("the test's own binary"))
        .args(["--exact", "certs_d::crash_tests::the_child", "--test-threads=1"])
        .env(HOST, host.path())
        .env(SCENARIO, "change")
        .env("REGISTRY_MIRROR_FAULT", "#1")
        .stdout(std::process::Stdio::null())
        .status()
        .expect("unshare");
    assert!(!status.success());
    assert_eq!(tree(host.path()), before);
}
