//! Effects that fail: a full disk, a file system that turned read-only, a mount over the file, systemd out of reach.

use anyhow::{Context, Result, ensure};

use super::Host;

/// The effects of one run up to the first file in its new place, by number, and of what kind each one is.
fn up_to_the_first_rename(host: &Host, apply: &str) -> Result<Vec<(usize, String)>> {
    host.sh(&format!("rm -f /var/effects; REGISTRY_MIRROR_ERROR_LOG=/var/effects restart {apply} >/dev/null"))?;
    let log = host.sh("cat /var/effects")?;
    let mut lines = log.lines().skip_while(|line| *line != "restart:begin");
    let mut effects = Vec::new();
    // A pull that cannot be made before the restart says nothing against it: what was possible is unknown then.
    let mut pulls = false;
    for line in lines.by_ref() {
        match line {
            "restart:pulls" => pulls = true,
            "restart:pulled" => pulls = false,
            _ => {}
        }
        let mut words = line.split_whitespace();
        let (Some("!"), Some(number), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        if pulls {
            continue;
        }
        effects.push((number.parse()?, kind.to_owned()));
        if kind == "rename" {
            return Ok(effects);
        }
    }
    anyhow::bail!("no file came into place:\n{log}")
}

/// Each of them fails once. No second run is needed to make the node whole, and none finds anything left.
#[test]
#[ignore = "boots nodes"]
fn any_error_before_the_first_rename_is_a_refusal_that_touches_nothing() -> Result<()> {
    let host = Host::boot("errors", "2.4.2")?;
    let old = host.config()?;
    let apply = "apply --proxy http://10.88.0.1:3128";
    // What an earlier refusal leaves in the state directory is there for all of them.
    ensure!(host.restart(&format!("{apply} --after-check false"))?.contains("NotApproved"));
    let effects = up_to_the_first_rename(&host, apply)?;
    ensure!(effects.len() > 15, "{effects:?}");
    host.reset(&old)?;
    ensure!(host.restart(&format!("{apply} --after-check false"))?.contains("NotApproved"));
    let starts = host.starts()?;
    for (number, kind) in effects {
        let said = host.with(&format!("REGISTRY_MIRROR_ERROR={number}")).restart(apply);
        let said = said.with_context(|| format!("effect {number}, {kind}: not a refusal"))?;
        ensure!(said.contains("Refused {"), "effect {number}, {kind}: {said}");
        ensure!(host.config()? == old && host.starts()? == starts, "effect {number}, {kind}: touched: {said}");
        host.is_clean().with_context(|| format!("effect {number}, {kind}"))?;
    }
    ensure!(host.restart(apply)?.contains("Restarted {"), "it does not work afterwards");
    host.is_clean()
}

/// Not foreseen by any plan: the mount comes between the plan and the rename.
#[test]
#[ignore = "boots nodes"]
fn a_file_that_is_mounted_over_at_the_last_moment_is_a_refusal() -> Result<()> {
    let host = Host::boot("mounted", "2.4.2")?;
    let (old, starts) = (host.config()?, host.starts()?);
    host.sh("cp -p /etc/containerd/config.toml /root/mounted.toml")?;
    let said = host.restart("apply --after-check 'mount --bind /root/mounted.toml /etc/containerd/config.toml'")?;
    // The mounted file has the content of the one that was planned for.
    ensure!(said.contains("Refused {") && said.contains("unmount it first"), "{said}");
    ensure!(host.config()? == old && host.starts()? == starts, "{said}");
    host.is_clean()
}
