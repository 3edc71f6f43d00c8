//! Edits of text at byte ranges, so that every other byte stays as it is.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    document::{Document, Statement, StatementKind},
    node::{Kind, Node, Scalar},
};

/// Replaces the bytes of `at` by `with`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Splice {
    pub(crate) at: Range<usize>,
    pub(crate) with: String,
}

impl Splice {
    pub(crate) fn insert(at: usize, with: String) -> Self {
        Self { at: at..at, with }
    }
}

/// Applies splices that are in order and do not overlap. `None` where they do not fit the bytes.
pub(crate) fn apply(bytes: &[u8], splices: &[Splice]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + splices.iter().map(|s| s.with.len()).sum::<usize>());
    let mut done = 0;
    for Splice { at, with } in splices {
        out.extend_from_slice(bytes.get(done..at.start)?);
        out.extend_from_slice(with.as_bytes());
        done = at.end;
    }
    out.extend_from_slice(bytes.get(done..)?);
    Some(out)
}

/// The splices that take `splices` back, for the text that they gave. `None` where removed bytes are not UTF-8.
pub(crate) fn inverse(bytes: &[u8], splices: &[Splice]) -> Option<Vec<Splice>> {
    let mut shift = 0_usize;
    let mut removed = 0_usize;
    let mut out = Vec::with_capacity(splices.len());
    for Splice { at, with } in splices {
        let start = at.start + shift - removed;
        let old = std::str::from_utf8(bytes.get(at.clone())?).ok()?;
        out.push(Splice { at: start..start + with.len(), with: old.to_owned() });
        shift += with.len();
        removed += at.len();
    }
    Some(out)
}

/// Replaces a value, a string in the kind of quotes that stand there.
pub(crate) fn replace_value(document: &Document, value: &Range<usize>, with: &Scalar) -> Splice {
    let old = &document.text[value.clone()];
    let literal = old.starts_with('\'') && !old.starts_with("'''");
    Splice { at: value.clone(), with: written(with, literal) }
}

/// A key by its dotted path, as messages name it.
pub(crate) fn dotted(table: &[&str], key: &str) -> String {
    Style { newline: "\n", literal: false, unit: String::new() }.path(table.iter().copied().chain([key]))
}

/// The ways to add `key = value` to a table, as the file itself would have it first. Not each is valid in each file
/// (a header cannot name a table of dotted keys, for one): the caller takes the first that works.
pub(crate) fn insert_key(document: &Document, table: &[&str], key: &str, value: &Scalar) -> Vec<Splice> {
    let style = Style::of(document);
    let pair = format!("{} = {}", style.key(key), written(value, style.literal));
    let dotted = |length| beside_dotted_keys(document, table, length, key, value, &style);
    let found = [
        below_header(document, table, &pair, &style),
        into_inline_table(document, table, &pair, &style),
        dotted(table.len()),
        before_children(document, table, &pair, &style),
    ];
    let above = (1..table.len()).rev().filter_map(dotted);
    let end = at_the_end(document, table, &pair, &style);
    let has_header = |s: &Statement| s.kind != StatementKind::KeyValue && starts_with(&s.path, &table[..1]);
    let mut ways: Vec<Splice> = found.into_iter().flatten().collect();
    if document.statements.iter().any(has_header) {
        ways.push(end);
        ways.extend(above);
    } else {
        ways.extend(above);
        ways.push(end);
    }
    ways
}

/// How the file writes things.
struct Style {
    newline: &'static str,
    /// Quotes: `'` (as `containerd config default` of 2.x) or `"`.
    literal: bool,
    /// What keys are indented by, below their header.
    unit: String,
}

impl Style {
    fn of(document: &Document) -> Self {
        let pairs = document.statements.windows(2).filter_map(|pair| match pair {
            [header, key] if header.kind == StatementKind::Header && key.kind == StatementKind::KeyValue => {
                let (outer, inner) = (document.indentation(header.span.start), document.indentation(key.span.start));
                inner.strip_prefix(outer).map(str::to_owned)
            }
            _ => None,
        });
        let headers = document.statements.iter().filter(|s| s.kind == StatementKind::Header);
        let mut quotes =
            headers.filter_map(|s| document.text[s.span.clone()].find(['\'', '"']).map(|at| s.span.start + at));
        let literal = quotes.next().is_some_and(|at| document.text[at..].starts_with('\''));
        Self { newline: document.newline(), literal, unit: pairs.into_iter().next().unwrap_or_else(|| "  ".to_owned()) }
    }

    fn key(&self, key: &str) -> String {
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if bare { key.to_owned() } else { quoted(key, self.literal) }
    }

    fn path<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> String {
        path.into_iter().map(|key| self.key(key)).collect::<Vec<_>>().join(".")
    }
}

fn written(value: &Scalar, literal: bool) -> String {
    match value {
        Scalar::Text(text) => quoted(text, literal),
        Scalar::Boolean(value) => value.to_string(),
    }
}

