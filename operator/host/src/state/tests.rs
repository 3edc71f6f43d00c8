use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use registry_mirror_core::plan::files::{BackupId, Original};

use super::*;
use crate::{
    files::{Attributes, Owner, WriteScope},
    root::HostRoot,
};

const CERTS_D: &str = "/etc/containerd/certs.d";

struct Host {
    directory: tempfile::TempDir,
    state: StateDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(directory.path().join("var/lib")).expect("mkdir");
        fs::create_dir_all(directory.path().join("etc/containerd/certs.d/docker.io")).expect("mkdir");
        let scope = WriteScope::for_host([Path::new("/etc/containerd/config.toml")], Path::new(CERTS_D));
        let writer = HostWriter::new(HostRoot::open(directory.path()).expect("open"), scope);
        let state = StateDir::open(&writer).expect("state");
        Self { directory, state }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn state_file(&self, name: &str) -> PathBuf {
        self.path("var/lib/registry-mirror-operator").join(name)
    }
}

fn owned(object: &str, backup: Option<Backup>) -> Ownership {
    let directory = OwnedDirectory {
        object: object.to_owned(),
        created: true,
        written: Some(Digest::of(b"x")),
        certificates: BTreeMap::new(),
        backup,
        reverts: PutBacks::default(),
    };
    Ownership { directories: BTreeMap::from([("docker.io".to_owned(), directory)]), superseded: Vec::new() }
}

#[test]
fn only_root_can_read_it() {
    let host = Host::new();
    let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
    assert_eq!(mode(&host.state_file("")), 0o700);
    fs::set_permissions(host.state_file(""), fs::Permissions::from_mode(0o755)).expect("chmod");
    let again = StateDir::open(host.state.writer()).expect("open");
    assert_eq!(mode(&host.state_file("")), 0o700, "narrowed again");
    again.save_bundle(&"secret").expect("save");
    assert_eq!(mode(&host.state_file("bundle.json")), 0o600);
    assert_eq!(again.bundle::<String>().expect("load").value.as_deref(), Some("secret"));
    again.remove_bundle().expect("remove");
    assert_eq!(again.bundle::<String>().expect("load").value, None);
}

#[test]
fn each_certs_d_has_its_own_record() {
    let host = Host::new();
    let (one, two) = (Path::new("/a/certs.d"), Path::new("/b/certs.d"));
    host.state.save_ownership(one, &owned("one", None)).expect("save");
    host.state.save_ownership(two, &owned("two", None)).expect("save");
    assert_eq!(host.state.ownership(one).expect("load"), (owned("one", None), Vec::new()));
    assert_eq!(host.state.owned_certs_d().expect("list"), [one, two]);
    assert_eq!(host.state.save_ownership(one, &owned("one", None)), Ok(Written::Unchanged));
    host.state.save_ownership(one, &Ownership::default()).expect("save");
    host.state.save_ownership(two, &Ownership::default()).expect("save");
    assert!(!host.state_file("ownership.json").exists(), "nothing is left behind");
}

#[test]
fn backups_keep_every_kind_of_file_as_it_was() {
    let host = Host::new();
    let at = Path::new("/etc/containerd/certs.d/docker.io/hosts.toml");
    let real = host.path("etc/containerd/certs.d/docker.io/hosts.toml");
    for content in [&b"text\n"[..], b"\xff\xfe not text", b""] {
        fs::write(&real, content).expect("write");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("chmod");
        let backup = host.state.back_up(at).expect("back up");
        assert_eq!(host.state.back_up(at).expect("again"), backup);
        let ours = Attributes { mode: 0o600, owner: Owner::Root };
        host.state.writer().replace(at, b"ours", ours).expect("write");
        host.state.restore(at, &backup.id).expect("restore");
        assert_eq!(fs::read(&real).expect("read"), content);
        assert_eq!(fs::metadata(&real).expect("stat").mode() & 0o7777, 0o640);
    }
    fs::remove_file(&real).expect("remove");
    symlink("../elsewhere", &real).expect("symlink");
    let backup = host.state.back_up(at).expect("back up");
    assert_eq!(backup.original, Original::Symlink { target: "../elsewhere".to_owned() });
    host.state.writer().replace(at, b"ours", Attributes { mode: 0o600, owner: Owner::Root }).expect("write");
    host.state.restore(at, &backup.id).expect("restore");
    assert_eq!(fs::read_link(&real).expect("readlink"), Path::new("../elsewhere"));
    assert_eq!(host.state.backups_beneath(Path::new(CERTS_D)).expect("list").len(), 4);
}

