//! containerd's own code reads what is rendered: `main.go` is built against the pinned releases of the test bed.
//!
//! Needs Go and the module cache: it runs where `REGISTRY_MIRROR_ORACLE` is set, and says so where it is not.

#![expect(clippy::disallowed_methods, reason = "a test, not a decision")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use registry_mirror_core::{
    bundle::Header,
    containerd::Version,
    hosts_toml::{Endpoint, Fields, HostsToml, accepts_file_without_hosts, has_upstream, parse, render, restrict},
};
use registry_mirror_crds::Capability;
use serde::Deserialize;

use crate::strategy::file;

const FILES_PER_RELEASE: usize = 500;

/// What containerd made of one host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    url: String,
    capabilities: u32,
    header: Option<BTreeMap<String, Vec<String>>>,
    skip_verify: bool,
    roots: bool,
    certificates: usize,
    https_first: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Hosts(Vec<Seen>),
    Failed { error: String },
}

struct Oracle {
    version: Version,
    binary: PathBuf,
}

impl Oracle {
    fn build(release: &str) -> Self {
        let version: Version = release.parse().expect("a version");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The test bed builds its releases; 1.6 comes from Debian there, so its parser has pins here. The fork comes
        // with K3s.
        let part = if version.k3s.is_some() { "k3s".to_owned() } else { format!("containerd-{release}") };
        let pins = [here.join("../../tests/testbed/tools"), here.join("tests/hosts_toml/oracle")]
            .map(|directory| directory.join(&part))
            .into_iter()
            .find(|directory| directory.is_dir())
            .expect("pins of the release");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oracle-{release}"));
        fs::create_dir_all(&directory).expect("a directory");
        for name in ["go.mod", "go.sum"] {
            fs::copy(pins.join(name), directory.join(name)).expect("the pins of the test bed");
        }
        for name in ["main.go", "containerd1.go", "containerd2.go"] {
            fs::copy(here.join("tests/hosts_toml/oracle").join(name), directory.join(name)).expect("a source file");
        }
        let binary = directory.join("oracle");
        let built = Command::new("go")
            .args(["build", "-mod=mod", "-tags", &format!("containerd{}", version.major), "-o"])
            .arg(&binary)
            .arg(".")
            .current_dir(&directory)
            .status()
            .expect("go");
        assert!(built.success(), "the oracle of {release} does not build");
        Self { version, binary }
    }

    fn write_certificates(&self, directory: &Path) {
        let status = Command::new(&self.binary).arg("certificates").arg(directory).status().expect("the oracle");
        assert!(status.success());
    }

    /// What containerd makes of `<root>/<host>/hosts.toml` for each of these hosts.
    fn ask(&self, root: &Path, hosts: &[String]) -> Vec<Answer> {
        let mut oracle = Command::new(&self.binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the oracle");
        let requests: String = hosts
            .iter()
            .map(|host| serde_json::json!({"dir": root.to_str(), "host": host}).to_string() + "\n")
            .collect();
        let mut stdin = oracle.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || stdin.write_all(requests.as_bytes()));
        let output = oracle.wait_with_output().expect("the oracle");
        writer.join().expect("the writer").expect("a request");
        let text = String::from_utf8(output.stdout).expect("JSON");
        let mut answers: Vec<Answer> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        for answer in &mut answers {
            if let Answer::Hosts(hosts) = answer {
                // `/.` is cleaned to `//v2`, which each request joins to `/v2`
                hosts.iter_mut().for_each(|host| host.url = host.url.replace("//v2", "/v2"));
            }
        }
        answers
    }
}

fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn containerd_reads_what_is_meant() {
    if std::env::var_os("REGISTRY_MIRROR_ORACLE").is_none() {
        println!("skipped: REGISTRY_MIRROR_ORACLE is not set");
        return;
    }
    for release in ["1.6.20", "1.7.35", "2.0.14", "2.1.5-k3s1", "2.1.9", "2.2.9", "2.3.7", "2.4.2"] {
        let oracle = Oracle::build(release);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hosts-{release}"));
        let _ = fs::remove_dir_all(&root);
        let certificates = root.join("certs");
        fs::create_dir_all(&certificates).expect("a directory");
        oracle.write_certificates(&certificates);
        let prefix = certificates.to_str().expect("a path").to_owned();

        let mut runner = runner();
        let strategy = file();
        let mut names = Vec::new();
        let mut models = Vec::new();
        for number in 0..FILES_PER_RELEASE {
            let mut model = strategy.new_tree(&mut runner).expect("a model").current();
            place_certificates(&mut model, &prefix);
            let name = format!("r{number}.example");
            let directory = root.join(&name);
            fs::create_dir(&directory).expect("a directory");
            fs::write(directory.join("hosts.toml"), render(&model, oracle.version).text).expect("a file");
            names.push(name);
            models.push(model);
        }
        let answers = oracle.ask(&root, &names);
        assert_eq!(answers.len(), models.len());
        for ((name, model), answer) in names.iter().zip(&models).zip(answers) {
            let text = render(model, oracle.version).text;
            let seen = match answer {
                Answer::Hosts(seen) => seen,
                Answer::Failed { error } => panic!("containerd {release} fails: {error}\n{text}"),
            };
            assert_eq!(seen, expected(name, model, oracle.version), "containerd {release} reads otherwise:\n{text}");
        }
    }
}

