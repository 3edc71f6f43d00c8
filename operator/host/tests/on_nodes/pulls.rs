//! The proof of a restart, as far as it is a pull: of a whole image, which leaves nothing behind.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::wait;

use super::Host;

/// Old tables as they force local pulls on 2.1 and later, which unpack for any snapshotter.
const LOCAL: &str = "version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\n  snapshotter = \"native\"\n\
    [plugins.\"io.containerd.cri.v1.images\".registry.mirrors.\"example.test\"]\n  endpoint = [\"http://127.0.0.1:9\"]\n";
/// The same without them: the transfer service unpacks for overlayfs only.
const TRANSFER: &str = "version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\n  snapshotter = \"native\"\n\
    [plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

impl Host {
    /// Puts a configuration in force.
    fn run_with(&self, config: &str) -> Result<()> {
        self.write("/etc/containerd/config.toml", config)?;
        self.sh("systemctl restart containerd")?;
        wait::until("containerd's answer", Duration::from_secs(20), || {
            Ok(self.restart("observe")?.contains("runtime_ready: true").then_some(()))
        })
    }

    /// Nothing of the proof's image is left: no name, no content, no snapshot. Garbage is collected a little later.
    fn has_no_image_of_a_proof(&self) -> Result<()> {
        let mut left = String::new();
        let gone = wait::until("the end of the proof's image", Duration::from_secs(20), || {
            left = self.sh("ctr -n k8s.io images ls -q | grep -e registry-mirror-proof -e ^sha256: || true
                 ctr -n k8s.io content ls -q
                 for snapshotter in overlayfs native; do
                   ctr -n k8s.io snapshots --snapshotter $snapshotter ls | tail -n +2
                 done")?;
            Ok(left.trim().is_empty().then_some(()))
        });
        gone.map_err(|error| error.context(format!("left:\n{left}")))
    }
}

#[test]
#[ignore = "boots nodes"]
fn a_restart_proves_a_pull_and_leaves_no_image() -> Result<()> {
    for release in super::RELEASES {
        let host = Host::boot("pulls", release)?;
        // Straight from the listener, and then through the directory.
        ensure!(host.restart("pull")?.contains("Works"), "{release}: {}", host.restart("pull")?);
        host.has_no_image_of_a_proof()?;
        let said = host.restart("apply")?;
        ensure!(said.contains("Restarted {"), "{release}: {said}");
        host.is_clean()?;
        ensure!(host.restart("pull")?.contains("Works"), "{release}");
        // What the user's `_default` says is none of our business.
        host.sh("mkdir -p /etc/containerd/certs.d/_default && printf 'server = \"http://10.88.0.66\"\n\
            [host.\"http://10.88.0.66\"]\ncapabilities = [\"pull\", \"resolve\"]\n' >/etc/containerd/certs.d/_default/hosts.toml")?;
        ensure!(host.restart("pull")?.contains("Works"), "{release}: past _default");
        host.has_no_image_of_a_proof()?;
    }
    Ok(())
}

/// The directory is read, and every pull of the node ends: the proof by its request alone calls that a success.
#[test]
#[ignore = "boots nodes"]
fn an_edit_that_ends_every_pull_is_taken_back() -> Result<()> {
    let host = Host::boot("pulls-no-more", "2.4.2")?;
    host.write("/var/edit.toml", TRANSFER)?;
    host.run_with(LOCAL)?;
    let starts = host.starts()?;
    let said = host.restart("apply --edit /var/edit.toml")?;
    ensure!(said.contains("RolledBack") && said.contains("cannot pull any more"), "{said}");
    ensure!(said.contains("by: Us") && said.contains("still_down: None"), "{said}");
    ensure!(host.config()? == LOCAL && host.starts()? == starts + 2, "{} starts", host.starts()? - starts);
    ensure!(host.restart("pull")?.contains("Works"), "it pulls again");
    host.is_clean()?;
    host.has_no_image_of_a_proof()?;

    // What did not work before is no reason to take anything back.
    host.run_with(&TRANSFER.replace("certs.d", "elsewhere.d"))?;
    ensure!(host.restart("pull")?.contains("Refused"));
    let said = host.restart("apply --edit /var/edit.toml")?;
    ensure!(said.contains("Restarted {"), "{said}");
    ensure!(host.config()? == TRANSFER);
    host.is_clean()?;
    host.has_no_image_of_a_proof()
}

/// What was found out before the restart is in the journal: it holds for the process that proves after a crash.
#[test]
#[ignore = "boots nodes"]
fn after_a_crash_it_is_known_what_was_pulled_before() -> Result<()> {
    let host = Host::boot("pulls-crash", "2.4.2")?;
    host.write("/var/edit.toml", TRANSFER)?;
    for (point, taken_back) in
        [("proof:pulled", false), ("restart:guarded", false), ("restart:renamed", true), ("restart:called", true)]
    {
        host.reset(LOCAL)?;
        host.run_with(LOCAL)?;
        host.killed_at(point, "apply --edit /var/edit.toml")?;
        let said = host.restart("recover")?;
        ensure!(said.contains(if taken_back { "RolledBack" } else { "Abandoned" }), "{point}: {said}");
        ensure!(!taken_back || said.contains("cannot pull any more"), "{point}: {said}");
        ensure!(host.config()? == LOCAL, "{point}");
        host.is_clean()?;
        host.has_no_image_of_a_proof()?;
    }
    Ok(())
}
