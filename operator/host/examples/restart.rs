//! The whole host side by hand, on a machine of its own: what is observed, the one restart, and what an interrupted one
//! leaves to do.
//!
//! ```text
//! restart observe | recover | prove | pull | apply [--proxy URL] [--edit FILE] [--after-check COMMAND]
//! ```
//!
//! `--proxy` asks for containerd's forward proxy in the same restart; `--proxy none` takes it back.
//!
//! `--edit` takes a file for the new configuration, whatever is in it, instead of the edit that is due.
//!
//! READY_LIMIT in the environment is the ready limit in seconds.
//!
//! `--after-check` runs a shell command as the approval, between the check of the candidate and the rename: the place
//! to make a restart fail for real.

use std::{path::Path, process::ExitCode, time::Duration};

use registry_mirror_core::{
    config_toml::{self, Edit, Need, Undo},
    observed::Supervisor,
    plan::{PlanHash, plan_proxy, proxy::DropInChange, since_start::unread},
    proxy::ProxySettings,
};
use registry_mirror_host::{
    files::{HostWriter, WriteScope},
    observe::{self, Live},
    proof::{prove, pull_by_any_way},
    restart::{self, Approval, ApprovalError, Change, DropIn, READY_LIMIT, Request, Restarter},
    root::HostRoot,
    since_start,
    state::StateDir,
    systemd::Systemd,
};

type Error = Box<dyn std::error::Error>;

struct ShellApproval(Option<String>);

impl Approval for ShellApproval {
    async fn granted(&self) -> Result<bool, ApprovalError> {
        match &self.0 {
            None => Ok(true),
            Some(command) => std::process::Command::new("/bin/sh")
                .args(["-c", command])
                .status()
                .map(|status| status.success())
                .map_err(|error| ApprovalError(error.to_string())),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root_path = std::env::var("HOST_ROOT").unwrap_or_else(|_| "/".to_owned());
    let root = HostRoot::open(Path::new(&root_path))?;
    let systemd = Systemd::new(root.path());
    let pod = std::env::var("POD_UID").ok();
    if let Some(outcome) = restart::recover(&root, &systemd).await? {
        println!("recovered {outcome:?}");
    }
    if arguments == ["recover"] {
        return Ok(());
    }
    let mut live = observe::live(&root, &systemd, pod.as_deref()).await?;
    let Live { observed, cri, .. } = &live;
    let certs_d = live.directory().unwrap_or_else(|| "/etc/containerd/certs.d".into());
    let writer = HostWriter::new(root.clone(), WriteScope::for_host([observed.config_file.as_path()], &certs_d));
    let state = StateDir::open(&writer)?;
    let restarter = Restarter::new(&state, &systemd, cri);

    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["observe"] => {
            println!("containerd {} on {}", observed.containerd, live.socket.display());
            println!("{} ({})", observed.distribution.distribution, observed.distribution.evidence);
            println!("{:?}", observed.supervisor);
            println!("{} writable {:?}", observed.config_file.display(), observed.config_writable);
            println!("status {:?}", cri.status().await?);
            live.prove(&writer).await;
            println!("proof {:?}", live.observed.proof);
        }
        ["prove"] => println!("{:?}", prove(&writer, &certs_d, cri).await),
        ["pull"] => println!("{:?}", pull_by_any_way(&writer, &certs_d, cri).await),
        ["apply", rest @ ..] => {
            let (proxy, rest) = match rest {
                ["--proxy", "none", rest @ ..] => (None, rest),
                ["--proxy", url, rest @ ..] => {
                    (ProxySettings::new(None, Some(url.parse()?), Vec::new(), Vec::new())?, rest)
                }
                _ => (None, rest),
            };
            let (edited, rest) = match rest {
                ["--edit", file, rest @ ..] => (Some(*file), rest),
                _ => (None, rest),
            };
            let approval = ShellApproval(match rest {
                ["--after-check", command] => Some((*command).to_owned()),
                _ => None,
            });
            let planned = plan_proxy(&observe::proxy::observe(&root, &live)?, proxy.as_ref());
            println!("proxy {:?}", planned.reason());
            let (drop_in, variables) = match planned.change() {
                Some(change) => {
                    let DropInChange { file, before, after, variables, .. } = change.clone();
                    (Some(DropIn { file, before, after }), variables)
                }
                None => (None, Vec::new()),
            };
            let config = observed.config.as_ref().map_err(ToString::to_string)?;
            let directory = Path::new("/etc/containerd/certs.d");
            let (replaced, certs_d) = match config.analyze().need(directory) {
                _ if let Some(edited) = edited => {
                    let (file, before) = (observed.config_file.clone(), root.read(&observed.config_file)?);
                    let after = std::fs::read(edited)?;
                    let undo = Undo::nothing(&file, &after);
                    (Some(Edit { file, before, after, changes: Vec::new(), undo }), directory.to_owned())
                }
                Need::Nothing { directory, why, .. } => {
                    println!("nothing to edit: {why}");
                    (None, directory)
                }
                Need::Patch { directory, why } => {
                    println!("patch: {why}");
                    (Some(config_toml::patch(config, &directory)?), directory)
                }
                Need::Migrate { why, .. } => return Err(why.into()),
            };
            let Supervisor::Unit(mut unit) = observed.supervisor.clone() else {
                return Err(format!("{:?}", observed.supervisor).into());
            };
            if let Ok(binary) = std::env::var("BINARY") {
                unit.binary = binary.into();
            }
            let version = observed.containerd;
            let ready_limit = match std::env::var("READY_LIMIT") {
                Ok(seconds) => Duration::from_secs(seconds.parse()?),
                Err(_) => READY_LIMIT,
            };
            let plan: PlanHash = serde_json::from_value("0123456789abcdef".into())?;
            let main_config = observed.config_file.clone();
            let change = Change { config: replaced, drop_in, variables };
            // As the agent does before it edits.
            let start = live.unit.as_ref().and_then(since_start::start).ok_or("containerd's start is not known")?;
            let state = live.unit.as_ref().ok_or("no unit")?;
            let files = since_start::files(&root, state, config)?;
            let (_, known) = unread(&files, &start, since_start::remembered(&root).as_ref());
            since_start::remember(&root, &known)?;
            if let Some(Edit { file, after, .. }) = &change.config {
                since_start::note(&root, file, Some(after))?;
            }
            let known = Some(known);
            let request = Request { unit, version, main_config, change, certs_d, plan, ready_limit, known };
            println!("{:?}", restarter.run(&request, &approval).await?);
        }
        _ => {
            return Err("usage: restart observe | recover | prove | pull | apply [--proxy URL] [--edit FILE] [--after-check COMMAND]".into());
        }
    }
    Ok(())
}
