#![expect(clippy::disallowed_methods, reason = "a test reads its cases")]
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use registry_mirror_crds::{LabelOperator, LabelRequirement, LabelSelector};

use super::*;

const CA: &str = include_str!("testdata/ec.crt");
const KEY: &str = include_str!("testdata/ec8.key");
/// Planted in every Secret; must stand in no message.
pub(super) const PLANTED: &str = "pl4nted";

/// An object from the part of its spec after `registry: docker.io`, in YAML.
pub(super) fn object(name: &str, spec: &str) -> RegistryMirror {
    let registry = if spec.contains("registry:") { "" } else { "  registry: docker.io\n" };
    let spec: String = spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: registry-mirror.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: {name}}}\nspec:\n{registry}{spec}"
    );
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn created(mut object: RegistryMirror, second: i64) -> RegistryMirror {
    object.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).expect("a time")));
    object
}

pub(super) fn secret(references: &mut References, name: &str, data: &[(&str, &str)]) {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    references.insert(Reference { kind: RefKind::Secret, name: name.to_owned() }, data);
}

fn references() -> References {
    let mut references = References::default();
    secret(&mut references, "robot", &[("username", "robot$hub"), ("password", PLANTED)]);
    secret(&mut references, "opaque", &[("token", PLANTED)]);
    secret(&mut references, "empty", &[]);
    secret(&mut references, "line-break", &[("username", "robot"), ("password", "pl4nted\n")]);
    secret(&mut references, "no-password", &[("username", "pl4nted")]);
    secret(&mut references, "client", &[("tls.crt", CA), ("tls.key", KEY)]);
    secret(&mut references, "swapped", &[("tls.crt", KEY), ("tls.key", CA)]);
    let (rsa, ec) = (include_str!("testdata/rsa.crt"), include_str!("testdata/ec8.key"));
    secret(&mut references, "strangers", &[("tls.crt", rsa), ("tls.key", ec)]);
    let other = include_str!("testdata/other-without-point.key");
    secret(&mut references, "others", &[("tls.crt", CA), ("tls.key", other)]);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQM=\n-----END CERTIFICATE-----\n";
    secret(&mut references, "no-certificate", &[("tls.crt", no_certificate), ("tls.key", KEY)]);
    secret(&mut references, "no-key", &[("tls.crt", CA)]);
    secret(&mut references, "header", &[("value", "pl4nted\n"), ("lines", "pl4nted\r\nX: y")]);
    let auth = STANDARD.encode("robot:pl4nted:x");
    let docker = |auths: &str| format!("{{\"auths\":{{{auths}}}}}");
    let entry = format!("\"auth\":\"{auth}\"");
    secret(
        &mut references,
        "docker",
        &[(".dockerconfigjson", &docker(&format!("\"https://m.example.com/v2/\":{{{entry}}}")))],
    );
    secret(
        &mut references,
        "docker-other",
        &[(".dockerconfigjson", &docker(&format!("\"x.example.com\":{{{entry}}}")))],
    );
    secret(&mut references, "docker-bad", &[(".dockerconfigjson", "{\"auths\": pl4nted")]);
    secret(
        &mut references,
        "docker-token",
        &[(".dockerconfigjson", &docker("\"m.example.com\":{\"identitytoken\":\"pl4nted\"}"))],
    );
    secret(
        &mut references,
        "docker-empty",
        &[(".dockerconfigjson", &docker("\"m.example.com\":{\"auth\":\"pl4nted\"}"))],
    );
    references.insert(
        Reference { kind: RefKind::ConfigMap, name: "ca".to_owned() },
        [("ca.crt", CA), ("bad.crt", "-----BEGIN CERTIFICATE-----\npl4nted\n")]
            .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
            .into(),
    );
    references
}

