//! `registry-mirror node …` on hosts as people have them: odd places, files of others, lists of directories.

#![expect(clippy::expect_used, reason = "a test whose stage cannot be set fails")]

mod stage;

use std::{fs, os::unix::fs::symlink};

use stage::Host;

const CONFIG: &str = "etc/containerd/config.toml";
const OLD: [&str; 2] = ["--containerd-version", "1.7.35"];

const HUB: &str = "
apiVersion: registry-mirror.dev/v1alpha1
kind: RegistryMirror
metadata: {name: docker-hub}
spec:
  registry: docker.io
  mirrors: [{url: 'https://mirror.example'}]
";

fn set_to(directory: &str) -> String {
    format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{directory}\"\n")
}

/// Applies, and says what was planned and done; what was there before comes back.
fn there_and_back(host: &Host, version: [&str; 2], object: &str, in_between: impl FnOnce(&Host)) -> String {
    let object = host.object("object.yaml", object);
    let arguments = [&version[..], &["-f", &object]].concat();
    let files = |host: &Host| host.tree().into_iter().filter(|(path, _)| !path.is_dir()).collect::<Vec<_>>();
    let before = files(host);
    let mut said = vec![host.node("plan", &arguments).shown()];
    assert!(files(host) == before, "a plan touched the host");
    said.push(host.node("apply", &arguments).shown());
    in_between(host);
    let applied = host.tree();
    assert_eq!(host.node("apply", &arguments).code, 0, "apply again");
    assert!(host.tree() == applied, "the second apply changed something");
    said.push(host.node("restore", &[]).shown());
    assert!(files(host) == before, "something is left, or missing");
    said.join("\n=====\n")
}

#[test]
fn a_directory_whose_parents_are_missing_is_made() {
    let host = Host::with(&[(CONFIG, &set_to("/cfg/containerd/certs.d"))]);
    // The state directory's parents too.
    fs::remove_dir_all(host.path("var")).expect("removed");
    insta::assert_snapshot!(there_and_back(&host, OLD, HUB, |host| {
        assert!(host.read("cfg/containerd/certs.d/docker.io/hosts.toml").contains("mirror.example"));
    }));
}

#[test]
fn a_configuration_that_is_a_link_is_edited_where_it_lies() {
    let host = Host::with(&[("opt/node-config/containerd.toml", "version = 2\n")]);
    fs::create_dir_all(host.path("etc/containerd")).expect("mkdir");
    symlink("/opt/node-config/containerd.toml", host.path(CONFIG)).expect("symlink");
    insta::assert_snapshot!(there_and_back(&host, OLD, HUB, |host| {
        assert!(host.read("opt/node-config/containerd.toml").contains("config_path"));
        assert!(host.path(CONFIG).is_symlink());
    }));
}

