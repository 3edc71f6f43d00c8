//! Sets `config_path` where the daemon reads it, and changes nothing else.
//!
//! Which file and table that is depends on the daemon's version, the files' versions and their order. So candidates are
//! tried in order of preference, and the merge rules themselves judge them: the one is taken after which the daemon
//! reads the directory and everything else as before.

use std::path::{Path, PathBuf};

use super::{
    LoadedConfig,
    analysis::Effectiveness,
    document::ConfigFile,
    errors::PatchError,
    judge::{self, Judge, PathChange},
    node::{Node, Scalar},
    pull_path::Trigger,
    splice::{self, Splice},
    undo::{KeyUndo, Undo},
    version::{self, CONFIG_PATH, Spelling},
};

/// One key that an edit changes. Values are never secrets: old tables are named by their hosts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The file, as the host names it.
    pub file: PathBuf,
    /// Dotted.
    pub key: String,
    /// Before; `None` where it was absent.
    pub from: Option<String>,
    /// After; `None` where it is commented out.
    pub to: Option<String>,
}

/// An edit of one file: what it is, what it becomes, and how to take it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file, as the host names it.
    pub file: PathBuf,
    /// As it was read; `None` where it does not exist yet.
    pub before: Option<Vec<u8>>,
    /// As it must become; equal to `before` where nothing is to be done.
    pub after: Vec<u8>,
    /// Empty where nothing is to be done.
    pub changes: Vec<Change>,
    /// How to take exactly this edit back.
    pub undo: Undo,
}

impl Edit {
    /// Whether the file needs no writing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Plans `config_path = directory` in the table that the daemon reads. The identity where that is so already.
///
/// # Errors
/// CRI is disabled, old settings stand in the way, the directory cannot stand there, or no edit does exactly this.
pub fn patch(config: &LoadedConfig, directory: &Path) -> Result<Edit, PatchError> {
    let analysis = config.analyze();
    check(config, directory)?;
    if let Some(in_the_way) = analysis.in_the_way() {
        let (file, line, key) = (in_the_way.file, in_the_way.line, in_the_way.value);
        return Err(PatchError::NeedsMigration { file, line, key, version: config.version });
    }
    let judge = Judge { only: None, first: None, reference: config, removed: &[] };
    set_directory(config, directory, &judge)
}

/// What both [`patch`] and [`super::migrate`] refuse.
pub(crate) fn check(config: &LoadedConfig, directory: &Path) -> Result<(), PatchError> {
    if let Some(disabled) = config.analyze().cri_disabled {
        let (file, line, name) = (disabled.file, disabled.line, disabled.value);
        return Err(PatchError::CriDisabled { file, line, name, version: config.version });
    }
    let plain = |text: &str| !text.contains(':') && !text.chars().any(char::is_control);
    if !directory.is_absolute() || !directory.to_str().is_some_and(plain) {
        return Err(PatchError::Directory { directory: directory.to_owned() });
    }
    Ok(())
}

/// [`patch`] without its checks: also for a configuration whose old settings were just taken out.
pub(crate) fn set_directory(config: &LoadedConfig, directory: &Path, judge: &Judge<'_>) -> Result<Edit, PatchError> {
    let no_place = || PatchError::NoPlace { main: config.main.clone(), version: config.version };
    let value = &Scalar::Text(directory.to_str().ok_or_else(no_place)?.to_owned());
    if config.files.is_empty() {
        return new_file(config, directory, value).ok_or_else(no_place);
    }
    let origin = config.effective.registry.config_path.as_ref().map(|(_, place)| place.file);
    let index = judge.only.or(origin).unwrap_or(0);
    if judge.accepts(config, index, directory)
        && let Some(edit) = on_the_same_path(config, index, None, judge)
    {
        return Ok(edit);
    }
    candidates(config, judge)
        .into_iter()
        .filter(|candidate| judge.only.is_none_or(|only| candidate.file == only))
        .find_map(|candidate| try_candidate(config, candidate, directory, value, judge))
        .ok_or_else(no_place)
}

/// The edit that sets the directory, and `use_local_image_pull` with it where the daemon would pull by another path than
/// before: the old tables were what made it pull by its own client. `None` where the path cannot be kept.
fn on_the_same_path(config: &LoadedConfig, index: usize, directory: Option<KeySet>, judge: &Judge<'_>) -> Option<Edit> {
    let edited = directory.as_ref().map_or(config, |set| &set.config);
    let local_pull = match judge.path_change(edited) {
        PathChange::None => None,
        PathChange::ToTransfer => Some(force_local_pull(edited, index)?),
        PathChange::ToLocal => return None,
    };
    let file = &config.files[index];
    let last = local_pull.as_ref().or(directory.as_ref());
    let after = last.map_or_else(|| file.bytes().to_vec(), |set| set.after.clone());
    let mut undo = Undo::nothing(file.path(), &after);
    let mut changes = Vec::new();
    if let Some(KeySet { change, back, undo: key, .. }) = local_pull {
        undo.set_local_pull(back, key);
        changes.push(change);
    }
    if let Some(KeySet { change, back, undo: key, .. }) = directory {
        undo.set_config_path(back, key);
        changes.push(change);
    }
    Some(Edit { file: file.path().to_owned(), before: Some(file.bytes().to_vec()), after, changes, undo })
}

/// Makes the daemon pull by its own client.
///
/// 2.x does not carry the key over from the table of the old plugin (seen on 2.4.2): it stands in the table of the new
/// one, in files of each version.
fn force_local_pull(config: &LoadedConfig, index: usize) -> Option<KeySet> {
    let [key] = Trigger::UseLocalImagePull.path() else { return None };
    let accepts = |edited: &LoadedConfig| judge::only_forces_local_pull(config, edited, index);
    set_key(config, index, (&Spelling::Images.plugin_table(), key), &Scalar::Boolean(true), accepts)
}

fn new_file(config: &LoadedConfig, directory: &Path, value: &Scalar) -> Option<Edit> {
    let declared = version::for_new_file(config.version);
    let spelling = Spelling::for_new_table(config.version, Some(declared));
    let start = format!("version = {declared}\n");
    let empty = ConfigFile::parse(0, &config.main, start.into_bytes(), config.version).ok()?;
    let splice = splice::insert_key(empty.document(), &spelling.table(), CONFIG_PATH, value).into_iter().next()?;
    let after = splice::apply(empty.bytes(), std::slice::from_ref(&splice))?;
    let edited = ConfigFile::parse(0, &config.main, after.clone(), config.version).ok()?;
    let result = LoadedConfig::build(config.version, config.main.clone(), vec![edited]).ok()?;
    (result.analyze().effectiveness == Effectiveness::Directory(directory.to_owned())).then_some(())?;
    let key = KeyUndo::new(&spelling.table(), CONFIG_PATH, value, None, splice.with);
    let undo = Undo::new_file(&config.main, &after, key);
    let changes = vec![change(&config.main, &spelling.table(), CONFIG_PATH, None, value)];
    Some(Edit { file: config.main.clone(), before: None, after, changes, undo })
}

fn change(file: &Path, table: &[&str], key: &str, from: Option<&Node>, to: &Scalar) -> Change {
    let from = from.and_then(Node::scalar).map(|from| from.to_string());
    Change { file: file.to_owned(), key: splice::dotted(table, key), from, to: Some(to.to_string()) }
}

/// Where `config_path` could be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    file: usize,
    spelling: Spelling,
}