fn said(object: &RegistryMirror) -> String {
    let compiled = compile([object], &references(), &CompileOptions::default());
    let verdict = &compiled.verdicts[name_of(object)];
    assert_eq!(compiled.bundle.entries.is_empty(), !verdict.is_good(), "only good objects have an entry");
    let said = |name: &str, result: &Result<(), Refusal>| match result {
        Ok(()) => String::new(),
        Err(refusal) => format!("{name}=False {}: {refusal}\n", refusal.reason),
    };
    said("Accepted", &verdict.accepted) + &said("ResolvedRefs", &verdict.resolved_refs)
}

/// Each spec is wrong in one way, or in the ways that stand in it.
const BAD: &[(&str, &str)] = &[
    ("no mirrors", "mirrors: []"),
    ("registry with scheme", "registry: https://docker.io\nmirrors: [{url: https://m.example.com}]"),
    ("registry is an address of Docker Hub", "registry: index.docker.io\nmirrors: [{url: https://m.example.com}]"),
    ("registry with path", "registry: docker.io/library\nmirrors: [{url: https://m.example.com}]"),
    ("registry in upper case", "registry: Docker.io\nmirrors: [{url: https://m.example.com}]"),
    ("registry without dot", "registry: docker\nmirrors: [{url: https://m.example.com}]"),
    ("registry with a bad port", "registry: quay.io:70000\nmirrors: [{url: https://m.example.com}]"),
    ("url without scheme", "mirrors: [{url: m.example.com}]"),
    ("url with ftp", "mirrors: [{url: ftp://m.example.com}]"),
    ("url with query", "mirrors: [{url: 'https://m.example.com/?project=pl4nted'}]"),
    ("url with fragment", "mirrors: [{url: 'https://m.example.com/#hub'}]"),
    ("url with password", "mirrors: [{url: 'https://robot:pl4nted@m.example.com'}]"),
    ("url with space", "mirrors: [{url: 'https://m.example.com/a b'}]"),
    ("url without host", "mirrors: [{url: 'https://'}]"),
    ("url with a bad port", "mirrors: [{url: 'https://m.example.com:99999'}]"),
    ("url with port 0", "mirrors: [{url: 'https://m.example.com:0'}]"),
    ("url with double slash", "mirrors: [{url: 'https://m.example.com//v2'}]"),
    ("url with quote", "mirrors: [{url: 'https://m.example.com/\"'}]"),
    ("url is Docker Hub's name", "mirrors: [{url: 'https://docker.io'}]"),
    ("prefix on a path", "mirrors: [{url: https://m.example.com/proxy, repositoryPrefix: hub}]"),
    ("prefix on /v2", "mirrors: [{url: https://m.example.com/v2/, repositoryPrefix: hub}]"),
    ("prefix with overridePath", "mirrors: [{url: https://m.example.com, repositoryPrefix: hub, overridePath: true}]"),
    ("prefix with slash", "mirrors: [{url: https://m.example.com, repositoryPrefix: /hub}]"),
    ("prefix with v2", "mirrors: [{url: https://m.example.com, repositoryPrefix: v2/hub}]"),
    ("prefix in upper case", "mirrors: [{url: https://m.example.com, repositoryPrefix: Hub}]"),
    ("same url", "mirrors: [{url: https://m.example.com}, {url: https://m.example.com/}]"),
    ("same url with /v2", "mirrors: [{url: https://m.example.com}, {url: https://m.example.com:443/v2}]"),
    (
        "same url by prefix",
        "mirrors:\n- {url: https://m.example.com, repositoryPrefix: hub}\n- {url: https://m.example.com/v2/hub, overridePath: true}",
    ),
    ("no capability", "mirrors: [{url: https://m.example.com, capabilities: []}]"),
    ("capability twice", "mirrors: [{url: https://m.example.com, capabilities: [pull, pull]}]"),
    ("dialTimeout without unit", "mirrors: [{url: https://m.example.com, dialTimeout: '30'}]"),
    ("dialTimeout too long", "mirrors: [{url: https://m.example.com, dialTimeout: 1h}]"),
    ("interval too short", "mirrors: [{url: https://m.example.com}]\nhealthCheck: {interval: 1s}"),
    ("http with client certificate", "mirrors: [{url: http://m.example.com, tls: {clientCertRef: {name: client}}}]"),
    ("http with CA", "mirrors: [{url: http://m.example.com, tls: {caRef: {kind: ConfigMap, name: ca}}}]"),
    ("ca beside caRef", "mirrors: [{url: https://m.example.com, tls: {ca: x, caRef: {name: ca}}}]"),
    ("ca is no PEM", "mirrors: [{url: https://m.example.com, tls: {ca: /etc/ssl/ca.crt}}]"),
    (
        "ca that is no certificate",
        "mirrors:\n- url: https://m.example.com\n  tls:\n    ca: |\n      -----BEGIN CERTIFICATE-----\n      MAMCAQM=\n      -----END CERTIFICATE-----",
    ),
    (
        "ca with a private key",
        "mirrors:\n- url: https://m.example.com\n  tls:\n    ca: |\n      -----BEGIN PRIVATE KEY-----\n      MAMBAgM=\n      -----END PRIVATE KEY-----",
    ),
    (
        "Authorization beside auth",
        "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: robot}}, headers: [{name: authorization, values: [x]}]}]",
    ),
    (
        "authorization in lower case",
        "mirrors: [{url: https://m.example.com, headers: [{name: authorization, values: [x]}]}]",
    ),
    ("header name", "mirrors: [{url: https://m.example.com, headers: [{name: 'X Tenant', values: [x]}]}]"),
    (
        "header twice",
        "mirrors: [{url: https://m.example.com, headers: [{name: X-A, values: [x]}, {name: x-a, values: [y]}]}]",
    ),
    ("header without value", "mirrors: [{url: https://m.example.com, headers: [{name: X-A}]}]"),
    (
        "header with two sources",
        "mirrors: [{url: https://m.example.com, headers: [{name: X-A, values: [x], valueFrom: {name: header, key: value}}]}]",
    ),
    (
        "header with line break",
        "mirrors: [{url: https://m.example.com, headers: [{name: X-A, values: [\"pl4nted\\nHost: y\"]}]}]",
    ),
    (
        "Deny with server",
        "mirrors: [{url: https://m.example.com}]\nupstream: {fallback: Deny, server: https://x.example.com}",
    ),
    (
        "Deny without resolve",
        "mirrors: [{url: https://m.example.com, capabilities: [pull]}]\nupstream: {fallback: Deny}",
    ),
    (
        "Deny with pull and resolve apart",
        "mirrors: [{url: https://a.example.com, capabilities: [pull]}, {url: https://b.example.com, capabilities: \
         [resolve]}]\nupstream: {fallback: Deny}",
    ),
    ("server is Docker Hub's name", "mirrors: [{url: https://m.example.com}]\nupstream: {server: https://docker.io}"),
    (
        "server for _default",
        "registry: _default\nmirrors: [{url: https://m.example.com}]\nupstream: {server: https://x.example.com}",
    ),
    (
        "selector In without values",
        "mirrors: [{url: https://m.example.com}]\nnodeSelector: {matchExpressions: [{key: a, operator: In}]}",
    ),
    (
        "selector Exists with values",
        "mirrors: [{url: https://m.example.com}]\nnodeSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
    ),
    ("selector with a bad key", "mirrors: [{url: https://m.example.com}]\nnodeSelector: {matchLabels: {'a b': c}}"),
    ("Secret is missing", "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: gone}}}]"),
    ("Secret without credentials", "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: opaque}}}]"),
    ("Secret without password", "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: no-password}}}]"),
    ("password with line break", "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: line-break}}}]"),
    (
        "docker configuration for another host",
        "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: docker-other}}}]",
    ),
    (
        "docker configuration is no JSON",
        "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: docker-bad}}}]",
    ),
    (
        "docker configuration with identity token",
        "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: docker-token}}}]",
    ),
    (
        "docker configuration without password",
        "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: docker-empty}}}]",
    ),
    ("CA is missing", "mirrors: [{url: https://m.example.com, tls: {caRef: {kind: ConfigMap, name: gone}}}]"),
    (
        "CA key is missing",
        "mirrors: [{url: https://m.example.com, tls: {caRef: {kind: ConfigMap, name: ca, key: root.pem}}}]",
    ),
    (
        "CA is damaged",
        "mirrors: [{url: https://m.example.com, tls: {caRef: {kind: ConfigMap, name: ca, key: bad.crt}}}]",
    ),
    (
        "client certificate and key swapped",
        "mirrors: [{url: https://m.example.com, tls: {clientCertRef: {name: swapped}}}]",
    ),
    (
        "client key is of another kind",
        "mirrors: [{url: https://m.example.com, tls: {clientCertRef: {name: strangers}}}]",
    ),
    ("client key is another's", "mirrors: [{url: https://m.example.com, tls: {clientCertRef: {name: others}}}]"),
    (
        "client is no certificate",
        "mirrors: [{url: https://m.example.com, tls: {clientCertRef: {name: no-certificate}}}]",
    ),
    ("client key is missing", "mirrors: [{url: https://m.example.com, tls: {clientCertRef: {name: no-key}}}]"),
    (
        "header's Secret is empty",
        "mirrors: [{url: https://m.example.com, headers: [{name: X-A, valueFrom: {name: empty, key: a}}]}]",
    ),
    (
        "header's Secret has two lines",
        "mirrors: [{url: https://m.example.com, headers: [{name: X-A, valueFrom: {name: header, key: lines}}]}]",
    ),
    (
        "several at once",
        "mirrors:\n- {url: m.example.com, auth: {secretRef: {name: gone}}}\n- {url: https://n.example.com, capabilities: [], dialTimeout: x}",
    ),
];

