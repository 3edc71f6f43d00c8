//! Every registry of a bed does to a real containerd what its name says. Needs root: `cargo test -p testbed -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step of a test is its failure")]

use std::time::Duration;

use testbed::{Access, BLACKHOLE, Bed, Config, Image, Node, NodeSpec, ROBOT, default_containerd_config};

const CERTS_D: &str = "/etc/containerd/certs.d";

fn bed(name: &str, containerd: &str) -> Bed {
    let table = if containerd.starts_with("1.") { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.images" };
    let config = format!(
        "{}\n[plugins.\"{table}\".registry]\n  config_path = \"{CERTS_D}\"\n",
        default_containerd_config(containerd)
    );
    let node = NodeSpec::new("node1", containerd).config(Config::Text(config));
    Bed::builder(name).kubernetes(false).node(node).up().unwrap()
}

fn mirror_through(node: &Node, hosts_toml: &str) {
    node.write(&format!("{CERTS_D}/docker.io/hosts.toml"), hosts_toml).unwrap();
}

fn pull(bed: &Bed, name: &str, tag: &str) -> Result<Duration, String> {
    let image = format!("docker.io/library/{name}:{tag}");
    bed.nodes()[0].pull(&image).map_err(|error| format!("{error:#}"))
}

fn asked(bed: &Bed, registry: &str, name: &str) -> Vec<Access> {
    let path = format!("/v2/library/{name}/");
    bed.accesses(registry).unwrap().into_iter().filter(|access| access.path.starts_with(&path)).collect()
}

fn every_kind(name: &str, containerd: &str) {
    let bed = bed(name, containerd);
    let node = &bed.nodes()[0];
    assert!(node.run(["containerd", "--version"]).unwrap().contains(containerd));
    let ca = std::fs::read(bed.private_ca()).unwrap();
    node.write("/etc/private-ca.pem", ca).unwrap();
    node.write("/etc/client.pem", std::fs::read(bed.mirror_client().certificate).unwrap()).unwrap();
    node.write("/etc/client-key.pem", std::fs::read(bed.mirror_client().key).unwrap()).unwrap();

    // Without hosts.toml the upstream is asked, under its own name.
    bed.push("docker.io", "library/upstream", "1", &Image::filler("upstream", 2)).unwrap();
    pull(&bed, "upstream", "1").unwrap();
    let access = &asked(&bed, "docker.io", "upstream")[0];
    assert_eq!((access.client, access.namespace.as_deref(), access.status), (node.address(), None, 200));

    let robot = base64(&format!("{}:{}", ROBOT.0, ROBOT.1));
    let trusted = "ca = \"/etc/private-ca.pem\"\n";
    for (registry, url, settings) in [
        ("mirror", "http://10.88.0.1:5000", String::new()),
        ("mirror2", "http://mirror2.testbed.internal:5001", String::new()),
        ("tls", "https://tls.testbed.internal:5002", trusted.to_owned()),
        (
            "mtls",
            "https://10.88.0.1:5003",
            format!("{trusted}client = [[\"/etc/client.pem\", \"/etc/client-key.pem\"]]\n"),
        ),
        (
            "harbor",
            "https://harbor.testbed.internal:5004",
            format!(
                "{trusted}[host.\"https://harbor.testbed.internal:5004\".header]\nAuthorization = \"Basic {robot}\"\n"
            ),
        ),
    ] {
        let host = format!("[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        let server = format!("server = \"{url}\"\n");
        let image = format!("for-{registry}");
        bed.push(registry, &format!("library/{image}"), "1", &Image::filler(&image, 2)).unwrap();
        if !settings.is_empty() {
            mirror_through(node, &format!("{server}{host}"));
            pull(&bed, &image, "1").expect_err("the registry must refuse a client without what it asks for");
        }
        mirror_through(node, &format!("{server}{host}{settings}"));
        pull(&bed, &image, "1").unwrap_or_else(|error| panic!("{registry}: {error}"));
        let answered = asked(&bed, registry, &image);
        assert!(
            answered.iter().any(|access| access.status == 200 && access.namespace.as_deref() == Some("docker.io")),
            "{registry}: {answered:?}"
        );
    }

    // Stand-ins: containerd goes on to the upstream after a 503.
    bed.push("docker.io", "library/broken", "1", &Image::filler("broken", 1)).unwrap();
    mirror_through(node, "[host.\"http://10.88.0.1:5503\"]\n");
    pull(&bed, "broken", "1").unwrap();
    assert_eq!(asked(&bed, "unavailable", "broken")[0].status, 503);
    assert!(!asked(&bed, "docker.io", "broken").is_empty());

    // These two make it wait longer than this test cares to.
    for (registry, url) in [("silent", "http://10.88.0.1:5504".to_owned()), ("", format!("http://{BLACKHOLE}:5000"))] {
        mirror_through(node, &format!("[host.\"{url}\"]\n"));
        node.run(["env", "CRI_TIMEOUT=3s", "cri", "pull", "docker.io/library/busybox:1.35"])
            .expect_err("a dead mirror must hold the pull up");
        if !registry.is_empty() {
            assert_eq!(asked(&bed, registry, "busybox")[0].status, 0);
        }
    }
    bed.down().unwrap();
}

fn base64(text: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
#[ignore = "needs root and the parts of `testbed build --all-containerds`"]
fn on_the_oldest_containerd() {
    every_kind("selftest-old", "1.6.20");
}

#[test]
#[ignore = "needs root and the parts of `testbed build --all-containerds`"]
fn on_the_newest_containerd() {
    every_kind("selftest-new", "2.4.2");
}

#[test]
#[ignore = "needs root and the parts of `testbed build --all-containerds`"]
fn all_releases_boot_side_by_side() {
    let versions = [testbed::pins::CONTAINERD_DEBIAN].into_iter().chain(testbed::pins::CONTAINERD_BUILT);
    let nodes = versions.clone().zip(1..).map(|(version, number)| NodeSpec::new(&format!("node{number}"), version));
    let bed = Bed::builder("selftest-all").kubernetes(false).nodes(nodes).up().unwrap();
    for (node, version) in bed.nodes().iter().zip(versions) {
        assert!(node.run(["containerd", "--version"]).unwrap().contains(version), "{}", node.name());
        node.pull("docker.io/library/busybox:1.35").unwrap();
    }
    let name = bed.name().to_owned();
    drop(bed);
    assert!(!Bed::names().unwrap().contains(&name), "a bed is torn down when its value goes");
}
