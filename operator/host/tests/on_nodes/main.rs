//! The one restart on real nodes: systemd, containerd, SIGKILL and power cuts.
//!
//! Needs root and the test bed:
//! `cargo test -p registry-mirror-host --features fault-injection --test on_nodes -- --ignored --test-threads=1`

#![cfg(all(test, feature = "fault-injection"))]

mod errors;
mod host;
mod proxy;
mod pulls;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::wait;

use host::Host;

/// Each minor release that is supported, with the newest of it that is at hand.
const RELEASES: [&str; 7] = ["1.6.20", "1.7.35", "2.0.14", "2.1.9", "2.2.9", "2.3.7", "2.4.2"];

/// containerd does not come up with the new file, but does with the old one. It runs with that unit already.
const BREAK_THE_UNIT: &str = "mkdir -p /etc/systemd/system/containerd.service.d && \
    printf '[Service]\nExecStartPre=/bin/sh -c \"! grep -q config_path /etc/containerd/config.toml\"\n' \
    >/etc/systemd/system/containerd.service.d/break.conf && systemctl daemon-reload && systemctl restart containerd";

/// containerd comes up with the new file, but its CRI plugin does not load: an import holds `mirrors` once there is a
/// `config_path`. A drop-in is merged deeply by 2.x, so that the old file goes on working.
const BREAK_CRI: &str = "mkdir -p /etc/systemd/system/containerd.service.d /etc/containerd/conf.d && printf 'version = 3\n\
    [plugins.\"io.containerd.cri.v1.images\".registry.mirrors.\"example.test\"]\nendpoint = [\"http://127.0.0.1:9\"]\n' \
    >/var/mirrors.toml && printf '[Service]\nExecStartPre=/bin/sh -c \"\
    if grep -q config_path /etc/containerd/config.toml; then cp /var/mirrors.toml /etc/containerd/conf.d/; \
    else rm -f /etc/containerd/conf.d/mirrors.toml; fi\"\n' \
    >/etc/systemd/system/containerd.service.d/break.conf && systemctl daemon-reload && systemctl restart containerd";

#[test]
#[ignore = "boots nodes"]
fn every_release_is_patched_with_one_restart_and_proved() -> Result<()> {
    for release in RELEASES {
        let host = Host::boot("releases", release)?;
        let before = host.config()?;
        let said = host.restart("apply")?;
        ensure!(said.contains("Restarted {"), "{release}: {said}");
        ensure!(host.starts()? == 2, "{release}: one start at boot and one of ours, not {}", host.starts()?);
        host.is_clean()?;
        ensure!(host.restart("observe")?.contains("proof Effective"), "{release}");
        let after = host.config()?;
        let kept: String = after.lines().filter(|line| before.lines().any(|old| old == *line)).collect();
        ensure!(kept == before.lines().collect::<String>(), "{release}: other lines changed:\n{after}");
    }
    Ok(())
}

#[test]
#[ignore = "boots nodes"]
fn killed_at_every_effect_the_next_start_ends_in_the_old_or_the_new_state() -> Result<()> {
    for release in ["1.6.20", "2.4.2"] {
        let host = Host::boot("kills", release)?;
        let old = host.config()?;
        let points = host.points("apply")?;
        let new = host.config()?;
        ensure!(old != new && points > 100, "{points} points");
        for point in 1..=points {
            host.reset(&old)?;
            let starts = host.starts()?;
            host.killed_at(&format!("#{point}"), "apply")?;
            let recovered = host.restart("recover")?;
            let config = host.config()?;
            ensure!(config == old || config == new, "point {point}: {recovered}: neither old nor new:\n{config}");
            host.is_clean()?;
            let effective = host.restart("observe")?.contains("proof Effective");
            ensure!(effective == (config == new), "point {point}: {recovered}: the file and the daemon differ");
            let restarts = host.starts()? - starts;
            ensure!(restarts <= 1, "point {point}: {restarts} restarts: {recovered}");
            if config == old {
                ensure!(host.restart("apply")?.contains("Restarted {"), "point {point}: it does not work afterwards");
                host.is_clean()?;
            }
        }
        println!("{release}: {points} points");
    }
    Ok(())
}

