//! containerd's forward proxy in the same restart as its configuration, and alone.

use anyhow::{Result, ensure};

use super::{Host, RELEASES};

const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/zz-registry-mirror-proxy.conf";
const ONE: &str = "http://10.88.0.1:3128";
const OTHER: &str = "http://10.88.0.1:3129";

/// The proxy of the running daemon, by its own environment, and the one of the drop-in: both must be the same.
fn proxy(host: &Host) -> Result<String> {
    let running = host.sh(
        "tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value containerd)/environ | sed -n s/^HTTPS_PROXY=//p",
    )?;
    let next =
        host.sh(&format!("sed -n 's/^Environment=\"HTTPS_PROXY=\\(.*\\)\"$/\\1/p' {DROP_IN} 2>/dev/null || true"))?;
    ensure!(running == next, "containerd runs with the proxy `{running}` and its next start has `{next}`");
    let stale = host.sh("systemctl show -p NeedDaemonReload --value containerd")?;
    ensure!(stale.trim() == "no", "systemd has not read the unit");
    Ok(running.trim().to_owned())
}

#[test]
#[ignore = "boots nodes"]
fn both_changes_take_one_restart_and_each_later_one_another() -> Result<()> {
    for release in [RELEASES[0], RELEASES[6]] {
        let host = Host::boot("proxy", release)?;
        let apply = |arguments: &str, expected: &str, starts: usize| {
            let before = host.starts()?;
            let said = host.restart(&format!("apply {arguments}"))?;
            ensure!(said.contains("Restarted {"), "{release}, {arguments}: {said}");
            ensure!(host.starts()? - before == starts, "{release}, {arguments}: {} starts", host.starts()? - before);
            ensure!(proxy(&host)? == expected, "{release}, {arguments}: {}", proxy(&host)?);
            host.is_clean()
        };
        apply(&format!("--proxy {ONE}"), ONE, 1)?;
        ensure!(host.restart("observe")?.contains("proof Effective"), "{release}");
        apply(&format!("--proxy {OTHER}"), OTHER, 1)?;
        apply("--proxy none", "", 1)?;
        // The directory that holds it was ours, and one of the bed's own drop-ins is in it.
        ensure!(host.sh("ls /etc/systemd/system/containerd.service.d")? == "count.conf\n");
    }
    Ok(())
}

/// A drop-in of somebody else has the last word: only the new process can tell.
#[test]
#[ignore = "boots nodes"]
fn a_proxy_that_does_not_come_into_force_is_taken_back() -> Result<()> {
    let host = Host::boot("proxy-fails", "2.4.2")?;
    let old = host.config()?;
    let last = "/etc/systemd/system/containerd.service.d/zzz.conf";
    let in_force = "systemctl daemon-reload; systemctl restart containerd";
    host.sh(&format!("printf '[Service]\\nUnsetEnvironment=HTTPS_PROXY\\n' >{last}; {in_force}"))?;
    let said = host.restart(&format!("apply --proxy {ONE}"))?;
    ensure!(said.contains("RolledBack") && said.contains("has another HTTPS_PROXY"), "{said}");
    ensure!(said.contains("still_down: None") && host.config()? == old, "{said}");
    ensure!(proxy(&host)?.is_empty());
    host.is_clean()?;

    // A unit that does not start with it.
    host.sh(&format!("printf '[Service]\\nExecStartPre=/bin/sh -c \"[ ! -e {DROP_IN} ]\"\\n' >{last}; {in_force}"))?;
    let said = host.restart(&format!("apply --proxy {ONE}"))?;
    ensure!(said.contains("RolledBack") && said.contains("still_down: None"), "{said}");
    ensure!(proxy(&host)?.is_empty() && host.config()? == old);
    host.is_clean()
}

#[test]
#[ignore = "boots nodes"]
fn killed_at_every_effect_configuration_and_proxy_end_together() -> Result<()> {
    let host = Host::boot("proxy-kills", "2.4.2")?;
    let old = host.config()?;
    let apply = format!("apply --proxy {ONE}");
    let points = host.points(&apply)?;
    let new = host.config()?;
    ensure!(points > 120 && proxy(&host)? == ONE, "{points} points");
    for point in 1..=points {
        host.reset(&old)?;
        let starts = host.starts()?;
        host.killed_at(&format!("#{point}"), &apply)?;
        let recovered = host.restart("recover")?;
        let config = host.config()?;
        ensure!(config == old || config == new, "point {point}: {recovered}: neither old nor new:\n{config}");
        let expected = if config == new { ONE } else { "" };
        ensure!(proxy(&host)? == expected, "point {point}: {recovered}: the proxy is {}", proxy(&host)?);
        host.is_clean()?;
        let restarts = host.starts()? - starts;
        ensure!(restarts <= 1, "point {point}: {restarts} restarts: {recovered}");
    }
    println!("{points} points");
    Ok(())
}

/// systemd reads drop-ins before the guard runs: it must read them again before containerd starts.
#[test]
#[ignore = "boots nodes"]
fn a_power_cut_takes_configuration_and_proxy_back_together() -> Result<()> {
    let mut host = Host::boot("proxy-power", "2.4.2")?;
    let old = host.config()?;
    for point in ["restart:guarded", "restart:renamed", "restart:reloaded", "restart:active"] {
        host.reset(&old)?;
        host.killed_at(point, &format!("apply --proxy {ONE}"))?;
        host.power_cut_and_boot()?;
        ensure!(host.config()? == old, "{point}: the wrong file after the boot");
        ensure!(proxy(&host)?.is_empty(), "{point}: containerd has booted with the new proxy");
        let starts = host.starts()?;
        let said = host.restart("recover")?;
        ensure!(host.starts()? == starts, "{point}: a boot needs no further restart: {said}");
        host.is_clean()?;
    }
    Ok(())
}

#[test]
#[ignore = "boots nodes, waits for the guard"]
fn without_anybody_the_guard_takes_the_proxy_back() -> Result<()> {
    let host = Host::boot("proxy-guard", "2.4.2")?;
    let old = host.config()?;
    let starts = host.starts()?;
    host.killed_at("restart:called", &format!("apply --proxy {ONE}"))?;
    testbed::wait::until("the guard to put the files back", std::time::Duration::from_secs(70), || {
        Ok((host.config()? == old && host.starts()? == starts + 2).then_some(()))
    })?;
    ensure!(proxy(&host)?.is_empty());
    let said = host.restart("recover")?;
    ensure!(said.contains("RolledBack") && said.contains("by: Guard"), "{said}");
    host.is_clean()
}
