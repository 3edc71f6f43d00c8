//! The network of a bed: one namespace with a bridge, never the machine's own interfaces.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{command, run, stdout};

/// The bridge's own address: the API server and the registries, seen from the nodes.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// An address that swallows every packet: connections to it hang until the client gives up.
pub const BLACKHOLE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 66);

/// A named network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn of_bed(bed: &str) -> Self {
        Self { name: format!("rmo-{bed}") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Makes the namespace with the bridge `br0`, which carries `addresses` beside [`GATEWAY`],
    /// and a route to the pods of each node.
    pub(crate) fn create(&self, addresses: &[Ipv4Addr], pods: &[(Ipv4Addr, String)]) -> Result<()> {
        run(&mut command(["ip", "netns", "add", &self.name]))?;
        let mut batch = String::from("link set lo up\nlink add br0 type bridge\n");
        for address in [GATEWAY, BLACKHOLE].iter().chain(addresses.iter().filter(|address| **address != GATEWAY)) {
            batch.push_str(&format!("addr add {address}/24 dev br0\n"));
        }
        batch.push_str("link set br0 up\n");
        for (node, subnet) in pods {
            batch.push_str(&format!("route add {subnet} via {node}\n"));
        }
        let script = format!("ip -n {} -batch - <<'END'\n{batch}END\n", self.name);
        run(&mut command(["sh", "-c", &script]))?;
        let drop = ["iptables", "-w", "-A", "INPUT", "-d", &BLACKHOLE.to_string(), "-j", "DROP"];
        run(&mut self.command(drop))?;
        Ok(())
    }

    /// A command that runs inside. `nsenter`, not `ip netns exec`: that one mounts a fresh /sys, which hides the cgroups.
    pub(crate) fn command<'a>(&self, argv: impl IntoIterator<Item = &'a str>) -> Command {
        let mut inside = command(self.prefix());
        inside.args(argv);
        inside
    }

    /// What to put before a command line so that it runs inside.
    pub(crate) fn prefix(&self) -> [String; 3] {
        ["nsenter".to_owned(), format!("--net={}", self.path().display()), "--".to_owned()]
    }

    /// Moves the calling thread inside, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        let path = self.path();
        let namespace =
            File::open(&path).with_context(|| format!("the network namespace {} cannot be opened", path.display()))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("the network namespace {} cannot be entered", path.display()))
    }

    /// Ends whatever still runs inside and removes the namespace.
    pub(crate) fn destroy(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        for pid in stdout(&mut command(["ip", "netns", "pids", &self.name])).unwrap_or_default().lines() {
            if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        run(&mut command(["ip", "netns", "delete", &self.name]))?;
        forget_directory();
        Ok(())
    }
}

/// `ip netns add` mounts /run/netns over itself and never takes that back: the last one out does.
fn forget_directory() {
    let directory = Path::new("/run/netns");
    if directory.read_dir().is_ok_and(|mut entries| entries.next().is_none())
        && run(&mut command(["umount", "/run/netns"])).is_ok()
    {
        let _ = std::fs::remove_dir(directory);
    }
}
