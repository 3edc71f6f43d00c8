//! What containerd's environment needs so that it goes through the proxy that the cluster asks for, or no longer does.

use std::path::PathBuf;

use crate::{
    config_toml::Change,
    observed::{Distribution, Supervisor, Unit, Writable},
    proxy::{
        DROP_IN_NAME, Environment, ProxySettings, VARIABLES, drop_in_path, is_ours, render, sets, without_userinfo,
    },
};

use super::{ConfigPlan, PlanHash};

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedProxy {
    /// What kind of host this is.
    pub distribution: Distribution,
    /// What starts the daemon.
    pub supervisor: Supervisor,
    /// What stands at the drop-in's place; `None` if nothing does, or no unit is known.
    pub drop_in: Option<Vec<u8>>,
    /// Whether it can be written.
    pub writable: Writable,
    /// The environment of the running daemon; `None` where it could not be read.
    pub running: Option<Environment>,
    /// What other files of the host say about the proxy, in the order in which systemd reads them.
    pub elsewhere: Vec<Setting>,
}

/// A proxy variable that somebody else sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Where.
    pub file: PathBuf,
    /// `HTTP_PROXY`, `HTTPS_PROXY` or `NO_PROXY`.
    pub variable: String,
    /// To what; may hold a password.
    pub value: String,
    /// How.
    pub by: By,
}

/// How a variable is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// With `Environment=` in the unit or a drop-in that is read before ours.
    Earlier,
    /// In a drop-in that is read after ours, or in a file that `EnvironmentFile=` names: that wins over every
    /// `Environment=` (systemd.exec(5)).
    Later,
}

/// What is to be done about the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyPlan {
    /// Nothing; `notes` are sentences about settings of others that ours overrides.
    Nothing {
        /// For people.
        notes: Vec<String>,
    },
    /// The drop-in is written, changed or removed.
    Change(DropInChange),
    /// The drop-in is right, and the running daemon has not read it.
    Restart {
        /// What the daemon must have afterwards.
        variables: Vec<(String, String)>,
        /// Why, in a sentence.
        reason: String,
    },
    /// It cannot be done here.
    Unsupported {
        /// Why, and what to do instead, in a sentence.
        reason: String,
    },
    /// It waits for somebody else's restart: something has changed since the daemon's start.
    HeldBack {
        /// What, and what to do, in a sentence.
        reason: String,
    },
}

/// A change of the drop-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropInChange {
    /// The file.
    pub file: PathBuf,
    /// What stands there; `None` if nothing does.
    pub before: Option<Vec<u8>>,
    /// What shall stand there; `None` if nothing shall.
    pub after: Option<Vec<u8>>,
    /// What the daemon must have afterwards; empty where the drop-in goes.
    pub variables: Vec<(String, String)>,
    /// Whether the running daemon has other values: it must restart.
    pub restart: bool,
    /// For people, a line for each variable.
    pub changes: Vec<Change>,
    /// Why, in a sentence.
    pub reason: String,
    /// Sentences about settings of others that ours overrides.
    pub notes: Vec<String>,
}

/// Decides. Total.
#[must_use]
pub fn plan_proxy(observed: &ObservedProxy, wanted: Option<&ProxySettings>) -> ProxyPlan {
    let ours = observed.drop_in.as_deref().is_some_and(is_ours);
    match wanted {
        None if ours => removal(observed),
        None => ProxyPlan::Nothing { notes: Vec::new() },
        Some(settings) => addition(observed, &settings.variables()),
    }
}

fn removal(observed: &ObservedProxy) -> ProxyPlan {
    let Ok(unit) = unit(observed) else { return ProxyPlan::Nothing { notes: Vec::new() } };
    let content = observed.drop_in.as_deref().unwrap_or_default();
    let holds = |name: &str| {
        // What cannot be read may hold it.
        observed
            .running
            .as_ref()
            .is_none_or(|running| running.get(name).is_some_and(|value| sets(content, name, value)))
    };
    let change = DropInChange {
        file: drop_in_path(&unit.name),
        before: observed.drop_in.clone(),
        after: None,
        variables: Vec::new(),
        restart: VARIABLES.into_iter().any(holds),
        changes: changes(observed, &[]),
        reason: "the proxy of containerd is not asked for any more".to_owned(),
        notes: Vec::new(),
    };
    refused(observed, unit, change)
}