/// A TOML string on one line.
fn quoted(text: &str, literal: bool) -> String {
    if literal && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_path(path: &[String], table: &[&str]) -> bool {
    path.iter().map(String::as_str).eq(table.iter().copied())
}

fn starts_with(path: &[String], table: &[&str]) -> bool {
    path.len() >= table.len() && is_path(&path[..table.len()], table)
}

/// `[table]` exists: the key goes on the line below it.
fn below_header(document: &Document, table: &[&str], pair: &str, style: &Style) -> Option<Splice> {
    let index = document.statements.iter().position(|s| s.kind == StatementKind::Header && is_path(&s.path, table))?;
    let header = &document.statements[index];
    let first_key = document.statements.get(index + 1).filter(|next| next.kind == StatementKind::KeyValue);
    let indentation = match first_key {
        Some(key) => document.indentation(key.span.start).to_owned(),
        None => format!("{}{}", document.indentation(header.span.start), style.unit),
    };
    Some(insert_line_after(document, header.span.end, &format!("{indentation}{pair}"), style))
}

/// `registry = { … }`, or a table further up written inline.
fn into_inline_table(document: &Document, table: &[&str], pair: &str, style: &Style) -> Option<Splice> {
    let holds = |s: &&Statement| {
        s.kind == StatementKind::KeyValue && s.path.len() <= table.len() && is_path(&s.path, &table[..s.path.len()])
    };
    let statement = document.statements.iter().find(holds)?;
    let (root, rest) = table.split_first()?;
    let mut node = document.root.get(*root)?.at(&rest[..statement.path.len() - 1])?;
    let mut rest = &rest[statement.path.len() - 1..];
    while let Some((next, below)) = rest.split_first()
        && let Some(child) = node.at(&[next])
    {
        (node, rest) = (child, below);
    }
    if !document.text[node.place.start..].starts_with('{') {
        return None;
    }
    let nested = rest.iter().rev().fold(pair.to_owned(), |inner, key| format!("{} = {{ {inner} }}", style.key(key)));
    Some(match last_end(node) {
        Some(end) => Splice::insert(end, format!(", {nested}")),
        None => {
            let open = node.place.start + 1;
            let tail = if document.text[open..].starts_with(' ') { "" } else { " " };
            Splice::insert(open, format!(" {nested}{tail}"))
        }
    })
}

/// Where the last value of an inline table ends.
fn last_end(node: &Node) -> Option<usize> {
    match &node.kind {
        Kind::Table(table) => table.values().map(|child| child.place.end.max(last_end(child).unwrap_or(0))).max(),
        _ => None,
    }
}

/// The table, or the one `length` keys deep above it, is made of dotted keys (`registry.headers = …` under
/// `[plugins."…"]`): a header could not name it again, so the key goes beside them as one more dotted key.
fn beside_dotted_keys(
    document: &Document,
    table: &[&str],
    length: usize,
    key: &str,
    value: &Scalar,
    style: &Style,
) -> Option<Splice> {
    let prefix = &table[..length];
    let depth = |index: usize| document.section_of(index).map_or(0, |header| header.path.len());
    let (index, statement) = document.statements.iter().enumerate().rev().find(|(index, s)| {
        let is_below = s.path.len() > length && starts_with(&s.path, prefix);
        s.kind == StatementKind::KeyValue && is_below && depth(*index) < length
    })?;
    let path = style.path(table[depth(index)..].iter().copied().chain([key]));
    let line = format!("{}{path} = {}", document.indentation(statement.span.start), written(value, style.literal));
    Some(insert_line_after(document, statement.span.end, &line, style))
}

/// Only children of the table have headers: the table's own header goes in front of the first, above its comment.
fn before_children(document: &Document, table: &[&str], pair: &str, style: &Style) -> Option<Splice> {
    let child =
        document.statements.iter().find(|s| s.kind != StatementKind::KeyValue && starts_with(&s.path, table))?;
    let indentation = document.indentation(child.span.start);
    let mut at = document.line_start(child.span.start);
    while at > 0 {
        let previous = document.line_start(at - 1);
        if !document.text[previous..at].trim_start().starts_with('#') {
            break;
        }
        at = previous;
    }
    let Style { newline, unit, .. } = style;
    let header = style.path(table.iter().copied());
    Some(Splice::insert(at, format!("{indentation}[{header}]{newline}{indentation}{unit}{pair}{newline}{newline}")))
}

/// Nothing of the table exists: a new section at the end of the file.
fn at_the_end(document: &Document, table: &[&str], pair: &str, style: &Style) -> Splice {
    let Style { newline, unit, .. } = style;
    let text = &document.text;
    let lead = if text.is_empty() {
        String::new()
    } else if !text.ends_with('\n') {
        format!("{newline}{newline}")
    } else if text.ends_with("\n\n") || text.ends_with("\n\r\n") {
        String::new()
    } else {
        (*newline).to_owned()
    };
    let header = style.path(table.iter().copied());
    Splice::insert(text.len(), format!("{lead}[{header}]{newline}{unit}{pair}{newline}"))
}

fn insert_line_after(document: &Document, offset: usize, line: &str, style: &Style) -> Splice {
    let at = document.line_end(offset);
    let newline = style.newline;
    if document.text[..at].ends_with('\n') {
        Splice::insert(at, format!("{line}{newline}"))
    } else {
        Splice::insert(at, format!("{newline}{line}"))
    }
}
