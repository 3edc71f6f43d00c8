//! What systemd says about a unit.

use std::{fmt, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zbus::{OwnedObjectPath, OwnedVariant};

use super::{
    Systemd, SystemdError,
    connection::{Bus, Properties, SERVICE, UNIT},
};

/// One start of a unit: systemd gives each start another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(String);

impl InvocationId {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let unset = bytes.iter().all(|byte| *byte == 0);
        (bytes.len() == 16 && !unset).then(|| Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// 32 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for InvocationId {
    /// As it was written down earlier.
    fn from(hex: String) -> Self {
        Self(hex)
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// systemd's `ActiveState`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActiveState {
    /// Started.
    Active,
    /// Starting.
    Activating,
    /// Stopping.
    Deactivating,
    /// Stopped.
    Inactive,
    /// Ended with an error.
    Failed,
    /// `reloading`, `maintenance`, `refreshing` or a state of a later systemd.
    Other(String),
}

impl ActiveState {
    fn parse(text: &str) -> Self {
        match text {
            "active" => Self::Active,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "inactive" => Self::Inactive,
            "failed" => Self::Failed,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Other(other) => other,
        })
    }
}

/// A service as systemd sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// The unit's own name, where it was asked for by an alias.
    pub name: String,
    /// The unit file; `None` for a transient unit or one that does not exist.
    pub fragment: Option<PathBuf>,
    /// Drop-ins, in the order in which they apply.
    pub drop_ins: Vec<PathBuf>,
    /// The files that `EnvironmentFile=` names, in order.
    pub environment_files: Vec<PathBuf>,
    /// The last `ExecStart=`, before variables are put in. Empty where there is none.
    pub exec_start: Vec<String>,
    /// `control-group`, `mixed`, `process` or `none`.
    pub kill_mode: String,
    /// Active, failed and so on.
    pub active: ActiveState,
    /// The service's finer state: `running`, `exited`, `auto-restart`.
    pub sub: String,
    /// Why the last run ended: `success`, `exit-code`, `timeout`.
    pub result: String,
    /// The main process, in the host's numbers.
    pub main_pid: Option<u32>,
    /// This start.
    pub invocation: Option<InvocationId>,
    /// How often `Restart=` started it anew.
    pub automatic_restarts: u32,
    /// When the main process was started, by the wall clock: for people; compare invocations instead.
    pub started_at: Option<Timestamp>,
    /// The same by the monotonic clock, which is never set.
    pub started_monotonic: Option<Duration>,
    /// Whether files of the unit have changed since systemd read them.
    pub needs_reload: bool,
    /// `TimeoutStartSec`; `None` is infinity.
    pub start_timeout: Option<Duration>,
    /// `TimeoutStopSec`; `None` is infinity.
    pub stop_timeout: Option<Duration>,
    /// `LoadState`: `loaded`, `not-found`, `masked`, `bad-setting`.
    pub load: String,
    /// Exit status of the last run of the main process; `None` if it was killed or has not ended.
    pub exit_status: Option<i32>,
}

/// One line of `systemctl list-units`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUnit {
    /// For example `k3s-agent.service`.
    pub name: String,
    /// Active, failed and so on.
    pub active: ActiveState,
}

impl Systemd {
    /// What systemd says about a service; loads its unit file if need be.
    ///
    /// # Errors
    /// systemd is out of reach or answers in an unknown shape. A unit that does not exist is no error: `load` says so.
    pub async fn unit(&self, name: &str) -> Result<UnitState, SystemdError> {
        let bus = self.bus().await?;
        let what = format!("a question about {name}");
        let path: OwnedObjectPath = bus.manager(&what, "LoadUnit", &(name,)).await?;
        unit_at(&bus, &what, &path).await
    }

    /// Like [`Self::unit`], for a unit that is in systemd's memory; `None` for any other.
    ///
    /// # Errors
    /// systemd is out of reach or answers in an unknown shape.
    pub async fn loaded_unit(&self, name: &str) -> Result<Option<UnitState>, SystemdError> {
        let bus = self.bus().await?;
        loaded_unit(&bus, name).await
    }

