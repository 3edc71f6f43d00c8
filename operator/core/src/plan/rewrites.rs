//! What to do when somebody else has written over our own edit of containerd's configuration: a node's bootstrap at
//! boot, Ansible, a GPU toolkit.
//!
//! A daemon that runs reads the directory that it started with, whatever the file says since. So the key goes back
//! without a restart, and holds from the next start on. Whoever writes the file again and again is not fought: after
//! [`MAX_REVERTS`] within [`CONTEST_WINDOW`] it is left as it is and reported, with the time of the next try.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::ConfigPlan;
use crate::observed::Proof;

/// After this many reverts within [`CONTEST_WINDOW`] the file is left to the one who rewrites it. Other files of ours
/// are put back always (see [`super::put_backs`]); this one matters at the daemon's next start only, and each write of it
/// may cost that start.
pub const MAX_REVERTS: usize = 2;

/// See [`MAX_REVERTS`].
pub const CONTEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Our last edit, as it was recorded when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEdit {
    /// The file.
    pub file: PathBuf,
    /// The directory that it set.
    pub directory: PathBuf,
    /// When an edit of this file was made again, because the one before had been written over.
    pub reverts: Vec<Timestamp>,
}

/// What to do about an edit that was written over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Nothing was written over, or the daemon has read what was written since: the plan holds as it is.
    None,
    /// Write the plan's edit and do not restart: the daemon reads the directory already.
    PutBack {
        /// The directory that it reads.
        directory: PathBuf,
    },
    /// Somebody has set another directory, which holds from the daemon's next start on. Until then files go where it
    /// reads them now.
    NextStart {
        /// The directory that it reads.
        directory: PathBuf,
        /// The one that it will read.
        named: PathBuf,
    },
    /// Leave the file to the one who rewrites it.
    Leave(Contest),
}

/// A file of containerd's configuration that somebody else rewrites again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// The file.
    pub file: PathBuf,
    /// The directory that our edit had set.
    pub directory: PathBuf,
    /// When our edit was made again, within the last 24 hours.
    pub reverts: Vec<Timestamp>,
    /// Whether the running daemon reads the directory all the same.
    pub still_read: bool,
    /// When it is made once more.
    pub retry: Timestamp,
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, directory, reverts, still_read, retry } = self;
        let at = |time: &Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let times: Vec<String> = reverts.iter().map(at).collect();
        let consequence = if *still_read {
            "the running containerd reads that directory until its next start"
        } else {
            "containerd has restarted since and reads no mirror"
        };
        write!(
            f,
            "{} lost its `config_path = \"{}\"` again after it had been put back at {}; it is left as it is until {}, \
             when it is tried once more: {consequence}. Keep the program that writes the file from doing so, or let it set \
             `config_path` itself",
            file.display(),
            directory.display(),
            times.join(" and "),
            at(retry)
        )
    }
}

/// Whether the files are other than our edit left them, so that it matters whether the daemon still reads the directory
/// of that edit. `plan` is the one for the files as they stand, made without a proof.
#[must_use]
pub fn is_in_question(plan: &ConfigPlan, ours: &OwnEdit) -> bool {
    match plan {
        ConfigPlan::Patch { edit: Some(_), .. } | ConfigPlan::Migrate { .. } => true,
        ConfigPlan::Adopt { directory, .. } => *directory != ours.directory,
        // The file is as we left it and was not read yet, or nothing can be done about it.
        ConfigPlan::Patch { edit: None, .. } | ConfigPlan::Unsupported { .. } => false,
    }
}

/// Decides what to do. `proof` is whether the running daemon reads the directory of our edit.
#[must_use]
pub fn rewrite(plan: &ConfigPlan, ours: &OwnEdit, proof: &Proof, now: Timestamp) -> Rewrite {
    if !is_in_question(plan, ours) {
        return Rewrite::None;
    }
    let OwnEdit { file, directory, reverts } = ours;
    let still_read = *proof == Proof::Effective;
    if let ConfigPlan::Adopt { directory: named, .. } = plan {
        // Another's decision, which stands; it needs no restart of ours.
        return match still_read {
            true => Rewrite::NextStart { directory: directory.clone(), named: named.clone() },
            false => Rewrite::None,
        };
    }
    let reverts = recent(reverts, now);
    // The oldest of those that fill the allowance: once it no longer counts there is room for one more.
    let oldest = reverts.len().checked_sub(MAX_REVERTS).and_then(|surplus| reverts.get(surplus));
    if let Some(oldest) = oldest {
        let retry = oldest.saturating_add(CONTEST_WINDOW).unwrap_or(Timestamp::MAX);
        let (file, directory) = (file.clone(), directory.clone());
        return Rewrite::Leave(Contest { file, directory, reverts, still_read, retry });
    }
    if still_read { Rewrite::PutBack { directory: directory.clone() } } else { Rewrite::None }
}

/// Those that count: within [`CONTEST_WINDOW`], by a clock that may have been set back meanwhile.
#[must_use]
pub fn recent(reverts: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let counts = |time: &Timestamp| *time <= now && now.duration_since(*time) < CONTEST_WINDOW;
    reverts.iter().copied().filter(counts).collect()
}