/// Whatever containerd is upgraded or downgraded to below a file, it neither panics nor fails the pull.
#[test]
fn no_release_chokes_on_the_file_of_another() {
    if std::env::var_os("REGISTRY_MIRROR_ORACLE").is_none() {
        println!("skipped: REGISTRY_MIRROR_ORACLE is not set");
        return;
    }
    for (written_for, read_by) in [
        ("1.6.20", "1.7.35"),
        ("1.7.35", "1.6.20"),
        ("1.7.35", "2.0.14"),
        ("1.7.35", "2.3.7"),
        ("1.7.35", "2.4.2"),
        ("2.4.2", "1.6.20"),
        ("2.4.2", "1.7.35"),
    ] {
        let oracle = Oracle::build(read_by);
        let version: Version = written_for.parse().expect("a version");
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("changed-{written_for}-{read_by}"));
        let _ = fs::remove_dir_all(&root);
        let certificates = root.join("certs");
        fs::create_dir_all(&certificates).expect("a directory");
        oracle.write_certificates(&certificates);
        let mut runner = runner();
        let strategy = file();
        let mut texts = BTreeMap::new();
        for number in 0..FILES_PER_RELEASE {
            let mut model = strategy.new_tree(&mut runner).expect("a model").current();
            place_certificates(&mut model, certificates.to_str().expect("a path"));
            texts.insert(format!("r{number}.example"), render(&model, version).text);
        }
        for (name, text) in &texts {
            fs::create_dir(root.join(name)).expect("a directory");
            fs::write(root.join(name).join("hosts.toml"), text).expect("a file");
        }
        let names: Vec<String> = texts.keys().cloned().collect();
        for (text, answer) in texts.values().zip(oracle.ask(&root, &names)) {
            if let Answer::Failed { error } = answer {
                panic!("containerd {read_by} fails on a file for {written_for}: {error}\n{text}");
            }
        }
    }
}

/// Files that others wrote: what containerd sees is what [`parse`] says that it sees.
#[test]
fn the_parser_sees_what_containerd_sees() {
    const FILES: &[&str] = &[
        "[host.\"https://b\"]\n[host.\"https://a\".header]\nX = \"1\"\n[host.\"https://c\"]\n",
        "[host]\n\"https://a\" = { capabilities = [\"pull\"] }\n",
        "host.\"https://a\".capabilities = [\"pull\"]\n[host.\"https://b\"]\n",
        "[host.\"https://a\"]\n[host.\"https://b\"]\n[host.\"https://a\".header]\nX = [\"1\"]\n",
        "[host.\"https://[fd00::1]:5000\"]\ncapabilities = [\"pull\"]\n",
        "server = \"https://up\"\n",
        "server = \"https://up\"\n[host.\"https://b\"]\ncapabilities = [\"referrers\"]\n",
        "server = \"https://up\"\n[host.\"https://b\"]\ncapabilities = [\"fetch\"]\n",
        "server = \"https://up\"\n[host.\"https://b\"]\ncapabilities = \"pull\"\n",
        "server = \"https://up\"\n[host.\"https://b\"]\nskip_verify = \"yes\"\n",
        "server = \"https://up\"\n[host.\"https://b\"]\ndial_timeout = \"3\"\n",
        "server = \"https://up\"\n[host.\"https://b\"]\nclient = [\"a\", [\"b\", \"c\"]]\noverride_path = 1\n",
        "server = \"https://up\"\nhost = \"https://b\"\n",
        "server = \"up\"\n[host.\"m.example/x//\"]\ncapabilities = []\n",
        "server = \"https://up\"\noverride_path = true\n[host.\"http://m:80/a/v2/\"]\nunknown = 3\n",
        "server = \"https://up/a\"\n[header]\nX = \"1\"\n[host.\"https://m\"]\ncapabilities = [\"PULL\", \"Resolve\"]\n",
        "[[host.\"https://a\"]]\n[host.\"https://b\"]\n",
        "server = \"https://up\"\n[host.\"https://b\".header]\nX = 1\n",
        "server = \"https://up\"\r\n# comment\r\n[host.\"https://b\"] # c\r\ncapabilities = ['pull',\r\n  'resolve',]\r\n",
        "",
        "\n",
        "not toml",
    ];
    if std::env::var_os("REGISTRY_MIRROR_ORACLE").is_none() {
        println!("skipped: REGISTRY_MIRROR_ORACLE is not set");
        return;
    }
    for release in ["1.6.20", "1.7.35", "2.0.14", "2.1.5-k3s1", "2.4.2"] {
        let oracle = Oracle::build(release);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("foreign-{release}"));
        let _ = fs::remove_dir_all(&root);
        let names: Vec<String> = (0..FILES.len()).map(|number| format!("f{number}.example")).collect();
        for (name, text) in names.iter().zip(FILES) {
            fs::create_dir_all(root.join(name)).expect("a directory");
            fs::write(root.join(name).join("hosts.toml"), text).expect("a file");
        }
        for ((name, text), answer) in names.iter().zip(FILES).zip(oracle.ask(&root, &names)) {
            let model = parse(text, oracle.version);
            match answer {
                Answer::Hosts(seen) => {
                    let model = model.unwrap_or_default();
                    let mut expected = listed(name, &model, oracle.version);
                    if !has_upstream(text, &model, oracle.version) {
                        expected.pop();
                    }
                    assert_eq!(seen, expected, "containerd {release}:\n{text}");
                }
                Answer::Failed { error } => assert!(model.is_err(), "containerd {release} fails: {error}\n{text}"),
            }
        }
    }
}

