//! Files that containerd and its unit read at a start alone, and what of them somebody else has changed since.
//!
//! A restart of ours would bring such a change into force, and no way back helps: the file that comes back is the
//! changed one. So there is none while one is pending; whoever made the change restarts, and sees what it does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ConfigPlan, ProxyPlan};
use crate::digest::Digest;

/// More files than these are counted only.
const NAMED: usize = 3;

/// A file that is read at the start alone, as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFile {
    /// The host path.
    pub path: PathBuf,
    /// Its content; `None` where there is no file.
    pub content: Option<Digest>,
    /// When it last changed: the inode's change time, which `cp -p`, `rsync -t`, a package and a rename cannot carry
    /// over from another place as they do with the time of modification. `None` where there is no file.
    pub changed: Option<Timestamp>,
}

/// The start of the daemon that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The unit's name.
    pub unit: String,
    /// systemd's name for it.
    pub invocation: String,
    /// When, by the clock that stamps files.
    pub at: Timestamp,
    /// Whether systemd says itself that files of the unit have changed since it read them (`NeedDaemonReload`).
    pub unit_is_stale: bool,
}

/// For one start of the daemon: contents that hold no change of others which the daemon has not read. They are those
/// that it started with, and what we made of those.
///
/// The time tells only at first sight. From then on a file is known by its content, so that one that is written again
/// with the same bytes is none that has changed, and a clock that is set does no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownContents {
    invocation: String,
    files: BTreeMap<PathBuf, BTreeSet<Option<Digest>>>,
}

impl KnownContents {
    /// Whether it is about this start.
    #[must_use]
    pub fn is_of(&self, start: &Start) -> bool {
        self.invocation == start.invocation
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Adds what we are about to make of a file. Where others have changed it before us, their change is in it still.
    pub fn note(&mut self, path: &Path, before: Option<&Digest>, after: Option<&Digest>) {
        if let Some(known) = self.files.get_mut(path)
            && known.contains(&before.cloned())
        {
            known.insert(after.cloned());
        }
    }
}

/// A change of somebody else that the daemon has not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// A file was written or made.
    Changed(PathBuf),
    /// A file is gone.
    Gone(PathBuf),
    /// systemd has not read the unit's files anew.
    Unit(String),
}

/// What of these files the running daemon has not read, and what is known of them from now on. `known` is what was known
/// before, of this start or of another.
#[must_use]
pub fn unread(files: &[StartFile], start: &Start, known: Option<&KnownContents>) -> (Vec<Unread>, KnownContents) {
    let of_this_start = known.filter(|known| known.is_of(start));
    let mut known = of_this_start.map_or_else(
        || KnownContents { invocation: start.invocation.clone(), files: BTreeMap::new() },
        KnownContents::clone,
    );
    let mut unread = Vec::new();
    for (path, contents) in &known.files {
        // An import that is named no more, a drop-in that was removed.
        if !files.iter().any(|file| file.path == *path) && !contents.contains(&None) {
            unread.push(Unread::Gone(path.clone()));
        }
    }
    for StartFile { path, content, changed } in files {
        match known.files.get(path) {
            Some(contents) if contents.contains(content) => {}
            Some(_) if content.is_none() => unread.push(Unread::Gone(path.clone())),
            Some(_) => unread.push(Unread::Changed(path.clone())),
            None if changed.is_some_and(|changed| changed > start.at) => unread.push(Unread::Changed(path.clone())),
            None => {
                known.files.insert(path.clone(), [content.clone()].into());
            }
        }
    }
    if start.unit_is_stale {
        unread.push(Unread::Unit(start.unit.clone()));
    }
    unread.sort();
    (unread, known)
}

/// Why no restart of ours may bring these into force, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSinceStart {
    /// The unit.
    pub unit: String,
    /// What it has not read; one at least.
    pub unread: Vec<Unread>,
}

