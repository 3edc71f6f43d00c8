//! containerd's config.toml: load, analyse, patch, migrate, undo.

use std::{collections::BTreeMap, path::Path};

use registry_mirror_core::{
    config_toml::{
        self, Analysis, Edit, Effectiveness, LoadedConfig, MapSource, Need, Origin, PatchError, UndoError, UndoOutcome,
    },
    containerd::Version,
};
use toml_edit::{Document, Item, Value};

use crate::{daemon, fragments::assemble, progress::Progress, secret::Watch};

const MAIN: &str = "/etc/containerd/config.toml";
const DROP_INS: &str = "/etc/containerd/conf.d";
const DIRECTORY: &str = "/etc/containerd/certs.d";
const DATE: &str = "2026-11-21";
/// Stands between the files of an input; TOML allows it nowhere.
pub const NEXT_FILE: u8 = 0x1e;
/// What someone else writes into a file that we edited.
const SOMEONE: &str = "# zqj";

static PROGRESS: Progress = Progress::new(["inputs", "loaded", "edits planned and taken back"]);

const MARK: &[u8] = b"\xef\xbb\xbf";

/// What the product makes of a host.
struct Plan {
    analysis: Analysis,
    need: Need,
    edit: Result<Edit, PatchError>,
}

/// Loads and analyses the files of a host, plans the edit that they need, and takes it back.
///
/// # Panics
/// The edit does not do what it is for, does something else as well, cannot be taken back, or shows a secret.
pub fn check(data: &[u8]) {
    if let Some(host) = Host::read(data) {
        host.check();
    }
}

/// [`check`] of files that are put together from pieces, a byte each.
///
/// # Panics
/// As [`check`].
pub fn check_fragments(data: &[u8]) {
    check(&assemble(data));
}

/// Loads and analyses alone, which is many more inputs a second.
///
/// # Panics
/// A secret is shown.
pub fn check_load(data: &[u8]) {
    let _ = Host::read(data).and_then(|host| host.load());
}

/// A node: its daemon and its files.
#[derive(Debug)]
struct Host {
    version: Version,
    source: MapSource,
    watch: Watch,
}

impl Host {
    /// The daemon by the first byte; then config.toml, and up to three drop-ins behind [`NEXT_FILE`].
    fn read(data: &[u8]) -> Option<Self> {
        let (version, rest) = daemon::split(data)?;
        let mut source = MapSource::new();
        for (index, bytes) in rest.split(|&byte| byte == NEXT_FILE).take(4).enumerate() {
            let path = if index == 0 { MAIN.to_owned() } else { format!("{DROP_INS}/{index}.toml") };
            source = source.with(path, bytes);
        }
        let watch = Watch::over(source.0.values().filter_map(|bytes| std::str::from_utf8(bytes).ok()), '=');
        Some(Self { version, source, watch })
    }

    /// Loads and analyses. `None` where the daemon would not start with these files.
    fn load(&self) -> Option<(LoadedConfig, Analysis, Need)> {
        PROGRESS.reached(0);
        let config = match config_toml::load(Path::new(MAIN), self.version, &self.source) {
            Ok(config) => config,
            Err(error) => {
                self.watch.check("an error", &error.to_string());
                return None;
            }
        };
        PROGRESS.reached(1);
        let analysis = config.analyze();
        let need = analysis.need(Path::new(DIRECTORY));
        if self.watch.is_planted() {
            self.watch.check("the analysis", &format!("{analysis:?} {need:?}"));
        }
        Some((config, analysis, need))
    }

    fn check(&self) {
        let planned = self.plan();
        self.check_mark(planned.as_ref());
        let Some(Plan { analysis, need, edit }) = planned else { return };
        let edit = match edit {
            Ok(edit) => edit,
            Err(error) => {
                self.watch.check("a refusal", &error.to_string());
                self.check_refusal(&analysis, &need, &error);
                return;
            }
        };
        PROGRESS.reached(2);
        if let Effectiveness::Directory(_) = analysis.effectiveness {
            assert!(edit.is_empty(), "nothing is needed, and this is edited: {:?}", edit.changes);
        }
        if self.watch.is_planted() {
            self.watch.check("a change", &format!("{:?}", edit.changes));
        }
        self.check_edit(&edit, need.directory(), &analysis);
        self.check_bytes(&edit, matches!(need, Need::Migrate { .. }));
        self.check_undo(&edit, &analysis);
    }