fn place_certificates(file: &mut HostsToml, prefix: &str) {
    let place = |path: &mut String| *path = path.replace("/certs", prefix);
    for fields in file.hosts.iter_mut().map(|host| &mut host.fields).chain([&mut file.root]) {
        fields.ca.iter_mut().for_each(place);
        for pair in &mut fields.client {
            place(&mut pair.certificate);
            pair.key.iter_mut().for_each(place);
        }
    }
}

fn expected(registry: &str, file: &HostsToml, version: Version) -> Vec<Seen> {
    let (restricted, _) = restrict(file, version);
    if restricted.hosts.is_empty() && !accepts_file_without_hosts(version) {
        // such a file is logged and ignored as a whole: the registry itself is left, without the file's settings
        return listed(registry, &HostsToml::default(), version);
    }
    listed(registry, &restricted, version)
}

/// What containerd makes of a model: its hosts, then the root entry.
fn listed(registry: &str, file: &HostsToml, version: Version) -> Vec<Seen> {
    let HostsToml { server, root, hosts } = file;
    let own = format!("https://{registry}");
    let last = match server {
        Some(server) => (server.as_str(), root.clone()),
        None => {
            let default = Fields { capabilities: Default::default(), override_path: false, ..root.clone() };
            (own.as_str(), default)
        }
    };
    hosts
        .iter()
        .map(|host| (host.url.as_str(), host.fields.clone()))
        .chain([last])
        .map(|(url, fields)| seen(url, &fields, version))
        .collect()
}

fn seen(url: &str, fields: &Fields, version: Version) -> Seen {
    let Fields { capabilities, ca, client, skip_verify, headers, override_path, dial_timeout: _ } = fields;
    let endpoint = Endpoint::parse(url, *override_path).expect("a url");
    let tls = !ca.is_empty() || !client.is_empty() || skip_verify.is_some();
    let https_first = endpoint.scheme == "http"
        && tls
        && !endpoint.host.ends_with(":80")
        && version.prefers_https_where_tls_is_configured();
    // the bits of docker.HostCapabilities
    let bits = [(Capability::Pull, 1), (Capability::Resolve, 2), (Capability::Push, 4), (Capability::Referrers, 8)]
        .into_iter()
        .filter(|(capability, _)| *capability != Capability::Referrers || version.knows_referrers())
        .filter(|(capability, _)| capabilities.allow(*capability))
        .map(|(_, bit)| bit)
        .sum();
    let scheme = if https_first { "https" } else { &endpoint.scheme };
    let header: BTreeMap<String, Vec<String>> = headers
        .iter()
        .map(|Header { name, values }| (name.clone(), values.iter().map(|value| value.reveal().to_owned()).collect()))
        .collect();
    Seen {
        url: format!("{scheme}://{}{}", endpoint.host, endpoint.path),
        capabilities: bits,
        header: (!header.is_empty()).then_some(header),
        skip_verify: !https_first && skip_verify.unwrap_or(false),
        roots: !https_first && !ca.is_empty(),
        certificates: if https_first { 0 } else { client.len() },
        https_first,
    }
}