#[test]
fn an_import_beside_the_usual_place_is_edited_there() {
    let import = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\n  X-Site = [\"a\"]\n";
    let main = "version = 2\nimports = [\"/opt/site/*.toml\"]\n";
    let host = Host::with(&[(CONFIG, main), ("opt/site/registry.toml", import)]);
    insta::assert_snapshot!(there_and_back(&host, OLD, HUB, |host| {
        assert!(host.read("opt/site/registry.toml").contains("config_path"));
    }));
}

#[test]
fn a_file_of_the_systems_image_is_left_alone_through_a_link_too() {
    let mut said = Vec::new();
    for place in ["nix/store/0c8w-containerd-config.toml", "usr/share/containerd/config.toml"] {
        let host = Host::with(&[(place, "version = 2\n")]);
        fs::create_dir_all(host.path("etc/containerd")).expect("mkdir");
        symlink(format!("/{place}"), host.path(CONFIG)).expect("symlink");
        let object = host.object("object.yaml", HUB);
        let before = host.tree();
        for verb in ["plan", "apply"] {
            said.push(host.node(verb, &[&OLD[..], &["-f", &object]].concat()).shown());
            assert!(host.tree() == before, "a refusal changed the host");
        }
    }
    insta::assert_snapshot!(said.join("\n=====\n"));
}

const CA: &str = include_str!("../../core/src/compile/testdata/rsa.crt");
const THEIRS: &str = "server = \"https://harbor.corp.example:5000\"\n[host.\"https://theirs.example\"]\n";

fn object(registry: &str) -> String {
    HUB.replace("docker.io", registry)
}

#[test]
fn certificates_of_another_spelling_go_on_counting() {
    let ca = "etc/containerd/certs.d/reg.example:5443/ca.crt";
    let host = Host::with(&[(CONFIG, &set_to("/etc/containerd/certs.d")), (ca, CA)]);
    insta::assert_snapshot!(there_and_back(&host, OLD, &object("reg.example:5443"), |host| {
        let written = host.read("etc/containerd/certs.d/reg.example_5443_/hosts.toml");
        let root = written.split("[host").next().expect("the root");
        assert!(root.contains("ca = ") && root.contains("/etc/containerd/certs.d/reg.example_5443_/ca-"), "{written}");
        assert_eq!(host.read(ca), CA);
    }));
}

#[test]
fn certificates_that_change_or_go_are_followed() {
    let ca = "etc/containerd/certs.d/reg.example:5443/ca.crt";
    let hosts = "etc/containerd/certs.d/reg.example_5443_/hosts.toml";
    let host = Host::with(&[(CONFIG, &set_to("/etc/containerd/certs.d")), (ca, CA)]);
    let object = host.object("object.yaml", &object("reg.example:5443"));
    let apply = || assert_eq!(host.node("apply", &[&OLD[..], &["-f", &object]].concat()).code, 0);
    apply();
    let first = host.read(hosts);
    host.write(ca, include_str!("../../core/src/compile/testdata/ec.crt"));
    apply();
    let second = host.read(hosts);
    assert!(second != first && second.contains("ca = "), "{second}");
    fs::remove_file(host.path(ca)).expect("removed");
    apply();
    assert!(!host.read(hosts).contains("ca = "));
}

#[test]
fn a_file_that_is_hidden_under_another_spelling_is_named() {
    let theirs = "etc/containerd/certs.d/harbor.corp.example:5000/hosts.toml";
    let host = Host::with(&[(CONFIG, &set_to("/etc/containerd/certs.d")), (theirs, THEIRS)]);
    insta::assert_snapshot!(there_and_back(&host, OLD, &object("harbor.corp.example:5000"), |host| {
        assert_eq!(host.read(theirs), THEIRS);
    }));
}

const LIST: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";

#[test]
fn what_a_later_directory_of_a_list_holds_goes_on_counting() {
    let ca = "etc/docker/certs.d/registry.internal.example:5000/ca.crt";
    let hidden = "etc/docker/certs.d/quay.io/hosts.toml";
    let host = Host::with(&[(CONFIG, &set_to(LIST)), (ca, CA), (hidden, THEIRS)]);
    let both =
        format!("{}---{}", object("registry.internal.example:5000"), object("quay.io").replace("docker-hub", "quay"));
    insta::assert_snapshot!(there_and_back(&host, OLD, &both, |host| {
        let written = host.read("etc/containerd/certs.d/registry.internal.example_5000_/hosts.toml");
        assert!(written.split("[host").next().is_some_and(|root| root.contains("ca = ")), "{written}");
    }));
}

#[test]
fn the_default_of_a_list_hides_no_directory_of_it() {
    let ca = "etc/docker/certs.d/registry.internal.example:5000/ca.crt";
    let host = Host::with(&[(CONFIG, &set_to(LIST)), (ca, CA)]);
    insta::assert_snapshot!(there_and_back(&host, OLD, &object("_default"), |host| {
        assert!(host.read("etc/docker/certs.d/_default/hosts.toml").contains("mirror.example"));
        assert!(!host.path("etc/containerd/certs.d/_default").exists());
        let image = "registry.internal.example:5000/app:1";
        let said = host.on_host(&["explain", image, "--containerd-version", "1.7.35"]);
        assert!(said.shown().contains("/etc/docker/certs.d/registry.internal.example:5000"), "{}", said.shown());
    }));
}

#[test]
fn files_that_were_never_read_are_named_before_they_are() {
    let files = [
        (CONFIG, "version = 2\n"),
        ("etc/containerd/certs.d/quay.io/hosts.toml", THEIRS),
        ("etc/containerd/certs.d/reg.example:5443/ca.crt", CA),
        ("etc/containerd/certs.d/docker.io/hosts.toml", THEIRS),
    ];
    let host = Host::with(&files);
    insta::assert_snapshot!(there_and_back(&host, OLD, HUB, |host| {
        assert_eq!(host.read("etc/containerd/certs.d/quay.io/hosts.toml"), THEIRS);
    }));
    let object = host.object("object.yaml", HUB);
    let planned = host.node("plan", &[&OLD[..], &["-f", &object, "-o", "json"]].concat());
    let planned: serde_json::Value = serde_json::from_str(&planned.out).expect("JSON");
    let named: Vec<_> =
        planned["newlyRead"].as_array().expect("a list").iter().map(|file| file["registry"].clone()).collect();
    assert_eq!(named, ["quay.io", "reg.example:5443"]);
    // Nothing is turned on where nothing changes.
    let set = Host::with(&[(CONFIG, &set_to("/etc/containerd/certs.d")), files[1]]);
    assert!(!set.node("plan", &OLD).out.contains("TURNS ON"));
}
