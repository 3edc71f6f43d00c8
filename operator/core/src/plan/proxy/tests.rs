//! Every way in which a host may stand to the proxy that the cluster asks for, as a table for people.

use std::{fmt::Write as _, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::config_toml::Change;

const UNIT: &str = "containerd.service";

fn wanted(url: &str) -> ProxySettings {
    let https = url.parse().expect("a proxy");
    ProxySettings::new(None, Some(https), vec!["10.0.0.0/8".parse().expect("a range")], Vec::new())
        .expect("valid")
        .expect("asked for")
}

fn environment(variables: &[(String, String)]) -> Environment {
    let pairs: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Environment::of_process(pairs.join("\0").as_bytes())
}

fn host() -> ObservedProxy {
    ObservedProxy {
        distribution: Distribution::Plain,
        supervisor: Supervisor::Unit(Unit {
            name: UNIT.to_owned(),
            binary: PathBuf::from("/usr/bin/containerd"),
            kill_mode: "process".to_owned(),
            invocation_id: String::new(),
            start_timeout_seconds: None,
            stop_timeout_seconds: None,
        }),
        drop_in: None,
        writable: Writable::Yes,
        running: Some(Environment::default()),
        elsewhere: Vec::new(),
    }
}

fn by(by: By, file: &str, variables: &[(String, String)]) -> Vec<Setting> {
    let setting = |(variable, value): &(String, String)| Setting {
        file: PathBuf::from(file),
        variable: variable.clone(),
        value: value.clone(),
        by,
    };
    variables.iter().map(setting).collect()
}

fn shown(plan: &ProxyPlan) -> String {
    let notes = plan.notes().iter().map(|note| format!("\n    note: {note}")).collect::<String>();
    let what = match plan {
        ProxyPlan::Nothing { .. } => "nothing".to_owned(),
        ProxyPlan::Restart { reason, .. } => format!("restart: {reason}"),
        ProxyPlan::Unsupported { reason } => format!("unsupported: {reason}"),
        ProxyPlan::HeldBack { reason } => format!("held back: {reason}"),
        ProxyPlan::Change(DropInChange { after, restart, changes, reason, .. }) => {
            let what = if after.is_some() { "write" } else { "remove" };
            let when = if *restart { "with a restart" } else { "without a restart" };
            let changes: String = changes
                .iter()
                .map(|Change { key, from, to, .. }| {
                    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
                    format!("\n    {key}: {} -> {}", text(from), text(to))
                })
                .collect();
            format!("{what} {when}: {reason}{changes}")
        }
    };
    format!("{what}{notes}")
}

/// Every case, to be read by people.
#[test]
fn table() {
    let (new, old) = (wanted("http://new:3128"), wanted("http://old:3128"));
    let (with_new, with_old) = (environment(&new.variables()), environment(&old.variables()));
    let (ours, ours_old) = (render(&new.variables()), render(&old.variables()));
    let theirs = |which: By, variables: &[(String, String)]| by(which, "/etc/default/containerd", variables);
    let secret = [("HTTPS_PROXY".to_owned(), "http://u:s3cret@their:1".to_owned())];
    let mut kills_pods = host();
    if let Supervisor::Unit(unit) = &mut kills_pods.supervisor {
        unit.kill_mode = "control-group".to_owned();
    }
    let cases = [
        ("no proxy anywhere", host(), false),
        ("the host's own proxy, none asked for", ObservedProxy { running: Some(with_new.clone()), ..host() }, false),
        ("a fresh host", host(), true),
        ("its environment cannot be read", ObservedProxy { running: None, ..host() }, true),
        (
            "the host has the same already",
            ObservedProxy {
                running: Some(with_new.clone()),
                elsewhere: theirs(By::Earlier, &new.variables()),
                ..host()
            },
            true,
        ),
        ("as after an uninstall", ObservedProxy { running: Some(with_new.clone()), ..host() }, true),
        ("in force", ObservedProxy { running: Some(with_new.clone()), drop_in: Some(ours.clone()), ..host() }, true),
        (
            "written and not read",
            ObservedProxy { running: Some(with_old.clone()), drop_in: Some(ours.clone()), ..host() },
            true,
        ),
        (
            "another value was in force",
            ObservedProxy { running: Some(with_old.clone()), drop_in: Some(ours_old.clone()), ..host() },
            true,
        ),
        (
            "edited by hand and not read",
            ObservedProxy {
                running: Some(with_new.clone()),
                drop_in: Some([&ours[..], b"# mine\n"].concat()),
                ..host()
            },
            true,
        ),
        ("a file of others at its place", ObservedProxy { drop_in: Some(b"[Service]\n".to_vec()), ..host() }, true),
        ("theirs comes first", ObservedProxy { elsewhere: theirs(By::Earlier, &secret), ..host() }, true),
        ("theirs wins", ObservedProxy { elsewhere: theirs(By::Later, &secret), ..host() }, true),
        (
            "theirs wins and says the same",
            ObservedProxy { elsewhere: theirs(By::Later, &new.variables()), ..host() },
            true,
        ),
        ("a restart would kill the pods", kills_pods, true),
        ("read-only", ObservedProxy { writable: Writable::No("/etc is read-only".to_owned()), ..host() }, true),
        (
            "K3s",
            ObservedProxy {
                distribution: Distribution::K3s,
                supervisor: Supervisor::Embedded { by: "k3s.service".to_owned() },
                ..host()
            },
            true,
        ),
        (
            "taken back",
            ObservedProxy { running: Some(with_old.clone()), drop_in: Some(ours_old.clone()), ..host() },
            false,
        ),
        ("taken back before it was read", ObservedProxy { drop_in: Some(ours_old), ..host() }, false),
        ("taken back, a file of others", ObservedProxy { drop_in: Some(b"[Service]\n".to_vec()), ..host() }, false),
    ];
    let mut table = String::new();
    for (name, observed, asked) in cases {
        let plan = plan_proxy(&observed, asked.then_some(&new));
        let _ = writeln!(table, "{name}:\n  {}", shown(&plan));
    }
    assert!(!table.contains("s3cret"), "{table}");
    insta::assert_snapshot!(table);
}

#[test]
fn an_approval_is_for_one_proxy() {
    let adopt = ConfigPlan::Adopt { directory: PathBuf::from("/c"), then: Vec::new(), reason: String::new() };
    let hash = |observed: &ObservedProxy, url: Option<&str>| {
        restart_hash(&adopt, &plan_proxy(observed, url.map(wanted).as_ref())).as_str().to_owned()
    };
    let nothing = hash(&host(), None);
    assert_eq!(nothing, adopt.hash().as_str());
    let (one, other) = (hash(&host(), Some("http://one")), hash(&host(), Some("http://other")));
    assert!(one != nothing && other != nothing && one != other);
    let variables = wanted("http://one").variables();
    let placed = ObservedProxy { drop_in: Some(render(&variables)), ..host() };
    assert!(hash(&placed, Some("http://one")) != one);
    assert_eq!(hash(&placed, None), nothing, "what was never read needs no restart to go");
    let in_force = ObservedProxy { running: Some(environment(&variables)), ..placed };
    assert_ne!(hash(&in_force, None), nothing);
}

fn any_host() -> impl Strategy<Value = ObservedProxy> {
    let urls = ["http://one", "http://other"];
    let of = move |which: usize| urls.get(which).map(|url| wanted(url).variables());
    (0..4_usize, 0..4_usize, 0..4_usize, any::<bool>()).prop_map(move |(drop_in, running, elsewhere, later)| {
        let which = if later { By::Later } else { By::Earlier };
        ObservedProxy {
            drop_in: match drop_in {
                3 => Some(b"[Service]\n".to_vec()),
                other => of(other).map(|variables| render(&variables)),
            },
            running: match running {
                3 => None,
                other => Some(of(other).map(|variables| environment(&variables)).unwrap_or_default()),
            },
            elsewhere: of(elsewhere).map(|variables| by(which, "/etc/x", &variables)).unwrap_or_default(),
            ..host()
        }
    })
}

proptest! {
    /// A restart that worked is never followed by another one.
    #[test]
    fn what_was_carried_out_is_not_planned_again(observed in any_host(), asked in any::<bool>()) {
        let settings = asked.then(|| wanted("http://one"));
        let plan = plan_proxy(&observed, settings.as_ref());
        let after = match &plan {
            ProxyPlan::Nothing { .. } | ProxyPlan::Unsupported { .. } | ProxyPlan::HeldBack { .. } => return Ok(()),
            ProxyPlan::Restart { variables, .. } => {
                ObservedProxy { running: Some(environment(variables)), ..observed }
            }
            ProxyPlan::Change(change) => ObservedProxy {
                drop_in: change.after.clone(),
                running: if change.restart { Some(environment(&change.variables)) } else { observed.running.clone() },
                ..observed
            },
        };
        let again = plan_proxy(&after, settings.as_ref());
        prop_assert!(matches!(again, ProxyPlan::Nothing { .. }), "{plan:?} then {again:?}");
    }

    #[test]
    fn a_file_of_others_is_never_touched(observed in any_host(), asked in any::<bool>()) {
        let plan = plan_proxy(&observed, asked.then(|| wanted("http://one")).as_ref());
        if let Some(content) = observed.drop_in.filter(|content| !is_ours(content)) {
            prop_assert!(plan.change().is_none(), "{plan:?} over {}", String::from_utf8_lossy(&content));
        }
    }
}
