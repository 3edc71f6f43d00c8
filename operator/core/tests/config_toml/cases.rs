//! The table of cases: `tests/cases/config/*.txt`, config in, expected text out.
//!
//! ```text
//! === what the case shows
//! # which fact it rests on
//! containerd 1.7.35 2.4.2          each of these versions must give the same
//! directory /srv/certs.d           where to, if the files name no directory (default /etc/containerd/certs.d)
//! --- /etc/containerd/config.toml  a file; the first is the main file
//! version = 2
//! >>> verdict                      what the analysis says
//! >>> /etc/containerd/config.toml  the edited file, if there is an edit
//! ```
//!
//! With `UPDATE_CASES=1` the `>>>` parts are written anew: read the difference before you keep it.

#![expect(clippy::disallowed_methods, reason = "a test, not a decision")]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, path::PathBuf};

use registry_mirror_core::{
    config_toml::{self, Edit, Effectiveness, LoadedConfig, MapSource, Need, PullPath, UndoError, UndoOutcome},
    containerd::Version,
};

const DIRECTORY: &str = "/etc/containerd/certs.d";
const DATE: &str = "2026-11-21";

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Case {
    title: String,
    /// Comments and settings, as written.
    head: Vec<String>,
    versions: Vec<Version>,
    directory: Option<String>,
    files: Vec<(String, String)>,
    expected: Vec<(String, String)>,
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut part: Option<(bool, String, String)> = None;
    let finish = |cases: &mut Vec<Case>, part: &mut Option<(bool, String, String)>| {
        if let (Some(case), Some((expected, name, content))) = (cases.last_mut(), part.take()) {
            let list = if expected { &mut case.expected } else { &mut case.files };
            list.push((name, content));
        }
    };
    for line in text.split_inclusive('\n') {
        let plain = line.trim_end();
        if let Some(title) = plain.strip_prefix("=== ") {
            finish(&mut cases, &mut part);
            cases.push(Case { title: title.to_owned(), ..Case::default() });
        } else if let Some(name) = plain.strip_prefix("--- ") {
            finish(&mut cases, &mut part);
            part = Some((false, name.to_owned(), String::new()));
        } else if let Some(name) = plain.strip_prefix(">>> ") {
            finish(&mut cases, &mut part);
            part = Some((true, name.to_owned(), String::new()));
        } else if let Some((_, _, content)) = &mut part {
            content.push_str(line);
        } else if let Some(case) = cases.last_mut() {
            if let Some(versions) = plain.strip_prefix("containerd ") {
                case.versions = versions.split_whitespace().map(|v| v.parse().expect(v)).collect();
            } else if let Some(directory) = plain.strip_prefix("directory ") {
                case.directory = Some(directory.to_owned());
            }
            if !plain.is_empty() {
                case.head.push(plain.to_owned());
            }
        }
    }
    finish(&mut cases, &mut part);
    cases
}

fn render(case: &Case, expected: &[(String, String)]) -> String {
    let mut out = format!("=== {}\n", case.title);
    for line in &case.head {
        let _ = writeln!(out, "{line}");
    }
    for (mark, parts) in [("---", &case.files[..]), (">>>", expected)] {
        for (name, content) in parts {
            let _ = write!(out, "{mark} {name}\n{content}");
            if !content.is_empty() && !content.ends_with('\n') {
                out.push('\n');
            }
        }
    }
    out
}