#[test]
fn each_bad_spec_is_told_what_to_write_instead() {
    let mut text = String::new();
    for (title, spec) in BAD {
        let said = said(&object("bad", spec));
        assert!(!said.is_empty(), "accepted: {title}");
        text.push_str(&format!("# {title}\n{said}\n"));
    }
    assert!(!text.contains(PLANTED), "a secret stands in a message");
    insta::assert_snapshot!(text);
}

/// The files beside the CRD: what its rules refuse or accept, this crate refuses or accepts.
#[test]
fn agrees_with_the_rules_of_the_crd() {
    let mut disagree = Vec::new();
    let specs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/tests/specs");
    for (folder, good) in [("refused", false), ("accepted", true)] {
        for file in std::fs::read_dir(specs.join(folder)).expect("the folder of specs") {
            let path = file.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("its text");
            let accepted = serde_saphyr::from_str::<RegistryMirror>(&text).is_ok_and(|object| {
                let verdict = compile([&object], &References::default(), &CompileOptions::default()).verdicts;
                let verdict = &verdict[name_of(&object)];
                // the table has shortened certificates, which a rule cannot tell from whole ones
                let only_pem =
                    verdict.accepted.as_ref().is_err_and(|r| r.problems.iter().all(|p| p.field.ends_with("tls.ca")));
                let refs = good || verdict.resolved_refs.is_ok();
                (verdict.accepted.is_ok() || (good && only_pem)) && refs
            });
            if accepted != good {
                disagree.push(path);
            }
        }
    }
    assert!(disagree.is_empty(), "{disagree:?}");
}

