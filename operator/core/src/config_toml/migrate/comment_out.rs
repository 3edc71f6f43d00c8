//! Turns statements into comments, line by line.

use super::super::{
    document::{Document, Statement, StatementKind},
    splice::Splice,
    undo::Block,
};

pub(super) struct CommentedOut {
    /// In order, against the document's text.
    pub(super) splices: Vec<Splice>,
    /// The same as regions of whole lines, to be found again when others changed the file.
    pub(super) blocks: Vec<Block>,
}

/// Comments out all that stands at or below the paths. `None` where a value holding one of them cannot be taken apart.
pub(super) fn comment_out(document: &Document, paths: &[Vec<&str>], note: &str) -> Option<CommentedOut> {
    let mut out = CommentedOut { splices: Vec::new(), blocks: Vec::new() };
    let mut run: Vec<&Statement> = Vec::new();
    for statement in &document.statements {
        if paths.iter().any(|path| starts_with(&statement.path, path)) {
            run.push(statement);
            continue;
        }
        end_run(document, &mut run, note, &mut out);
        let inside: Vec<&[&str]> = paths
            .iter()
            .filter(|path| statement.kind == StatementKind::KeyValue && is_below(path, &statement.path))
            .map(|path| &path[statement.path.len()..])
            .collect();
        if !inside.is_empty() {
            take_apart(document, statement, &inside, note, &mut out)?;
        }
    }
    end_run(document, &mut run, note, &mut out);
    Some(out)
}

/// Neighbouring statements share one note. Comments and blank lines between them stay as they are.
fn end_run(document: &Document, run: &mut Vec<&Statement>, note: &str, out: &mut CommentedOut) {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return;
    };
    let start = document.line_start(first.span.start);
    let end = document.line_end(last.span.end);
    let mut splices = vec![Splice::insert(start, format!("# {note}{}", document.newline()))];
    for statement in run.drain(..) {
        for line in lines(document, statement) {
            splices.push(Splice::insert(line, "# ".to_owned()));
        }
    }
    out.blocks.push(block(document, start, end, &splices));
    out.splices.append(&mut splices);
}

/// `registry = { mirrors = …, config_path = … }`: the whole statement goes into a comment, and the value stays without
/// the keys.
fn take_apart(
    document: &Document,
    statement: &Statement,
    keys: &[&[&str]],
    note: &str,
    out: &mut CommentedOut,
) -> Option<()> {
    let mut value = document.text[statement.value.clone()].parse::<toml_edit::Value>().ok()?;
    let mut found = false;
    for key in keys {
        let (last, above) = key.split_last()?;
        let parent = above.iter().try_fold(value.as_inline_table_mut()?, |table, key| {
            table.get_mut(key).and_then(toml_edit::Value::as_inline_table_mut)
        });
        found |= parent.is_some_and(|table| table.remove(last).is_some());
    }
    if !found {
        return Some(());
    }
    let (start, end) = (document.line_start(statement.span.start), document.line_end(statement.span.end));
    let newline = document.newline();
    let mut comment = format!("# {note}{newline}");
    for line in document.text[start..end].split_inclusive('\n') {
        comment.push_str("# ");
        comment.push_str(line);
    }
    if !comment.ends_with('\n') {
        comment.push_str(newline);
    }
    let old = &document.text[statement.value.clone()];
    let mut text = value.decorated("", "").to_string();
    // the blank before the brace belonged to the key that is gone
    if old.ends_with(" }") && !text.ends_with(" }") && text.len() > 2 {
        text.insert(text.len() - 1, ' ');
    }
    let splices = vec![Splice::insert(start, comment), Splice { at: statement.value.clone(), with: text }];
    out.blocks.push(block(document, start, end, &splices));
    out.splices.extend(splices);
    Some(())
}

/// The starts of the lines that a statement covers.
fn lines(document: &Document, statement: &Statement) -> Vec<usize> {
    let mut starts = vec![document.line_start(statement.span.start)];
    let text = &document.text[statement.span.clone()];
    starts.extend(text.match_indices('\n').map(|(at, _)| statement.span.start + at + 1));
    starts
}

fn block(document: &Document, start: usize, end: usize, splices: &[Splice]) -> Block {
    let before = &document.text[start..end];
    let mut after = String::new();
    let mut done = start;
    for Splice { at, with } in splices {
        after.push_str(&document.text[done..at.start]);
        after.push_str(with);
        done = at.end;
    }
    after.push_str(&document.text[done..end]);
    Block { before: before.to_owned(), after }
}

fn starts_with(path: &[String], of: &[&str]) -> bool {
    path.len() >= of.len() && path.iter().zip(of).all(|(a, b)| a == b)
}

fn is_below(path: &[&str], of: &[String]) -> bool {
    path.len() > of.len() && of.iter().zip(path).all(|(a, b)| a == b)
}