impl Rewrite {
    /// The plan to go on with, where it is another one than for the files as they stand.
    #[must_use]
    pub fn plan(&self) -> Option<ConfigPlan> {
        let adopt = |directory: &Path, reason: String| ConfigPlan::Adopt {
            directory: directory.to_owned(),
            then: Vec::new(),
            reason,
        };
        match self {
            Self::None => None,
            Self::PutBack { directory } => Some(adopt(
                directory,
                format!(
                    "the running containerd reads {}, and its configuration, which somebody else has rewritten, says \
                     otherwise",
                    directory.display()
                ),
            )),
            Self::NextStart { directory, named } => Some(adopt(
                directory,
                format!(
                    "the running containerd reads {}; somebody has set {}, which it reads from its next start on",
                    directory.display(),
                    named.display()
                ),
            )),
            Self::Leave(contest) if contest.still_read => Some(adopt(&contest.directory, contest.to_string())),
            Self::Leave(contest) => Some(ConfigPlan::Unsupported { reason: contest.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config_toml::{MapSource, load},
        containerd::Version,
        observed::{Detected, Distribution, Observed, Supervisor, Writable},
        plan::plan_config,
    };

    const MAIN: &str = "/etc/containerd/config.toml";
    const OURS: &str = "/etc/containerd/certs.d";
    const SET: &str =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";
    const LEGACY: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  \
        endpoint = [\"https://m\"]\n";

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3600).expect("in range")
    }

    fn plan(config: &str) -> ConfigPlan {
        let version = Version::new(1, 7, 27);
        let source = MapSource::new().with(MAIN, config);
        let observed = Observed {
            containerd: version,
            distribution: Detected { distribution: Distribution::Plain, evidence: String::new() },
            supervisor: Supervisor::Offline,
            config_file: MAIN.into(),
            config: load(Path::new(MAIN), version, &source),
            config_writable: Writable::Yes,
            imports_writable: std::collections::BTreeMap::new(),
            links: std::collections::BTreeMap::new(),
            directory_writable: Writable::Yes,
            proof: Proof::NotAsked,
        };
        plan_config(&observed, "2026-11-21")
    }

    fn ours(reverts: &[i64]) -> OwnEdit {
        OwnEdit { file: MAIN.into(), directory: OURS.into(), reverts: reverts.iter().map(|hour| at(*hour)).collect() }
    }

    fn gone() -> Proof {
        Proof::NotEffective("connection refused".to_owned())
    }

    #[test]
    fn while_our_key_stands_nothing_is_asked() {
        assert!(!is_in_question(&plan(SET), &ours(&[])));
        assert_eq!(rewrite(&plan(SET), &ours(&[]), &gone(), at(0)), Rewrite::None);
        assert!(!is_in_question(&plan("version = 2\n[plugins\n"), &ours(&[])), "a broken file is not ours to mend");
    }

    #[test]
    fn a_key_that_is_gone_goes_back_without_a_restart_while_the_daemon_reads_the_directory() {
        for lost in ["version = 2\n", LEGACY, ""] {
            let lost = plan(lost);
            assert!(is_in_question(&lost, &ours(&[])) && lost.edit().is_some());
            let put_back = rewrite(&lost, &ours(&[]), &Proof::Effective, at(0));
            assert_eq!(put_back, Rewrite::PutBack { directory: OURS.into() });
            assert!(!put_back.plan().expect("adopts").needs_restart());
        }
    }

    #[test]
    fn a_daemon_that_restarted_without_the_key_needs_the_plan() {
        assert_eq!(rewrite(&plan("version = 2\n"), &ours(&[]), &gone(), at(0)), Rewrite::None);
        let unknown = Proof::Failed("CRI did not answer".to_owned());
        assert_eq!(rewrite(&plan("version = 2\n"), &ours(&[]), &unknown, at(0)), Rewrite::None);
    }

    #[test]
    fn after_two_reverts_within_a_day_it_is_left_whether_a_restart_were_due_or_not() {
        let lost = plan("version = 2\n");
        for proof in [Proof::Effective, gone()] {
            let Rewrite::Leave(contest) = rewrite(&lost, &ours(&[1, 2]), &proof, at(3)) else { panic!("left") };
            assert_eq!((contest.reverts.len(), contest.still_read), (2, proof == Proof::Effective));
            assert_eq!(contest.retry, at(25), "when the first of the two is a day old");
            let plan = Rewrite::Leave(contest).plan().expect("another plan");
            assert!(!plan.needs_restart(), "never a restart war");
            assert_eq!(plan.directory().is_some(), proof == Proof::Effective);
        }
        // One of them is a day old; a clock that was set back makes none count.
        assert!(matches!(rewrite(&lost, &ours(&[1, 2]), &Proof::Effective, at(25)), Rewrite::PutBack { .. }));
        assert!(matches!(rewrite(&lost, &ours(&[1, 2]), &Proof::Effective, at(0)), Rewrite::PutBack { .. }));
    }

    #[test]
    fn another_directory_is_anothers_decision_and_waits_for_the_next_start() {
        let other = plan(&SET.replace("/etc/containerd/certs.d", "/srv/certs.d"));
        let next = rewrite(&other, &ours(&[1, 2]), &Proof::Effective, at(3));
        assert_eq!(next, Rewrite::NextStart { directory: OURS.into(), named: "/srv/certs.d".into() });
        assert_eq!(next.plan().expect("adopts").directory(), Some(Path::new(OURS)));
        assert_eq!(rewrite(&other, &ours(&[]), &gone(), at(0)), Rewrite::None);
    }

    #[test]
    fn the_contest_says_which_file_and_when() {
        let Rewrite::Leave(contest) = rewrite(&plan(""), &ours(&[1, 2]), &Proof::Effective, at(3)) else { panic!() };
        insta::assert_snapshot!(contest, @r#"/etc/containerd/config.toml lost its `config_path = "/etc/containerd/certs.d"` again after it had been put back at 2027-01-15 09:00:00Z and 2027-01-15 10:00:00Z; it is left as it is until 2027-01-16 09:00:00Z, when it is tried once more: the running containerd reads that directory until its next start. Keep the program that writes the file from doing so, or let it set `config_path` itself"#);
    }
}
