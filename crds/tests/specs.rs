//! The table of specs in `tests/specs/`: which the API server refuses, and in which words.
//!
//! Here the rules run in the `cel` crate. `against_the_api_server` sends the same files to a real API server, which
//! also applies the schema's own bounds (`refused_by_schema/`).

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, path::PathBuf, process::Command};

use kube::core::cel::{Validator, apply_defaults};
use registry_mirror_crds::{REGISTRY_MIRRORS_FILE, RegistryMirror, crd_files};
use serde_json::Value;

/// A file of the table: its documents and, from its first line, the sentence that it is refused with.
struct Case {
    path: PathBuf,
    documents: Vec<Value>,
    sentence: Option<String>,
}

impl Case {
    fn name(&self) -> String {
        self.path.file_stem().unwrap().to_string_lossy().into_owned()
    }
}

fn cases(kind: &str) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs").join(kind);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no specs in {kind}");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let sentence = text.lines().next().and_then(|line| line.strip_prefix("# refused: ")).map(str::to_owned);
            let documents = text
                .split("\n---\n")
                .map(|document| serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
                .collect();
            Case { path, documents, sentence }
        })
        .collect()
}

fn schema() -> Value {
    let files = crd_files().unwrap();
    let (_, text) = files.iter().find(|(name, _)| *name == REGISTRY_MIRRORS_FILE).unwrap();
    let crd: Value = serde_saphyr::from_str(text).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Field and sentence of each rule that the object breaks.
fn broken_rules(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<(String, String)> {
    let object = apply_defaults(schema, object);
    let old = old.map(|old| apply_defaults(schema, old));
    match Validator::new().validate(schema, &object, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| (error.field_path.clone(), error.message.clone())).collect(),
    }
}

#[test]
fn each_bad_spec_is_refused_with_one_sentence() {
    let schema = schema();
    let mut table = String::new();
    for case in cases("refused") {
        let broken = broken_rules(&schema, &case.documents[0], None);
        let [(field, sentence)] = &broken[..] else {
            panic!("{}: one sentence is expected: {broken:#?}", case.name());
        };
        assert_eq!(Some(sentence), case.sentence.as_ref(), "{}", case.name());
        writeln!(table, "{}\n  {field}\n  {sentence}", case.name()).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn each_bad_update_is_refused_with_one_sentence() {
    let schema = schema();
    for case in cases("refused_updates") {
        let [old, new] = &case.documents[..] else { panic!("{}: two documents are expected", case.name()) };
        assert_eq!(broken_rules(&schema, old, None), [], "{}", case.name());
        let broken = broken_rules(&schema, new, Some(old));
        assert_eq!(broken.len(), 1, "{}: {broken:#?}", case.name());
        assert_eq!(Some(&broken[0].1), case.sentence.as_ref(), "{}", case.name());
    }
}

#[test]
fn each_good_spec_is_accepted_and_is_what_the_types_read() {
    let schema = schema();
    for case in cases("accepted") {
        assert_eq!(broken_rules(&schema, &case.documents[0], None), [], "{}", case.name());
        let read: RegistryMirror = serde_json::from_value(case.documents[0].clone())
            .unwrap_or_else(|error| panic!("{}: {error}", case.name()));
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(broken_rules(&schema, &written, None), [], "{} as the operator writes it", case.name());
    }
}

/// A rule that no spec of the table breaks has not been seen to work.
#[test]
fn each_rule_is_broken_by_a_spec() {
    fn messages(schema: &Value, into: &mut BTreeSet<String>) {
        match schema {
            Value::Object(map) => {
                for (key, value) in map {
                    if key == "x-kubernetes-validations" {
                        let rules = value.as_array().unwrap().iter();
                        into.extend(rules.map(|rule| rule["message"].as_str().unwrap().to_owned()));
                    } else {
                        messages(value, into);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| messages(item, into)),
            _ => {}
        }
    }
    let mut unseen = BTreeSet::new();
    messages(&schema(), &mut unseen);
    for case in cases("refused").into_iter().chain(cases("refused_updates")) {
        unseen.remove(&case.sentence.unwrap());
    }
    // the same functions make the rules of `url`, which the table covers
    unseen.retain(|sentence| !sentence.starts_with("server "));
    assert_eq!(unseen, BTreeSet::new());
}

/// Needs `REGISTRY_MIRROR_TEST_KUBECONFIG` and `kubectl` (or `REGISTRY_MIRROR_TEST_KUBECTL`).
#[test]
fn against_the_api_server() {
    let Some(kubeconfig) = std::env::var_os("REGISTRY_MIRROR_TEST_KUBECONFIG") else {
        println!("skipped: REGISTRY_MIRROR_TEST_KUBECONFIG names no API server");
        return;
    };
    let kubectl = std::env::var_os("REGISTRY_MIRROR_TEST_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let run = |arguments: &[&str], file: &Path| {
        let output =
            Command::new(&kubectl).arg("--kubeconfig").arg(&kubeconfig).args(arguments).arg(file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let crd = Path::new(env!("CARGO_MANIFEST_DIR")).join(REGISTRY_MIRRORS_FILE);
    let (applied, said) = run(&["apply", "--server-side", "--force-conflicts", "-f"], &crd);
    assert!(applied, "{said}");
    assert_eq!(said, "", "the API server warns");
    assert!(run(&["wait", "--for=condition=Established", "--timeout=30s", "-f"], &crd).0);

    for case in cases("refused").into_iter().chain(cases("refused_by_schema")) {
        let (accepted, said) = run(&["create", "--dry-run=server", "-f"], &case.path);
        let sentence = case.sentence.as_deref().unwrap();
        assert!(!accepted && said.contains(sentence), "{}: {sentence}\nbut the API server said: {said}", case.name());
    }
    for case in cases("accepted") {
        let (accepted, said) = run(&["create", "--dry-run=server", "-f"], &case.path);
        assert!(accepted, "{}: {said}", case.name());
    }
    for case in cases("refused_updates") {
        // the first document is created, the second is refused
        let (accepted, said) = run(&["apply", "-f"], &case.path);
        let sentence = case.sentence.as_deref().unwrap();
        assert!(!accepted && said.contains(sentence), "{}: {sentence}\nbut the API server said: {said}", case.name());
        assert!(run(&["delete", "--ignore-not-found", "-f"], &case.path).0);
    }
}
