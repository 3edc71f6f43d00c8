//! What the unit files of a host say that is not running: with which configuration its containerd will start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::daemon::config_flag;
use crate::root::{FileError, HostRoot};

/// Where units lie, the first one hiding the others (systemd.unit(5)).
const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The file that containerd.service and its drop-ins start containerd with, if they say so.
///
/// # Errors
/// A unit file cannot be read.
pub fn config_file(root: &HostRoot) -> Result<Option<PathBuf>, FileError> {
    let mut service = Service::default();
    for text in texts(root)? {
        service.read(root, &text)?;
    }
    let words = service.command();
    // A variable that no file sets is known to systemd alone.
    Ok(config_flag(&words).filter(|path| !path.to_string_lossy().contains('$')))
}

/// The unit and its drop-ins, in the order in which systemd reads them.
fn texts(root: &HostRoot) -> Result<Vec<String>, FileError> {
    let mut texts = Vec::new();
    for directory in DIRECTORIES {
        if let Ok(Some(text)) = root.read(&Path::new(directory).join("containerd.service")) {
            texts.push(text);
            break;
        }
    }
    let mut drop_ins: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES {
        for path in root.glob(&format!("{directory}/containerd.service.d/*.conf"))? {
            // By name, whatever directory they are in; of two with one name the first hides the other.
            drop_ins.entry(path.file_name().unwrap_or_default().to_owned()).or_insert(path);
        }
    }
    for path in drop_ins.into_values() {
        texts.extend(root.read(&path)?);
    }
    Ok(texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// As much of a service as tells its command line.
#[derive(Debug, Default)]
struct Service {
    exec_start: String,
    environment: BTreeMap<String, String>,
}

impl Service {
    fn read(&mut self, root: &HostRoot, text: &str) -> Result<(), FileError> {
        // A backslash at its end joins a line with the next one.
        let text = text.replace("\\\n", " ");
        for line in text.lines().map(str::trim) {
            let Some((key, value)) = line.split_once('=') else { continue };
            match key.trim() {
                "ExecStart" => value.trim().clone_into(&mut self.exec_start),
                "Environment" => {
                    let assignments = words(value);
                    self.environment.extend(assignments.iter().filter_map(|word| assignment(word)));
                }
                "EnvironmentFile" => {
                    let path = value.trim().trim_start_matches('-');
                    // One that is missing stops the unit or, with a dash, does not matter: it sets nothing either way.
                    let Ok(Some(file)) = root.read(Path::new(path)) else { continue };
                    let file = String::from_utf8_lossy(&file).into_owned();
                    let lines = file.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
                    self.environment.extend(lines.filter_map(|line| assignment(&words(line).join(" "))));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The words from containerd's own on: a wrapper such as `/usr/bin/env PATH=…` stands before it.
    fn command(&self) -> Vec<String> {
        let words: Vec<String> = words(&self.exec_start).into_iter().map(|word| self.expand(&word)).collect();
        let is_containerd = |word: &String| {
            let path = word.trim_start_matches(['@', '-', ':', '+', '!']);
            Path::new(path).file_name().is_some_and(|name| name == "containerd")
        };
        let start = words.iter().position(is_containerd).unwrap_or(words.len());
        words.into_iter().skip(start).collect()
    }

    fn expand(&self, word: &str) -> String {
        self.environment.iter().fold(word.to_owned(), |word, (name, value)| {
            let word = word.replace(&format!("${{{name}}}"), value);
            if word == format!("${name}") { value.clone() } else { word }
        })
    }
}

pub(super) fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

/// Words between blanks; quotes hold blanks together and are taken off.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => (quote, begun) = (Some(c), true),
            None if c.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            Some(_) | None => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().expect("tempdir");
        for (path, text) in files {
            let path = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
        let root = HostRoot::open(dir.path()).expect("open");
        config_file(&root).expect("readable").map(|path| path.display().to_string())
    }

    const UNIT: &str = "/usr/lib/systemd/system/containerd.service";
    const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/10-x.conf";

    #[test]
    fn each_way_to_name_the_file() {
        let plain = "[Service]\nExecStart=/usr/bin/containerd\n";
        for (files, expected) in [
            (&[(UNIT, plain)][..], None),
            (&[], None),
            (&[(UNIT, "[Service]\nExecStart=-/usr/bin/containerd -c /a.toml\n")], Some("/a.toml")),
            (&[(UNIT, "[Service]\nExecStart=/usr/bin/containerd \\\n  --config=\"/a b.toml\"\n")], Some("/a b.toml")),
            (
                &[
                    (UNIT, plain),
                    (DROP_IN, "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /opt/c.toml\n"),
                ],
                Some("/opt/c.toml"),
            ),
            (
                &[
                    (UNIT, "[Service]\nEnvironment=C=/usr/share/c.toml\nExecStart=/usr/bin/containerd --config ${C}\n"),
                    (DROP_IN, "[Service]\nEnvironment=\"C=/etc/c.toml\"\n"),
                ],
                Some("/etc/c.toml"),
            ),
            (
                &[
                    (UNIT, "[Service]\nEnvironmentFile=-/etc/default/c\nExecStart=/usr/bin/containerd --config $C\n"),
                    ("/etc/default/c", "# C=/no.toml\nC='/etc/c.toml'\n"),
                ],
                Some("/etc/c.toml"),
            ),
            (
                &[(UNIT, "[Service]\nExecStart=/usr/bin/env PATH=/opt/bin:${PATH} containerd --config /etc/c.toml\n")],
                Some("/etc/c.toml"),
            ),
            (&[(UNIT, "[Service]\nExecStart=/usr/bin/containerd --config ${UNSET}\n")], None),
            (
                &[
                    ("/etc/systemd/system/containerd.service", plain),
                    (UNIT, "[Service]\nExecStart=containerd -c /a.toml\n"),
                ],
                None,
            ),
        ] {
            assert_eq!(found(files).as_deref(), expected, "{files:?}");
        }
    }
}
