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
    node::{Kind, Node, Table, same_tables},
    splice::{self, Splice},
    undo::Undo,
    version::{self, Spelling},
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
    set_directory(config, directory, &Judge { only: None, first: None, reference: config, removed: &[] })
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

/// Which edit of [`set_directory`] is right.
pub(crate) struct Judge<'a> {
    /// The file that may be edited; any where it is `None`.
    pub(crate) only: Option<usize>,
    /// The table to try first, unless `config_path` stands somewhere already.
    pub(crate) first: Option<Spelling>,
    /// What the daemon must read as before, apart from `config_path`, ...
    pub(crate) reference: &'a LoadedConfig,
    /// ... and from what was taken out of that file.
    pub(crate) removed: &'a [Vec<&'a str>],
}

impl Judge<'_> {
    fn accepts(&self, edited: &LoadedConfig, file: usize, directory: &Path) -> bool {
        edited.analyze().effectiveness == Effectiveness::Directory(directory.to_owned())
            && same_but_for(self.reference, edited, file, self.removed)
    }
}

/// [`patch`] without its checks: also for a configuration whose old settings were just taken out.
pub(crate) fn set_directory(config: &LoadedConfig, directory: &Path, judge: &Judge<'_>) -> Result<Edit, PatchError> {
    let no_place = || PatchError::NoPlace { main: config.main.clone(), version: config.version };
    let value = directory.to_str().ok_or_else(no_place)?;
    if config.files.is_empty() {
        return new_file(config, directory, value).ok_or_else(no_place);
    }
    let origin = config.effective.registry.config_path.as_ref().map(|(_, place)| place.file);
    let index = judge.only.or(origin).unwrap_or(0);
    if judge.accepts(config, index, directory) {
        return Ok(unchanged(&config.files[index]));
    }
    candidates(config, judge)
        .into_iter()
        .filter(|candidate| judge.only.is_none_or(|only| candidate.file == only))
        .find_map(|candidate| try_candidate(config, candidate, directory, value, judge))
        .ok_or_else(no_place)
}

fn unchanged(file: &ConfigFile) -> Edit {
    let bytes = file.bytes().to_vec();
    let undo = Undo::nothing(file.path(), &bytes);
    Edit { file: file.path().to_owned(), before: Some(bytes.clone()), after: bytes, changes: Vec::new(), undo }
}

fn new_file(config: &LoadedConfig, directory: &Path, value: &str) -> Option<Edit> {
    let declared = version::for_new_file(config.version);
    let spelling = Spelling::for_new_table(config.version, Some(declared));
    let start = format!("version = {declared}\n");
    let empty = ConfigFile::parse(0, &config.main, start.into_bytes(), config.version).ok()?;
    let splice = splice::insert_key(empty.document(), &spelling.table(), "config_path", value).into_iter().next()?;
    let after = splice::apply(empty.bytes(), std::slice::from_ref(&splice))?;
    let edited = ConfigFile::parse(0, &config.main, after.clone(), config.version).ok()?;
    let result = LoadedConfig::build(config.version, config.main.clone(), vec![edited]).ok()?;
    (result.analyze().effectiveness == Effectiveness::Directory(directory.to_owned())).then_some(())?;
    let undo = Undo::new_file(&config.main, &after, &spelling.table(), value, splice.with);
    let changes = vec![change(&config.main, spelling, None, value)];
    Some(Edit { file: config.main.clone(), before: None, after, changes, undo })
}

fn change(file: &Path, spelling: Spelling, from: Option<&str>, to: &str) -> Change {
    let key = format!("{}.config_path", spelling.display());
    Change { file: file.to_owned(), key, from: from.map(str::to_owned), to: Some(to.to_owned()) }
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
    value: &str,
    judge: &Judge<'_>,
) -> Option<Edit> {
    let Candidate { file: index, spelling } = candidate;
    let file = &config.files[index];
    let document = file.document();
    let table = spelling.table();
    let old = document.root.get(table[0]).and_then(|node| node.at(&[table[1], table[2], "config_path"]));
    let ways = match old {
        Some(node) => vec![splice::replace_value(document, &(node.place.start..node.place.end), value)],
        None => splice::insert_key(document, &table, "config_path", value),
    };
    ways.into_iter().find_map(|splice| {
        let at = splice.at.start + document.mark..splice.at.end + document.mark;
        let splices = [Splice { at, ..splice }];
        let after = splice::apply(file.bytes(), &splices)?;
        let edited = config.with_file(index, after.clone()).ok()?;
        if !judge.accepts(&edited, index, directory) {
            return None;
        }
        let undo = Undo::new(file.path(), file.bytes(), &after, &splices, &table, value, old.is_none())?;
        let changes = vec![change(file.path(), spelling, old.and_then(Node::text), value)];
        Some(Edit { file: file.path().to_owned(), before: Some(file.bytes().to_vec()), after, changes, undo })
    })
}

/// Whether the daemon reads both the same, apart from `config_path` of the registry tables and the paths that were taken
/// out.
fn same_but_for(a: &LoadedConfig, b: &LoadedConfig, edited: usize, removed: &[Vec<&str>]) -> bool {
    let rest = |config: &LoadedConfig| {
        let mut root = config.files[edited].document().root.clone();
        if let Some(Node { kind: Kind::Table(plugins), .. }) = root.get_mut("plugins") {
            *plugins = stripped(plugins, removed);
        }
        root.retain(|name, node| name != "plugins" || node.table().is_none_or(|table| !table.is_empty()));
        root
    };
    // what was taken out under an old name is missing under the name that it was migrated to as well
    let migrated: Vec<Vec<&str>> = Spelling::ALL
        .into_iter()
        .flat_map(|spelling| removed.iter().map(move |path| [&spelling.table(), &path[3..]].concat()))
        .collect();
    let merged = |config: &LoadedConfig| stripped(&config.effective.plugins, &migrated);
    same_tables(&merged(a), &merged(b)) && same_tables(&rest(a), &rest(b))
}

/// The plugin tables without `config_path` in registry tables and without the removed paths, and without tables of the
/// CRI plugin that are empty then.
fn stripped(plugins: &Table, removed: &[Vec<&str>]) -> Table {
    let mut plugins = plugins.clone();
    for spelling in Spelling::ALL {
        let [_, plugin, registry] = spelling.table();
        remove(&mut plugins, &[plugin, registry, "config_path"]);
    }
    for path in removed {
        remove(&mut plugins, &path[1..]);
    }
    plugins
}

/// Removes a key, and every table on the way that is empty then.
fn remove(table: &mut Table, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.remove(*first);
    } else if let Some(Node { kind: Kind::Table(below), .. }) = table.get_mut(*first) {
        remove(below, rest);
        if below.is_empty() {
            table.remove(*first);
        }
    }
}
