//! Each kind of plan, and each reason not to touch a host.

use super::*;
use crate::{
    config_toml::{MapSource, load},
    containerd::Version,
    observed::Detected,
};

const MAIN: &str = "/etc/containerd/config.toml";

fn unit(kill_mode: &str) -> Supervisor {
    Supervisor::Unit(Unit {
        name: "containerd.service".to_owned(),
        binary: "/usr/bin/containerd".into(),
        kill_mode: kill_mode.to_owned(),
        invocation_id: "0123456789abcdef0123456789abcdef".to_owned(),
        start_timeout_seconds: Some(90),
        stop_timeout_seconds: Some(90),
    })
}

fn observed(version: Version, config: &str) -> Observed {
    let source = MapSource::new().with(MAIN, config);
    Observed {
        containerd: version,
        distribution: Detected { distribution: Distribution::Plain, evidence: "nothing else matched".to_owned() },
        supervisor: unit("process"),
        config_file: MAIN.into(),
        config: load(Path::new(MAIN), version, &source),
        config_writable: Writable::Yes,
        imports_writable: std::collections::BTreeMap::new(),
        links: std::collections::BTreeMap::new(),
        directory_writable: Writable::Yes,
        proof: Proof::NotAsked,
    }
}

const OLD: Version = Version::new(1, 6, 20);
const NEW: Version = Version::new(2, 4, 2);
const SET: &str =
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

fn plan(observed: &Observed) -> ConfigPlan {
    plan_config(observed, "2026-11-21")
}

fn refusal(plan: ConfigPlan) -> String {
    match plan {
        ConfigPlan::Unsupported { reason } => reason,
        other => panic!("expected Unsupported, not {}", other.kind()),
    }
}

#[test]
fn a_directory_that_works_is_adopted() {
    let plan = plan(&observed(OLD, SET));
    assert_eq!(plan.kind(), "Adopt");
    assert_eq!(plan.directory(), Some(Path::new("/etc/containerd/certs.d")));
    assert!(!plan.needs_restart() && plan.edit().is_none());
}

#[test]
fn without_a_directory_one_is_set_on_both_ends_of_the_versions() {
    for (version, config) in [(OLD, "version = 2\n"), (NEW, "version = 4\n"), (NEW, "")] {
        let plan = plan(&observed(version, config));
        assert_eq!(plan.kind(), "Patch", "{version}: {}", plan.reason());
        assert!(plan.needs_restart());
        assert!(plan.edit().is_some_and(|edit| !edit.is_empty()));
    }
}

#[test]
fn a_file_that_is_right_under_a_daemon_that_has_not_read_it_needs_a_restart_and_no_edit() {
    let mut stale = observed(OLD, SET);
    stale.proof = Proof::NotEffective("connection refused".to_owned());
    let plan = plan(&stale);
    assert!(matches!(&plan, ConfigPlan::Patch { edit: None, .. }), "{}", plan.reason());
    assert!(plan.reason().contains("has not restarted since"), "{}", plan.reason());
}