/// `\n` endings are all that the case files hold; this makes the others visible and writable.
fn bytes(content: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = content;
    while let Some(at) =
        rest.find('␍').into_iter().chain(rest.find('␄')).chain(rest.find('␀')).chain(rest.find('␂')).min()
    {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let mark = rest[at..].chars().next().unwrap_or_default();
        rest = &rest[at + mark.len_utf8()..];
        match mark {
            '␍' => out.push(b'\r'),
            '␂' => out.extend_from_slice(b"\xef\xbb\xbf"),
            '␀' => out.push(0xff),
            // end of file: without the newline that the case file needs here
            _ => rest = rest.strip_prefix('\n').unwrap_or(rest),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn visible(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    if let Some(body) = rest.strip_prefix(b"\xef\xbb\xbf") {
        out.push('␂');
        rest = body;
    }
    for chunk in rest.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\r', "␍"));
        for _ in chunk.invalid() {
            out.push('␀');
        }
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push_str("␄\n");
    }
    out
}

fn source(case: &Case) -> MapSource {
    case.files
        .iter()
        .filter(|(_, content)| content.trim() != "(absent)")
        .fold(MapSource::new(), |source, (name, content)| source.with(name, bytes(content)))
}

fn main_file(case: &Case) -> PathBuf {
    PathBuf::from(&case.files.first().expect("a case has a main file").0)
}

fn outcome(case: &Case, version: Version) -> Vec<(String, String)> {
    let plain = |text: String| text.replace(&version.to_string(), "{version}");
    let verdict = |text: String| vec![("verdict".to_owned(), plain(text))];
    let source = source(case);
    let config = match config_toml::load(&main_file(case), version, &source) {
        Ok(config) => config,
        Err(error) => return verdict(format!("refused: {error}\n")),
    };
    let analysis = config.analyze();
    let default = case.directory.as_deref().unwrap_or(DIRECTORY);
    let mut said = String::new();
    let need = analysis.need(Path::new(default));
    let (name, directory, why) = match &need {
        Need::Nothing { directory, why, .. } => ("adopt", directory, why),
        Need::Patch { directory, why } => ("patch", directory, why),
        Need::Migrate { directory, why } => ("migrate", directory, why),
    };
    let _ = writeln!(said, "{name} {}: {why}", directory.display());
    let _ = writeln!(said, "table {}", analysis.table);
    let effectiveness = match &analysis.effectiveness {
        Effectiveness::Directory(_) => "one directory",
        Effectiveness::List(_) => "a list that is split",
        Effectiveness::ColonTrap { .. } => "the colon trap",
        Effectiveness::Unset => "unset",
        Effectiveness::UnsetDefaultWorks(_) => "unset, the default works",
        Effectiveness::UnsetDefaultTrapped(_) => "unset, the default is the colon trap",
        Effectiveness::NotAbsolute(_) => "no absolute directory",
        Effectiveness::Conflict { .. } => "a conflict, CRI does not load",
    };
    let _ = writeln!(said, "config_path {effectiveness}");
    // elsewhere it changes nothing, and it would keep versions apart that give the same
    let matters = matches!(analysis.effectiveness, Effectiveness::List(_) | Effectiveness::UnsetDefaultWorks(_));
    if let PullPath::Local { trigger, file, line } = &analysis.pull_path
        && matters
    {
        let _ = writeln!(said, "trigger {trigger} {}:{line}", file.display());
    }
    if let Some(disabled) = &analysis.cri_disabled {
        let _ = writeln!(said, "disabled {disabled}");
    }
    let legacy = &analysis.legacy;
    for (what, origins) in [
        ("mirrors", &legacy.mirrors),
        ("tls", &legacy.configs_tls),
        ("auth", &legacy.configs_auth),
        ("auths", &legacy.auths),
        ("headers", &legacy.headers),
    ] {
        for origin in origins {
            let _ = writeln!(said, "{what} {origin}");
        }
    }
    for ignored in &analysis.ignored {
        let _ = writeln!(said, "ignored {} {}:{}: {}", ignored.key, ignored.file.display(), ignored.line, ignored.why);
    }
    let (edit, registries) = match need {
        Need::Nothing { .. } => return verdict(said),
        Need::Patch { directory, .. } => match config_toml::patch(&config, &directory) {
            Ok(edit) => (edit, Vec::new()),
            Err(error) => {
                let _ = writeln!(said, "refused: {error}");
                return verdict(said);
            }
        },
        Need::Migrate { directory, .. } => match config_toml::migrate(&config, &directory, DATE) {
            Ok(done) => done,
            Err(error) => {
                let _ = writeln!(said, "refused: {error}");
                return verdict(said);
            }
        },
    };
    for change in &edit.changes {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        let _ = writeln!(said, "change {}: {} -> {}", change.key, show(&change.from), show(&change.to));
    }
    let mut parts = verdict(said);
    if !registries.is_empty() {
        let mut text = String::new();
        for registry in &registries {
            let _ = writeln!(text, "{}", registry.registry);
            let root = registry.server.iter().map(|server| ("server", server));
            for (what, endpoint) in registry.endpoints.iter().map(|endpoint| ("host", endpoint)).chain(root) {
                let _ = write!(text, "  {what} {}", endpoint.url);
                if endpoint.override_path {
                    text.push_str(" override_path");
                }
                if let Some(ca) = &endpoint.ca_file {
                    let _ = write!(text, " ca={ca}");
                }
                if let Some((cert, key)) = &endpoint.client {
                    let _ = write!(text, " client={cert},{key}");
                }
                if endpoint.skip_verify {
                    text.push_str(" skip_verify");
                }
                text.push('\n');
            }
        }
        parts.push(("registries".to_owned(), text));
    }
    check_edit(case, &config, &edit, &source);
    parts.push((edit.file.display().to_string(), visible(&edit.after)));
    parts
}

/// What holds for every edit, whatever the case shows.
fn check_edit(case: &Case, config: &LoadedConfig, edit: &Edit, source: &MapSource) {
    let title = &case.title;
    let version = config.version();
    let main = main_file(case);
    let edited = source.clone().with(&edit.file, edit.after.clone());
    let again = config_toml::load(&main, version, &edited).expect(title);
    let analysis = again.analyze();
    let directory = analysis.effectiveness.directory().expect(title).to_owned();
    assert!(matches!(analysis.need(Path::new(DIRECTORY)), Need::Nothing { .. }), "{title}: nothing is left to do");
    let path = config.analyze().pull_path;
    assert_eq!(path.is_local(), analysis.pull_path.is_local(), "{title}: another pull path than {path:?}");
    let second = config_toml::patch(&again, &directory).expect(title);
    assert!(second.is_empty(), "{title}: a second patch is the identity");
    assert_eq!(second.before.as_deref(), Some(&second.after[..]), "{title}");

    let undo = serde_json::to_string(&edit.undo).expect(title);
    let undo = serde_json::from_str(&undo).expect(title);
    assert_eq!(edit.undo, undo, "{title}: the undo record survives the journal");
    assert_eq!(
        config_toml::undo(&edit.after, &undo, version),
        UndoOutcome::Original(edit.before.clone()),
        "{title}: undo gives the bytes of before"
    );
    let Some(before) = &edit.before else { return };
    let newline: &[u8] = if before.is_empty() || before.ends_with(b"\n") { b"" } else { b"\n" };
    let others = [newline, b"# someone else was here\n"].concat();
    let changed = [&edit.after[..], &others[..]].concat();
    match config_toml::undo(&changed, &undo, version) {
        UndoOutcome::TakenBack(bytes) => {
            let expected = [&before[..], &others[..]].concat();
            let shown = |bytes: &[u8]| visible(bytes).replace("\n\n", "\n");
            assert_eq!(shown(&bytes), shown(&expected), "{title}: undo keeps what others wrote");
        }
        // before our edit CRI did not load with this file: that is not put back beside what others wrote
        UndoOutcome::Refused(UndoError::Conflict { .. })
            if matches!(config.analyze().effectiveness, Effectiveness::Conflict { .. }) => {}
        other => panic!("{title}: undo of a file that others changed gives {other:?}"),
    }
}

#[test]
fn every_case_gives_what_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/config");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("the cases are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let (mut count, mut failures) = (0, Vec::new());
    let mut titles: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("readable");
        let mut updated = text.split("=== ").next().unwrap_or_default().to_owned();
        for case in parse(&text) {
            assert!(!case.versions.is_empty(), "{}: no containerd version", case.title);
            if let Some(other) = titles.insert(case.title.clone(), path.clone()) {
                panic!("{} stands in {} and {}", case.title, other.display(), path.display());
            }
            let outcomes: Vec<_> = case.versions.iter().map(|version| outcome(&case, *version)).collect();
            count += case.versions.len();
            for (version, outcome) in case.versions.iter().zip(&outcomes) {
                let expected = if update { &outcomes[0] } else { &case.expected };
                if outcome != expected {
                    let (got, wanted) = (render(&case, outcome), render(&case, expected));
                    failures.push(format!("on containerd {version}:\n{got}\ninstead of\n{wanted}"));
                }
            }
            updated.push_str(&render(&case, &outcomes[0]));
        }
        if update {
            fs::write(&path, updated).expect("writable");
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n\n"));
    assert!(count >= 200, "{count} cases are too few to be called a table");
}