#[test]
fn everything_comes_through() {
    let object = object(
        "full",
        "
mirrors:
- url: https://m.example.com:443/
  repositoryPrefix: hub
  capabilities: [resolve, pull]
  tls: {caRef: {kind: ConfigMap, name: ca}, clientCertRef: {name: client}}
  auth: {secretRef: {name: robot}}
  headers: [{name: X-Tenant, valueFrom: {name: header, key: value}}]
  dialTimeout: 1s500ms
- url: https://m.example.com
  auth: {secretRef: {name: docker}}
upstream: {fallback: Deny}
healthCheck: {enabled: true, interval: 1m}
nodeSelector: {matchLabels: {region: north}}
",
    );
    let compiled = compile([&object], &references(), &CompileOptions::default());
    assert!(compiled.verdicts["full"].is_good(), "{:?}", compiled.verdicts);
    assert!(!format!("{compiled:?}").contains(PLANTED));
    let json = serde_json::to_string_pretty(&compiled.bundle).expect("JSON");
    insta::assert_snapshot!(json);
}

#[test]
fn references_show_no_values() {
    assert!(!format!("{:?}", references()).contains(PLANTED));
}

#[test]
fn required_refs_are_all_that_an_object_names() {
    let object = object(
        "refs",
        "
mirrors:
- url: https://m.example.com
  tls: {caRef: {kind: ConfigMap, name: a}, clientCertRef: {name: b}}
  auth: {secretRef: {name: c}}
  headers: [{name: X, valueFrom: {name: d, key: k}}]
upstream: {tls: {caRef: {name: e}}}
",
    );
    let names: Vec<_> = required_refs([&object]).into_iter().map(|r| r.to_string()).collect();
    assert_eq!(names, ["Secret `b`", "Secret `c`", "Secret `d`", "Secret `e`", "ConfigMap `a`"]);
}

