//! The record of our own edits of containerd's configuration, for the day on which they are taken back.
//!
//! An edit is written down before it is made, so that no crash leaves one that nobody knows of, and struck out again
//! when it did not come to be.

use jiff::Timestamp;
use registry_mirror_core::{
    config_toml::{self, Edit, MigratedRegistry, UndoOutcome},
    containerd::Version,
    digest::Digest,
    plan::{
        migrated::add_missing,
        rewrites::{self, OwnEdit},
    },
};
use registry_mirror_host::{
    file_error::FileError,
    restart::Edited,
    root::HostRoot,
    since_start,
    state::{ConfigEdit, StateDir},
};

/// The daemon that a file is read for when an edit is taken back: of all releases 1.x refuse the least (a byte-order
/// mark and broken UTF-8 in comments pass), and which table holds our key stands in the record.
pub(super) const MOST_LENIENT: Version = Version::new(1, 7, 0);

/// Writes down an edit that is about to be made. `migrated` is what it takes out of the file.
///
/// # Errors
/// On what the kernel says; the edit must not be made then.
pub(super) fn note(state: &StateDir, edit: &Edit, migrated: &[MigratedRegistry]) -> Result<(), FileError> {
    let Edit { file, before, after, undo, changes: _ } = edit;
    let root = state.writer().root();
    since_start::note(root, file, Some(after))?;
    let file = root.resolve(file)?.unwrap_or_else(|| file.clone());
    let mut edits = recorded(state)?;
    let now = Timestamp::now();
    let mut edit = ConfigEdit {
        config_file: file,
        before: before.as_deref().map(Digest::of),
        after: Digest::of(after),
        backup: None,
        undo: undo.clone(),
        migrated: migrated.to_vec(),
        made_at: now,
        reverts: Vec::new(),
    };
    edits.retain(|earlier| {
        let again = earlier.after == edit.after || is_gone(before.as_deref(), earlier);
        if earlier.config_file != edit.config_file || !again {
            return true;
        }
        // Somebody wrote over it, and it is made once more.
        edit.reverts = rewrites::recent(&earlier.reverts, now);
        edit.reverts.push(now);
        add_missing(&mut edit.migrated, &earlier.migrated);
        false
    });
    edits.push(edit);
    state.save_edits(&edits).map(drop)
}

/// Completes the record of an edit that was made with the copy of what stood there before.
///
/// # Errors
/// On what the kernel says.
pub(super) fn note_backup(state: &StateDir, edited: &Edited) -> Result<(), FileError> {
    let mut edits = recorded(state)?;
    if let Some(edit) = edits.iter_mut().rev().find(|edit| edit.config_file == edited.file) {
        edit.backup.clone_from(&edited.backup);
    }
    state.save_edits(&edits).map(drop)
}

/// Strikes out the edits of which nothing stands in the files: they were refused, undone, or written over. Otherwise a
/// person who sets the same key by hand later would lose it when the node is put back.
///
/// # Errors
/// On what the kernel says.
pub(super) fn forget_gone(state: &StateDir) -> Result<(), FileError> {
    let root = state.writer().root();
    let mut kept = Vec::new();
    for edit in recorded(state)? {
        if take_back(root, &edit)? != TakeBack::Nothing {
            kept.push(edit);
        }
    }
    state.save_edits(&kept).map(drop)
}

/// The last edit that was made, as far as it says which directory it set.
///
/// # Errors
/// On what the kernel says.
pub(super) fn last(state: &StateDir) -> Result<Option<OwnEdit>, FileError> {
    let Some(ConfigEdit { config_file, undo, reverts, .. }) = recorded(state)?.pop() else { return Ok(None) };
    Ok(undo.directory().map(|directory| OwnEdit { file: config_file, directory: directory.to_owned(), reverts }))
}

/// Whether nothing of an edit stands in these bytes of its file.
fn is_gone(bytes: Option<&[u8]>, edit: &ConfigEdit) -> bool {
    let Some(bytes) = bytes else { return true };
    config_toml::undo(bytes, &edit.undo, MOST_LENIENT) == UndoOutcome::Gone
}

pub(super) fn recorded(state: &StateDir) -> Result<Vec<ConfigEdit>, FileError> {
    Ok(state.edits()?.value.unwrap_or_default())
}

/// What taking an edit back asks for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum TakeBack {
    /// Nothing of the edit is left in the file.
    Nothing,
    /// The file becomes this.
    Write(Vec<u8>),
    /// The edit created the file, and nobody changed it since.
    Remove,
    /// It cannot be told apart from what others changed; a sentence for the person who must do it.
    ByHand(String),
}

