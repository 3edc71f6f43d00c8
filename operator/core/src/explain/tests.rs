use super::*;

const V1_7: Version = Version::new(1, 7, 35);
const V2_4: Version = Version::new(2, 4, 2);

fn explained(image: &str, text: &str, version: Version) -> String {
    let image: ImageReference = image.parse().expect(image);
    let directory = RegistryDirectory {
        path: PathBuf::from("/etc/containerd/certs.d").join(image.registry.directory()),
        hosts_toml: Some(text.as_bytes().to_vec()),
    };
    shown(&explain(&image, version, &Configured::Directory(directory)))
}

fn shown(explanation: &Explanation) -> String {
    serde_json::to_string_pretty(explanation).expect("JSON")
}

const TWO_MIRRORS: &str = "
server = \"https://registry-1.docker.io\"
[host.\"https://harbor.example/v2/dockerhub\"]
capabilities = [\"pull\", \"resolve\"]
override_path = true
ca = \"ca-1.pem\"
client = [[\"/certs/c.pem\", \"/certs/k.pem\"]]
[host.\"https://harbor.example/v2/dockerhub\".header]
Authorization = [\"Basic c2VjcmV0\"]
[host.\"https://blobs.example\"]
capabilities = [\"pull\"]
[host.\"http://plain.example:5000\"]
capabilities = [\"pull\", \"resolve\"]
skip_verify = true
";

#[test]
fn hosts_come_in_order_with_the_url_of_the_first_request() {
    let text = explained("alpine:3.20", TWO_MIRRORS, V2_4);
    assert!(!text.contains("c2VjcmV0"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_digest_needs_no_host_that_resolves() {
    insta::assert_snapshot!(explained(
        "docker.io/library/alpine@sha256:0123456789abcdef0123456789abcdef",
        "[host.\"https://blobs.example\"]\ncapabilities = [\"pull\"]\n",
        V2_4
    ));
}

#[test]
fn a_file_that_containerd_ignores_is_said_to_be() {
    let text = "server = \"https://m\"\n[host.\"https://m\"]\ncapabilities = [\"referrers\"]\n";
    insta::assert_snapshot!(explained("quay.io/a/b:1", text, V1_7));
}

#[test]
fn without_a_file_the_registry_itself_is_asked() {
    let image: ImageReference = "localhost:5000/a".parse().expect("an image");
    let certs_dir = PathBuf::from("/etc/containerd/certs.d");
    insta::assert_snapshot!(shown(&explain(&image, V2_4, &Configured::Nothing { certs_dir: certs_dir.clone() })));
    let empty = RegistryDirectory { path: certs_dir.join("localhost_5000_"), hosts_toml: None };
    let warnings = explain(&image, V2_4, &Configured::Directory(empty)).warnings;
    insta::assert_snapshot!(warnings.join("\n"));
}

#[test]
fn default_is_looked_up_last_where_the_release_knows_it() {
    let registry: RegistryName = "host:5000".parse().expect("a registry");
    assert_eq!(directories(&registry, V2_4), ["host_5000_", "host:5000", "_default"]);
    assert_eq!(directories(&registry, Version::new(1, 6, 10)), ["host_5000_", "host:5000"]);
}

#[test]
fn old_releases_ask_an_http_host_with_tls_settings_by_http() {
    let text = "[host.\"http://m.example:5000\"]\nskip_verify = true\n";
    assert!(explained("quay.io/a/b:1", text, Version::new(1, 6, 20)).contains("\"http://m.example:5000/v2/a/b"));
    assert!(explained("quay.io/a/b:1", text, V1_7).contains("\"https://m.example:5000/v2/a/b"));
}

#[test]
fn no_host_that_resolves_fails_the_pull() {
    let text = "server = \"https://m\"\ncapabilities = [\"pull\"]\n[host.\"https://m\"]\ncapabilities = [\"pull\"]\n";
    assert!(explained("quay.io/a/b:1", text, V2_4).contains("no resolve hosts"));
}

/// K3s's fork (seen on 2.1.5-k3s1: such a pull ends with NotFound).
#[test]
fn the_fork_of_k3s_asks_the_registry_only_where_server_is_named() {
    let fork: Version = "2.1.5-k3s1".parse().expect("a version");
    let asked = |text: &str, version| {
        let image: ImageReference = "quay.io/a/b:1".parse().expect("an image");
        let path = PathBuf::from("/certs.d/quay.io");
        let directory = RegistryDirectory { path, hosts_toml: Some(text.as_bytes().to_vec()) };
        let explanation = explain(&image, version, &Configured::Directory(directory));
        (explanation.attempts.len(), explanation.warnings.len())
    };
    let file = "[host.\"https://m\"]\n";
    assert_eq!(asked(file, V2_4), (2, 0));
    assert_eq!(asked(file, fork), (1, 1));
    assert_eq!(asked(&format!("server = \"\"\n{file}"), fork), (2, 0));
    assert_eq!(asked("skip_verify = true\n", fork), (1, 0), "a file without hosts has its root");
}
