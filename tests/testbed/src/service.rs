//! Processes of a bed that outlive the one that starts them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::command::{command, run};
use crate::wait;

/// What to run, and as what. Kept as a file, so that any later command can stop and start it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    pub(crate) group: Group,
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

/// Joins every group, says which process it is, then becomes the program: no moment in which
/// something runs that the bed could not find again.
const BECOME: &str = r#"
pid=$1; shift
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done
shift
echo $$ > "$pid.new" && mv "$pid.new" "$pid" || exit 1
exec "$@"
"#;

/// The directory where services of one bed are written down.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    dir: PathBuf,
}

impl Services {
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pid"))
    }

    /// Starts it and returns its process, detached from this one.
    pub(crate) fn start(&self, service: &Service) -> Result<Pid> {
        let written = self.dir.join(format!("{}.json", service.name));
        fs::write(&written, serde_json::to_vec_pretty(service)?)
            .with_context(|| format!("{} cannot be written", written.display()))?;
        let pid_file = self.pid_file(&service.name);
        let _ = fs::remove_file(&pid_file);
        let append = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("the log {} cannot be opened", path.display()))
        };
        run(command(["setsid", "--fork", "sh", "-c", BECOME, "become"])
            .arg(&pid_file)
            .args(service.group.dirs())
            .arg("--")
            .args(&service.argv)
            .stdout(append(&service.stdout)?)
            .stderr(append(&service.stderr)?))?;
        wait::until(&format!("the start of {}", service.name), Duration::from_secs(10), || {
            Ok(self.written_pid(&service.name))
        })
    }

    /// Starts again what was started before under that name.
    pub(crate) fn start_again(&self, name: &str) -> Result<Pid> {
        if let Some(pid) = self.running(name)? {
            return Ok(pid);
        }
        self.start(&self.read(name)?)
    }

    fn read(&self, name: &str) -> Result<Service> {
        let written = self.dir.join(format!("{name}.json"));
        let text = fs::read(&written).with_context(|| {
            format!("the bed has no service {name}; it has: {}", self.names().unwrap_or_default().join(", "))
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", written.display()))
    }

    fn written_pid(&self, name: &str) -> Option<Pid> {
        fs::read_to_string(self.pid_file(name)).ok()?.trim().parse().ok().and_then(Pid::from_raw)
    }

    /// The process, if it runs and is still the one that was started.
    pub(crate) fn running(&self, name: &str) -> Result<Option<Pid>> {
        let service = self.read(name)?;
        Ok(self.written_pid(name).filter(|pid| service.group.processes().contains(pid) && !is_zombie(*pid)))
    }

    /// Ends it: politely, and after `patience` by force. Returns when it is gone.
    pub(crate) fn stop(&self, name: &str, signal: Signal, patience: Duration) -> Result<()> {
        let Some(pid) = self.running(name)? else { return Ok(()) };
        let _ = kill_process(pid, signal);
        let gone = |what: &str, limit| wait::until(what, limit, || Ok(self.running(name)?.is_none().then_some(())));
        if gone(&format!("the end of {name}"), patience).is_err() {
            let _ = kill_process(pid, Signal::KILL);
            gone(&format!("the forced end of {name}"), Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// The names of all services that were ever started in this bed, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).with_context(|| format!("{} cannot be read", self.dir.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}