#[test]
fn a_broken_or_missing_backup_is_said_and_leaves_the_file() {
    let host = Host::new();
    let at = Path::new("/etc/containerd/certs.d/docker.io/hosts.toml");
    let real = host.path("etc/containerd/certs.d/docker.io/hosts.toml");
    fs::write(&real, "theirs").expect("write");
    let backup = host.state.back_up(at).expect("back up");
    let copy = host.state_file(&format!("backups/{}.json", backup.id));
    let changed = fs::read_to_string(&copy).expect("read").replace("theirs", "forged");
    fs::write(&copy, changed).expect("write");
    let error = host.state.restore(at, &backup.id).expect_err("forged").to_string();
    assert!(error.contains("is missing or broken"), "{error}");
    fs::write(&copy, "{").expect("write");
    host.state.restore(at, &backup.id).expect_err("broken");
    assert_eq!(fs::read_to_string(&real).expect("read"), "theirs");

    host.state.save_ownership(Path::new(CERTS_D), &owned("hub", Some(backup))).expect("save");
    let (ownership, warnings) = host.state.ownership(Path::new(CERTS_D)).expect("load");
    assert_eq!(ownership.directories["docker.io"].backup, None);
    assert!(warnings.concat().contains("cannot be put back"), "{warnings:?}");
}

#[test]
fn a_broken_record_is_set_aside_and_made_up_for_by_the_backups() {
    let host = Host::new();
    let certs_d = Path::new(CERTS_D);
    let at = certs_d.join("docker.io/hosts.toml");
    fs::write(host.path("etc/containerd/certs.d/docker.io/hosts.toml"), "theirs").expect("write");
    let backup = host.state.back_up(&at).expect("back up");
    for broken in ["", "{", "[]", "{\"version\": 1}", "{\"version\": 1, \"data\":[\"s3cret\"]}"] {
        host.state.save_ownership(certs_d, &owned("hub", Some(backup.clone()))).expect("save");
        fs::write(host.state_file("ownership.json"), broken).expect("write");
        let (ownership, warnings) = host.state.ownership(certs_d).expect("load");
        assert_eq!(ownership.directories["docker.io"].backup.as_ref(), Some(&backup), "{broken}");
        assert_eq!(warnings.len(), 1, "{broken}");
        assert!(warnings[0].contains("was set aside as") && !warnings[0].contains("s3cret"), "{warnings:?}");
        assert!(!host.state_file("ownership.json").exists());
    }
    let aside = fs::read_dir(host.state_file(""))
        .expect("list")
        .filter(|entry| entry.as_ref().expect("entry").file_name().to_string_lossy().contains(".broken-"));
    assert_eq!(aside.count(), 5);
}

#[test]
fn what_a_newer_release_wrote_is_left_as_it_is_and_what_needs_it_is_refused() {
    let host = Host::new();
    let newer = "{\"version\": 99, \"data\": {}}";
    for name in ["ownership.json", "bundle.json", "edits.json", "restarts.json"] {
        fs::write(host.state_file(name), newer).expect("write");
    }
    let (state, certs_d) = (&host.state, Path::new(CERTS_D));
    let refusals = [
        state.ownership(certs_d).map(drop),
        state.save_ownership(certs_d, &owned("hub", None)).map(drop),
        state.save_ownership(certs_d, &Ownership::default()).map(drop),
        state.bundle::<String>().map(drop),
        state.save_bundle(&"ours").map(drop),
        state.edits().map(drop),
        state.save_edits(&[]).map(drop),
        state.restarts().map(drop),
        state.save_restarts(&Restarts::default()).map(drop),
    ];
    for (index, refusal) in refusals.into_iter().enumerate() {
        let error = refusal.expect_err(&index.to_string()).to_string();
        assert!(error.contains("a newer release of registry-mirror-operator wrote it (layout 99"), "{error}");
    }
    let mut standing: Vec<_> =
        fs::read_dir(host.state_file("")).expect("list").map(|entry| entry.expect("entry").path()).collect();
    standing.sort();
    assert_eq!(standing.len(), 4, "{standing:?}");
    for file in standing {
        assert_eq!(fs::read_to_string(&file).expect("read"), newer, "{}", file.display());
    }
}

/// A host that is updated keeps its state: these are the bytes of layout 1.
#[test]
fn the_edits_of_layout_1_are_read() {
    let host = Host::new();
    fs::write(host.state_file("edits.json"), include_str!("tests/edits-1.json")).expect("write");
    let edits = host.state.edits().expect("load").value.expect("read");
    assert_eq!(edits[0].config_file, Path::new("/etc/containerd/config.toml"));
    assert_eq!(edits[0].undo.directory(), Some(Path::new(CERTS_D)));
    host.state.save_edits(&edits).expect("save");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let again = fs::read_to_string(host.state_file("edits.json")).expect("read");
    assert_eq!(json(&again), json(include_str!("tests/edits-1.json")), "nothing of it is lost");
}

#[test]
fn unneeded_backups_go_and_others_stay() {
    let host = Host::new();
    let (ours, theirs) =
        (Path::new("/etc/containerd/certs.d/docker.io/hosts.toml"), Path::new("/etc/containerd/config.toml"));
    fs::write(host.path("etc/containerd/certs.d/docker.io/hosts.toml"), "a").expect("write");
    fs::write(host.path("etc/containerd/config.toml"), "b").expect("write");
    let gone = host.state.back_up(ours).expect("back up");
    let kept = host.state.back_up(theirs).expect("back up");
    host.state.prune_backups(Path::new(CERTS_D), &[].into()).expect("prune");
    assert_eq!(host.state.backup(&gone.id).expect("load"), None);
    assert!(host.state.backup(&kept.id).expect("load").is_some());
    assert_eq!(BackupId::parse("../../etc/passwd"), None);
}