fn addition(observed: &ObservedProxy, variables: &[(String, String)]) -> ProxyPlan {
    let Some(running) = &observed.running else {
        // Whether a restart has brought it into force could never be told.
        return ProxyPlan::Unsupported {
            reason: "containerd's proxy is not set, because the environment of the running containerd cannot be read"
                .to_owned(),
        };
    };
    let runs_with_it = running.has(variables);
    if runs_with_it && observed.drop_in.is_none() && next_start(&observed.elsewhere, variables) {
        return ProxyPlan::Nothing { notes: Vec::new() };
    }
    let unit = match unit(observed) {
        Ok(unit) => unit,
        Err(reason) => return ProxyPlan::Unsupported { reason },
    };
    let file = drop_in_path(&unit.name);
    if observed.drop_in.as_deref().is_some_and(|content| !is_ours(content)) {
        return ProxyPlan::Unsupported {
            reason: format!(
                "containerd's proxy is not set: {} is a file of somebody else; rename or remove it",
                file.display()
            ),
        };
    }
    if let Some(reason) = overruled(&observed.elsewhere, variables) {
        return ProxyPlan::Unsupported { reason };
    }
    let notes = overridden(&observed.elsewhere, variables);
    let content = render(variables);
    if observed.drop_in.as_ref() == Some(&content) {
        if runs_with_it {
            return ProxyPlan::Nothing { notes };
        }
        let reason = format!("containerd has not started since {} was written", file.display());
        return match refusal(observed, unit) {
            Some(why) => ProxyPlan::Unsupported { reason: why },
            None => ProxyPlan::Restart { variables: variables.to_vec(), reason },
        };
    }
    let reason = match &observed.drop_in {
        _ if runs_with_it => "containerd goes through the proxy, and its next start shall too",
        None => "containerd does not go through the proxy that the cluster asks for",
        Some(_) => "containerd goes through another proxy than the cluster asks for",
    };
    let change = DropInChange {
        file,
        before: observed.drop_in.clone(),
        after: Some(content),
        variables: variables.to_vec(),
        restart: !runs_with_it,
        changes: changes(observed, variables),
        reason: reason.to_owned(),
        notes,
    };
    refused(observed, unit, change)
}

/// The change, unless the restart that it needs must not be made.
fn refused(observed: &ObservedProxy, unit: &Unit, change: DropInChange) -> ProxyPlan {
    match refusal(observed, unit).filter(|_| change.restart) {
        Some(reason) => ProxyPlan::Unsupported { reason },
        None => ProxyPlan::Change(change),
    }
}

fn refusal(observed: &ObservedProxy, unit: &Unit) -> Option<String> {
    let Unit { name, kill_mode, .. } = unit;
    if kill_mode != "process" {
        return Some(format!(
            "containerd's proxy needs a restart, which is not safe: {name} has KillMode={kill_mode}, which kills the \
             running pods; set KillMode=process in the unit"
        ));
    }
    match &observed.writable {
        Writable::Yes => None,
        Writable::No(why) => Some(format!("containerd's proxy cannot be set: {why}")),
    }
}

/// The unit of a containerd that is the operator's to restart, or why there is none.
fn unit(observed: &ObservedProxy) -> Result<&Unit, String> {
    let native = match observed.distribution.native_proxy_setting() {
        Some(setting) => format!("; set it with {setting} instead"),
        None => String::new(),
    };
    let why = match (&observed.supervisor, observed.distribution.native_proxy_setting()) {
        (Supervisor::Unit(unit), None) => return Ok(unit),
        (Supervisor::Unit(_), Some(_)) => format!("{} sets containerd's environment itself", observed.distribution),
        (Supervisor::Embedded { by }, _) => format!("containerd is a child of {by}, which is not ours to restart"),
        (Supervisor::Offline, _) => "containerd does not run here".to_owned(),
        (Supervisor::Unknown(why), _) => why.clone(),
    };
    Err(format!("containerd's proxy cannot be set here: {why}{native}"))
}

/// What the next start has by the files of others alone.
fn next_start(elsewhere: &[Setting], variables: &[(String, String)]) -> bool {
    variables.iter().all(|(name, value)| {
        let of = |by: By| elsewhere.iter().rev().find(|setting| setting.variable == *name && setting.by == by);
        of(By::Later).or_else(|| of(By::Earlier)).is_some_and(|setting| setting.value == *value)
    })
}

