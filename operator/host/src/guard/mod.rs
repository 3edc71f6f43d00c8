//! The guard: puts containerd's old configuration back if nobody else does.
//!
//! It needs nothing of this program: a script of plain `sh`, a unit that runs it before containerd in the next boot,
//! and a timer in systemd's memory. While a restart is under way the timer is put off again and again ([`LEASE`]); a
//! process that dies stops doing so, and the guard acts within that time. Whoever renames the file `armed` owns the
//! outcome, so the guard and this program never both act. Disarming removes every trace.

mod paths;
mod script;
mod subject;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use registry_mirror_core::plan::files::TEMPORARY_PREFIX;
use thiserror::Error;
use tokio::time::{Instant, sleep};

pub use self::subject::{Arming, GuardedFile, Subject};
use self::{
    paths::{BOOT_UNIT, FilePaths, GuardPaths},
    script::{boot_unit, script},
};
use crate::{
    fault,
    files::{Attributes, HostWriter, Owner as FileOwner},
    root::{FileError, HostRoot},
    systemd::{ActiveState, Systemd, SystemdError},
};

/// How long after the last sign of life the guard acts. Pods of a node that is not ready are evicted after 300 s.
pub const LEASE: Duration = Duration::from_secs(45);
/// How often a living process puts the guard off.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Two names, so that the next timer runs before the last one is stopped.
const TIMERS: [&str; 2] = ["registry-mirror-guard-deadline-0", "registry-mirror-guard-deadline-1"];
const DESCRIPTION: &str = "Put containerd's configuration back if registry-mirror-operator was cut short";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The guard could not be armed, disarmed or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GuardError {
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its timer or unit.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The host cannot run it.
    #[error(
        "the host has no {0}, which the guard of the restart needs: set `config_path` by hand and restart containerd"
    )]
    Missing(&'static str),
    /// A file of it holds what this version does not write.
    #[error("{path} cannot be read: {why}; remove the directory that it is in", path = path.display())]
    Unreadable {
        /// The file on the host.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Who owns the outcome of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This program: the guard is gone and has done nothing.
    Us,
    /// The guard: it has put the old file back, or is about to.
    Guard,
}

/// The contents of a guarded file.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// What comes back; `None` if there was no file.
    pub before: Option<&'a [u8]>,
    /// By what the guard sees that the file is still ours; `None` where the file goes, or is not ours any more.
    pub after: Option<&'a [u8]>,
    /// Mode and owner of what comes back.
    pub attributes: Attributes,
}

/// The guard of one host.
#[derive(Debug)]
pub struct Guard<'a> {
    writer: &'a HostWriter,
    systemd: &'a Systemd,
    state: PathBuf,
}

impl<'a> Guard<'a> {
    /// The guard that keeps its files below this state directory of the host.
    #[must_use]
    pub fn new(writer: &'a HostWriter, systemd: &'a Systemd, state: &Path) -> Self {
        Self { writer, systemd, state: state.to_owned() }
    }

