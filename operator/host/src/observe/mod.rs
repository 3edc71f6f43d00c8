//! Looks at a host and fills in what the plan depends on.
//!
//! A live host is asked: which containerd runs this node's pods, what runs that, which file it was started with. A host
//! that is not running (an image, a mounted disk) is read by its files alone.

pub mod daemon;
mod distribution;
pub mod managed_elsewhere;
pub mod proxy;
mod sockets;
mod unit_files;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use registry_mirror_core::{
    config_toml::{self, LoadedConfig},
    containerd::Version,
    observed::{Detected, Observed, Proof, Supervisor, Unit, Writable},
    plan::config::{DEFAULT_DIRECTORY, before_first_start},
};
use thiserror::Error;

use self::daemon::{Process, config_flag};
pub use self::sockets::{Found, SocketError, beneath};
use crate::{
    cri::Cri,
    files::{HostWriter, WriteScope},
    proof::prove,
    root::{FileError, HostRoot},
    systemd::{Systemd, SystemdError, UnitState},
};

/// A host could not be observed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ObserveError {
    /// Which containerd is meant.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A file of the host.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A host with a running containerd.
#[derive(Debug)]
pub struct Live {
    /// What the plan depends on. `proof` is `NotAsked` until [`Self::prove`].
    pub observed: Observed,
    /// To ask the containerd that is meant.
    pub cri: Cri,
    /// Its socket on the host.
    pub socket: PathBuf,
    /// Its unit, where systemd runs it.
    pub unit: Option<UnitState>,
    /// Its process in the host's numbers, where it can be told.
    pub process: Option<u32>,
}

/// Looks at the host beneath `root`, on which a containerd runs. `pod_uid` is the agent's own pod, where it has one.
///
/// # Errors
/// No containerd answers, it cannot be told which is meant, or the host's files cannot be read.
pub async fn live(root: &HostRoot, systemd: &Systemd, pod_uid: Option<&str>) -> Result<Live, ObserveError> {
    let Found { cri, socket, version } = sockets::find(root, pod_uid).await?;
    let process = daemon::listener(root, cri.socket(), &socket).await?;
    let Run { supervisor, unit } = run_by(root, systemd, &socket, process.as_ref()).await;
    let config_file = match (&process, &unit) {
        (Some(process), _) => process.config_file(),
        (None, Some(unit)) => config_flag(&unit.exec_start).unwrap_or_else(|| PathBuf::from(daemon::DEFAULT_CONFIG)),
        (None, None) => PathBuf::from(daemon::DEFAULT_CONFIG),
    };
    let distribution = distribution::detect(root, Some(&config_file))?;
    let observed = from_files(root, version, distribution, supervisor, config_file)?;
    Ok(Live { observed, cri, socket, unit, process: process.map(|process| process.pid) })
}

/// Looks at the files of a host that is not running. `config_file` is `None` unless somebody named one.
///
/// # Errors
/// The host's files cannot be read.
pub fn offline(root: &HostRoot, version: Version, config_file: Option<&Path>) -> Result<Observed, ObserveError> {
    let distribution = distribution::detect(root, None)?;
    let config_file = match config_file {
        Some(named) => named.to_owned(),
        None => {
            let usual = PathBuf::from(distribution::config_file(distribution.distribution));
            // The unit may be of another containerd, which stands beside theirs.
            if distribution::brings_its_own(distribution.distribution) {
                distribution::moved_config_file(root, distribution.distribution).unwrap_or(usual)
            } else {
                unit_files::config_file(root)?.unwrap_or(usual)
            }
        }
    };
    from_files(root, version, distribution, Supervisor::Offline, config_file)
}

