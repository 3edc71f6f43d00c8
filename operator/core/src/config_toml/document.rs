//! One config file: its bytes, its values, and the statements that an edit can be placed at.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use toml_edit::Item;

use super::{
    errors::ConfigError,
    node::{Kind, Node, Place, Table},
};
use crate::containerd::Version;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A config file that was read: the main file or an import.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    bytes: Vec<u8>,
    document: Document,
}

impl ConfigFile {
    /// Where the file is, as the host names it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it was read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The `version` that the file declares; `None` where it has none (or 0, which containerd takes for none).
    #[must_use]
    pub fn declared_version(&self) -> Option<u32> {
        match self.document.root.get("version").map(|node| &node.kind) {
            Some(Kind::Integer(number)) => u32::try_from(*number).ok().filter(|number| *number > 0),
            _ => None,
        }
    }

    pub(crate) const fn document(&self) -> &Document {
        &self.document
    }

    /// Parses `bytes` as containerd `version` would.
    pub(crate) fn parse(index: usize, path: &Path, bytes: Vec<u8>, version: Version) -> Result<Self, ConfigError> {
        let document = Document::parse(index, path, &bytes, version)?;
        Ok(Self { path: path.to_owned(), bytes, document })
    }
}

/// What a line of the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementKind {
    /// `[a.b]`
    Header,
    /// `[[a.b]]`
    ArrayHeader,
    /// `a.b = value`
    KeyValue,
}

/// A header or a key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) kind: StatementKind,
    /// From the root of the document.
    pub(crate) path: Vec<String>,
    /// From the first character of the header or key to the last of the header or value.
    pub(crate) span: Range<usize>,
    /// The value alone; empty for headers.
    pub(crate) value: Range<usize>,
}

/// The text of a file and what it says. Offsets count from behind a byte-order mark.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) text: String,
    /// Length of the byte-order mark in front of the text: 0 or 3.
    pub(crate) mark: usize,
    pub(crate) root: Table,
    /// In the order of the file.
    pub(crate) statements: Vec<Statement>,
}

impl Document {
    fn parse(index: usize, path: &Path, bytes: &[u8], version: Version) -> Result<Self, ConfigError> {
        let mark = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        if mark > 0 && !version.is_v1() {
            return Err(ConfigError::ByteOrderMark { file: path.to_owned(), version });
        }
        let body = &bytes[mark..];
        let (text, broken) = text_of_same_length(body);
        let not_utf8 = |offset: usize| ConfigError::NotUtf8 {
            file: path.to_owned(),
            line: line_number(text.as_bytes(), offset),
            version,
        };
        if let Some(&offset) = broken.first()
            && !version.is_v1()
        {
            return Err(not_utf8(offset));
        }
        let syntax = toml_edit::Document::parse(text.as_str()).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let line = line_number(text.as_bytes(), offset);
            let column = offset.saturating_sub(line_start(text.as_bytes(), offset)) + 1;
            ConfigError::Syntax { file: path.to_owned(), line, column, reason: error.message().to_owned() }
        })?;
        let mut statements = Vec::new();
        collect(syntax.as_table(), &mut Vec::new(), text.as_bytes(), &mut statements);
        statements.sort_by_key(|statement| statement.span.start);
        if let Some(&offset) = broken.iter().find(|&&offset| statements.iter().any(|s| s.span.contains(&offset))) {
            return Err(not_utf8(offset));
        }
        let root = match Node::from_table(syntax.as_table(), index, &(0..0)).kind {
            Kind::Table(table) => table,
            _ => Table::new(),
        };
        Ok(Self { text, mark, root, statements })
    }

    /// The line of an offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        line_number(self.text.as_bytes(), offset)
    }

    pub(crate) fn line_start(&self, offset: usize) -> usize {
        line_start(self.text.as_bytes(), offset)
    }

    /// The offset behind the line's newline, or the end of the text.
    pub(crate) fn line_end(&self, offset: usize) -> usize {
        self.text.as_bytes()[offset..].iter().position(|&b| b == b'\n').map_or(self.text.len(), |n| offset + n + 1)
    }

    /// The blanks in front of the first character of the line.
    pub(crate) fn indentation(&self, offset: usize) -> &str {
        let start = self.line_start(offset);
        let blanks = self.text.as_bytes()[start..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        &self.text[start..start + blanks]
    }

    /// The newline of this file: of its first line.
    pub(crate) fn newline(&self) -> &'static str {
        match self.text.find('\n') {
            Some(at) if self.text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    /// The header under which the statement stands, if it does not stand at the root.
    pub(crate) fn section_of(&self, index: usize) -> Option<&Statement> {
        self.statements[..index].iter().rev().find(|s| s.kind != StatementKind::KeyValue)
    }
}

/// Replaces each byte that is not UTF-8 by a `?`, so that offsets stay those of the file: containerd 1.7 reads a file
/// with such bytes in a comment. Gives the replaced offsets.
fn text_of_same_length(bytes: &[u8]) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(bytes.len());
    let mut broken = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for _ in chunk.invalid() {
            broken.push(text.len());
            text.push('?');
        }
    }
    (text, broken)
}

fn line_number(text: &[u8], offset: usize) -> usize {
    text[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

fn line_start(text: &[u8], offset: usize) -> usize {
    text[..offset.min(text.len())].iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1)
}

fn collect(table: &toml_edit::Table, path: &mut Vec<String>, text: &[u8], out: &mut Vec<Statement>) {
    for (name, item) in table.iter() {
        path.push(name.to_owned());
        match item {
            Item::None => {}
            Item::Value(value) => {
                if let (Some(key), Some(value)) = (table.key(name).and_then(toml_edit::Key::span), value.span()) {
                    // a dotted key stands on one line, and nothing but blanks may stand before it
                    let line = line_start(text, key.start);
                    let blanks = text[line..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    out.push(Statement {
                        kind: StatementKind::KeyValue,
                        path: path.clone(),
                        span: line + blanks..value.end,
                        value,
                    });
                }
            }
            Item::Table(table) => {
                header(table, StatementKind::Header, path, out);
                collect(table, path, text, out);
            }
            Item::ArrayOfTables(tables) => {
                for table in tables.iter() {
                    header(table, StatementKind::ArrayHeader, path, out);
                    collect(table, path, text, out);
                }
            }
        }
        path.pop();
    }
}

fn header(table: &toml_edit::Table, kind: StatementKind, path: &[String], out: &mut Vec<Statement>) {
    // a table that only its children or dotted keys name has no header of its own
    if table.is_dotted() || table.is_implicit() {
        return;
    }
    if let Some(span) = table.span() {
        let value = span.end..span.end;
        out.push(Statement { kind, path: path.to_vec(), span, value });
    }
}

/// The file and line of a place.
pub(crate) fn location(files: &[ConfigFile], place: Place) -> (PathBuf, usize) {
    files
        .get(place.file)
        .map_or_else(|| (PathBuf::new(), 1), |file| (file.path().to_owned(), file.document().line(place.start)))
}