/// In order of preference: where the key stands, where the table stands, where the plugin stands, then the main file.
fn candidates(config: &LoadedConfig, judge: &Judge<'_>) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |candidate: Candidate| {
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    if let Some((_, place)) = &config.effective.registry.config_path
        && let Some(spelling) = super::analysis::spelling_at(&config.files, *place)
    {
        add(Candidate { file: place.file, spelling });
    }
    if let (Some(file), Some(spelling)) = (judge.only, judge.first) {
        add(Candidate { file, spelling });
    }
    let plugins = |index: usize| config.files[index].document().root.get("plugins");
    for depth in [2, 1] {
        for file in 0..config.files.len() {
            for spelling in Spelling::ALL {
                let path = [spelling.plugin(), "registry"];
                if plugins(file).is_some_and(|plugins| plugins.at(&path[..depth]).is_some()) {
                    add(Candidate { file, spelling });
                }
            }
        }
    }
    let declared =
        if config.version.is_v1() { Some(config.effective.version) } else { config.files[0].declared_version() };
    add(Candidate { file: 0, spelling: Spelling::for_new_table(config.version, declared) });
    for file in 0..config.files.len() {
        for spelling in Spelling::ALL {
            add(Candidate { file, spelling });
        }
    }
    found
}

fn try_candidate(
    config: &LoadedConfig,
    candidate: Candidate,
    directory: &Path,
    value: &Scalar,
    judge: &Judge<'_>,
) -> Option<Edit> {
    let Candidate { file: index, spelling } = candidate;
    let accepts = |edited: &LoadedConfig| judge.accepts(edited, index, directory);
    let set = set_key(config, index, (&spelling.table(), CONFIG_PATH), value, accepts)?;
    on_the_same_path(config, index, Some(set), judge)
}

/// A key that was set in one file.
struct KeySet {
    /// With the edited file.
    config: LoadedConfig,
    /// The edited file.
    after: Vec<u8>,
    change: Change,
    /// From the edited file to the one before.
    back: Vec<Splice>,
    undo: KeyUndo,
}

/// Sets a key of a table in the first of the ways after which all is as it must be.
fn set_key(
    config: &LoadedConfig,
    index: usize,
    (table, key): (&[&str], &str),
    value: &Scalar,
    accepts: impl Fn(&LoadedConfig) -> bool,
) -> Option<KeySet> {
    let file = &config.files[index];
    let document = file.document();
    let (root, below) = table.split_first()?;
    let old = document.root.get(*root).and_then(|node| node.at(below)?.at(&[key]));
    let ways = match old {
        Some(node) => vec![splice::replace_value(document, &(node.place.start..node.place.end), value)],
        None => splice::insert_key(document, table, key, value),
    };
    ways.into_iter().find_map(|splice| {
        let at = splice.at.start + document.mark..splice.at.end + document.mark;
        let splices = [Splice { at, ..splice }];
        let after = splice::apply(file.bytes(), &splices)?;
        let edited = config.with_file(index, after.clone()).ok().filter(&accepts)?;
        let back = splice::inverse(file.bytes(), &splices)?;
        let [Splice { with: added, .. }] = splices;
        let replaced = old.and_then(|_| Some(back.first()?.with.clone()));
        let undo = KeyUndo::new(table, key, value, replaced, added);
        let change = change(file.path(), table, key, old, value);
        Some(KeySet { config: edited, after, change, back, undo })
    })
}