/// The recovery is killed too, at each of its own effects, and the next one ends it.
#[test]
#[ignore = "boots nodes"]
fn a_recovery_that_is_killed_is_recovered() -> Result<()> {
    let host = Host::boot("twice", "2.4.2")?;
    let old = host.config()?;
    for first in ["restart:guarded", "restart:renamed", "restart:called"] {
        host.reset(&old)?;
        host.killed_at(first, "apply")?;
        let points = host.points("recover")?;
        for point in 1..=points {
            host.reset(&old)?;
            let starts = host.starts()?;
            host.killed_at(first, "apply")?;
            host.killed_at(&format!("#{point}"), "recover")?;
            let said = host.restart("recover")?;
            host.is_clean()?;
            let forward = host.config()? != old;
            ensure!(forward == (first != "restart:guarded"), "{first}, point {point}: {said}");
            ensure!(host.restart("observe")?.contains("proof Effective") == forward, "{first}, point {point}: {said}");
            ensure!(host.starts()? - starts <= 1, "{first}, point {point}: {} restarts", host.starts()? - starts);
        }
        println!("{first}: {points} points");
    }
    Ok(())
}

#[test]
#[ignore = "boots nodes"]
fn without_its_journal_a_restart_is_taken_back_by_what_the_guard_knows() -> Result<()> {
    let host = Host::boot("journal", "2.4.2")?;
    let old = host.config()?;
    host.killed_at("restart:called", "apply")?;
    host.sh("echo '{' >/var/lib/registry-mirror-operator/journal.json")?;
    let said = host.restart("recover")?;
    ensure!(said.contains("RolledBack") && said.contains("still_down: None"), "{said}");
    ensure!(host.config()? == old);
    host.sh("rm /var/lib/registry-mirror-operator/journal*broken*")?;
    host.is_clean()
}

#[test]
#[ignore = "boots nodes"]
fn a_linked_file_is_replaced_and_the_link_stays() -> Result<()> {
    let host = Host::boot("link", "1.6.20")?;
    host.sh("mkdir /etc/containerd/real && mv /etc/containerd/config.toml /etc/containerd/real/x.toml && \
        chmod 640 /etc/containerd/real/x.toml && ln -s real/x.toml /etc/containerd/config.toml && \
        systemctl restart containerd")?;
    let said = host.restart("apply")?;
    ensure!(said.contains("Restarted {"), "{said}");
    ensure!(
        host.sh("readlink /etc/containerd/config.toml; stat -c %a /etc/containerd/real/x.toml")?
            == "real/x.toml\n640\n"
    );
    ensure!(host.restart("observe")?.contains("proof Effective"));
    host.is_clean()
}

#[test]
#[ignore = "boots nodes"]
fn a_power_cut_ends_in_the_old_or_the_new_state() -> Result<()> {
    let mut host = Host::boot("power", "2.4.2")?;
    let old = host.config()?;
    for (point, guard_acts) in [
        ("guard:prepared", false),
        ("restart:guarded", false),
        ("restart:renamed", true),
        ("restart:called", true),
        ("restart:active", true),
        ("guard:disarmed", false),
        ("guard:swept", false),
    ] {
        host.reset(&old)?;
        host.killed_at(point, "apply")?;
        host.power_cut_and_boot()?;
        // Before anything of ours runs, the boot has already made it whole.
        let after_boot = host.config()?;
        let proved = point.starts_with("guard:disarmed") || point.starts_with("guard:swept");
        ensure!((after_boot != old) == proved, "{point}: the wrong file after the boot:\n{after_boot}");
        let starts = host.starts()?;
        let said = host.restart("recover")?;
        ensure!(said.contains("by: Guard") == guard_acts, "{point}: {said}");
        ensure!(host.starts()? == starts, "{point}: a boot needs no further restart");
        host.is_clean()?;
        ensure!(host.restart("observe")?.contains("proof Effective") == proved, "{point}");
    }
    Ok(())
}

/// A node that goes down while the old file is being put back.
#[test]
#[ignore = "boots nodes"]
fn a_power_cut_during_the_way_back_ends_in_the_old_state() -> Result<()> {
    for point in ["restart:put-back", "restart:rolled-back"] {
        let mut host = Host::boot("power-back", "2.4.2")?;
        let old = host.config()?;
        host.sh(BREAK_THE_UNIT)?;
        host.killed_at(point, "apply")?;
        host.power_cut_and_boot()?;
        ensure!(host.config()? == old, "{point}");
        let said = host.restart("recover")?;
        ensure!(said.contains("RolledBack") && said.contains("still_down: None"), "{point}: {said}");
        host.is_clean()?;
    }
    Ok(())
}

