//! Short-lived units: a command run by systemd on the host itself, and a timer that outlives this process.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use zbus::{OwnedObjectPath, Variant};

use super::{
    Systemd, SystemdError,
    connection::Bus,
    job::{stop_and_unload, wait_for_job},
    unit::loaded_unit,
};

/// A command that systemd runs on the host, outside of any container.
#[derive(Debug, Clone)]
pub struct HostCommand {
    /// The unit to run it in, for example `registry-mirror-check.service`. A fixed name: what an earlier, killed run
    /// left behind is found and removed by the next.
    pub unit: &'static str,
    /// Shown by `systemctl`.
    pub description: &'static str,
    /// Binary (absolute) and arguments, as the host sees them.
    pub argv: Vec<String>,
    /// A file that exists already, with the mode that it should have; standard output is written into it.
    pub stdout: PathBuf,
    /// The same for standard error.
    pub stderr: PathBuf,
    /// The command is killed after this time.
    pub limit: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// With this exit status.
    Exited(i32),
    /// Otherwise; systemd's word for it: `timeout`, `signal`, `exec-condition`, `resources`.
    Aborted(String),
}

type Property<'a> = (&'a str, Variant<'a>);
type Command<'a> = (&'a str, Vec<&'a str>, bool);

impl Systemd {
    /// Runs a command on the host and waits for its end. Nothing of the unit stays in systemd's memory.
    ///
    /// # Errors
    /// systemd is out of reach, refuses, or does not end the command within its limit and 10 s.
    pub async fn run(&self, command: &HostCommand) -> Result<Finished, SystemdError> {
        let bus = self.bus().await?;
        stop_and_unload(&bus, command.unit).await?;
        let ended = run_once(&bus, command).await;
        // Also after a failure: the unit would keep its name taken.
        let tidied = stop_and_unload(&bus, command.unit).await;
        let ended = ended?;
        tidied?;
        Ok(ended)
    }

    /// Starts a timer that runs `argv` on the host once, `after` from now, in the service of the same name. It lives in
    /// systemd's memory and needs nothing of ours; a timer of that name that is there already is replaced.
    ///
    /// # Errors
    /// systemd is out of reach or refuses.
    pub async fn start_timer(
        &self,
        name: &str,
        description: &str,
        after: Duration,
        argv: &[&str],
    ) -> Result<(), SystemdError> {
        let bus = self.bus().await?;
        let timer = format!("{name}.timer");
        let service = format!("{name}.service");
        stop_and_unload(&bus, &timer).await?;
        let microseconds = u64::try_from(after.as_micros()).unwrap_or(u64::MAX - 1);
        let monotonic = ("TimersMonotonic", Variant::from(vec![("OnActiveSec", microseconds)]));
        match start_timer(&bus, &timer, &service, description, monotonic, argv).await {
            // Before systemd 243 a transient timer took the key itself.
            Err(error) if error.is_unknown_property() => {
                let legacy = ("OnActiveSec", Variant::from(microseconds));
                start_timer(&bus, &timer, &service, description, legacy, argv).await
            }
            other => other,
        }
    }
}

async fn run_once(bus: &Bus, command: &HostCommand) -> Result<Finished, SystemdError> {
    let what = format!("running `{}`", command.argv.join(" "));
    let argv: Vec<String> = command.argv.iter().map(|argument| literal(argument)).collect();
    let binary = command.argv.first().map(String::as_str).unwrap_or_default();
    let limit = u64::try_from(command.limit.as_micros()).unwrap_or(u64::MAX - 1);
    let (stdout, stderr) = (text(&command.stdout), text(&command.stderr));
    let properties: Vec<Property<'_>> = vec![
        ("Description", Variant::from(command.description)),
        // A oneshot service's start job ends when its process does.
        ("Type", Variant::from("oneshot")),
        // Keeps the unit in memory after success, so that its exit status can be read.
        ("RemainAfterExit", Variant::from(true)),
        ("TimeoutStartUSec", Variant::from(limit)),
        (
            "ExecStart",
            Variant::from(vec![(binary, argv.iter().map(String::as_str).collect(), false)] as Vec<Command<'_>>),
        ),
        // Not `...ToTruncate`, which came with systemd 247: the file is fresh and empty.
        ("StandardOutputFile", Variant::from(stdout.as_str())),
        ("StandardErrorFile", Variant::from(stderr.as_str())),
    ];
    let mut removed = bus.removed_jobs().await?;
    let no_others: Vec<(&str, Vec<Property<'_>>)> = Vec::new();
    let job: OwnedObjectPath =
        bus.manager(&what, "StartTransientUnit", &(command.unit, "replace", properties, no_others)).await?;
    let patience = command.limit + Duration::from_secs(10);
    let ended = timeout_at(Instant::now() + patience, wait_for_job(&mut removed, &job))
        .await
        .map_err(|_| SystemdError::Slow { what: what.clone(), after: patience })?;
    let Some(result) = ended else {
        return Err(SystemdError::Unreadable { what, why: "the connection broke before the command ended".to_owned() });
    };
    let unit = loaded_unit(bus, command.unit).await?;
    Ok(match unit {
        Some(unit) => match unit.exit_status {
            Some(status) if unit.result != "timeout" => Finished::Exited(status),
            _ => Finished::Aborted(unit.result),
        },
        None => Finished::Aborted(result),
    })
}

async fn start_timer(
    bus: &Bus,
    timer: &str,
    service: &str,
    description: &str,
    when: Property<'_>,
    argv: &[&str],
) -> Result<(), SystemdError> {
    let binary = argv.first().copied().unwrap_or_default();
    let argv: Vec<String> = argv.iter().map(|argument| literal(argument)).collect();
    let timer_properties: Vec<Property<'_>> = vec![
        ("Description", Variant::from(description)),
        when,
        ("AccuracyUSec", Variant::from(100_000_u64)),
        ("RemainAfterElapse", Variant::from(false)),
    ];
    let service_properties: Vec<Property<'_>> = vec![
        ("Description", Variant::from(description)),
        ("Type", Variant::from("oneshot")),
        (
            "ExecStart",
            Variant::from(vec![(binary, argv.iter().map(String::as_str).collect(), false)] as Vec<Command<'_>>),
        ),
    ];
    let what = format!("starting {timer}");
    let mut removed = bus.removed_jobs().await?;
    let job: OwnedObjectPath = bus
        .manager(
            &what,
            "StartTransientUnit",
            &(timer, "replace", timer_properties, vec![(service, service_properties)]),
        )
        .await?;
    let patience = Duration::from_secs(30);
    match timeout_at(Instant::now() + patience, wait_for_job(&mut removed, &job)).await {
        Ok(Some(result)) if result == "done" => Ok(()),
        Ok(Some(result)) => Err(SystemdError::JobFailed { unit: timer.to_owned(), result }),
        Ok(None) => Err(SystemdError::Unreadable { what, why: "the connection broke".to_owned() }),
        Err(_) => Err(SystemdError::Slow { what, after: patience }),
    }
}

/// systemd puts variables into the arguments, also of transient units.
fn literal(argument: &str) -> String {
    argument.replace('$', "$$")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
