//! What systemd and containerd themselves say happened on a node.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use testbed::Node;

use crate::cluster::CONFIG_TOML;

/// systemd's own name for "a unit has started" (sd-messages.h).
const UNIT_STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
/// And for "a unit is about to be stopped".
const UNIT_STOPPING: &str = "de5b426a63be47a7b6ac3eaac82e2f6f";

/// A node's containerd at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// New with each start of the unit.
    pub invocation: String,
    /// When the main process started, by the monotonic clock, in microseconds.
    pub started_monotonic_us: u64,
    /// Restarts that systemd made by itself, because the daemon died.
    pub automatic_restarts: u32,
    /// Starts of the unit in this boot, from the journal.
    pub starts: usize,
    /// config.toml, if there is one.
    pub config: Option<Vec<u8>>,
    /// The running containers by ID.
    pub tasks: BTreeMap<String, Task>,
}

/// A container that containerd runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its process, as the node numbers it.
    pub pid: u32,
    /// `RUNNING`, `STOPPED`.
    pub state: String,
}

/// One stop and start of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// When systemd began to stop it.
    pub stopping: Timestamp,
    /// When it was up again.
    pub started: Timestamp,
}

impl Restart {
    /// Whether there was a moment at which both were down.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.stopping < other.started && other.stopping < self.started
    }
}

impl Witness {
    /// Looks at a node.
    ///
    /// # Errors
    /// When the node is off, or systemd or containerd does not answer.
    pub fn of(node: &Node) -> Result<Self> {
        let shown = node.run([
            "systemctl",
            "show",
            "containerd.service",
            "-p",
            "InvocationID",
            "-p",
            "NRestarts",
            "-p",
            "ExecMainStartTimestampMonotonic",
        ])?;
        let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
        let property = |name: &str| {
            properties.get(name).copied().with_context(|| format!("systemd did not say containerd's {name}: {shown}"))
        };
        Ok(Self {
            invocation: property("InvocationID")?.to_owned(),
            started_monotonic_us: property("ExecMainStartTimestampMonotonic")?.parse().context("a start time")?,
            automatic_restarts: property("NRestarts")?.parse().context("a number of restarts")?,
            starts: events(node, UNIT_STARTED)?.len(),
            config: node.exists(CONFIG_TOML).then(|| node.read(CONFIG_TOML)).transpose()?,
            tasks: tasks(node)?,
        })
    }

    /// The restarts of containerd in this boot, in order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn restarts(node: &Node) -> Result<Vec<Restart>> {
        let started = events(node, UNIT_STARTED)?;
        let stopping = events(node, UNIT_STOPPING)?;
        Ok(stopping
            .into_iter()
            .filter_map(|stopping| {
                let started = started.iter().copied().find(|started| *started >= stopping)?;
                Some(Restart { stopping, started })
            })
            .collect())
    }
}

/// The journal's entries of this boot about containerd's unit with that message ID.
fn events(node: &Node, message: &str) -> Result<Vec<Timestamp>> {
    // journald writes what it gets in order, but a reader may come before it.
    node.run(["journalctl", "--sync"])?;
    let lines = node.run([
        "journalctl",
        "--boot",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--output-fields=JOB_RESULT",
        "UNIT=containerd.service",
        &format!("MESSAGE_ID={message}"),
    ])?;
    lines
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).context("the journal printed something that is not JSON")?;
            let time = entry["__REALTIME_TIMESTAMP"].as_str().and_then(|text| text.parse().ok());
            Timestamp::from_microsecond(time.context("a journal entry has no time")?).context("a journal entry's time")
        })
        .collect()
}

fn tasks(node: &Node) -> Result<BTreeMap<String, Task>> {
    let listed = node.run(["ctr", "--namespace", "k8s.io", "tasks", "list"])?;
    listed
        .lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split_whitespace();
            let (id, pid, state) = (words.next(), words.next(), words.next());
            let (Some(id), Some(Ok(pid)), Some(state)) = (id, pid.map(str::parse), state) else {
                anyhow::bail!("ctr listed a task in an unknown form: {line}");
            };
            Ok((id.to_owned(), Task { pid, state: state.to_owned() }))
        })
        .collect()
}

/// What `after` has more than `before`, if `after` is `before` with one piece put in and every other byte as it was.
///
/// # Errors
/// When something else changed.
pub fn insertion(before: &[u8], after: &[u8]) -> Result<String> {
    let head = before.iter().zip(after).take_while(|(one, other)| one == other).count();
    let tail = before[head..].iter().rev().zip(after.iter().rev()).take_while(|(one, other)| one == other).count();
    ensure!(
        head + tail == before.len() && after.len() >= before.len(),
        "more than one piece was put in. Before:\n{}\nAfter:\n{}",
        String::from_utf8_lossy(before),
        String::from_utf8_lossy(after)
    );
    Ok(String::from_utf8_lossy(&after[head..after.len() - tail]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in() {
        assert_eq!(insertion(b"a\nb\n", b"a\nx\nb\n").unwrap(), "x\n");
        assert_eq!(insertion(b"a\n", b"a\nx\n").unwrap(), "x\n");
        assert_eq!(insertion(b"", b"x").unwrap(), "x");
        assert_eq!(insertion(b"aa", b"aaa").unwrap(), "a");
    }

    #[test]
    fn any_other_change_is_refused() {
        for (before, after) in [("a\nb\n", "a\nc\n"), ("ab", "a"), ("abc", "xaybc"), ("a b", "a  c b d")] {
            assert!(insertion(before.as_bytes(), after.as_bytes()).is_err(), "{before} {after}");
        }
    }

    #[test]
    fn restarts_that_touch_do_not_overlap() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let restart = |stopping, started| Restart { stopping: at(stopping), started: at(started) };
        assert!(restart(0, 2).overlaps(&restart(1, 3)));
        assert!(restart(1, 2).overlaps(&restart(0, 3)));
        assert!(!restart(0, 1).overlaps(&restart(1, 2)));
    }
}