#[test]
fn the_oldest_comes_first_and_then_the_name() {
    let spec = "mirrors: [{url: https://m.example.com}]";
    let objects = [
        created(object("c", spec), 2),
        created(object("b", spec), 2),
        created(object("z", spec), 1),
        object("y", spec),
    ];
    let compiled = compile(&objects, &References::default(), &CompileOptions::default());
    let order: Vec<_> = compiled.bundle.entries.iter().map(|entry| entry.object.as_str()).collect();
    assert_eq!(order, ["y", "z", "b", "c"]);
}

#[test]
fn a_broken_reference_keeps_the_last_good_state() {
    let spec = "mirrors: [{url: https://m.example.com, tls: {clientCertRef: {name: client}}}]";
    let first = compile([&object("a", spec)], &references(), &CompileOptions::default()).bundle;
    let options = CompileOptions { previous: Some(&first), ..CompileOptions::default() };
    let second = compile([&object("a", spec)], &References::default(), &options);
    assert_eq!(second.verdicts["a"].in_force, InForce::LastGood);
    assert_eq!(second.bundle, first);
    // suspend needs no reference, so it takes effect all the same
    let suspended = object("a", &format!("{spec}\nsuspend: true"));
    assert!(compile([&suspended], &References::default(), &options).bundle.entries[0].suspend);
    // deleted is deleted
    assert!(compile([], &References::default(), &options).bundle.entries.is_empty());
    // and without a bundle in force there is nothing to keep
    let fresh = compile([&object("a", spec)], &References::default(), &CompileOptions::default());
    assert_eq!((fresh.verdicts["a"].in_force, fresh.bundle.blobs.len()), (InForce::Nothing, 0));
}

#[test]
fn an_object_of_another_release_keeps_its_entry_and_its_place() {
    let spec = "mirrors: [{url: https://m.example.com}]";
    let (old, young) = (created(object("old", spec), 1), created(object("young", spec), 2));
    let first = compile([&old, &young], &References::default(), &CompileOptions::default()).bundle;
    let unreadable =
        [Unreadable { name: "old".to_owned(), created: old.metadata.creation_timestamp.as_ref().map(|t| t.0) }];
    let options = CompileOptions { previous: Some(&first), unreadable: &unreadable, ..CompileOptions::default() };
    assert_eq!(compile([&young], &References::default(), &options).bundle, first);
}

#[test]
fn an_object_that_is_being_deleted_is_gone() {
    let mut object = object("a", "mirrors: [{url: https://m.example.com}]");
    object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert!(compile([&object], &References::default(), &CompileOptions::default()).verdicts.is_empty());
}