#[test]
fn legacy_mirrors_are_migrated_and_never_left_beside_config_path() {
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  endpoint = [\"https://m\"]\n";
    let plan = plan(&observed(OLD, config));
    assert!(matches!(plan.kind(), "Migrate" | "Unsupported"), "{}", plan.reason());
}

#[test]
fn what_is_not_safe_is_not_done_and_says_why() {
    let with = |change: fn(&mut Observed)| {
        let mut observed = observed(OLD, "version = 2\n");
        change(&mut observed);
        refusal(plan(&observed))
    };
    let killing = with(|observed| observed.supervisor = unit("control-group"));
    assert!(killing.contains("KillMode=control-group") && killing.contains("by hand"), "{killing}");
    let embedded = with(|observed| observed.supervisor = Supervisor::Embedded { by: "k3s.service".to_owned() });
    assert!(embedded.contains("k3s.service"), "{embedded}");
    let read_only = with(|observed| observed.config_writable = Writable::No("read-only file system".to_owned()));
    assert!(read_only.contains("read-only file system"), "{read_only}");
    let store = with(|observed| {
        observed.links.insert(MAIN.into(), "/nix/store/0c8w-config.toml".into());
    });
    assert!(store.contains("/nix/store/0c8w-config.toml") && store.contains("NixOS"), "{store}");
    let talos = with(|observed| observed.distribution.distribution = Distribution::Talos);
    assert!(talos.contains("machine.registries.mirrors"), "{talos}");
}

/// The file that would be edited is the one that counts, and it need not be the main one.
#[test]
fn an_import_that_cannot_be_replaced_is_told_when_planning() {
    let import = "/opt/site/registry.toml";
    let source = MapSource::new()
        .with(MAIN, format!("version = 2\nimports = [\"{import}\"]\n"))
        .with(import, "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\n");
    let mut observed = observed(OLD, "");
    observed.config = load(Path::new(MAIN), OLD, &source);
    assert_eq!(plan(&observed).edit().map(|edit| edit.file.as_path()), Some(Path::new(import)));
    observed.imports_writable.insert(import.into(), Writable::No("it is on a read-only file system".to_owned()));
    let reason = refusal(plan(&observed));
    assert!(reason.contains(import) && reason.contains("read-only"), "{reason}");
}

#[test]
fn a_broken_file_is_left_alone_and_named_with_its_line() {
    let reason = refusal(plan(&observed(OLD, "version = 2\n[plugins\n")));
    assert!(reason.contains(MAIN) && reason.contains('2'), "{reason}");
}

#[test]
fn a_disabled_cri_plugin_is_no_node_of_ours() {
    let reason = refusal(plan(&observed(OLD, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")));
    assert!(reason.contains("disabled_plugins"), "{reason}");
}

#[test]
fn a_proof_that_cannot_be_had_decides_nothing() {
    let mut unproved = observed(OLD, SET);
    unproved.proof = Proof::Failed("CRI did not answer".to_owned());
    assert!(refusal(plan(&unproved)).contains("CRI did not answer"));
}

#[test]
fn the_hash_names_the_bytes_that_are_written() {
    let first = plan(&observed(OLD, "version = 2\n")).hash();
    assert_eq!(first, plan(&observed(OLD, "version = 2\n")).hash());
    assert_ne!(first, plan(&observed(OLD, "version = 2\n# changed since\n")).hash());
    assert_eq!(first.as_str().len(), 16);
}

/// cloud-init runs before K3s has generated anything; what stands in its certs.d by then survives (seen on 1.35.0).
#[test]
fn k3s_and_rke2_are_adopted_before_their_first_start_and_nobody_else_is() {
    let plan_of = |distribution, source: &MapSource| {
        let main = "/srv/k3s/agent/etc/containerd/config.toml";
        let mut absent = observed(NEW, "");
        absent.distribution.distribution = distribution;
        absent.supervisor = Supervisor::Offline;
        absent.config_file = main.into();
        absent.config = load(Path::new(main), NEW, source);
        plan(&absent)
    };
    let nothing = MapSource::new();
    for distribution in [Distribution::K3s, Distribution::Rke2] {
        let plan = plan_of(distribution, &nothing);
        assert_eq!(plan.kind(), "Adopt", "{}", plan.reason());
        assert_eq!(plan.directory(), Some(Path::new("/srv/k3s/agent/etc/containerd/certs.d")));
    }
    assert_eq!(plan_of(Distribution::Plain, &nothing).kind(), "Patch");
    assert_eq!(plan_of(Distribution::K0s, &nothing).kind(), "Unsupported");
    // What K3s has generated by a template of the user's is what counts.
    let template = MapSource::new().with("/srv/k3s/agent/etc/containerd/config.toml", "version = 3\n");
    assert_eq!(plan_of(Distribution::K3s, &template).kind(), "Unsupported");
}