#[test]
#[ignore = "boots nodes, waits for the guard"]
fn the_guard_acts_if_nobody_comes_back() -> Result<()> {
    let host = Host::boot_without_dbus("guard", "2.4.2")?;
    let old = host.with_conf_d()?;
    // CRI is down: a kubelet could not start the agent again.
    host.sh(BREAK_CRI)?;
    let starts = host.starts()?;
    host.killed_at("restart:called", "apply")?;
    wait::until("the guard to put the file back", Duration::from_secs(70), || {
        Ok((host.config()? == old && host.starts()? == starts + 2).then_some(()))
    })?;
    let said = host.restart("recover")?;
    ensure!(said.contains("RolledBack") && said.contains("by: Guard") && said.contains("still_down: None"), "{said}");
    ensure!(host.starts()? == starts + 2, "recovery needs no restart of its own");
    host.is_clean()
}

/// A process that sleeps through the deadline finds that the outcome is no longer its own.
#[test]
#[ignore = "boots nodes, waits for the guard"]
fn the_guard_and_a_late_process_never_both_act() -> Result<()> {
    let host = Host::boot("late", "2.4.2")?;
    let old = host.config()?;
    // Stopped after the rename, by itself: the restart waits for the unit's slow start.
    host.sh("mkdir -p /etc/systemd/system/containerd.service.d && \
        printf '[Service]\nExecStartPre=/bin/sh -c \"! grep -q config_path /etc/containerd/config.toml || \
        pkill -STOP -x restart\"\n' >/etc/systemd/system/containerd.service.d/stop.conf && systemctl daemon-reload && \
        systemctl restart containerd")?;
    let starts = host.starts()?;
    let mut late = host.spawn("apply")?;
    wait::until("the guard to put the file back", Duration::from_secs(70), || {
        Ok((host.config()? == old && host.starts()? == starts + 2).then_some(()))
    })?;
    host.sh("pkill -CONT -x restart")?;
    let said = host::output(&mut late)?;
    ensure!(said.contains("RolledBack") && said.contains("by: Guard"), "{said}");
    ensure!(host.starts()? == starts + 2, "one restart by us, one by the guard");
    host.is_clean()
}

#[test]
#[ignore = "boots nodes"]
fn a_restart_that_fails_is_taken_back() -> Result<()> {
    let host = Host::boot("fails", "2.4.2")?;
    let old = host.with_conf_d()?;

    host.sh(BREAK_CRI)?;
    let said = host.restart("apply")?;
    ensure!(said.contains("RolledBack") && said.contains("its CRI plugin is not loaded"), "{said}");
    ensure!(said.contains("by: Us") && said.contains("still_down: None"), "{said}");
    ensure!(host.config()? == old);
    host.is_clean()?;
    host.sh("rm -r /etc/containerd/conf.d")?;

    host.sh(BREAK_THE_UNIT)?;
    let said = host.restart("apply")?;
    ensure!(said.contains("RolledBack") && said.contains("the start of containerd.service ended with"), "{said}");
    ensure!(said.contains("still_down: None"), "{said}");
    ensure!(host.config()? == old);
    host.is_clean()
}

/// containerd is ready and then answers nobody for a while, as on a full node whose disk is slow.
#[test]
#[ignore = "boots nodes"]
fn a_stall_after_the_restart_is_waited_for() -> Result<()> {
    for release in ["1.6.20", "2.4.2"] {
        let host = Host::boot("stalls", release)?;
        let old = host.config()?;
        let stall = |seconds: u32| {
            let script = format!(
                "pid=$(systemctl show -p MainPID --value containerd); rm /var/stall; kill -STOP $pid; \
                 (sleep {seconds}; kill -CONT $pid) >/dev/null 2>&1 </dev/null &"
            );
            host.script("/var/stall", &script)
        };
        let at_ready = "REGISTRY_MIRROR_FAULT_RUN='restart:ready=[ ! -e /var/stall ] || /var/stall'";
        stall(6)?;
        let (starts, began) = (host.starts()?, Instant::now());
        let said = host.with(at_ready).restart("apply")?;
        ensure!(said.contains("Restarted {"), "{release}: {said}");
        ensure!(began.elapsed() > Duration::from_secs(6), "{release}: there was no stall");
        ensure!(host.starts()? == starts + 1, "{release}: {} starts", host.starts()? - starts);
        host.is_clean()?;

        // The limit is a setting, and it ends.
        host.reset(&old)?;
        stall(8)?;
        let said = host.with(&format!("READY_LIMIT=1 {at_ready}")).restart("apply")?;
        ensure!(said.contains("RolledBack") && said.contains("could not be proved within 1 s"), "{release}: {said}");
        ensure!(said.contains("still_down: None") && host.config()? == old, "{release}: {said}");
        host.is_clean()?;
    }
    Ok(())
}

