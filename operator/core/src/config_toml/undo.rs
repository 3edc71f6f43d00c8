//! Takes our own edit back, whatever others changed since.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    document::{ConfigFile, Document, Statement, StatementKind},
    errors::ConfigError,
    node::{Node, Place, Scalar},
    pull_path::registry_is_trigger,
    splice::{self, Splice},
    version::CONFIG_PATH,
    version::Spelling,
};
use crate::{containerd::Version, digest::Digest};

/// What an edit was. It is kept in the journal; it holds no more of the file than the edit itself touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The file, as the host names it.
    pub file: PathBuf,
    /// Whether the edit created the file.
    pub created: bool,
    /// The file as the edit left it.
    pub after: Digest,
    /// Exactly back, stage by stage, from the bytes that the edit left.
    back: Vec<Vec<Splice>>,
    /// The key that the edit set: `config_path`.
    key: Option<KeyUndo>,
    /// `use_local_image_pull`, where the edit set that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    local_pull: Option<KeyUndo>,
    /// The blocks that the edit commented out.
    blocks: Vec<Block>,
}

/// A key that an edit set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyUndo {
    /// Its table, from the root.
    table: Vec<String>,
    /// Absent in records of the time when an edit set `config_path` alone.
    #[serde(default = "config_path")]
    name: String,
    /// What was set.
    ours: Scalar,
    /// What stood there, as it was written; `None` where the key was added.
    old: Option<String>,
    /// The text that was added where the key was added.
    added: Option<String>,
}

fn config_path() -> String {
    CONFIG_PATH.to_owned()
}

impl KeyUndo {
    /// For a key that was set to `ours`: by replacing what stood there, or by adding a text.
    pub(crate) fn new(table: &[&str], name: &str, ours: &Scalar, replaced: Option<String>, added: String) -> Self {
        let added = replaced.is_none().then_some(added);
        let table = table.iter().map(|key| (*key).to_owned()).collect();
        Self { table, name: name.to_owned(), ours: ours.clone(), old: replaced, added }
    }

    fn find<'d>(&self, document: &'d Document) -> Option<&'d Node> {
        let (first, rest) = self.table.split_first()?;
        let path: Vec<&str> = rest.iter().chain([&self.name]).map(String::as_str).collect();
        document.root.get(first)?.at(&path)
    }

    fn is_ours(&self, document: &Document) -> bool {
        self.find(document).and_then(Node::scalar).as_ref() == Some(&self.ours)
    }
}

/// A region of whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) before: String,
    pub(crate) after: String,
}

/// What taking an edit back gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoOutcome {
    /// The file is as the edit left it: these are its bytes of before; `None` where there was no file, so remove it.
    Original(Option<Vec<u8>>),
    /// Others changed the file since: it becomes this, with our edit alone taken back.
    TakenBack(Vec<u8>),
    /// Nothing of our edit is left in the file.
    Gone,
    /// Our edit is there, mixed with changes of others such that it cannot be told apart; leave the file alone.
    Refused(UndoError),
}

/// Our edit cannot be taken back safely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    /// The file was broken since.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Our key or our comments stand in text that was rewritten.
    #[error(
        "{}:{line}: registry-mirror-operator changed this place, and it was rewritten since: take `config_path` out \
         by hand, and the comment marks off the old tables",
        file.display()
    )]
    Rewritten {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// With the old tables back, CRI would not load, because someone else set `config_path`.
    #[error(
        "{}: the old registry tables cannot be put back beside the `config_path` that stands there now, because \
         containerd does not load CRI with both",
        file.display()
    )]
    Conflict {
        /// The file.
        file: PathBuf,
    },
}

impl Undo {
    /// Of an edit that leaves nothing to take back.
    #[must_use]
    pub fn nothing(file: &Path, bytes: &[u8]) -> Self {
        Self {
            file: file.to_owned(),
            created: false,
            after: Digest::of(bytes),
            back: Vec::new(),
            key: None,
            local_pull: None,
            blocks: Vec::new(),
        }
    }

    pub(crate) fn new_file(file: &Path, after: &[u8], key: KeyUndo) -> Self {
        Self { created: true, key: Some(key), ..Self::nothing(file, after) }
    }

