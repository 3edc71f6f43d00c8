//! Taking our own edit back from files that others changed since.

use std::path::Path;

use registry_mirror_core::{
    config_toml::{self, Edit, MapSource, UndoError, UndoOutcome},
    containerd::Version,
};

const MAIN: &str = "/etc/containerd/config.toml";
const DIRECTORY: &str = "/etc/containerd/certs.d";
const V1: Version = Version::new(1, 7, 35);
const V2: Version = Version::new(2, 1, 9);

fn edit(text: &str, version: Version) -> Edit {
    let config = config_toml::load(Path::new(MAIN), version, &MapSource::new().with(MAIN, text)).expect("loads");
    config_toml::migrate(&config, Path::new(DIRECTORY), "2026-11-21").expect("edits").0
}

fn text(edit: &Edit) -> String {
    String::from_utf8(edit.after.clone()).expect("UTF-8")
}

fn taken_back(current: &str, edit: &Edit, version: Version) -> String {
    match config_toml::undo(current.as_bytes(), &edit.undo, version) {
        UndoOutcome::TakenBack(bytes) => String::from_utf8(bytes).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

const TABLE: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n";
const PLUGIN: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"a\"\n";
const LIST: &str = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/a:/b' # old\n";
const MIRRORS: &str = "\
version = 2
[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]
  endpoint = [\"https://a.example\"]
";

#[test]
fn a_line_that_we_added_goes_and_others_stay() {
    let edit = edit(TABLE, V1);
    let current =
        text(&edit).replace("version = 2\n", "version = 2\noom_score = -999\n") + "[debug]\n  level = \"info\"\n";
    let expected = TABLE.replace("version = 2\n", "version = 2\noom_score = -999\n") + "[debug]\n  level = \"info\"\n";
    assert_eq!(taken_back(&current, &edit, V1), expected);
}

#[test]
fn a_value_that_we_replaced_comes_back_as_it_was_written() {
    let edit = edit(LIST, V2);
    let current = text(&edit).replace("# old", "# new");
    assert_eq!(taken_back(&current, &edit, V2), LIST.replace("# old", "# new"));
}

#[test]
fn a_line_of_ours_that_was_indented_anew_goes_all_the_same() {
    let edit = edit(TABLE, V1);
    let current = text(&edit).replace("  config_path = ", "\tconfig_path=");
    assert_eq!(taken_back(&current, &edit, V1), TABLE);
}

#[test]
fn a_header_of_ours_goes_with_its_key() {
    let edit = edit(PLUGIN, V1);
    assert_eq!(taken_back(&(text(&edit) + "# end\n"), &edit, V1), PLUGIN.to_owned() + "# end\n");
}

#[test]
fn a_header_of_ours_goes_also_from_under_a_comment() {
    let edit = edit(PLUGIN, V1);
    let current = text(&edit).replace(".registry]\n", ".registry]\n# set by whom?\n");
    assert_eq!(taken_back(&current, &edit, V1), PLUGIN.to_owned() + "\n# set by whom?\n");
}

#[test]
fn a_header_of_ours_stays_under_which_others_put_keys() {
    let edit = edit(PLUGIN, V1);
    let current = text(&edit) + "  headers = { X-Team = [\"blue\"] }\n";
    let expected =
        PLUGIN.to_owned() + "\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  headers = { X-Team = [\"blue\"] }\n";
    assert_eq!(taken_back(&current, &edit, V1), expected);
}

#[test]
fn what_others_set_since_is_not_ours() {
    let edit = edit(TABLE, V1);
    let current = text(&edit).replace(DIRECTORY, "/srv/certs.d");
    assert_eq!(config_toml::undo(current.as_bytes(), &edit.undo, V1), UndoOutcome::Gone);
    assert_eq!(config_toml::undo(TABLE.as_bytes(), &edit.undo, V1), UndoOutcome::Gone);
    assert_eq!(config_toml::undo(b"", &edit.undo, V1), UndoOutcome::Gone);
}

#[test]
fn a_file_that_we_created_goes_unless_others_wrote_into_it() {
    let config = config_toml::load(Path::new(MAIN), V2, &MapSource::new()).expect("loads");
    let edit = config_toml::patch(&config, Path::new(DIRECTORY)).expect("edits");
    assert_eq!(edit.before, None);
    assert_eq!(config_toml::undo(&edit.after, &edit.undo, V2), UndoOutcome::Original(None));
    let current = text(&edit) + "[debug]\n  level = \"info\"\n";
    assert_eq!(taken_back(&current, &edit, V2), "version = 3\n[debug]\n  level = \"info\"\n");
}

#[test]
fn old_tables_come_back_between_the_changes_of_others() {
    let edit = edit(MIRRORS, V1);
    let current = text(&edit).replace("version = 2\n", "version = 2\n# hello\n") + "[debug]\n";
    let expected = MIRRORS.replace("version = 2\n", "version = 2\n# hello\n") + "[debug]\n";
    assert_eq!(taken_back(&current, &edit, V1), expected);
}

#[test]
fn old_tables_that_were_edited_in_their_comment_are_left_alone() {
    let edit = edit(MIRRORS, V1);
    let current = text(&edit).replace("https://a.example", "https://b.example");
    let outcome = config_toml::undo(current.as_bytes(), &edit.undo, V1);
    let UndoOutcome::Refused(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        error.to_string(),
        "/etc/containerd/config.toml:2: registry-mirror-operator changed this place, and it was rewritten since: take \
         `config_path` out by hand, and the comment marks off the old tables"
    );
}

#[test]
fn old_tables_that_were_deleted_stay_deleted() {
    let edit = edit(MIRRORS, V1);
    let current: String = text(&edit).split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    assert_eq!(taken_back(&current, &edit, V1), "version = 2\n");
}

#[test]
fn what_forces_local_pulls_goes_with_the_return_of_the_old_tables() {
    let edit = edit(MIRRORS, V2);
    assert!(text(&edit).contains("use_local_image_pull = true"), "{}", text(&edit));
    assert_eq!(taken_back(&(text(&edit) + "# end\n"), &edit, V2), MIRRORS.to_owned() + "# end\n");
    // a person has set it to something else: that stays
    let theirs = text(&edit).replace("use_local_image_pull = true", "use_local_image_pull = false");
    assert!(taken_back(&theirs, &edit, V2).contains("use_local_image_pull = false"));
}

#[test]
fn what_forces_local_pulls_stays_where_the_old_tables_do_not_come_back() {
    let edit = edit(MIRRORS, V2);
    let without: String = text(&edit).lines().filter(|line| !line.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let back = taken_back(&without, &edit, V2);
    assert!(back.contains("use_local_image_pull = true") && !back.contains("config_path"), "{back}");
}

#[test]
fn a_record_of_the_time_before_local_pulls_were_kept_is_read() {
    let edit = edit(LIST, V2);
    let mut record = serde_json::to_value(&edit.undo).expect("JSON");
    let key = record["key"].as_object_mut().expect("a key");
    assert_eq!(key.remove("name"), Some("config_path".into()));
    assert!(record.get("local_pull").is_none());
    let old: config_toml::Undo = serde_json::from_value(record).expect("is read");
    assert_eq!(old, edit.undo);
}

#[test]
fn old_tables_never_come_back_beside_the_config_path_of_others() {
    let edit = edit(MIRRORS, V1);
    let current = text(&edit).replace("config_path = \"/etc/containerd/certs.d\"", "config_path = \"/srv\"");
    assert_eq!(config_toml::undo(current.as_bytes(), &edit.undo, V1), UndoOutcome::Gone);
}

#[test]
fn a_file_with_which_cri_did_not_load_is_not_put_back_beside_what_others_wrote() {
    let broken = MIRRORS.to_owned()
        + "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";
    let edit = edit(&broken, V1);
    assert_eq!(config_toml::undo(&edit.after, &edit.undo, V1), UndoOutcome::Original(Some(broken.into_bytes())));
    let current = text(&edit) + "[debug]\n";
    let outcome = config_toml::undo(current.as_bytes(), &edit.undo, V1);
    let UndoOutcome::Refused(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        error.to_string(),
        "/etc/containerd/config.toml: the old registry tables cannot be put back beside the `config_path` that stands \
         there now, because containerd does not load CRI with both"
    );
}

#[test]
fn a_file_that_was_broken_since_is_left_alone() {
    let edit = edit(TABLE, V1);
    let current = text(&edit) + "[unclosed\n";
    let outcome = config_toml::undo(current.as_bytes(), &edit.undo, V1);
    assert!(matches!(outcome, UndoOutcome::Refused(UndoError::Config(_))), "{outcome:?}");
}

#[test]
fn a_backup_may_be_put_back_only_over_what_we_wrote() {
    let edit = edit(TABLE, V1);
    assert!(edit.undo.wrote(&edit.after));
    assert!(!edit.undo.wrote(TABLE.as_bytes()));
}