#[test]
#[ignore = "boots nodes"]
fn before_the_rename_a_refusal_touches_nothing() -> Result<()> {
    let host = Host::boot("refusals", "1.6.20")?;
    let (old, starts) = (host.config()?, host.starts()?);
    let untouched = |said: &str, expected: &str| {
        ensure!(said.contains(expected), "{said}");
        ensure!(host.config()? == old && host.starts()? == starts, "{expected}: something was touched");
        host.is_clean()
    };
    untouched(&host.restart("apply --after-check false")?, "NotApproved")?;
    // A daemon that accepts nothing, and one that is another release by now.
    host.script("/var/refuses", r#"[ "$1" = --version ] || { echo broken >&2; exit 3; }"#)?;
    let said = host.with("BINARY=/var/refuses").restart("apply")?;
    untouched(&said, "refuses the new configuration")?;
    ensure!(said.contains("exit status 3): broken"), "{said}");
    host.script("/var/newer", "echo containerd github.com/containerd/containerd/v2 v2.1.4 x")?;
    untouched(&host.with("BINARY=/var/newer").restart("apply")?, "is containerd 2.1.4 by now")?;
    untouched(&host.with("BINARY=/nowhere").restart("apply")?, "Refused")?;

    // Another program writes the file while we wait for the approval.
    let said = host.restart("apply --after-check 'echo >>/etc/containerd/config.toml'")?;
    ensure!(said.contains("Changed {"), "{said}");
    ensure!(host.config()? == format!("{old}\n") && host.starts()? == starts, "theirs stays, and nothing restarts");
    host.is_clean()
}

/// Another program changes what containerd reads at a start, after the plan was made and before the rename; and with
/// nothing of ours to rename.
#[test]
#[ignore = "boots nodes"]
fn changed_since_start_is_seen_at_the_last_moment() -> Result<()> {
    for release in ["1.6.20", "2.4.2"] {
        let host = Host::boot("unread", release)?;
        let old = host.with_conf_d()?;
        let starts = host.starts()?;
        let drop_in = "/etc/systemd/system/containerd.service.d/theirs.conf";
        for change in [
            "mkdir -p /etc/containerd/conf.d; printf 'oom_score = 1\n' >/etc/containerd/conf.d/x.toml",
            &format!("printf '[Service]\nEnvironment=X=1\n' >{drop_in}"),
            &format!("printf '[Service]\nEnvironment=X=1\n' >{drop_in}; systemctl daemon-reload"),
        ] {
            host.script("/var/change", change)?;
            let said = host.restart("apply --after-check /var/change")?;
            ensure!(said.contains("Changed {"), "{release}, {change}: {said}");
            ensure!(host.config()? == old && host.starts()? == starts, "{release}, {change}: something was touched");
            host.is_clean()?;
            host.sh(&format!("rm -rf /etc/containerd/conf.d/x.toml {drop_in}; systemctl daemon-reload"))?;
        }
        // The file is right already: a restart without an edit.
        let said = host.restart("apply")?;
        ensure!(said.contains("Restarted {"), "{release}: taken back, so nothing is in the way: {said}");
        host.script("/var/change", "echo >>/etc/containerd/config.toml")?;
        let starts = host.starts()?;
        let said = host.restart("apply --after-check /var/change")?;
        ensure!(said.contains("Changed {"), "{release}: {said}");
        ensure!(host.starts()? == starts, "{release}: restarted with somebody else's change");
    }
    Ok(())
}