    /// A step before those recorded so far: `config_path`.
    pub(crate) fn set_config_path(&mut self, back: Vec<Splice>, key: KeyUndo) {
        self.back.push(back);
        self.key = Some(key);
    }

    /// A step before those recorded so far: `use_local_image_pull`.
    pub(crate) fn set_local_pull(&mut self, back: Vec<Splice>, key: KeyUndo) {
        self.back.push(back);
        self.local_pull = Some(key);
    }

    /// A step before those recorded so far: tables that were commented out.
    pub(crate) fn add_comments(&mut self, back: Vec<Splice>, blocks: Vec<Block>, after: &[u8]) {
        self.back.push(back);
        self.blocks = blocks;
        self.after = Digest::of(after);
    }

    /// The directory that the edit set; `None` where it set none.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.key.as_ref()?.ours {
            Scalar::Text(directory) => Some(Path::new(directory)),
            Scalar::Boolean(_) => None,
        }
    }

    /// Whether `bytes` are exactly what the edit wrote: then a backup may be put back as it is.
    #[must_use]
    pub fn wrote(&self, bytes: &[u8]) -> bool {
        self.after == Digest::of(bytes)
    }
}

/// Takes the edit back from the file's current bytes. Total: it never fails, and what it gives can be read by the
/// daemon.
#[must_use]
pub fn undo(current: &[u8], undo: &Undo, version: Version) -> UndoOutcome {
    if undo.wrote(current) {
        if undo.created {
            return UndoOutcome::Original(None);
        }
        let stages = undo.back.iter().try_fold(current.to_vec(), |bytes, stage| splice::apply(&bytes, stage));
        if let Some(original) = stages {
            return UndoOutcome::Original(Some(original));
        }
    }
    match take_back(current, undo, version) {
        Ok(bytes) if bytes == current => UndoOutcome::Gone,
        Ok(bytes) => UndoOutcome::TakenBack(bytes),
        Err(error) => UndoOutcome::Refused(error),
    }
}

fn take_back(current: &[u8], undo: &Undo, version: Version) -> Result<Vec<u8>, UndoError> {
    let parse = |bytes: &[u8]| ConfigFile::parse(0, &undo.file, bytes.to_vec(), version);
    let now = parse(current)?;
    // removed or set to something else since: it is not ours any more, and the old tables cannot stand beside it
    if undo.key.as_ref().is_some_and(|key| !key.is_ours(now.document())) {
        return Ok(current.to_vec());
    }
    // the last that was set goes first
    let without = |keys: [Option<&KeyUndo>; 2]| {
        let mut keys = keys.into_iter().flatten();
        let bytes = keys.try_fold(current.to_vec(), |bytes, key| take_back_key(&parse(&bytes)?, key, undo))?;
        let bytes = take_back_blocks(bytes, undo)?;
        let then = parse(&bytes)?;
        Ok::<_, UndoError>((bytes, then))
    };
    let local_pull = undo.local_pull.as_ref().filter(|key| key.is_ours(now.document()));
    let (mut bytes, mut then) = without([local_pull, undo.key.as_ref()])?;
    // where others deleted the old tables for good, nothing else keeps the node pulling as it does
    if local_pull.is_some() && !registries(then.document()).any(registry_is_trigger) {
        (bytes, then) = without([None, undo.key.as_ref()])?;
    }
    // a mistake here must not break the node
    if conflict(then.document(), version) && !conflict(now.document(), version) {
        return Err(UndoError::Conflict { file: undo.file.clone() });
    }
    Ok(bytes)
}

/// Whether a registry table of the file keeps CRI from loading by itself.
fn conflict(document: &Document, version: Version) -> bool {
    registries(document).any(|registry| {
        let filled = |key| registry.at(&[key]).and_then(Node::table).is_some_and(|table| !table.is_empty());
        let hosts = registry.at(&["configs"]).and_then(Node::table);
        let tls = hosts.is_some_and(|hosts| hosts.values().any(|host| host.at(&["tls"]).is_some()));
        let config_path = registry.at(&[CONFIG_PATH]).and_then(Node::text);
        config_path.is_some_and(|path| !path.is_empty()) && (filled("mirrors") || version.reads_configs_tls() && tls)
    })
}

