//! What each release sees in a file that somebody else wrote.

use registry_mirror_core::{
    containerd::Version,
    hosts_toml::{Host, parse},
};

const V1_6: Version = Version::new(1, 6, 20);
const V1_7: Version = Version::new(1, 7, 35);
const V2_0: Version = Version::new(2, 0, 14);
const V2_4: Version = Version::new(2, 4, 2);

fn hosts(text: &str, version: Version) -> Vec<String> {
    let file = parse(text, version).unwrap_or_else(|error| panic!("{error}\n{text}"));
    file.hosts.into_iter().map(|Host { url, fields: _ }| url).collect()
}

fn refusal(text: &str, version: Version) -> String {
    parse(text, version).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn hosts_come_in_the_order_of_the_file() {
    let text = "[host.\"https://b\"]\n[host.\"https://a\".header]\nX = \"1\"\n[host.\"https://c\"]\n";
    for version in [V1_6, V1_7, V2_0, V2_4] {
        assert_eq!(hosts(text, version), ["https://b", "https://a", "https://c"], "{version}");
    }
}

#[test]
fn inline_and_dotted_hosts_are_seen_by_1_x_alone() {
    let inline = "[host]\n\"https://a\" = { capabilities = [\"pull\"] }\n";
    let dotted = "host.\"https://a\".capabilities = [\"pull\"]\n[host.\"https://b\"]\n";
    assert_eq!(hosts(inline, V1_7), ["https://a"]);
    assert_eq!(hosts(dotted, V1_7), ["https://a", "https://b"]);
    assert_eq!(hosts(inline, V2_4), [""; 0]);
}

#[test]
fn a_header_table_apart_from_its_host_lists_the_host_twice_on_2_x() {
    let text = "[host.\"https://a\"]\n[host.\"https://b\"]\n[host.\"https://a\".header]\nX = [\"1\"]\n";
    assert_eq!(hosts(text, V1_7), ["https://a", "https://b"]);
    assert_eq!(hosts(text, V2_4), ["https://a", "https://b", "https://a"]);
}

#[test]
fn brackets_in_a_table_header_spoil_the_file_on_1_x() {
    let text = "[host.\"https://[fd00::1]\"]\n";
    assert_eq!(hosts(text, V2_0), ["https://[fd00::1]"]);
    insta::assert_snapshot!(refusal(text, V1_7));
}

#[test]
fn refusals_name_the_line_and_what_containerd_does_instead() {
    let refusals: Vec<String> = [
        ("server = \"https://a\"\n", V1_6),
        ("server = \"https://a\"\n\n[host.\"https://b\"]\ncapabilities = [\"referrers\"]\n", V2_0),
        ("[host.\"https://b\"]\ncapabilities = [\"fetch\"]\n", V2_4),
        ("[host.\"https://b\"]\ncapabilities = \"pull\"\n", V2_4),
        ("[host.\"https://b\"]\nskip_verify = \"yes\"\n", V2_4),
        ("[host.\"https://b\"]\nclient = [[\"a\"]]\n", V2_4),
        ("[host.\"https://b\"]\nclient = [\"a\", [\"b\", \"c\"]]\n", V1_7),
        ("[host.\"https://b\".header]\nAuthorization = 1\n", V2_4),
        ("[host.\"https://b\"]\ndial_timeout = \"3\"\n", V2_4),
        ("host = \"https://b\"\n", V2_4),
        ("server = \"https://a\n", V2_4),
        ("[host.\"https://b\"]\n[host.\"https://b\"]\n", V2_4),
    ]
    .iter()
    .map(|(text, version)| refusal(text, *version))
    .collect();
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn what_a_release_does_not_know_is_ignored() {
    let text = "colour = 1\n[host.\"https://a\"]\ndial_timeout = \"nonsense\"\nsize = 3\n";
    assert_eq!(hosts(text, V1_7), ["https://a"]);
    assert!(parse(text, V2_4).is_err());
}

#[test]
fn an_empty_list_of_capabilities_is_all_of_them() {
    let file = parse("[host.\"https://a\"]\ncapabilities = []\n", V2_4).expect("a file");
    assert!(file.hosts.iter().all(|host| host.fields.capabilities.listed().is_none()));
}
