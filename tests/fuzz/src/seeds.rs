//! The inputs that people can read: the hand-written cases of the product's tests, and a few files of each other format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// As in `src/daemon.rs`, without the patch release.
const LINES: [&str; 10] = ["1.6.16", "1.6", "1.7", "2.0", "2.1", "2.2.0", "2.2", "2.3.0", "2.3", "2.4"];

const HOSTS: &[&str] = &[
    "9server = \"https://registry-1.docker.io\"\n\n[host.\"https://m.example/v2/dockerhub\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = [\"/certs/ca.pem\"]\nclient = [[\"/certs/c.pem\", \"/certs/k.pem\"]]\nskip_verify = false\noverride_path = true\ndial_timeout = \"3s\"\n\n[host.\"https://m.example/v2/dockerhub\".header]\nAuthorization = \"Basic S3CR3T\"\nX-Tenant = [\"blue\", \"green\"]\n",
    "1host.\"https://[fd00::1]:5000\".capabilities = [\"pull\"]\nhost.\"https://[fd00::1]:5000\".header.X-Team = [\"a\"]\n",
    "2server = ''\nca = '/ca.pem'\n[host]\n'https://a' = { capabilities = ['pull'], ca = ['/a', '/b'] }\n[host.'http://b']\n",
    "3[host.\"https://a\"]\n[host.\"https://b\"]\n[host.\"https://a\".header]\nX = [\"1\"]\n",
    "4[header]\nAuthorization = \"Bearer S3CR3T\"\n[host.'b:5000']\nclient = ['/c', ['/d', '/k'], ['/e', '']]\n",
    "6[host.\"https://a\"]\r\ncapabilities = [\"referrers\", \"push\"] # both\r\ndial_timeout = \"1h2m0.5s\"\r\n",
    "9# only a comment\n",
    "8server = \"https://a\\\\b\\\"c\\u00e4\"\n[host.\"https://\\u0061\"]\nca = '\\n'\n[host.\"https://a\".header]\n\"X \\t\" = '\"\\'\n",
    "0server = \"https://a\"\n",
    "5[host.\"https://a\"]\ncapabilities = []\nskip_verify = true\nunknown = [1, 2.5, 1979-05-27]\n",
];

const BUNDLES: &[&str] = &[
    r#"9{"schema":1,"mode":"Enforce","entries":[{"object":"docker-hub","registry":"docker.io","nodeSelector":{"matchLabels":{"region":"north"}},"healthIntervalSeconds":30,"mirrors":[{"url":"https://m.example","displayUrl":"https://m.example","capabilities":["pull","resolve"],"tls":{"skipVerify":true,"ca":"a","client":{"certificate":"a","key":"b"}},"headers":[{"name":"Authorization","values":["Basic dTpw"]}],"hasCredentials":true,"dialTimeoutMs":3000}],"upstream":{"kind":"registry"}}],"blobs":{"a":{"pem":"A","private":false},"b":{"pem":"B","private":true}}}"#,
    r#"1{"schema":1,"mode":"DryRun","entries":[{"object":"a","registry":"_default","suspend":true,"mirrors":[{"url":"http://[fd00::1]:5000","displayUrl":"x","overridePath":true,"capabilities":["referrers"]}],"upstream":{"kind":"denied"}},{"object":"b","registry":"localhost:5000","mirrors":[{"url":"https://b","displayUrl":"b","capabilities":["push"]}],"upstream":{"kind":"server","url":"https://s.example","tls":{}}}],"blobs":{}}"#,
    r#"3{"schema":2}"#,
    "9znot gzip",
];