fn registries(document: &Document) -> impl Iterator<Item = &Node> {
    Spelling::ALL.into_iter().filter_map(|spelling| {
        let [plugins, plugin, registry] = spelling.table();
        document.root.get(plugins)?.at(&[plugin, registry])
    })
}

fn take_back_key(file: &ConfigFile, key: &KeyUndo, undo: &Undo) -> Result<Vec<u8>, UndoError> {
    let document = file.document();
    let line = |place: Place| document.line(place.start);
    let rewritten = |line: usize| UndoError::Rewritten { file: undo.file.clone(), line };
    let place = key.find(document).map(|node| node.place).ok_or_else(|| rewritten(1))?;
    let splices = match &key.old {
        Some(old) => vec![Splice { at: place.start..place.end, with: old.clone() }],
        None => removal(document, place, key).ok_or_else(|| rewritten(line(place)))?,
    };
    let splices: Vec<Splice> = splices
        .into_iter()
        .map(|splice| Splice { at: splice.at.start + document.mark..splice.at.end + document.mark, ..splice })
        .collect();
    splice::apply(file.bytes(), &splices).ok_or_else(|| rewritten(line(place)))
}

/// Removes the text that was added if it stands there unchanged; else the line of the key, and the line of our header
/// if nobody put anything below it.
fn removal(document: &Document, value: Place, key: &KeyUndo) -> Option<Vec<Splice>> {
    let index = document
        .statements
        .iter()
        .position(|s| s.kind == StatementKind::KeyValue && s.span.start <= value.start && value.end <= s.span.end)?;
    let added = key.added.as_deref().unwrap_or_default();
    let header_is_ours = added.contains('[') && added.contains(']');
    let section_goes_on = |end: usize| {
        let next = document.statements.get(index + 1);
        next.is_some_and(|next| next.kind == StatementKind::KeyValue && next.span.start >= end)
    };
    // a newline in front may be half of someone else's line end
    let splits = |at: usize| added.starts_with('\n') && document.text[..at].ends_with('\r');
    let mut places = document.text.match_indices(added).map(|(at, text)| at..at + text.len());
    if let Some(at) = places.find(|at| at.start <= value.start && value.end <= at.end && !splits(at.start))
        && !(header_is_ours && section_goes_on(at.end))
    {
        // the last line had no newline before our edit: what others wrote behind ours must not join it
        let (before, behind) = (&document.text[..at.start], &document.text[at.end..]);
        let joins = added.starts_with(['\r', '\n'])
            && !before.is_empty()
            && !before.ends_with('\n')
            && !behind.is_empty()
            && !behind.starts_with(['\r', '\n']);
        let with = if joins { document.newline().to_owned() } else { String::new() };
        return Some(vec![Splice { at, with }]);
    }
    let statement = &document.statements[index];
    if statement.value != (value.start..value.end) {
        return None;
    }
    let line_of = |statement: &Statement| Splice {
        at: document.line_start(statement.span.start)..document.line_end(statement.span.end),
        with: String::new(),
    };
    let mut splices = vec![line_of(statement)];
    let header = index.checked_sub(1).and_then(|index| document.statements.get(index));
    if let Some(header) = header.filter(|header| header.kind == StatementKind::Header && header.path == key.table)
        && header_is_ours
        && !section_goes_on(statement.span.end)
    {
        splices.insert(0, line_of(header));
    }
    Some(splices)
}

/// Puts the blocks back that stand there as the edit left them. A block that was deleted stays deleted; one that was
/// changed cannot be told from its surroundings any more.
fn take_back_blocks(bytes: Vec<u8>, undo: &Undo) -> Result<Vec<u8>, UndoError> {
    let mut out = bytes;
    for block in &undo.blocks {
        let Block { before, after } = block;
        if let Some(at) = position(&out, after.as_bytes()) {
            out.splice(at..at + after.len(), before.bytes());
        }
    }
    let notes = undo.blocks.iter().filter_map(|block| block.after.split_inclusive('\n').next());
    for note in notes {
        if let Some(at) = position(&out, note.as_bytes()) {
            let line = out[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
            return Err(UndoError::Rewritten { file: undo.file.clone(), line });
        }
    }
    Ok(out)
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    (!needle.is_empty()).then(|| bytes.windows(needle.len()).position(|window| window == needle)).flatten()
}
