//! `compile` and the CRD's own rules refuse the same specs: `render` has no API server, and the API server no `render`.

#![expect(clippy::disallowed_methods, reason = "a test, not a decision")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

use registry_mirror_core::compile::{CompileOptions, References, Verdict, compile};
use registry_mirror_crds::RegistryMirror;

/// What `compile` says of each spec of the CRD's table, by file name.
fn verdicts(kind: &str) -> Vec<(String, Verdict)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/tests/specs").join(kind);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no specs in {kind}");
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let object: RegistryMirror =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let compiled = compile([&object], &References::default(), &CompileOptions::default());
            let verdict = compiled.verdicts.into_values().next().unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), verdict)
        })
        .collect()
}

#[test]
fn what_the_api_server_refuses_is_refused_offline() {
    for (name, verdict) in verdicts("refused") {
        // a bad name of a Secret is one that is not found
        assert!(verdict.accepted.is_err() || verdict.resolved_refs.is_err(), "{name} is accepted");
    }
}

#[test]
fn what_the_api_server_accepts_is_accepted_offline() {
    for (name, verdict) in verdicts("accepted") {
        assert!(verdict.accepted.is_ok(), "{name}: {}", verdict.accepted.unwrap_err());
    }
}
