//! `registry-mirror node …` on the files of hosts that do not run: the program itself, on directories.

#![expect(clippy::expect_used, reason = "a test whose stage cannot be set fails")]

mod stage;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use stage::Host;

const CONFIG: &str = "etc/containerd/config.toml";
const HOSTS: &str = "etc/containerd/certs.d/docker.io/hosts.toml";

const KIND: &str = r#"version = 2

[plugins."io.containerd.grpc.v1.cri".containerd]
  discard_unpacked_layers = true # saves space
[plugins."io.containerd.grpc.v1.cert"]
  password = "hunter2-in-the-file"
[plugins."io.containerd.grpc.v1.cri".registry.configs."registry.example".auth]
  username = "robot"
  password = "hunter2-in-the-file"
"#;

const MIRROR: &str = "
apiVersion: registry-mirror.dev/v1alpha1
kind: RegistryMirror
metadata: {name: docker-hub}
spec:
  registry: docker.io
  mirrors:
  - url: https://mirror.example
    auth: {secretRef: {name: robot}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/basic-auth
metadata: {name: robot}
stringData: {username: robot, password: hunter2-in-the-secret}
";

const OTHER: &str = "
apiVersion: registry-mirror.dev/v1alpha1
kind: RegistryMirror
metadata: {name: quay}
spec:
  registry: quay.io
  mirrors: [{url: 'https://mirror.example'}]
  nodeSelector: {matchLabels: {region: north}}
";

#[test]
fn a_plan_shows_what_and_why_and_no_secret() {
    let host = Host::with(&[(CONFIG, KIND)]);
    let file = host.object("mirror.yaml", MIRROR);
    let before = host.tree();
    insta::assert_snapshot!("plan-table", host.node("plan", &["--containerd-version", "1.7.35", "-f", &file]).shown());
    insta::assert_snapshot!(
        "plan-json",
        host.node("plan", &["--containerd-version", "1.7.35", "-f", &file, "-o", "json"]).shown()
    );
    insta::assert_snapshot!("plan-yaml", host.node("plan", &["--containerd-version", "2.4.2", "-o", "yaml"]).shown());
    assert!(host.tree() == before, "a plan touched the host");
}

#[test]
fn a_host_that_does_not_run_does_not_tell_its_version() {
    let host = Host::with(&[]);
    insta::assert_snapshot!("no-version", host.node("plan", &[]).shown());
    let secrets = host.node("plan", &["--containerd-version", "1.7.35", "--show-secrets"]);
    insta::assert_snapshot!("show-secrets-refused", secrets.shown());
}

#[test]
fn apply_again_changes_nothing_and_restore_leaves_no_trace() {
    let host = Host::with(&[(CONFIG, KIND)]);
    fs::set_permissions(host.path(CONFIG), fs::Permissions::from_mode(0o640)).expect("chmod");
    let (mirror, other) = (host.object("mirror.yaml", MIRROR), host.object("other.yaml", OTHER));
    let before = host.tree();
    let version = ["--containerd-version", "1.7.35"];

    let both = [&version[..], &["-f", &mirror, "-f", &other, "--node-label", "region=north"]].concat();
    let mut said = vec![host.node("apply", &both).shown()];
    assert!(host.read(CONFIG).contains("config_path = \"/etc/containerd/certs.d\""));
    assert!(host.read(HOSTS).contains("https://mirror.example"));
    let mode = |path: &str| fs::metadata(host.path(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode(HOSTS), mode(CONFIG)), (0o600, 0o640));

    let once = host.tree();
    said.push(host.node("apply", &both).shown());
    assert!(host.tree() == once, "the second apply changed something");
    said.push(host.node("plan", &both).shown());

    // Without the label, and then without the object: what is not wanted goes.
    said.push(host.node("apply", &[&version[..], &["-f", &mirror, "-f", &other]].concat()).shown());
    said.push(host.node("restore", &[]).shown());
    assert!(host.tree() == before, "something is left, or missing");
    said.push(host.node("restore", &[]).shown());
    insta::assert_snapshot!("apply-and-restore", said.join("\n=====\n"));
}

#[test]
fn a_host_without_a_configuration_is_without_one_again() {
    let host = Host::with(&[]);
    let mirror = host.object("mirror.yaml", MIRROR);
    let arguments = ["--containerd-version", "2.4.2", "-f", &mirror, "--no-restart"];
    assert_eq!(host.node("apply", &arguments).code, 0);
    assert!(host.path(CONFIG).exists());
    assert_eq!(host.node("restore", &["--exact"]).code, 0);
    // The directory may be an administrator's; an empty one harms nobody.
    let left: Vec<PathBuf> = host.tree().into_keys().filter(|path| path.is_file()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn what_others_changed_since_stays() {
    let host = Host::with(&[(CONFIG, KIND)]);
    let mirror = host.object("mirror.yaml", MIRROR);
    assert_eq!(host.node("apply", &["--containerd-version", "1.7.35", "-f", &mirror]).code, 0);
    let changed = format!("{}\n[debug]\n  level = \"debug\"\n", host.read(CONFIG).replace("# saves space", "# space"));
    host.write(CONFIG, &changed);
    insta::assert_snapshot!("restore-changed", host.node("restore", &[]).shown());
    let expected = format!("{}\n[debug]\n  level = \"debug\"\n", KIND.replace("# saves space", "# space"));
    assert_eq!(host.read(CONFIG), expected);
    assert!(!host.path("var/lib/registry-mirror-operator").exists());
}

#[test]
fn a_foreign_file_comes_back_and_a_replaced_one_is_kept_for_its_owner() {
    let foreign = "server = \"https://registry-1.docker.io\"\n[host.\"https://theirs\"]\n";
    let host = Host::with(&[(CONFIG, KIND), (HOSTS, foreign)]);
    let mirror = host.object("mirror.yaml", MIRROR);
    let arguments = ["--containerd-version", "1.7.35", "-f", &mirror];
    let before = host.tree();
    let mut said = vec![host.node("apply", &arguments).shown()];
    assert!(host.read(HOSTS).contains("https://mirror.example"));
    said.push(host.node("restore", &[]).shown());
    assert!(host.tree() == before, "something is left, or missing");

    assert_eq!(host.node("apply", &arguments).code, 0);
    let newer = foreign.replace("theirs", "newer");
    host.write(HOSTS, &newer);
    said.push(host.node("restore", &[]).shown());
    assert_eq!(host.read(HOSTS), newer);
    assert!(host.path("var/lib/registry-mirror-operator/backups").exists());
    said.push(host.node("restore", &[]).shown());
    insta::assert_snapshot!("foreign", said.join("\n=====\n"));
}

#[test]
fn a_lost_record_is_told_and_files_are_known_by_their_mark() {
    let host = Host::with(&[(CONFIG, KIND)]);
    let mirror = host.object("mirror.yaml", MIRROR);
    assert_eq!(host.node("apply", &["--containerd-version", "1.7.35", "-f", &mirror]).code, 0);
    host.write("var/lib/registry-mirror-operator/edits.json", "{\"version\": 1, ");
    insta::assert_snapshot!("restore-lost-record", host.node("restore", &[]).shown());
    assert!(!host.path(HOSTS).exists());

    fs::remove_dir_all(host.path("var/lib/registry-mirror-operator")).expect("removed");
    assert_eq!(host.node("apply", &["--containerd-version", "1.7.35", "-f", &mirror]).code, 0);
    fs::remove_dir_all(host.path("var/lib/registry-mirror-operator")).expect("removed");
    assert_eq!(host.node("restore", &[]).code, 0);
    assert!(!host.path(HOSTS).exists());
}

#[test]
fn what_cannot_be_done_is_refused_with_a_sentence_and_nothing_changes() {
    let disabled = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
    let mut said = Vec::new();
    for config in [disabled, "version = 2\n[plugins\n", "version = 9\n"] {
        let host = Host::with(&[(CONFIG, config)]);
        let mirror = host.object("mirror.yaml", MIRROR);
        let before = host.tree();
        let arguments = ["--containerd-version", "1.7.35", "-f", &mirror];
        said.push(host.node("plan", &arguments).shown());
        said.push(host.node("apply", &arguments).shown());
        assert!(host.tree() == before, "a refusal changed the host");
    }
    insta::assert_snapshot!("refusals", said.join("\n=====\n"));
}

#[test]
fn programs_read_what_was_applied_and_put_back() {
    let host = Host::with(&[(CONFIG, KIND)]);
    let (mirror, other) = (host.object("mirror.yaml", MIRROR), host.object("other.yaml", OTHER));
    let version = ["--containerd-version", "1.7.35"];
    let both = [&version[..], &["-f", &mirror, "-f", &other, "--node-label", "region=north", "-o", "json"]].concat();
    let mut said = vec![host.node("apply", &both).shown()];
    said.push(host.node("apply", &[&version[..], &["-f", &mirror, "-o", "yaml"]].concat()).shown());
    said.push(host.node("restore", &["-o", "json"]).shown());

    // What could not be done stands in the result and on stderr.
    let broken = Host::with(&[(CONFIG, "version = 2\n[plugins\n")]);
    let mirror = broken.object("mirror.yaml", MIRROR);
    said.push(broken.node("apply", &[&version[..], &["-f", &mirror, "-o", "json"]].concat()).shown());
    insta::assert_snapshot!("apply-and-restore-json", said.join("\n=====\n"));
}

/// What a containerd does not do of an object is said in the same words by every command.
#[test]
fn apply_prints_the_notes_that_render_prints() {
    const SLOW: &str = "
apiVersion: registry-mirror.dev/v1alpha1
kind: RegistryMirror
metadata: {name: everything}
spec:
  registry: _default
  mirrors:
  - {url: 'https://m.example.com.cn', capabilities: [pull, resolve, referrers]}
  - {url: 'https://m.example.com:443', dialTimeout: 3s}
  - {url: 'https://harbor.example/', capabilities: [referrers]}
  - {url: 'https://robots.example', auth: {secretRef: {name: robot}}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/basic-auth
metadata: {name: robot}
stringData: {username: robot, password: hunter2-in-the-secret}
";
    let notes = |said: &stage::Said| -> Vec<String> {
        said.err.lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect()
    };
    let host = Host::with(&[]);
    let file = host.object("slow.yaml", SLOW);
    let version = ["--containerd-version", "1.6.10", "-f", &file];
    let output = host.path("rendered").display().to_string();
    let rendered = host.run(&[&["render"], &version[..], &["--output", &output]].concat());
    let applied = host.node("apply", &version);
    assert!(applied.code == 0 && rendered.code == 0, "{}{}", applied.shown(), rendered.shown());
    assert_eq!(notes(&applied), notes(&rendered));
    insta::assert_snapshot!("notes", notes(&applied).join("\n"));
}