fn from_files(
    root: &HostRoot,
    version: Version,
    distribution: Detected,
    supervisor: Supervisor,
    config_file: PathBuf,
) -> Result<Observed, ObserveError> {
    let config = config_toml::load(&config_file, version, root);
    let files: Vec<PathBuf> = std::iter::once(config_file.clone())
        .chain(config.iter().flat_map(LoadedConfig::files).map(|file| file.path().to_owned()))
        .collect();
    // Without a configuration that can be read nothing will be written.
    let directory = config.as_ref().ok().map(|config| {
        before_first_start(distribution.distribution, config)
            .unwrap_or_else(|| config.analyze().need(Path::new(DEFAULT_DIRECTORY)).directory().to_owned())
    });
    let directory = directory.as_deref().unwrap_or(Path::new(DEFAULT_DIRECTORY));
    let scope = WriteScope::for_host(files.iter().map(PathBuf::as_path), directory);
    let writer = HostWriter::new(root.clone(), scope);
    let mut imports_writable: BTreeMap<PathBuf, Writable> =
        files.iter().map(|file| (file.clone(), writable(&writer, file))).collect();
    let config_writable = imports_writable.remove(&config_file).unwrap_or(Writable::Yes);
    let directory_writable = writable(&writer, &directory.join("any"));
    let mut links = BTreeMap::new();
    for file in &files {
        if let Ok(Some(place)) = root.resolve(file)
            && place != *file
        {
            links.insert(file.clone(), place);
        }
    }
    Ok(Observed {
        containerd: version,
        distribution,
        supervisor,
        config_file,
        config,
        config_writable,
        imports_writable,
        links,
        directory_writable,
        proof: Proof::NotAsked,
    })
}

impl Live {
    /// The directory that containerd reads according to its files; `None` where they name none, or cannot be read.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        self.observed.config.as_ref().ok()?.analyze().effectiveness.directory().map(Path::to_owned)
    }

    /// Asks the running daemon whether it reads the directory that its files name, and notes the answer.
    pub async fn prove(&mut self, writer: &HostWriter) {
        if let Some(directory) = self.directory() {
            self.observed.proof = prove(writer, &directory, &self.cri).await.into();
        }
    }
}

struct Run {
    supervisor: Supervisor,
    unit: Option<UnitState>,
}

async fn run_by(root: &HostRoot, systemd: &Systemd, socket: &Path, process: Option<&Process>) -> Run {
    let unknown = |why: String| Run { supervisor: Supervisor::Unknown(why), unit: None };
    if !Systemd::is_booted(root.path()) {
        return unknown("this host does not run systemd".to_owned());
    }
    let found = match process {
        Some(process) => systemd.unit_of_process(process.pid).await,
        // The process hides; what the usual unit says is the next best.
        None => usual_unit(systemd, socket).await,
    };
    let unit = match found {
        Ok(Some(unit)) => unit,
        Ok(None) => return unknown("no systemd unit runs it".to_owned()),
        Err(error) => return unknown(error.to_string()),
    };
    let Some(process) = process else {
        return unknown(format!("which process listens on {} cannot be told", socket.display()));
    };
    if unit.main_pid != Some(process.pid) {
        return Run { supervisor: Supervisor::Embedded { by: unit.name.clone() }, unit: Some(unit) };
    }
    let supervisor = match changed_unit(&unit, process) {
        Some(why) => Supervisor::Unknown(why),
        None => Supervisor::Unit(Unit {
            name: unit.name.clone(),
            binary: binary(&unit, process),
            kill_mode: unit.kill_mode.clone(),
            invocation_id: unit.invocation.as_ref().map(ToString::to_string).unwrap_or_default(),
            start_timeout_seconds: unit.start_timeout.map(whole_seconds),
            stop_timeout_seconds: unit.stop_timeout.map(whole_seconds),
        }),
    };
    Run { supervisor, unit: Some(unit) }
}

async fn usual_unit(systemd: &Systemd, socket: &Path) -> Result<Option<UnitState>, SystemdError> {
    if socket == Path::new("/run/containerd/containerd.sock") {
        systemd.loaded_unit("containerd.service").await
    } else {
        Ok(None)
    }
}