#[test]
fn the_operators_own_registry_cannot_be_denied() {
    let own = BTreeSet::from(["ghcr.io".parse().expect("a registry")]);
    let options = CompileOptions { own_registries: &own, ..CompileOptions::default() };
    let deny = "mirrors: [{url: https://m.example.com}]\nupstream: {fallback: Deny}";
    let own = object("own", &format!("registry: ghcr.io\n{deny}"));
    let default = object("default", &format!("registry: _default\n{deny}"));
    let other = object("other", deny);
    let compiled = compile([&own, &default, &other], &References::default(), &options);
    let said: Vec<_> = compiled
        .verdicts
        .iter()
        .map(|(name, v)| format!("{name}: {:?}", v.accepted.as_ref().map_err(ToString::to_string)))
        .collect();
    insta::assert_debug_snapshot!(said);
    // with an object of its own the registry is out of `_default`
    let allowed = object("own", "registry: ghcr.io\nmirrors: [{url: https://m.example.com}]");
    assert!(compile([&allowed, &default], &References::default(), &options).verdicts["default"].is_good());
}

#[test]
fn too_large_refuses_the_newest_and_takes_nothing_away() {
    let big = |name: &str, second: i64, salt: &str| {
        // digits of a hash do not compress well
        let values: String = (0..40).map(|i| Digest::of(format!("{salt}{i}").as_bytes()).as_str().to_owned()).collect();
        created(
            object(
                name,
                &format!(
                    "registry: {name}.example.com\nmirrors: [{{url: https://m.example.com, headers: [{{name: X, values: [{values}]}}]}}]"
                ),
            ),
            second,
        )
    };
    let packed = |bundle: &Bundle| crate::bundle::pack(bundle).expect("packs").len();
    let two =
        compile([&big("a", 1, "a"), &big("b", 2, "b")], &References::default(), &CompileOptions::default()).bundle;
    let max_bytes = packed(&two) + 200;

    let options = CompileOptions { max_bytes, ..CompileOptions::default() };
    let three = compile([&big("a", 1, "a"), &big("b", 2, "b"), &big("c", 3, "c")], &References::default(), &options);
    assert_eq!(three.bundle, two);
    let refusal = three.verdicts["c"].accepted.as_ref().expect_err("refused");
    insta::assert_snapshot!(format!("{}: {refusal}", refusal.reason));

    // An old object that grows gives way before younger ones that stand.
    let options = CompileOptions { previous: Some(&two), ..options };
    let mut grown = big("a", 1, "a");
    grown.spec.mirrors[0].headers.push(registry_mirror_crds::Header {
        name: "Y".to_owned(),
        values: (0..40).map(|i| Digest::of(format!("y{i}").as_bytes()).as_str().to_owned()).collect(),
        value_from: None,
    });
    let edited = compile([&grown, &big("b", 2, "b")], &References::default(), &options);
    assert_eq!(edited.bundle, two);
    assert_eq!(edited.verdicts["a"].in_force, InForce::LastGood);
    assert!(edited.verdicts["b"].is_good());
}

#[test]
fn the_older_object_wins_and_the_younger_is_told_where() {
    let spec = "mirrors: [{url: https://m.example.com}]";
    let mut north = created(object("north", spec), 1);
    north.spec.node_selector = Some(LabelSelector {
        match_labels: BTreeMap::new(),
        match_expressions: vec![LabelRequirement {
            key: "region".into(),
            operator: LabelOperator::In,
            values: vec!["north".into()],
        }],
    });
    let everywhere = created(object("everywhere", spec), 2);
    let late = created(object("late", spec), 3);
    let quay = created(object("quay", &format!("registry: quay.io\n{spec}")), 4);
    let bundle =
        compile([&north, &everywhere, &late, &quay], &References::default(), &CompileOptions::default()).bundle;
    let nodes = ["north", "north", "south"].map(|region| BTreeMap::from([("region".to_owned(), region.to_owned())]));
    let nodes = nodes.map(|labels| crate::status::object::Node {
        name: "n",
        labels,
        agent: crate::status::object::Agent::Running,
        report: None,
    });
    let (_, found) = crate::status::object::tally(&bundle, &nodes);
    let said: Vec<_> = found.iter().map(|(name, c)| format!("{name} {}: {c}", c.is_total())).collect();
    insta::assert_debug_snapshot!(said);
}