    /// Arms it: from now on the old contents come back unless this process renews or disarms. `contents` are those of
    /// the subject's files, in the same order.
    ///
    /// # Errors
    /// A file cannot be written or the timer does not start; then nothing is armed.
    pub async fn arm(&self, subject: &Subject, contents: &[Contents<'_>]) -> Result<(), GuardError> {
        let armed = self.put_up(subject, contents).await;
        if armed.is_err() {
            // Half a guard is none. What cannot be removed now is removed at the next start.
            if let Err(error) = self.disarm(subject).await {
                tracing::warn!("the guard that could not be armed leaves files behind until the next start: {error}");
            }
        }
        armed
    }

    async fn put_up(&self, subject: &Subject, contents: &[Contents<'_>]) -> Result<(), GuardError> {
        let paths = self.paths(subject);
        let root = self.writer.root();
        if root.stat(Path::new("/bin/sh"))?.is_none() {
            return Err(GuardError::Missing("/bin/sh"));
        }
        let private = Attributes { mode: 0o600, owner: FileOwner::Root };
        let public = Attributes { mode: 0o644, owner: FileOwner::Root };
        self.writer.create_dir(&paths.directory, 0o700)?;
        self.writer.write(&paths.subject, &subject_json(&paths, subject)?, private)?;
        for (guarded, Contents { before, after, attributes }) in subject.files.iter().zip(contents) {
            let FilePaths { written, previous } = paths.of(guarded);
            if let Some(after) = after {
                self.writer.write(&written, after, private)?;
            }
            self.writer.write(&previous, before.unwrap_or_default(), *attributes)?;
        }
        self.writer.write(&paths.script, script(&paths, subject).as_bytes(), private)?;
        self.writer.write(&paths.unit, boot_unit(&paths, subject).as_bytes(), public)?;
        self.writer.create_dir(&paths.wants_directory, 0o755)?;
        self.writer.symlink(&paths.wants, &paths.unit)?;
        fault::point("guard:prepared");
        self.writer.write(&paths.armed, boot_id(root)?.as_bytes(), private)?;
        fault::point("guard:armed");
        self.start_timer(subject).await
    }

    /// Puts the guard off by another [`LEASE`] and says whose the outcome is. Where it is ours, it stays so for that
    /// long; where no guard is up, nothing is done.
    ///
    /// # Errors
    /// systemd is out of reach or refuses; the earlier timer then runs on.
    pub async fn renew(&self, subject: &Subject) -> Result<Owner, GuardError> {
        if let Arming::Armed { .. } = self.arming()? {
            self.start_timer(subject).await?;
        }
        // Asked after the earlier timer has stopped: it may have fired until then.
        Ok(match self.arming()? {
            Arming::Fired => Owner::Guard,
            Arming::Armed { .. } | Arming::Disarmed => Owner::Us,
        })
    }

    async fn start_timer(&self, subject: &Subject) -> Result<(), GuardError> {
        let script = self.paths(subject).script;
        let argv = ["/bin/sh", &*script.to_string_lossy(), "deadline"];
        let [first, second] = TIMERS;
        let first_runs = self.timer_runs(first).await?;
        let (next, last) = if first_runs { (second, first) } else { (first, second) };
        self.systemd.start_timer(next, DESCRIPTION, LEASE, &argv).await?;
        self.systemd.stop_and_unload(&format!("{last}.timer")).await?;
        Ok(())
    }

    async fn timer_runs(&self, name: &str) -> Result<bool, SystemdError> {
        let unit = self.systemd.list_units(&[&format!("{name}.timer")]).await?;
        Ok(unit.iter().any(|unit| unit.active == ActiveState::Active))
    }

    /// What state it is in.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn arming(&self) -> Result<Arming, GuardError> {
        let root = self.writer.root();
        // Paths that do not depend on what is guarded.
        let paths = GuardPaths::new(&self.state, "");
        if root.stat(&paths.fired)?.is_some() {
            return Ok(Arming::Fired);
        }
        Ok(match root.read(&paths.armed)? {
            Some(boot) => Arming::Armed { this_boot: boot == boot_id(root)?.as_bytes() },
            None => Arming::Disarmed,
        })
    }

    /// What is guarded, by the guard's own record; `None` if nothing is.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn subject(&self) -> Result<Option<Subject>, GuardError> {
        let path = GuardPaths::new(&self.state, "").subject;
        let Some(bytes) = self.writer.root().read(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| GuardError::Unreadable { path, why: error.to_string() })
    }

    /// Takes the outcome away from the guard, if it has not taken it itself, and in that case removes every trace.
    ///
    /// # Errors
    /// A file cannot be renamed or removed. Calling it again goes on where it stopped.
    pub async fn disarm(&self, subject: &Subject) -> Result<Owner, GuardError> {
        let paths = self.paths(subject);
        match self.arming()? {
            Arming::Fired => return Ok(Owner::Guard),
            Arming::Disarmed => {}
            Arming::Armed { .. } => {
                if let Err(error) = self.writer.rename(&paths.armed, &paths.disarmed) {
                    // The guard was faster.
                    if self.arming()? == Arming::Fired {
                        return Ok(Owner::Guard);
                    }
                    return Err(error.into());
                }
            }
        }
        fault::point("guard:disarmed");
        self.sweep(subject).await?;
        Ok(Owner::Us)
    }

