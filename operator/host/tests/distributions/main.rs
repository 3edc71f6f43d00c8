//! Hosts as the distributions set them up, built as small trees of files: what is detected, which files are meant and
//! what the plan is.

#![cfg(test)]

mod fixtures;

use std::{fs, path::Path};

use registry_mirror_core::{
    containerd::Version,
    observed::{Detected, Proof, Supervisor, Unit},
    plan::plan_config,
};
use registry_mirror_host::{observe, root::HostRoot};

use fixtures::{Fixture, fixtures};

/// Builds the tree, looks at it and says what was found, a line each.
fn look(fixture: &Fixture) -> String {
    let dir = tempfile::tempdir().expect("tempdir");
    for (path, text) in &fixture.files {
        let path = dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).expect("symlink"),
            None => fs::write(path, text).expect("write"),
        }
    }
    let root = HostRoot::open(dir.path()).expect("open");
    let version: Version = fixture.containerd.parse().expect("a version");
    let observed = observe::offline(&root, version, None).expect("readable");
    let plan = plan_config(&observed, "2026-11-21");
    let Detected { distribution, evidence } = &observed.distribution;
    let directory = plan.directory().map_or("-".into(), Path::to_string_lossy);
    format!(
        "{}, containerd {version}\n  is {distribution}: {evidence}\n  config {}\n  certs.d {directory}\n  {}: {}\n",
        fixture.name,
        observed.config_file.display(),
        plan.kind(),
        plan.reason(),
    )
}

#[test]
fn each_distribution_as_it_ships() {
    let found: Vec<String> = fixtures().iter().map(look).collect();
    insta::assert_snapshot!(found.join("\n"));
}

/// On a live host the same files, with what runs the daemon.
#[test]
fn a_unit_that_would_kill_the_pods_is_not_restarted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = HostRoot::open(dir.path()).expect("open");
    let mut observed = observe::offline(&root, Version::new(1, 7, 27), None).expect("readable");
    let unit = |kill_mode: &str| Unit {
        name: "containerd.service".to_owned(),
        binary: "/usr/bin/containerd".into(),
        kill_mode: kill_mode.to_owned(),
        invocation_id: String::new(),
        start_timeout_seconds: None,
        stop_timeout_seconds: None,
    };
    observed.supervisor = Supervisor::Unit(unit("process"));
    assert_eq!(plan_config(&observed, "2026-11-21").kind(), "Patch");
    observed.supervisor = Supervisor::Unit(unit("control-group"));
    let plan = plan_config(&observed, "2026-11-21");
    assert!(plan.kind() == "Unsupported" && plan.reason().contains("KillMode=control-group"), "{}", plan.reason());
    observed.supervisor = Supervisor::Unknown("this host does not run systemd".to_owned());
    let plan = plan_config(&observed, "2026-11-21");
    assert!(plan.kind() == "Unsupported" && plan.reason().contains("does not run systemd"), "{}", plan.reason());
    // A directory that works needs no restart, and so no systemd.
    let k3s = fixtures().into_iter().find(|fixture| fixture.name == "K3s on Alpine, no systemd").expect("there");
    assert!(look(&k3s).contains("Adopt"));
    assert_eq!(observed.proof, Proof::NotAsked);
}
