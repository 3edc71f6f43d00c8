//! Reads the main file and its imports, in containerd's order: breadth-first, each file once.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Component, Path, PathBuf},
};

use super::{
    document::ConfigFile,
    errors::ConfigError,
    glob,
    node::{Kind, Node},
    source::ConfigSource,
};
use crate::containerd::Version;

struct Pending {
    path: PathBuf,
    /// The file and line that ask for it; none for the main file.
    importer: Option<(PathBuf, usize)>,
}

/// All files that the daemon would load; empty where the main file does not exist (it then runs on its defaults).
pub(crate) fn load_files(
    main: &Path,
    version: Version,
    source: &dyn ConfigSource,
) -> Result<Vec<ConfigFile>, ConfigError> {
    let mut files: Vec<ConfigFile> = Vec::new();
    let mut loaded = BTreeSet::new();
    let mut pending = VecDeque::from([Pending { path: clean(main), importer: None }]);
    while let Some(Pending { path, importer }) = pending.pop_front() {
        if !loaded.insert(path.clone()) {
            continue;
        }
        let Some(bytes) = source.read(&path)? else {
            match importer {
                Some((file, line)) => return Err(ConfigError::ImportMissing { file, line, import: path }),
                None => return Ok(files),
            }
        };
        let file = ConfigFile::parse(files.len(), &path, bytes, version)?;
        pending.extend(resolve(&file, source)?);
        files.push(file);
    }
    Ok(files)
}

fn resolve(file: &ConfigFile, source: &dyn ConfigSource) -> Result<Vec<Pending>, ConfigError> {
    let Some(node) = file.document().root.get("imports") else {
        return Ok(Vec::new());
    };
    let wrong = |node: &Node| ConfigError::Type {
        file: file.path().to_owned(),
        line: file.document().line(node.place.start),
        key: "imports".to_owned(),
        expected: "an array of strings",
    };
    let Kind::Array(entries) = &node.kind else {
        return Err(wrong(node));
    };
    let mut found = Vec::new();
    for entry in entries {
        let text = entry.text().ok_or_else(|| wrong(entry))?;
        let line = file.document().line(entry.place.start);
        let importer = Some((file.path().to_owned(), line));
        let path = clean(&file.path().parent().unwrap_or(Path::new("/")).join(text));
        // only `*` makes containerd glob; `?` and `[` alone are taken as they stand
        let Some(pattern) = path.to_str().filter(|path| path.contains('*')) else {
            found.push(Pending { path, importer });
            continue;
        };
        if !glob::is_well_formed(pattern) {
            let pattern = text.to_owned();
            return Err(ConfigError::ImportPattern { file: file.path().to_owned(), line, pattern });
        }
        let matches = source.glob(pattern)?;
        found.extend(matches.into_iter().map(|path| Pending { path, importer: importer.clone() }));
    }
    Ok(found)
}

/// Go's `filepath.Clean`: without `.`, `..`, and doubled slashes.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if matches!(cleaned.components().next_back(), Some(Component::Normal(_))) {
                    cleaned.pop();
                } else if !cleaned.has_root() {
                    cleaned.push("..");
                }
            }
            other => cleaned.push(other),
        }
    }
    if cleaned.as_os_str().is_empty() { PathBuf::from(".") } else { cleaned }
}
