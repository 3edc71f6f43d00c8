//! Go says which certificates and keys it loads, and the compiler agrees: what it lets through can be loaded by
//! containerd, and what it refuses without need is listed here.
//!
//! Needs Go: it runs where `REGISTRY_MIRROR_ORACLE` is set.
#![expect(clippy::disallowed_methods, reason = "a test, not a decision")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of a test fails as its body does")]

use std::{collections::BTreeSet, path::Path, process::Command};

use registry_mirror_core::compile::{CompileOptions, RefKind, Reference, References, compile};
use registry_mirror_crds::RegistryMirror;
use serde::Deserialize;

#[derive(Deserialize)]
struct Question {
    name: String,
    certificates: String,
    key: String,
    loads: bool,
}

/// What Go passes over and the compiler refuses, because somebody meant it: damage, a secret among certificates, and
/// labels and headers that mean something else.
const STRICTER: &[&str] = &[
    "authority with a key among them",
    "authority with an empty block, then one",
    "authority with a beginning, then a block",
    "client with a key among them",
    "client with a beginning, then a block",
    "client with header lines",
    "key with encrypted",
    "key with encryption headers",
    "key with two keys",
];

/// Whether the key belongs to the certificate cannot be told: nothing in the tree computes points of these curves.
const UNTOLD: [&str; 2] = ["P-224", "P-521"];

fn is_taken(Question { certificates, key, .. }: &Question) -> bool {
    let tls = if key.is_empty() { "caRef: {name: x, key: tls.crt}" } else { "clientCertRef: {name: x}" };
    let object: RegistryMirror = serde_saphyr::from_str(&format!(
        "apiVersion: registry-mirror.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: x}}\nspec:\n  registry: \
         docker.io\n  mirrors: [{{url: https://m.example.com, tls: {{{tls}}}}}]\n"
    ))
    .expect("an object");
    let data = [("tls.crt", certificates), ("tls.key", key)];
    let data = data.into_iter().map(|(key, text)| (key.to_owned(), text.clone().into_bytes())).collect();
    let mut references = References::default();
    references.insert(Reference { kind: RefKind::Secret, name: "x".to_owned() }, data);
    let compiled = compile(&[object], &references, &CompileOptions::default());
    !compiled.bundle.entries.is_empty()
}

#[test]
fn what_is_let_through_can_be_loaded_by_go() {
    if std::env::var_os("REGISTRY_MIRROR_ORACLE").is_none() {
        println!("set REGISTRY_MIRROR_ORACLE to ask Go");
        return;
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/oracle/main.go");
    let output = Command::new("go").arg("run").arg(program).output().expect("go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let questions = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Question>();
    let (mut count, mut differ) = (0, BTreeSet::new());
    for question in questions {
        let question = question.expect("a question");
        count += 1;
        if is_taken(&question) != question.loads {
            differ.insert((question.name, question.loads));
        }
    }
    assert!(count > 500, "{count} questions are too few");
    let stricter = STRICTER.iter().map(|name| ((*name).to_owned(), true));
    let untold = UNTOLD.iter().flat_map(|curve| {
        let forms = ["PKCS#8", "SEC 1"].map(|form| [(1, 2, form), (2, 1, form)]);
        forms.into_iter().flatten().map(move |(certificate, key, form)| {
            (format!("certificate {curve} {certificate}, key {curve} {key} in {form} without its point"), false)
        })
    });
    assert_eq!(differ, stricter.chain(untold).collect::<BTreeSet<_>>(), "of {count}; Go loads those with true");
}