/// The unit was edited since the daemon started: a restart would read another file than the one that was looked at.
fn changed_unit(unit: &UnitState, process: &Process) -> Option<String> {
    if unit.exec_start.iter().any(|word| word.contains('$')) {
        return None;
    }
    let next = config_flag(&unit.exec_start).unwrap_or_else(|| PathBuf::from(daemon::DEFAULT_CONFIG));
    let now = process.config_file();
    (next != now && is_containerd(unit.exec_start.first()?)).then(|| {
        format!(
            "{} names the configuration {}, but the running containerd was started with {}: restart it once to see \
             which one is meant",
            unit.name,
            next.display(),
            now.display()
        )
    })
}

/// The binary of the next start: what the unit says, unless a wrapper starts it.
fn binary(unit: &UnitState, process: &Process) -> PathBuf {
    match unit.exec_start.first() {
        Some(path) if is_containerd(path) && path.starts_with('/') => PathBuf::from(path),
        _ => process.binary.clone(),
    }
}

fn is_containerd(path: &str) -> bool {
    Path::new(path).file_name().is_some_and(|name| name == "containerd")
}

fn whole_seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Whether a file can be renamed over this one, or come to be where it is absent, by the writer that would do it.
pub(super) fn writable(writer: &HostWriter, file: &Path) -> Writable {
    match writer.check_writable(file) {
        Ok(()) => Writable::Yes,
        Err(error) if error.is_read_only() => Writable::No("it is on a read-only file system".to_owned()),
        Err(error) => Writable::No(error.reason().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn unit(exec_start: &str) -> UnitState {
        UnitState {
            name: "containerd.service".to_owned(),
            fragment: None,
            drop_ins: Vec::new(),
            environment_files: Vec::new(),
            exec_start: exec_start.split(' ').map(str::to_owned).collect(),
            kill_mode: "process".to_owned(),
            active: crate::systemd::ActiveState::Active,
            sub: "running".to_owned(),
            result: "success".to_owned(),
            main_pid: Some(7),
            invocation: None,
            automatic_restarts: 0,
            started_at: None,
            started_monotonic: None,
            needs_reload: false,
            start_timeout: None,
            stop_timeout: None,
            load: "loaded".to_owned(),
            exit_status: None,
        }
    }

    fn process(arguments: &str) -> Process {
        Process {
            pid: 7,
            binary: PathBuf::from("/opt/bin/containerd"),
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            data: None,
        }
    }

    #[test]
    fn a_unit_that_was_edited_since_the_start_is_not_restarted() {
        let now = process("/usr/bin/containerd");
        assert_eq!(changed_unit(&unit("/usr/bin/containerd"), &now), None);
        assert!(changed_unit(&unit("/usr/bin/containerd --config /x.toml"), &now).is_some());
        assert_eq!(changed_unit(&unit("/usr/bin/containerd --config /etc/containerd/config.toml"), &now), None);
        // Variables are known to systemd alone, and a wrapper to nobody: the running process tells.
        assert_eq!(changed_unit(&unit("/usr/bin/containerd --config $FILE"), &now), None);
        assert_eq!(changed_unit(&unit("/usr/bin/env PATH=/x containerd -c /x.toml"), &now), None);
    }

    #[test]
    fn the_binary_is_the_one_of_the_next_start() {
        let now = process("containerd");
        assert_eq!(binary(&unit("/usr/bin/containerd"), &now), Path::new("/usr/bin/containerd"));
        assert_eq!(binary(&unit("/usr/bin/env containerd"), &now), Path::new("/opt/bin/containerd"));
    }

    #[test]
    fn an_empty_host_is_read_as_the_daemons_defaults() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = HostRoot::open(dir.path()).expect("root");
        let observed = offline(&root, Version::new(1, 6, 20), None).expect("readable");
        assert_eq!(observed.config_file, Path::new(daemon::DEFAULT_CONFIG));
        assert_eq!(observed.config_writable, Writable::Yes);
        assert_eq!(observed.supervisor, Supervisor::Offline);
        assert!(observed.config.is_ok());
    }
}