/// How to take an edit back from the file as it stands now.
///
/// # Errors
/// On what the kernel says.
pub(super) fn take_back(root: &HostRoot, edit: &ConfigEdit) -> Result<TakeBack, FileError> {
    let Some(current) = root.read(&edit.config_file)? else { return Ok(TakeBack::Nothing) };
    let backup = edit.backup.as_deref().map(|path| root.read(path)).transpose()?.flatten();
    Ok(decide(&current, backup, edit))
}

/// Pure. The copy of before counts only while the file is as we wrote it; otherwise our own change alone is undone.
fn decide(current: &[u8], backup: Option<Vec<u8>>, edit: &ConfigEdit) -> TakeBack {
    let ConfigEdit { before, after, undo, .. } = edit;
    if Digest::of(current) == *after {
        match (before, backup) {
            (None, _) => return TakeBack::Remove,
            (Some(before), Some(backup)) if Digest::of(&backup) == *before => return TakeBack::Write(backup),
            (Some(_), _) => {}
        }
    }
    match config_toml::undo(current, undo, MOST_LENIENT) {
        UndoOutcome::Original(Some(bytes)) | UndoOutcome::TakenBack(bytes) => TakeBack::Write(bytes),
        UndoOutcome::Original(None) => TakeBack::Remove,
        UndoOutcome::Gone => TakeBack::Nothing,
        UndoOutcome::Refused(error) => TakeBack::ByHand(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use registry_mirror_core::config_toml::{MapSource, load, patch};

    use std::path::Path;

    use super::*;

    const FILE: &str = "/etc/containerd/config.toml";
    const BEFORE: &str = "version = 2\n# ours alone\n";

    fn edit_of(before: Option<&str>) -> (Edit, ConfigEdit) {
        let source = MapSource::new();
        let source = match before {
            Some(text) => source.with(FILE, text),
            None => source,
        };
        let config = load(Path::new(FILE), Version::new(1, 7, 35), &source).expect("loads");
        let edit = patch(&config, Path::new("/etc/containerd/certs.d")).expect("patches");
        let record = ConfigEdit {
            config_file: FILE.into(),
            before: before.map(|text| Digest::of(text.as_bytes())),
            after: Digest::of(&edit.after),
            backup: None,
            undo: edit.undo.clone(),
            migrated: Vec::new(),
            made_at: Timestamp::UNIX_EPOCH,
            reverts: Vec::new(),
        };
        (edit, record)
    }

    fn outcome(current: &[u8], backup: Option<&str>, record: &ConfigEdit) -> String {
        match decide(current, backup.map(|text| text.as_bytes().to_vec()), record) {
            TakeBack::Nothing => "nothing".to_owned(),
            TakeBack::Write(bytes) => String::from_utf8(bytes).expect("text"),
            TakeBack::Remove => "remove".to_owned(),
            TakeBack::ByHand(why) => format!("by hand: {why}"),
        }
    }

    #[test]
    fn the_backup_comes_back_verbatim_only_while_the_file_is_as_we_wrote_it() {
        let (edit, record) = edit_of(Some(BEFORE));
        assert_eq!(outcome(&edit.after, Some(BEFORE), &record), BEFORE);
        // a broken copy is not put back, and not needed
        assert_eq!(outcome(&edit.after, Some("version = 9\n"), &record), BEFORE);
        assert_eq!(outcome(&edit.after, None, &record), BEFORE);
        let changed = [&edit.after[..], b"root = \"/data\"\n"].concat();
        let changed = String::from_utf8(changed).expect("text").replace("# ours alone", "# theirs");
        let taken = outcome(changed.as_bytes(), Some(BEFORE), &record);
        assert!(taken.contains("# theirs") && !taken.contains("config_path"), "{taken}");
    }

    #[test]
    fn a_file_that_we_made_goes_unless_others_use_it() {
        let (edit, record) = edit_of(None);
        assert_eq!(outcome(&edit.after, None, &record), "remove");
        let changed = [&b"oom_score = -999\n"[..], &edit.after].concat();
        let taken = outcome(&changed, None, &record);
        assert!(taken.contains("oom_score") && !taken.contains("config_path"), "{taken}");
    }

    #[test]
    fn an_edit_of_which_nothing_is_left_is_nobodys() {
        let (_, record) = edit_of(Some(BEFORE));
        assert_eq!(outcome(BEFORE.as_bytes(), Some(BEFORE), &record), "nothing");
        assert_eq!(outcome(b"version = 3\n", Some(BEFORE), &record), "nothing");
    }
}