impl ChangedSinceStart {
    /// `None` where there is nothing that the daemon has not read.
    #[must_use]
    pub fn of(unit: &str, unread: Vec<Unread>) -> Option<Self> {
        (!unread.is_empty()).then(|| Self { unit: unit.to_owned(), unread })
    }

    /// The plan for the configuration as it can be carried out: without the restart there is none.
    #[must_use]
    pub fn hold_back(&self, plan: ConfigPlan) -> ConfigPlan {
        match plan {
            ConfigPlan::Patch { reason, .. } | ConfigPlan::Migrate { reason, .. } => {
                ConfigPlan::Unsupported { reason: format!("{reason}; {self}") }
            }
            ConfigPlan::Adopt { .. } | ConfigPlan::Unsupported { .. } => plan,
        }
    }

    /// The same for the proxy.
    #[must_use]
    pub fn hold_back_proxy(&self, plan: ProxyPlan) -> ProxyPlan {
        if !plan.needs_restart() {
            return plan;
        }
        let reason = plan.reason().unwrap_or_default();
        ProxyPlan::HeldBack { reason: format!("{reason}; {self}") }
    }
}

impl fmt::Display for ChangedSinceStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, unread } = self;
        let words = |what: &Unread| match what {
            Unread::Changed(path) => path.display().to_string(),
            Unread::Gone(path) => format!("{} (removed)", path.display()),
            Unread::Unit(unit) => format!("files of {unit} that systemd has not read anew"),
        };
        let mut named: Vec<String> = unread.iter().take(NAMED).map(words).collect();
        match unread.len().saturating_sub(NAMED) {
            0 => {}
            1 => named.push("one more file".to_owned()),
            more => named.push(format!("{more} more files")),
        }
        let reload = match unread.iter().any(|what| matches!(what, Unread::Unit(_))) {
            true => "`systemctl daemon-reload` and ",
            false => "",
        };
        write!(
            f,
            "a restart is not safe, because it would also bring into force what somebody else has changed since the start \
             of {unit}: {}; check that and restart containerd yourself ({reload}`systemctl restart {unit}`), then the \
             operator goes on",
            named.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "/etc/containerd/config.toml";
    const UNIT: &str = "/lib/systemd/system/containerd.service";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn start(name: &str) -> Start {
        Start { unit: "containerd.service".to_owned(), invocation: name.to_owned(), at: at(100), unit_is_stale: false }
    }

    fn file(path: &str, content: &str, changed: i64) -> StartFile {
        StartFile { path: path.into(), content: Some(Digest::of(content.as_bytes())), changed: Some(at(changed)) }
    }

    fn absent(path: &str) -> StartFile {
        StartFile { path: path.into(), content: None, changed: None }
    }

    fn changed(path: &str) -> Vec<Unread> {
        vec![Unread::Changed(path.into())]
    }

    #[test]
    fn at_first_sight_the_time_tells() {
        let old = [file(CONFIG, "a", 99), file(UNIT, "u", -1_000_000)];
        assert_eq!(unread(&old, &start("1"), None).0, []);
        let (new, known) = unread(&[file(CONFIG, "a", 101), file(UNIT, "u", 0)], &start("1"), None);
        assert_eq!(new, changed(CONFIG));
        // What was not read is not known either: it is said until the daemon restarts.
        assert_eq!(unread(&[file(CONFIG, "a", 101), file(UNIT, "u", 0)], &start("1"), Some(&known)).0, changed(CONFIG));
        assert_eq!(unread(&[file(CONFIG, "a", 101)], &Start { at: at(102), ..start("2") }, Some(&known)).0, []);
    }

    #[test]
    fn afterwards_the_content_tells() {
        let (_, known) = unread(&[file(CONFIG, "a", 99)], &start("1"), None);
        let again = |content: &str, time: i64| unread(&[file(CONFIG, content, time)], &start("1"), Some(&known)).0;
        assert_eq!(again("a", 500), [], "written again with the same bytes");
        assert_eq!(again("b", 500), changed(CONFIG));
        assert_eq!(again("b", 50), changed(CONFIG), "by a clock that was set back");
        assert_eq!(unread(&[absent(CONFIG)], &start("1"), Some(&known)).0, [Unread::Gone(CONFIG.into())]);
        assert_eq!(unread(&[], &start("1"), Some(&known)).0, [Unread::Gone(CONFIG.into())]);
        let (_, without) = unread(&[absent(CONFIG)], &start("1"), None);
        assert_eq!(unread(&[file(CONFIG, "a", 500)], &start("1"), Some(&without)).0, changed(CONFIG));
        assert_eq!(unread(&[], &start("1"), Some(&without)).0, []);
    }

    #[test]
    fn our_own_edits_of_what_is_in_force_are_known_and_those_of_what_is_not_are_not() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let (_, mut known) = unread(&[file(CONFIG, "a", 99)], &start("1"), None);
        known.note(Path::new(CONFIG), Some(&digest("a")), Some(&digest("a+")));
        known.note(Path::new(CONFIG), Some(&digest("a+")), None);
        for state in [file(CONFIG, "a", 500), file(CONFIG, "a+", 500), absent(CONFIG)] {
            assert_eq!(unread(std::slice::from_ref(&state), &start("1"), Some(&known)).0, [], "{state:?}");
        }
        // Somebody else's `b` is not in force, and is in what we made of it.
        known.note(Path::new(CONFIG), Some(&digest("b")), Some(&digest("b+")));
        assert_eq!(unread(&[file(CONFIG, "b+", 500)], &start("1"), Some(&known)).0, changed(CONFIG));
        // The next start reads all that stands there.
        assert_eq!(unread(&[file(CONFIG, "b+", 500)], &Start { at: at(501), ..start("2") }, Some(&known)).0, []);
    }

    #[test]
    fn plans_that_need_no_restart_are_not_held_back() {
        let held = ChangedSinceStart::of("containerd.service", changed(CONFIG)).expect("something");
        let adopt = ConfigPlan::Adopt { directory: "/c".into(), then: Vec::new(), reason: "set".to_owned() };
        assert_eq!(held.hold_back(adopt.clone()), adopt);
        let patch = ConfigPlan::Patch { directory: "/c".into(), edit: None, reason: "not read".to_owned() };
        assert!(matches!(held.hold_back(patch), ConfigPlan::Unsupported { .. }));
        let nothing = ProxyPlan::Nothing { notes: Vec::new() };
        assert_eq!(held.hold_back_proxy(nothing.clone()), nothing);
        let restart = ProxyPlan::Restart { variables: Vec::new(), reason: "not read".to_owned() };
        assert!(!held.hold_back_proxy(restart).needs_restart());
        assert_eq!(ChangedSinceStart::of("containerd.service", Vec::new()), None);
    }

    #[test]
    fn the_files_and_the_way_on_are_named() {
        let stale = Start { unit_is_stale: true, ..start("1") };
        let (found, _) = unread(&[file(CONFIG, "a", 101)], &stale, None);
        let held = ChangedSinceStart::of(&stale.unit, found).expect("something");
        insta::assert_snapshot!(held, @"a restart is not safe, because it would also bring into force what somebody else has changed since the start of containerd.service: /etc/containerd/config.toml, files of containerd.service that systemd has not read anew; check that and restart containerd yourself (`systemctl daemon-reload` and `systemctl restart containerd.service`), then the operator goes on");
        let many = ["/a", "/b", "/c", "/d", "/e"].map(|path| file(path, "x", 101));
        let held = ChangedSinceStart::of(&stale.unit, unread(&many, &start("1"), None).0).expect("something");
        insta::assert_snapshot!(held, @"a restart is not safe, because it would also bring into force what somebody else has changed since the start of containerd.service: /a, /b, /c, 2 more files; check that and restart containerd yourself (`systemctl restart containerd.service`), then the operator goes on");
    }
}