/// Why ours would not hold.
fn overruled(elsewhere: &[Setting], variables: &[(String, String)]) -> Option<String> {
    let (setting, wanted) = variables.iter().find_map(|(name, value)| {
        let last = elsewhere.iter().rev().find(|setting| setting.variable == *name && setting.by == By::Later)?;
        (last.value != *value).then_some((last, value))
    })?;
    Some(format!(
        "containerd's proxy is not set: {} sets {} to {}, and what it says wins over {DROP_IN_NAME}; set it to {wanted} \
         there, or take it out",
        setting.file.display(),
        setting.variable,
        without_userinfo(&setting.value)
    ))
}

/// Whose settings do not hold any more.
fn overridden(elsewhere: &[Setting], variables: &[(String, String)]) -> Vec<String> {
    let differs = |setting: &&Setting| {
        setting.by == By::Earlier
            && variables.iter().any(|(name, value)| *name == setting.variable && *value != setting.value)
    };
    let note = |setting: &Setting| {
        format!(
            "{} sets {} to {}; containerd.proxy of the operator's chart wins over it.",
            setting.file.display(),
            setting.variable,
            without_userinfo(&setting.value)
        )
    };
    elsewhere.iter().filter(differs).map(note).collect()
}

/// A line for each variable that becomes another one.
fn changes(observed: &ObservedProxy, variables: &[(String, String)]) -> Vec<Change> {
    let Ok(unit) = unit(observed) else { return Vec::new() };
    let now = |name: &str| observed.running.as_ref().and_then(|running| running.get(name)).map(without_userinfo);
    let next = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    VARIABLES
        .into_iter()
        .filter(|name| {
            let ours =
                observed.drop_in.as_deref().zip(now(name)).is_some_and(|(content, now)| sets(content, name, &now));
            next(name).is_some() || ours
        })
        .map(|name| Change { file: drop_in_path(&unit.name), key: name.to_owned(), from: now(name), to: next(name) })
        .filter(|change| change.from != change.to)
        .collect()
}

impl ProxyPlan {
    /// Whether the daemon must restart for it.
    #[must_use]
    pub const fn needs_restart(&self) -> bool {
        match self {
            Self::Change(change) => change.restart,
            Self::Restart { .. } => true,
            Self::Nothing { .. } | Self::Unsupported { .. } | Self::HeldBack { .. } => false,
        }
    }

    /// Why something is to be done or cannot be, in a sentence; `None` where nothing is to be done.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Change(DropInChange { reason, .. })
            | Self::Restart { reason, .. }
            | Self::Unsupported { reason }
            | Self::HeldBack { reason } => Some(reason),
            Self::Nothing { .. } => None,
        }
    }

    /// What people should know besides, a sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Nothing { notes } | Self::Change(DropInChange { notes, .. }) => notes,
            Self::Restart { .. } | Self::Unsupported { .. } | Self::HeldBack { .. } => &[],
        }
    }

    /// The change, where there is one.
    #[must_use]
    pub const fn change(&self) -> Option<&DropInChange> {
        match self {
            Self::Change(change) => Some(change),
            Self::Nothing { .. } | Self::Restart { .. } | Self::Unsupported { .. } | Self::HeldBack { .. } => None,
        }
    }
}

/// Names what one restart does for the configuration and the proxy together.
#[must_use]
pub fn restart_hash(config: &ConfigPlan, proxy: &ProxyPlan) -> PlanHash {
    match proxy {
        ProxyPlan::Change(DropInChange { file, before, after, restart: true, .. }) => {
            let before = before.as_deref().unwrap_or_default();
            let after = after.as_deref().unwrap_or_default();
            config.hash_with(&[b"proxy", file.as_os_str().as_encoded_bytes(), before, after])
        }
        ProxyPlan::Restart { variables, .. } => {
            let variables: Vec<&[u8]> =
                variables.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
            config.hash_with(&[&[b"proxy restart".as_slice()], &*variables].concat())
        }
        ProxyPlan::Change(_)
        | ProxyPlan::Nothing { .. }
        | ProxyPlan::Unsupported { .. }
        | ProxyPlan::HeldBack { .. } => config.hash(),
    }
}

#[cfg(test)]
mod tests;