const IMPORTS: &[&str] = &[
    "9kmirrors:\n  docker.io:\n    endpoint:\n      - https://m.example/v2/dockerhub\n      - http://127.0.0.1:5000\n    rewrite:\n      \"^(.*)$\": \"prefix/$1\"\n  \"*\":\n    endpoint: [\"https://all.example\"]\nconfigs:\n  m.example:\n    auth:\n      username: u\n      password: S3CR3T\n    tls:\n      ca_file: /ca.pem\n      insecure_skip_verify: true\n",
    "9kconfigs:\n  quay.io:\n    auth:\n      auth: dTpw\nauths:\n  https://old.example:\n    username: u\n    identity_token: S3CR3T\n",
    "9d{\"registry-mirrors\":[\"https://m.example/\"],\"insecure-registries\":[\"10.0.0.0/8\",\"r.example:5000\"],\"debug\":true}",
    "9hr.example_5000_\nserver = \"https://s.example\"\n[host.\"https://m.example/v2\"]\ncapabilities = [\"pull\"]\nca = \"/ca.pem\"\n[host.\"https://m.example/v2\".header]\nAuthorization = \"Basic dTpw\"\n",
    "2cversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://m.example\"]\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m.example\".auth]\nusername = \"u\"\npassword = \"S3CR3T\"\n",
];

/// A set for each kind of input, by the name of the set in `tests/fuzz/run`.
///
/// # Errors
/// The cases cannot be read.
pub fn seeds() -> io::Result<BTreeMap<&'static str, BTreeSet<Vec<u8>>>> {
    let mut configs = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../operator/core/tests/cases/config"))? {
        let text = fs::read_to_string(entry?.path())?;
        configs.extend(text.split("=== ").skip(1).flat_map(config_inputs));
    }
    let owned = |seeds: &[&str]| seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    Ok(BTreeMap::from([
        ("config_patch", configs),
        ("hosts_toml", owned(HOSTS)),
        ("bundle", owned(BUNDLES)),
        ("import", owned(IMPORTS)),
    ]))
}

/// One input per daemon that the case names: its files, with drop-ins named as the fuzzer names them.
fn config_inputs(case: &str) -> Vec<Vec<u8>> {
    let mut versions = Vec::new();
    let mut files: Vec<(String, String)> = Vec::new();
    for line in case.split_inclusive('\n') {
        if line.starts_with(">>> ") {
            break;
        } else if let Some(path) = line.strip_prefix("--- ") {
            files.push((path.trim_end().to_owned(), String::new()));
        } else if let Some((_, content)) = files.last_mut() {
            content.push_str(line);
        } else if let Some(list) = line.strip_prefix("containerd ") {
            versions = list.split_whitespace().filter_map(daemon).collect();
        }
    }
    let names: Vec<String> = files.iter().filter_map(|(path, _)| Some(path.rsplit('/').next()?.to_owned())).collect();
    let mut joined = String::new();
    for (index, (_, content)) in files.iter().enumerate() {
        if index > 0 {
            joined.push('\u{1e}');
        }
        let renamed = names
            .iter()
            .enumerate()
            .skip(1)
            .fold(content.clone(), |text, (index, name)| text.replace(name.as_str(), &format!("{index}.toml")));
        joined.push_str(&renamed.replace("'p'", "'S3CR3T'").replace("\"p\"", "\"S3CR3T\""));
    }
    let mut bytes = Vec::new();
    // the marks of the case files: carriage return, end without a newline, byte that is not UTF-8, byte-order mark
    let mut marks = joined.replace("␄\n", "").replace('␍', "\r").replace('␂', "\u{feff}");
    while let Some(at) = marks.find('␀') {
        bytes.extend_from_slice(&marks.as_bytes()[..at]);
        bytes.push(0xff);
        marks.drain(..at + '␀'.len_utf8());
    }
    bytes.extend_from_slice(marks.as_bytes());
    versions.into_iter().map(|daemon| [&[daemon], &bytes[..]].concat()).collect()
}

/// The byte of the daemon of the same line of releases.
fn daemon(version: &str) -> Option<u8> {
    let exact = LINES.iter().position(|line| *line == version);
    let index = exact.or_else(|| {
        LINES.iter().position(|line| line.matches('.').count() == 1 && version.starts_with(&format!("{line}.")))
    })?;
    Some(b'0' + u8::try_from(index).ok()?)
}
