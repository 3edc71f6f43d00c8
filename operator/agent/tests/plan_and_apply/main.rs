//! What `node plan` says and what `node apply` does are the same, on hosts as the distributions set them up.

#![cfg(test)]

#[path = "../../../host/tests/distributions/fixtures.rs"]
mod fixtures;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use registry_mirror_agent::node::Offline;
use registry_mirror_core::{
    bundle::Bundle,
    compile::{CompileOptions, References, compile},
    containerd::Version,
    node_plan::NodePlan,
    plan::files::StepKind,
    status::node::{RegistryFacts, Verdict},
};

use fixtures::{Fixture, fixtures};

/// Two objects, and what others may have left where they write.
const LEFT_BY_OTHERS: &[(&str, &str)] = &[
    ("docker.io/hosts.toml", "server = \"https://registry-1.docker.io\"\n[host.\"https://theirs\"]\n"),
    ("ghcr.io/ca.crt", "no certificate\n"),
];

fn bundle() -> Bundle {
    let object = |name: &str, registry: &str| {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": name},
            "spec": {"registry": registry, "mirrors": [{"url": "https://mirror.example.com"}]},
        }))
        .expect("an object")
    };
    let objects = [object("hub", "docker.io"), object("github", "ghcr.io")];
    compile(&objects, &References::default(), &CompileOptions::default()).bundle
}

fn build(fixture: &Fixture, directory: &Path) {
    for (path, text) in &fixture.files {
        let path = directory.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).expect("symlink"),
            None => fs::write(path, text).expect("write"),
        }
    }
}

/// Every regular file below a directory that is not our own record.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("a list") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            let path = Path::new("/").join(entry.path().strip_prefix(root).expect("below"));
            if kind.is_dir() && !path.starts_with("/var/lib/registry-mirror-operator") {
                left.push(entry.path());
            } else if kind.is_file() {
                found.insert(path, fs::read(entry.path()).expect("read"));
            }
        }
    }
    found
}

/// The files that the plan says it changes.
fn announced(plan: &NodePlan) -> BTreeSet<PathBuf> {
    if plan.stop.is_some() {
        return BTreeSet::new();
    }
    let steps = plan.steps();
    let written =
        steps.iter().filter(|step| matches!(step.what, StepKind::Write | StepKind::Remove | StepKind::Restore));
    let edit = plan.config.edit().map(|edit| edit.file.clone());
    written.map(|step| step.path.clone()).chain(edit).collect()
}

fn without_changes(registries: &[RegistryFacts]) -> Vec<(&str, Option<&str>, usize)> {
    registries.iter().map(|facts| (facts.hash.as_str(), facts.error.as_deref(), facts.notes.len())).collect()
}

/// Plans, applies, and compares; then there is nothing left to do.
fn check(fixture: &Fixture, with_files_of_others: bool) -> Verdict {
    let directory = tempfile::tempdir().expect("a directory");
    build(fixture, directory.path());
    let version: Version = fixture.containerd.parse().expect("a version");
    let host = || Offline::open(directory.path(), version).expect("a host");
    let bundle = bundle();
    if with_files_of_others && let Some(certs_d) = host().plan(None).expect("a plan").plan.directory() {
        let certs_d = directory.path().join(certs_d.strip_prefix("/").expect("absolute"));
        for (path, text) in LEFT_BY_OTHERS {
            let path = certs_d.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
    }
    let (plan, before) = (host().plan(Some(&bundle)).expect("a plan").plan, files(directory.path()));
    let facts = host().apply(&bundle);
    let after = files(directory.path());

    let names: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let changed: BTreeSet<PathBuf> =
        names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    assert_eq!(changed, announced(&plan), "{}: what was announced and what was done", fixture.name);
    let planned = plan.facts();
    let told = facts.plan.as_ref().map(|told| (told.kind, &told.reason, told.restart));
    assert_eq!(told, Some((planned.kind, &planned.reason, planned.restart)), "{}", fixture.name);
    assert_eq!(without_changes(&facts.registries), without_changes(&plan.registries), "{}", fixture.name);
    assert_eq!(facts.conflicts.is_empty(), plan.conflicts().is_empty() || plan.stop.is_some(), "{}", fixture.name);

    let again = host().plan(Some(&bundle)).expect("a plan").plan;
    assert_eq!(announced(&again), BTreeSet::new(), "{}: a second time", fixture.name);
    facts.verdict
}

#[test]
fn a_plan_announces_what_an_apply_does() {
    let mut outcomes = BTreeMap::new();
    for fixture in fixtures() {
        for with_files_of_others in [false, true] {
            let ready = check(&fixture, with_files_of_others) == Verdict::Ready;
            *outcomes.entry(ready).or_insert(0) += 1;
        }
    }
    // Hosts that are served and hosts that are refused, so that both ways are compared.
    assert!(
        outcomes.get(&true).copied().unwrap_or(0) > 20 && outcomes.get(&false).copied().unwrap_or(0) > 4,
        "{outcomes:?}"
    );
}