    /// The edit that the analysis asks for; with nothing needed, the one that sets what is in force.
    fn plan(&self) -> Option<Plan> {
        let (config, analysis, need) = self.load()?;
        let edit = if let Need::Migrate { directory, .. } = &need {
            config_toml::migrate(&config, directory, DATE).map(|(edit, registries)| {
                if self.watch.is_planted() {
                    self.watch.check("a registry", &format!("{registries:?}"));
                }
                edit
            })
        } else {
            config_toml::patch(&config, need.directory())
        };
        Some(Plan { analysis, need, edit })
    }

    /// Where a byte-order mark is allowed, it changes nothing.
    fn check_mark(&self, planned: Option<&Plan>) {
        let bare = self.source.0.get(Path::new(MAIN)).and_then(|bytes| bytes.strip_prefix(MARK));
        let Some(bare) = bare.filter(|bare| self.version.is_v1() && !bare.starts_with(MARK)) else { return };
        let source = self.source.clone().with(MAIN, bare);
        let bare = Self { source, ..*self }.plan();
        let after = |plan: Option<&Plan>| {
            let edit = plan?.edit.as_ref().ok()?;
            Some(edit.after.strip_prefix(MARK).unwrap_or(&edit.after).to_vec())
        };
        assert_eq!(planned.is_some(), bare.is_some(), "loaded with and without a byte-order mark");
        assert_eq!(after(planned), after(bare.as_ref()), "edited with and without a byte-order mark");
    }

    /// A sound configuration is refused for what stands in it, never because no edit was found; and what is effective
    /// already is not refused at all.
    fn check_refusal(&self, analysis: &Analysis, need: &Need, error: &PatchError) {
        assert!(!matches!(error, PatchError::NoPlace { .. }), "containerd {}: {error}", self.version);
        let works =
            matches!(analysis.effectiveness, Effectiveness::Directory(_)) && matches!(need, Need::Nothing { .. });
        let excused = matches!(error, PatchError::CriDisabled { .. } | PatchError::Directory { .. });
        assert!(!works || excused, "{} works as it stands, and is refused: {error}", need.directory().display());
    }

    /// The daemon reads the directory and everything else as before, and a second edit is the identity.
    fn check_edit(&self, edit: &Edit, directory: &Path, before: &Analysis) {
        let edited = self.source.clone().with(&edit.file, edit.after.clone());
        let again = match config_toml::load(Path::new(MAIN), self.version, &edited) {
            Ok(again) => again,
            Err(error) => panic!("the edited file does not load: {error}"),
        };
        let after = again.analyze();
        assert_eq!(after.effectiveness, Effectiveness::Directory(directory.to_owned()));
        assert_eq!(names(&after.legacy.headers), names(&before.legacy.headers), "headers for all registries");
        assert_eq!(names(&after.legacy.configs_auth), names(&before.legacy.configs_auth), "credentials by host");
        assert_eq!(names(&after.legacy.auths), names(&before.legacy.auths), "credentials by url");
        assert_eq!(after.pull_path.is_local(), before.pull_path.is_local(), "the path by which images are pulled");
        match config_toml::patch(&again, directory) {
            Ok(second) => {
                assert!(second.is_empty(), "a second edit changes {:?}", second.changes);
                assert_eq!(second.before.as_ref(), Some(&second.after));
            }
            Err(error) => panic!("a second edit is refused: {error}"),
        }
    }

    /// Values outside of the registry tables are the same; a patch touches one place.
    fn check_bytes(&self, edit: &Edit, is_migration: bool) {
        let before = edit.before.as_deref().unwrap_or_default();
        if before == edit.after {
            return;
        }
        assert_eq!(outside_of_registries(before), outside_of_registries(&edit.after), "outside of the registry tables");
        if !is_migration && !has_long_strings(before) {
            let front = before.iter().zip(&edit.after).take_while(|(a, b)| a == b).count();
            let back = before[front..].iter().rev().zip(edit.after[front..].iter().rev()).take_while(|(a, b)| a == b);
            let removed = &before[front..before.len() - back.count()];
            assert!(!removed.contains(&b'\n'), "a patch removed {:?}", String::from_utf8_lossy(removed));
        }
    }

