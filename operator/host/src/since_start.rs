//! What the running containerd has read of its configuration and its unit: the files as they stand, the start, and what
//! is remembered of them for as long as the host runs.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use registry_mirror_core::{
    config_toml::LoadedConfig,
    digest::Digest,
    plan::since_start::{KnownContents, Start, StartFile},
    proxy::drop_in_path,
};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    root::{HostRoot, Kind},
    state::{self, Loaded},
    systemd::UnitState,
};

/// Below `/run`, because it is about one start of the daemon and so about one boot; it also outlives an uninstall, after
/// which nobody else knows that a configuration file was put back by us.
pub const RUN_DIR: &str = "/run/registry-mirror-operator";
const CONTENTS: &str = "/run/registry-mirror-operator/contents.json";
const VERSION: u32 = 1;

/// The start of the daemon that this unit runs; `None` where it does not run or its start is not known.
#[must_use]
pub fn start(unit: &UnitState) -> Option<Start> {
    unit.main_pid?;
    Some(Start {
        unit: unit.name.clone(),
        invocation: unit.invocation.as_ref()?.to_string(),
        at: started(unit.started_at?, unit.started_monotonic, now(ClockId::Realtime)?, now(ClockId::Monotonic)?),
        unit_is_stale: unit.needs_reload,
    })
}

/// By the wall clock, which stamps files. Where the clock was set since (at boot, once the network is there) the later
/// one of its two readings counts: files of an earlier boot bear the right time, those that the boot itself wrote
/// before the daemon bear the wrong one, and neither may look as if it had changed since.
fn started(
    recorded: Timestamp,
    monotonic: Option<std::time::Duration>,
    now: SignedDuration,
    now_monotonic: SignedDuration,
) -> Timestamp {
    let by_now = monotonic
        .and_then(|start| SignedDuration::try_from(start).ok())
        .and_then(|start| Timestamp::from_duration(now - (now_monotonic - start)).ok());
    by_now.map_or(recorded, |by_now| by_now.max(recorded))
}

fn now(clock: ClockId) -> Option<SignedDuration> {
    let time = clock_gettime(clock);
    Some(SignedDuration::new(time.tv_sec, i32::try_from(time.tv_nsec).ok()?))
}

/// The files that the daemon and its unit read at a start: the configuration with its imports, the unit, its drop-ins
/// and its files of variables. The operator's own drop-in is left out: whatever stands there is replaced or removed.
///
/// # Errors
/// A file cannot be read.
pub fn files(root: &HostRoot, unit: &UnitState, config: &LoadedConfig) -> Result<Vec<StartFile>, FileError> {
    let UnitState { name, fragment, drop_ins, environment_files, .. } = unit;
    let ours = drop_in_path(name);
    let mut paths = vec![config.main().to_owned()];
    paths.extend(config.files().map(|file| file.path().to_owned()));
    paths.extend(fragment.iter().chain(drop_ins).filter(|path| **path != ours).cloned());
    for pattern in environment_files {
        // systemd takes patterns here too.
        paths.extend(root.glob(&pattern.to_string_lossy())?);
    }
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| start_file(root, path)).collect()
}

fn start_file(root: &HostRoot, path: PathBuf) -> Result<StartFile, FileError> {
    let (content, changed) = match root.stat(&path)? {
        // A masked unit is a link to /dev/null.
        Some(stat) if stat.kind == Kind::File => (root.read(&path)?.as_deref().map(Digest::of), Some(stat.changed)),
        _ => (None, None),
    };
    // A link that names another file since.
    let linked = root.stat_link(&path)?.map(|stat| stat.changed);
    Ok(StartFile { path, content, changed: changed.max(linked) })
}

/// What is remembered; a record that is lost or broken is made anew, by the time of the files.
#[must_use]
pub fn remembered(root: &HostRoot) -> Option<KnownContents> {
    let Loaded { value, warning } = state::load(&writer(root), Path::new(CONTENTS), VERSION).ok()?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    value
}

/// Remembers it until the host's next boot.
///
/// # Errors
/// On what the kernel says.
pub fn remember(root: &HostRoot, known: &KnownContents) -> Result<(), FileError> {
    let writer = writer(root);
    writer.create_dir(Path::new(RUN_DIR), 0o700)?;
    state::save(&writer, Path::new(CONTENTS), VERSION, known).map(drop)
}

/// Remembers what we are about to make of a configuration file, on a host on which anything is remembered. Every name of
/// the file counts, links included.
///
/// # Errors
/// On what the kernel says; the file must not be written then.
pub fn note(root: &HostRoot, file: &Path, after: Option<&[u8]>) -> Result<(), FileError> {
    let Some(mut known) = remembered(root) else { return Ok(()) };
    let real = |path: &Path| Ok::<_, FileError>(root.resolve(path)?.unwrap_or_else(|| path.to_owned()));
    let (before, after) = (root.read(file)?.as_deref().map(Digest::of), after.map(Digest::of));
    let file = real(file)?;
    let names: Vec<PathBuf> = known.paths().map(Path::to_owned).collect();
    for name in names {
        if real(&name)? == file {
            known.note(&name, before.as_ref(), after.as_ref());
        }
    }
    remember(root, &known)
}

fn writer(root: &HostRoot) -> HostWriter {
    HostWriter::new(root.clone(), WriteScope::of([Path::new(RUN_DIR)]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_set_makes_no_old_file_look_new() {
        let at = |seconds: i64| Timestamp::from_second(seconds).expect("in range");
        let seconds = SignedDuration::from_secs;
        let start = Some(Duration::from_secs(10));
        // Recorded, and what 100 s of running make of the clock now.
        let set = |recorded, now| started(at(recorded), start, seconds(now), seconds(110));
        assert_eq!(set(1_000, 1_100), at(1_000), "it was not set");
        assert_eq!(set(1_000, 9_100), at(9_000), "forward: files of the last boot are from before 9000");
        assert_eq!(set(9_000, 1_100), at(9_000), "back: files of this boot are from before 9000");
        assert_eq!(started(at(1_000), None, seconds(9_100), seconds(110)), at(1_000));
    }
}
