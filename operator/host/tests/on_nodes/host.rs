//! A node of the test bed with the example program on it.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Bed, Node, NodeSpec};

const NODE: &str = "node1";
/// Writes a line for each start of containerd: the witness of how often it was restarted.
const COUNT_STARTS: &str = "[Service]\nExecStartPost=/bin/sh -c 'echo start >>/var/starts'\n";

/// A node.
pub struct Host {
    bed: Bed,
}

/// The same with variables set for the program.
pub struct With<'a> {
    host: &'a Host,
    environment: String,
}

impl Host {
    /// A fresh node with this containerd, on a bed of its own. As in the bed's default cluster, Debian's release runs
    /// without a message bus: what is tried on the oldest and the newest release is tried over both of systemd's sockets.
    pub fn boot(name: &str, release: &str) -> Result<Self> {
        let spec = NodeSpec::new(NODE, release);
        Self::boot_spec(name, if release == "1.6.20" { spec.without_dbus() } else { spec })
    }

    /// The same without a message bus, whichever release it is.
    pub fn boot_without_dbus(name: &str, release: &str) -> Result<Self> {
        Self::boot_spec(name, NodeSpec::new(NODE, release).without_dbus())
    }

    fn boot_spec(name: &str, spec: NodeSpec) -> Result<Self> {
        let spec = spec.file("/etc/systemd/system/containerd.service.d/count.conf", 0o644, COUNT_STARTS);
        let bed = Bed::builder(&format!("host-{name}")).kubernetes(false).node(spec).up()?;
        bed.node(NODE)?.install_program(&program()?, "restart")?;
        Ok(Self { bed })
    }

    fn node(&self) -> Result<&Node> {
        self.bed.node(NODE)
    }

    pub fn sh(&self, script: &str) -> Result<String> {
        self.node()?.sh(script)
    }

    /// Puts a shell script on the node.
    pub fn script(&self, path: &str, text: &str) -> Result<()> {
        self.node()?.write(path, format!("#!/bin/sh\n{text}\n"))?;
        self.sh(&format!("chmod +x {path}"))?;
        Ok(())
    }