    /// Waits until the guard is not running (any more).
    ///
    /// # Errors
    /// It still runs after `limit`, or systemd is out of reach.
    pub async fn wait_until_ended(&self, limit: Duration) -> Result<(), GuardError> {
        let until = Instant::now() + limit;
        let services =
            [BOOT_UNIT, "registry-mirror-guard-deadline-0.service", "registry-mirror-guard-deadline-1.service"];
        loop {
            let units = self.systemd.list_units(&services).await?;
            let runs = |active: &ActiveState| {
                matches!(active, ActiveState::Activating | ActiveState::Active | ActiveState::Deactivating)
            };
            if !units.iter().any(|unit| runs(&unit.active)) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(SystemdError::Slow { what: "the end of the guard".to_owned(), after: limit }.into());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Removes every trace of the guard; to be called by the owner of the outcome alone.
    ///
    /// # Errors
    /// A file cannot be removed or systemd is out of reach. Calling it again goes on where it stopped.
    pub async fn sweep(&self, subject: &Subject) -> Result<(), GuardError> {
        let paths = self.paths(subject);
        for timer in TIMERS {
            self.systemd.stop_and_unload(&format!("{timer}.timer")).await?;
            // A guard that failed leaves its service in systemd's memory.
            self.systemd.stop_and_unload(&format!("{timer}.service")).await?;
        }
        let files: Vec<PathBuf> = subject
            .files
            .iter()
            .map(|guarded| paths.of(guarded))
            .flat_map(|FilePaths { written, previous }| [previous, written])
            .collect();
        let GuardPaths { directory, armed, fired, disarmed, subject, script, unit, wants_directory, wants } = &paths;
        for path in [wants, unit].into_iter().chain(&files).chain([script, subject]) {
            self.writer.remove(&unfinished(path))?;
            self.writer.remove(path)?;
        }
        self.writer.remove_dir_if_empty(wants_directory)?;
        // Last: while one of them stands, the next start knows that there is something to sweep.
        for path in [armed, disarmed, fired] {
            self.writer.remove(&unfinished(path))?;
            self.writer.remove(path)?;
        }
        self.writer.remove_dir_if_empty(directory)?;
        fault::point("guard:swept");
        // In memory only after a boot with the guard, or if somebody else has reloaded systemd meanwhile.
        if !self.systemd.list_units(&[BOOT_UNIT]).await?.is_empty() {
            self.systemd.stop_and_unload(BOOT_UNIT).await?;
            self.systemd.daemon_reload().await?;
        }
        Ok(())
    }

    /// Where the old content of a file stands while the guard is up, beside the file.
    #[must_use]
    pub fn previous(&self, guarded: &GuardedFile) -> PathBuf {
        GuardPaths::new(&self.state, "").of(guarded).previous
    }

    /// The guard's copy of the new content of a file.
    #[must_use]
    pub fn written(&self, guarded: &GuardedFile) -> PathBuf {
        GuardPaths::new(&self.state, "").of(guarded).written
    }

    fn paths(&self, subject: &Subject) -> GuardPaths {
        GuardPaths::new(&self.state, &subject.unit)
    }
}

/// What a write of this file leaves behind when the process is killed in its midst.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(TEMPORARY_PREFIX);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn subject_json(paths: &GuardPaths, subject: &Subject) -> Result<Vec<u8>, GuardError> {
    serde_json::to_vec(subject)
        .map_err(|error| GuardError::Unreadable { path: paths.subject.clone(), why: error.to_string() })
}

/// This boot's ID as the host sees it: in a container of its own systemd, `/proc` outside shows another one.
///
/// # Errors
/// It cannot be read.
pub fn boot_id(root: &HostRoot) -> Result<String, GuardError> {
    match root.read(Path::new(BOOT_ID))? {
        Some(id) => Ok(String::from_utf8_lossy(&id).into_owned()),
        None => Err(GuardError::Missing(BOOT_ID)),
    }
}

#[cfg(test)]
mod tests;