    /// Undo gives the bytes of before, also through the journal; with a line of someone else in it, it takes out ours
    /// alone.
    fn check_undo(&self, edit: &Edit, analysis: &Analysis) {
        let journal = serde_json::to_vec(&edit.undo).expect("an undo record is JSON");
        let undo = serde_json::from_slice(&journal).expect("and is read back");
        assert_eq!(config_toml::undo(&edit.after, &undo, self.version), UndoOutcome::Original(edit.before.clone()));
        let before = edit.before.clone().unwrap_or_default();
        if edit.is_empty() || has_long_strings(&edit.after) || has_long_strings(&before) {
            return;
        }
        let Some(changed) = with_a_line_of_someone_else(&edit.after) else { return };
        match config_toml::undo(&changed, &undo, self.version) {
            UndoOutcome::TakenBack(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                assert!(text.contains(SOMEONE), "the line of someone else is gone");
                assert_eq!(outside_of_registries(&before), outside_of_registries(&bytes), "after undo");
                assert_eq!(lines(&bytes), lines(&before), "undo beside a line of someone else");
            }
            // before the edit CRI did not load with this file: that is not put back beside what others wrote
            UndoOutcome::Refused(UndoError::Conflict { .. })
                if matches!(analysis.effectiveness, Effectiveness::Conflict { .. }) => {}
            // the line fell into a block of old tables
            UndoOutcome::Refused(_) if edit.changes.iter().any(|change| change.to.is_none()) => {}
            other => panic!("undo beside a line of someone else gives {other:?}"),
        }
    }
}

fn names(origins: &[Origin]) -> Vec<&str> {
    origins.iter().map(|origin| origin.value.as_str()).collect()
}

/// Strings of several lines: a line in them is no line of the file.
fn has_long_strings(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|window| window == b"'''" || window == b"\"\"\"")
}

/// A comment on a line of its own, somewhere. `None` where that is no valid file any more.
fn with_a_line_of_someone_else(bytes: &[u8]) -> Option<Vec<u8>> {
    let mark = if bytes.starts_with(MARK) { MARK.len() } else { 0 };
    let mut starts: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    starts.push(mark);
    let pick = bytes.iter().fold(5_381_usize, |hash, byte| hash.wrapping_mul(33) ^ usize::from(*byte));
    let at = starts[pick % starts.len()];
    let newline = if bytes.windows(2).any(|pair| pair == b"\r\n") { "\r\n" } else { "\n" };
    let changed = [&bytes[..at], SOMEONE.as_bytes(), newline.as_bytes(), &bytes[at..]].concat();
    parse(&changed).map(|_| changed)
}

/// The lines of a file that hold something, without those of someone else.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).replace('\u{feff}', "");
    text.lines().filter(|line| !line.trim().is_empty() && *line != SOMEONE).map(str::to_owned).collect()
}

fn parse(bytes: &[u8]) -> Option<Document<String>> {
    Document::parse(String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned()).ok()
}

/// All values of a file outside of the registry tables, by the keys on the way to them. Read with another walk than the
/// product's.
fn outside_of_registries(bytes: &[u8]) -> BTreeMap<Vec<String>, String> {
    let document = parse(bytes).expect("what loads is TOML");
    let mut out = BTreeMap::new();
    walk(document.as_item(), &mut Vec::new(), &mut out);
    out
}

fn walk(item: &Item, path: &mut Vec<String>, out: &mut BTreeMap<Vec<String>, String>) {
    if let Some(table) = item.as_table_like() {
        for (key, item) in table.iter() {
            let is_registry = key == "registry" && path.len() == 2 && path[0] == "plugins";
            // it keeps the path by which images are pulled
            let is_local_pull = key == "use_local_image_pull" && *path == ["plugins", "io.containerd.cri.v1.images"];
            if !is_registry && !is_local_pull {
                path.push(key.to_owned());
                walk(item, path, out);
                path.pop();
            }
        }
    } else if let Some(tables) = item.as_array_of_tables() {
        for (index, table) in tables.iter().enumerate() {
            path.push(index.to_string());
            walk(&Item::Table(table.clone()), path, out);
            path.pop();
        }
    } else if let Some(value) = item.as_value() {
        out.insert(path.clone(), canonical(value));
    }
}

/// A value without its blanks and comments.
fn canonical(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.value()),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => format!("f{}", number.value().to_bits()),
        Value::Boolean(boolean) => boolean.value().to_string(),
        Value::Datetime(date) => date.value().to_string(),
        Value::Array(array) => format!("[{}]", array.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::InlineTable(table) => {
            let entries: BTreeMap<&str, String> = table.iter().map(|(key, value)| (key, canonical(value))).collect();
            format!("{entries:?}")
        }
    }
}