    /// Puts a file on the node.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        self.node()?.write(path, text)
    }

    /// Runs the program; what it says.
    pub fn restart(&self, arguments: &str) -> Result<String> {
        self.sh(&format!("restart {arguments} 2>&1"))
    }

    pub fn with(&self, environment: &str) -> With<'_> {
        With { host: self, environment: environment.to_owned() }
    }

    /// Runs the program, which must be killed at this point.
    pub fn killed_at(&self, point: &str, arguments: &str) -> Result<()> {
        let script = format!("REGISTRY_MIRROR_FAULT='{point}' restart {arguments}");
        let output = self.node()?.exec(["sh", "-c", &script])?;
        ensure!(
            output.status.code() == Some(137) || output.status.code().is_none(),
            "it was not killed at {point}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Runs the program beside the test.
    pub fn spawn(&self, arguments: &str) -> Result<Child> {
        let script = format!("exec restart {arguments} 2>&1");
        Ok(self.node()?.command(["sh", "-c", &script])?.stdout(Stdio::piped()).spawn()?)
    }

    /// How many points a whole run passes.
    pub fn points(&self, arguments: &str) -> Result<usize> {
        self.sh(&format!("rm -f /var/points; REGISTRY_MIRROR_FAULT_LOG=/var/points restart {arguments} >/dev/null"))?;
        Ok(self.sh("wc -l </var/points")?.trim().parse()?)
    }

    pub fn config(&self) -> Result<String> {
        Ok(String::from_utf8(self.node()?.read("/etc/containerd/config.toml")?)?)
    }

    pub fn starts(&self) -> Result<usize> {
        Ok(self.sh("wc -l </var/starts")?.trim().parse()?)
    }

    /// The configuration with an import of drop-ins, in force.
    pub fn with_conf_d(&self) -> Result<String> {
        let config = self.config()?;
        let (first, rest) = config.split_once('\n').context("the configuration has one line")?;
        let config = format!("{first}\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n{rest}");
        self.node()?.write("/etc/containerd/config.toml", &config)?;
        self.sh("systemctl restart containerd")?;
        Ok(config)
    }

    /// As before the first run.
    pub fn reset(&self, config: &str) -> Result<()> {
        self.node()?.write("/var/pristine.toml", config)?;
        self.sh("systemctl stop 'registry-mirror-*' 2>/dev/null
             rm -rf /var/lib/registry-mirror-operator /run/registry-mirror-operator /etc/containerd/certs.d /etc/containerd/.registry*
             drop_in=/etc/systemd/system/containerd.service.d/zz-registry-mirror-proxy.conf
             had_proxy=no
             if [ -e $drop_in ]; then rm $drop_in; systemctl daemon-reload; had_proxy=yes; fi
             if [ $had_proxy = yes ] || ! cmp -s /var/pristine.toml /etc/containerd/config.toml; then
               cp /var/pristine.toml /etc/containerd/config.toml
               systemctl reset-failed && systemctl restart containerd
             fi")?;
        Ok(())
    }

    pub fn power_cut_and_boot(&mut self) -> Result<()> {
        self.node()?.power_cut()?;
        self.bed.boot(NODE)?;
        self.node()?.install_program(&program()?, "restart")?;
        self.sh("systemctl is-system-running --wait || true; systemctl is-active containerd")?;
        Ok(())
    }

    /// Nothing of a restart is left: no guard, no journal, no candidate, no unit, no image of a proof.
    pub fn is_clean(&self) -> Result<()> {
        let left =
            self.sh("cd / && ls -d var/lib/registry-mirror-operator/guard var/lib/registry-mirror-operator/journal* \
               var/lib/registry-mirror-operator/check* etc/containerd/.registry-mirror-candidate \
               etc/containerd/.registry-mirror-previous etc/containerd/.registry* etc/containerd/certs.d/127* \
               etc/systemd/system/*.d/.registry* \
               etc/systemd/system/containerd.service.wants etc/systemd/system/registry-mirror* 2>/dev/null
             ctr -n k8s.io images ls -q | grep registry-mirror-proof
             systemctl list-units --all --no-legend --plain 'registry-mirror*'
             systemctl list-unit-files --no-legend 'registry-mirror*' || true")?;
        ensure!(left.trim().is_empty(), "something is left behind:\n{left}");
        let state = self.sh("systemctl show -p ActiveState --value containerd; restart observe | grep status")?;
        ensure!(state.starts_with("active") && state.contains("runtime_ready: true"), "containerd: {state}");
        Ok(())
    }
}

impl With<'_> {
    pub fn restart(&self, arguments: &str) -> Result<String> {
        self.host.sh(&format!("{} restart {arguments} 2>&1", self.environment))
    }
}

/// What a program of [`Host::spawn`] said until its end.
pub fn output(child: &mut Child) -> Result<String> {
    // nsenter(1) stops itself with the program that it has started, and must be told to go on too.
    Command::new("kill").args(["-CONT", &child.id().to_string()]).status()?;
    let mut said = String::new();
    child.stdout.take().context("its output was not kept")?.read_to_string(&mut said)?;
    child.wait()?;
    Ok(said)
}

/// The example `restart`, built once with the points at which it can be killed.
fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "registry-mirror-host", "--example", "restart"])
        .args(["--features", "fault-injection"])
        .status()?;
    if !built.success() {
        bail!("the example does not build");
    }
    let deps = std::env::current_exe()?;
    let profile = deps.parent().and_then(|deps| deps.parent()).context("a test runs from target/PROFILE/deps")?;
    Ok(PROGRAM.get_or_init(|| profile.join("examples/restart")).clone())
}