    /// The service that a process belongs to, by the host's number of the process; `None` if it belongs to none.
    ///
    /// # Errors
    /// systemd is out of reach or answers in an unknown shape.
    pub async fn unit_of_process(&self, pid: u32) -> Result<Option<UnitState>, SystemdError> {
        let bus = self.bus().await?;
        let what = format!("whose process {pid} is");
        let path: OwnedObjectPath = match bus.manager(&what, "GetUnitByPID", &(pid,)).await {
            Ok(path) => path,
            Err(error) if error.is_no_such_unit() => return Ok(None),
            Err(error) => return Err(error),
        };
        match unit_at(&bus, &what, &path).await {
            Ok(unit) => Ok(Some(unit)),
            // A process in a scope or slice has no service properties.
            Err(SystemdError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The units in systemd's memory whose names match one of the shell patterns.
    ///
    /// # Errors
    /// systemd is out of reach or answers in an unknown shape.
    pub async fn list_units(&self, patterns: &[&str]) -> Result<Vec<ListedUnit>, SystemdError> {
        type Line = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let bus = self.bus().await?;
        let no_states: Vec<&str> = Vec::new();
        let lines: Vec<Line> = bus.manager("a list of units", "ListUnitsByPatterns", &(no_states, patterns)).await?;
        Ok(lines
            .into_iter()
            .map(|(name, _, _, active, ..)| ListedUnit { name, active: ActiveState::parse(&active) })
            .collect())
    }
}

pub(super) async fn loaded_unit(bus: &Bus, name: &str) -> Result<Option<UnitState>, SystemdError> {
    let what = format!("a question about {name}");
    match bus.manager(&what, "GetUnit", &(name,)).await {
        Ok(path) => match unit_at(bus, &what, &path).await {
            Ok(unit) => Ok(Some(unit)),
            // It can be unloaded between the two calls.
            Err(error) if error.is_no_such_unit() => Ok(None),
            Err(error) => Err(error),
        },
        Err(error) if error.is_no_such_unit() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn unit_at(bus: &Bus, what: &str, path: &OwnedObjectPath) -> Result<UnitState, SystemdError> {
    let unit = bus.properties(what, path, UNIT).await?;
    let service = bus.properties(what, path, SERVICE).await?;
    UnitState::read(what, &unit, &service)
}

impl UnitState {
    fn read(what: &str, unit: &Properties, service: &Properties) -> Result<Self, SystemdError> {
        let unit = Reader { what, properties: unit };
        let service = Reader { what, properties: service };
        let fragment: String = unit.get("FragmentPath")?;
        let drop_ins: Vec<String> = unit.get("DropInPaths")?;
        let invocation: Vec<u8> = unit.get("InvocationID")?;
        let active: String = unit.get("ActiveState")?;
        let commands: Vec<ExecCommand> = service.get("ExecStart")?;
        let environment_files: Vec<(String, bool)> = service.get("EnvironmentFiles")?;
        let main_pid: u32 = service.get("MainPID")?;
        let started_at: u64 = service.get("ExecMainStartTimestamp")?;
        let started_monotonic: u64 = service.get("ExecMainStartTimestampMonotonic")?;
        let exit_code: i32 = service.get("ExecMainCode")?;
        Ok(Self {
            name: unit.get("Id")?,
            fragment: (!fragment.is_empty()).then(|| PathBuf::from(fragment)),
            drop_ins: drop_ins.into_iter().map(PathBuf::from).collect(),
            exec_start: commands.into_iter().next_back().map(|(_, argv, ..)| argv).unwrap_or_default(),
            environment_files: environment_files.into_iter().map(|(path, _)| PathBuf::from(path)).collect(),
            kill_mode: service.get("KillMode")?,
            active: ActiveState::parse(&active),
            sub: unit.get("SubState")?,
            result: service.get("Result")?,
            main_pid: (main_pid != 0).then_some(main_pid),
            invocation: InvocationId::from_bytes(&invocation),
            // Since systemd 235; an older one is no reason to fail.
            automatic_restarts: service.get("NRestarts").unwrap_or(0),
            started_at: timestamp(started_at),
            started_monotonic: (started_monotonic > 0).then(|| Duration::from_micros(started_monotonic)),
            needs_reload: unit.get("NeedDaemonReload")?,
            start_timeout: limit(service.get("TimeoutStartUSec")?),
            stop_timeout: limit(service.get("TimeoutStopUSec")?),
            load: unit.get("LoadState")?,
            exit_status: (exit_code == CLD_EXITED).then(|| service.get("ExecMainStatus")).transpose()?,
        })
    }

    /// Active state and sub state for people: `failed (exit-code)`, `activating (auto-restart)`.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.active {
            ActiveState::Failed => format!("{} ({})", self.active, self.result),
            _ => format!("{} ({})", self.active, self.sub),
        }
    }
}

/// `CLD_EXITED` of wait(2): the process ended by itself.
const CLD_EXITED: i32 = 1;

/// `a(sasbttttuii)`: path, argv, ignore failure, four timestamps, pid, code, status.
type ExecCommand = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

struct Reader<'a> {
    what: &'a str,
    properties: &'a Properties,
}

impl Reader<'_> {
    fn get<T>(&self, name: &str) -> Result<T, SystemdError>
    where
        T: TryFrom<OwnedVariant>,
    {
        let unreadable = |why: String| SystemdError::Unreadable { what: self.what.to_owned(), why };
        let value = self.properties.get(name).ok_or_else(|| unreadable(format!("it has no {name}")))?;
        T::try_from(value.clone()).map_err(|_| unreadable(format!("{name} has another type than documented")))
    }
}

/// systemd's "never" is 0 for timestamps.
fn timestamp(microseconds: u64) -> Option<Timestamp> {
    i64::try_from(microseconds).ok().filter(|us| *us > 0).and_then(|us| Timestamp::from_microsecond(us).ok())
}

/// systemd's "infinity" is the largest number.
fn limit(microseconds: u64) -> Option<Duration> {
    (microseconds != u64::MAX).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_sixteen_bytes_that_are_not_all_zero() {
        assert_eq!(InvocationId::from_bytes(&[]), None);
        assert_eq!(InvocationId::from_bytes(&[0; 16]), None);
        let mut bytes = [0; 16];
        bytes[15] = 0xa0;
        assert_eq!(
            InvocationId::from_bytes(&bytes).as_ref().map(InvocationId::as_str),
            Some("000000000000000000000000000000a0")
        );
    }

    #[test]
    fn infinity_is_no_limit() {
        assert_eq!(limit(u64::MAX), None);
        assert_eq!(limit(90_000_000), Some(Duration::from_secs(90)));
        assert_eq!(timestamp(0), None);
        assert_eq!(timestamp(1_500_000).map(|at| at.to_string()).as_deref(), Some("1970-01-01T00:00:01.5Z"));
    }
}
