//! A single file that is mounted where containerd's configuration is, as containers and some images have it.

use anyhow::{Result, ensure};

use crate::host::{boot, config, pass, spec, starts};

#[test]
#[ignore = "boots nodes"]
fn a_configuration_file_that_is_a_mount_point_is_unsupported() -> Result<()> {
    let bed = boot("mounted", [spec("node1", "2.4.2")])?;
    let node = bed.node("node1")?;
    node.sh("cp -p /etc/containerd/config.toml /root/mounted.toml
        mount --bind /root/mounted.toml /etc/containerd/config.toml
        systemctl restart containerd; until cri status >/dev/null 2>&1; do sleep 0.1; done")?;
    let before = config(node)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Unsupported: ") && said.contains("mounted there as a single file"), "{said}");
    ensure!(config(node)? == before && starts(node)? == 2, "something was touched");
    node.sh("umount /etc/containerd/config.toml")?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready"), "{said}");
    Ok(())
}
