use std::path::Path;

use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: ExplainArgs,
}

fn explained(arguments: &[&str]) -> (Exit, String) {
    let command = Command::try_parse_from(std::iter::once(&"explain").chain(arguments)).expect("arguments");
    let mut out = Vec::new();
    let exit = crate::cluster::block_on(run(&command.args, &mut out)).expect("an explanation");
    (exit, String::from_utf8(out).expect("text"))
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).display().to_string()
}

#[test]
fn objects_that_have_not_been_applied() {
    let (exit, text) = explained(&["alpine:3.20", "-f", &example("harbor.yaml"), "--containerd-version", "1.7.30"]);
    assert_eq!(exit, Exit::Done);
    assert!(!text.contains("change-me"));
    insta::assert_snapshot!(text);
}

#[test]
fn the_selector_decides_which_object_counts() {
    let file = example("regions.yaml");
    let south = explained(&["alpine", "-f", &file, "--node-label", "topology.kubernetes.io/region=south"]).1;
    assert!(south.contains("1      HEAD https://mirror.south.example.com"), "{south}");
    let nowhere = explained(&["alpine", "-f", &file]).1;
    assert!(nowhere.contains("holds none of the directories docker.io, _default"), "{nowhere}");
}

#[test]
fn a_host_by_its_files_with_what_is_missing() {
    let root = std::env::temp_dir().join(format!("registry-mirror-explain-{}", std::process::id()));
    let directory = root.join("etc/containerd/certs.d/docker.io");
    std::fs::create_dir_all(&directory).expect("a directory");
    let config =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
    std::fs::write(root.join("etc/containerd/config.toml"), config).expect("a file");
    let hosts = "[host.\"https://127.0.0.1:1\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"lost.pem\"\n";
    std::fs::write(directory.join("hosts.toml"), hosts).expect("a file");
    let root_text = root.display().to_string();
    let arguments = ["alpine", "--host-root", &root_text, "--containerd-version", "1.7.30", "-o", "json"];
    let text = explained(&arguments).1;
    std::fs::remove_dir_all(&root).expect("removed");
    insta::assert_snapshot!(text);
}

#[test]
fn a_source_is_needed_and_one_only() {
    for arguments in [&["explain", "alpine"][..], &["explain", "alpine", "--host-root", "/", "-f", "x"]] {
        assert!(Command::try_parse_from(arguments).is_err(), "{arguments:?}");
    }
}
