//! One node: a Debian with systemd, booted by systemd-nspawn, with a containerd of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::cgroup::Group;
use crate::command::{command, run, said};
use crate::k3s;
use crate::netns::Netns;
use crate::node_files::{self, NodeContext};
use crate::node_spec::{NodeFile, NodeSpec};
use crate::registry::text_of;
use crate::service::{Service, Services};
use crate::wait;

/// The built parts that a node is made of.
#[derive(Debug, Clone)]
pub(crate) struct NodeParts {
    pub(crate) base: PathBuf,
    pub(crate) containerd: PathBuf,
    pub(crate) cri: PathBuf,
    /// PEM text of an authority that the node trusts.
    pub(crate) trusted: String,
}

/// nspawn keeps locks and directories per machine under /run/systemd/nspawn, which a killed one cannot remove.
/// Here they lie on a mount that goes with it.
const OWN_RUN: &str = r#"mkdir -p /run/systemd/nspawn && mount -t tmpfs nspawn /run/systemd/nspawn && exec "$@""#;

/// The bed's and the node's name, if the name of a network interface, which has 15 letters with `vb-`, has room for them.
fn machine_name(bed: &str, node: &str, number: u8) -> String {
    let name = format!("{bed}-{node}");
    if name.len() <= 12 { name } else { format!("{}-{number}", &hex(&Sha256::digest(bed))[..8]) }
}

/// A node of a bed.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) number: u8,
    pub(crate) bed: String,
    /// On disk: `root`, `containerd`, `kubelet`, `bin`.
    pub(crate) dir: PathBuf,
    /// The bed's directories that several nodes have.
    pub(crate) shared: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) group: Group,
    pub(crate) netns: Netns,
    pub(crate) services: Services,
    pub(crate) kubernetes: bool,
    pub(crate) usr: PathBuf,
    pub(crate) cni: PathBuf,
    pub(crate) kube_bin: Option<PathBuf>,
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Its address in the bed's network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        node_files::address(self.number)
    }

    /// Its root directory on the machine's disk. Without `/usr`, `/var/lib/containerd`, `/var/lib/kubelet`
    /// and `/run`, which are mounted when it runs.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Where a directory lies that this node has in common with others, on the machine's disk.
    fn shared(&self, path: &str) -> PathBuf {
        self.shared.join(&hex(&Sha256::digest(path))[..16])
    }

    fn service(&self) -> String {
        format!("node-{}", self.spec.name)
    }

    /// Lays out the node's directory. `/usr` is not copied but mounted read-only from the base, which makes a node in no time.
    pub(crate) fn build(&self, parts: &NodeParts, context: &NodeContext<'_>) -> Result<()> {
        let root = self.root();
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(&parts.base)? {
            let entry = entry?;
            if entry.file_name() != "usr" {
                run(command(["cp", "-a"]).arg(entry.path()).arg(&root))?;
            }
        }
        // nspawn looks for this file before it mounts /usr.
        fs::create_dir_all(root.join("usr/lib"))?;
        fs::copy(parts.base.join("usr/lib/os-release"), root.join("usr/lib/os-release"))?;
        for dir in ["bin", "containerd", "kubelet", "rancher"] {
            fs::create_dir_all(self.dir.join(dir))?;
        }
        for dir in ["opt/cni/bin", "opt/kubernetes/bin", "var/lib/containerd", "var/lib/kubelet", "var/lib/rancher"] {
            fs::create_dir_all(root.join(dir))?;
        }
        for path in &self.spec.shared {
            fs::create_dir_all(root.join(path.trim_start_matches('/')))?;
            fs::create_dir_all(self.shared(path))?;
        }
        self.install_program(&parts.cri.join("cri"), "cri")?;
        if self.spec.is_k3s() {
            self.lay_out_k3s(&parts.containerd)?;
        } else {
            for program in ["containerd", "containerd-shim-runc-v2", "ctr"] {
                self.install_program(&parts.containerd.join(program), program)?;
            }
        }
        let trusted = root.join("etc/ssl/certs/ca-certificates.crt");
        let mut roots =
            fs::read_to_string(&trusted).with_context(|| format!("{} cannot be read", trusted.display()))?;
        roots.push_str(&parts.trusted);
        fs::write(&trusted, roots)?;
        for file in node_files::files(context) {
            write_new(&root, &file)?;
        }
        for (path, target) in node_files::links(&self.spec, self.kubernetes) {
            let path = root.join(path.trim_start_matches('/'));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let _ = fs::remove_file(&path);
            symlink(&target, &path).with_context(|| format!("the link {} cannot be made", path.display()))?;
        }
        Ok(())
    }

    /// The programs of K3s as a release unpacks them.
    fn lay_out_k3s(&self, programs: &Path) -> Result<()> {
        let data = self.dir.join("rancher/k3s");
        let bin = data.join(k3s::PROGRAMS);
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(data.join("data/cni"))?;
        symlink("testbed", data.join("data/current"))?;
        for program in fs::read_dir(programs)? {
            let program = program?;
            let target = bin.join(program.file_name());
            match fs::read_link(program.path()) {
                Ok(link) => symlink(link, target)?,
                Err(_) => copy_or_link(&program.path(), &target)?,
            }
        }
        for (path, content) in k3s::DATA_FILES {
            write_new(&data, &NodeFile { path: path.to_owned(), mode: 0o600, content: content.into() })?;
        }
        Ok(())
    }

    /// Puts a program into the node's `/usr/local/bin`, in place of the one of that name.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn install_program(&self, from: &Path, name: &str) -> Result<()> {
        let target = self.dir.join("bin").join(name);
        let partial = self.dir.join(format!(".{name}.partial"));
        let _ = fs::remove_file(&partial);
        copy_or_link(from, &partial)?;
        fs::rename(&partial, &target)?;
        Ok(())
    }

    /// Boots the node and returns when its containerd answers. Does nothing if it runs.
    ///
    /// # Errors
    /// When that takes more than two minutes; the message holds the end of the node's console.
    pub fn boot(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        self.power_on()?;
        self.wait_containerd()
    }

    /// Starts nspawn and returns at once.
    pub(crate) fn power_on(&self) -> Result<()> {
        // What a power cut left in the control groups belongs to processes that are gone.
        self.group.kill()?;
        self.group.remove()?;
        self.group.create()?;
        let machine = machine_name(&self.bed, &self.spec.name, self.number);
        // The kernel takes the old cable away when it gets to it; nspawn does not wait for that.
        let _ = self.netns.command(["ip", "link", "delete", &format!("vb-{machine}")]).output();
        let mut argv: Vec<String> = self.netns.prefix().into();
        argv.extend(
            ["unshare", "--mount", "--propagation=private", "--", "sh", "-c", OWN_RUN, "sh"].map(str::to_owned),
        );
        argv.extend(
            [
                "systemd-nspawn",
                "--quiet",
                "--boot",
                "--keep-unit",
                "--register=no",
                "--capability=all",
                "--console=read-only",
                "--resolv-conf=off",
                "--timezone=off",
            ]
            .map(str::to_owned),
        );
        argv.push("--system-call-filter=@keyring bpf @mount @privileged add_key keyctl perf_event_open".to_owned());
        argv.push("--network-bridge=br0".to_owned());
        argv.push(format!("--machine={machine}"));
        argv.push(format!("--hostname={}", self.spec.name));
        argv.push(format!("--directory={}", self.root().display()));
        argv.push(format!("--bind-ro={}:/usr", self.usr.display()));
        argv.push(format!("--bind={}:/usr/local/bin", self.dir.join("bin").display()));
        argv.push(format!("--bind-ro={}:/opt/cni/bin", self.cni.display()));
        // Plain directories of a real file system: the overlays of containers cannot lie on an overlay.
        argv.push(format!("--bind={}:/var/lib/containerd", self.dir.join("containerd").display()));
        argv.push(format!("--bind={}:/var/lib/kubelet", self.dir.join("kubelet").display()));
        if self.spec.is_k3s() {
            argv.push(format!("--bind={}:/var/lib/rancher", self.dir.join("rancher").display()));
        } else if let Some(kubernetes) = &self.kube_bin {
            argv.push(format!("--bind-ro={}:/opt/kubernetes/bin", kubernetes.display()));
        }
        for path in &self.spec.shared {
            argv.push(format!("--bind={}:{path}", self.shared(path).display()));
        }
        argv.push("--bind=/dev/kmsg".to_owned());
        let console = self.console();
        self.services
            .start(&Service {
                name: self.service(),
                argv,
                group: self.group.clone(),
                stdout: console.clone(),
                stderr: console,
            })
            .with_context(|| format!("the node {} could not be started", self.spec.name))?;
        Ok(())
    }

    /// Waits until systemd runs and containerd, or K3s, says that it is ready.
    pub(crate) fn wait_containerd(&self) -> Result<()> {
        let unit = self.spec.unit();
        let what = format!("the start of {unit} on the node {}", self.spec.name);
        wait::until(&what, Duration::from_secs(120), || {
            if self.services.running(&self.service())?.is_none() {
                bail!("the node {} ended while it booted", self.spec.name);
            }
            if self.init().is_none() {
                return Ok(None);
            }
            Ok(self.exec(["systemctl", "is-active", "--quiet", unit])?.status.success().then_some(()))
        })
        .with_context(|| {
            format!("the last words of its console ({}):\n{}", self.console().display(), tail(&self.console()))
        })
    }

    fn console(&self) -> PathBuf {
        self.logs.join(format!("{}.console.log", self.service()))
    }

    /// Whether it is booted.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.init().is_some()
    }

    /// The node's process 1, as the machine numbers it.
    #[must_use]
    pub fn init(&self) -> Option<Pid> {
        self.group.processes().into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
            // Its number here and its number inside; a process of a pod has one more.
            let mut numbers = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .unwrap_or_default()
                .split_whitespace()
                .skip(1);
            numbers.next() == Some("1") && numbers.next().is_none()
        })
    }

    /// A command that runs on the node, as root, with nothing of this process's environment.
    ///
    /// # Errors
    /// When the node is off.
    pub fn command<'a>(&self, argv: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let init = self.init().with_context(|| format!("the node {} is off: boot it first", self.spec.name))?;
        let mut inside = command(["nsenter", "--all", "--target"]);
        inside.arg(init.as_raw_nonzero().to_string());
        inside.args([
            "--",
            "env",
            "-i",
            "HOME=/root",
            "LC_ALL=C",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]);
        if self.spec.is_k3s() {
            inside.arg(format!("CRI_SOCKET={}", k3s::SOCKET));
        }
        inside.args(argv);
        inside.current_dir("/");
        Ok(inside)
    }

    /// Runs a command on the node to its end.
    ///
    /// # Errors
    /// When the node is off. A command that fails is an `Output` that says so.
    pub fn exec<'a>(&self, argv: impl IntoIterator<Item = &'a str>) -> Result<Output> {
        self.command(argv)?.output().context("nsenter could not be started: run `testbed install`")
    }

    /// Runs a command on the node and returns its standard output.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn run<'a>(&self, argv: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let argv: Vec<&str> = argv.into_iter().collect();
        let output = self.exec(argv.iter().copied())?;
        if !output.status.success() {
            bail!("on {}, `{}` failed ({}): {}", self.spec.name, argv.join(" "), output.status, said(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a shell script on the node and returns its standard output.
    ///
    /// # Errors
    /// When its last command fails.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.run(["sh", "-c", script])
    }

    /// Pulls an image over CRI, as a kubelet does. Returns how long it took.
    ///
    /// # Errors
    /// When the runtime refuses; the message is its own.
    pub fn pull(&self, image: &str) -> Result<Duration> {
        let start = Instant::now();
        self.run(["cri", "pull", image])?;
        Ok(start.elapsed())
    }

    /// The same for a pod with a pull secret, `USER:PASSWORD`.
    ///
    /// # Errors
    /// When the runtime refuses; the message is its own.
    pub fn pull_as(&self, image: &str, user: &str) -> Result<Duration> {
        let start = Instant::now();
        self.run(["env", &format!("CRI_USER={user}"), "cri", "pull", image])?;
        Ok(start.elapsed())
    }

    /// Forgets an image, so that the next pull asks the registry again.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn remove_image(&self, image: &str) -> Result<()> {
        self.run(["cri", "remove", image]).map(|_| ())
    }

    /// Reads a file of the node, running or off. Links are followed as the node would.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open(path, OFlags::RDONLY)?
            .read_to_end(&mut content)
            .with_context(|| format!("{path} on {} cannot be read", self.spec.name))?;
        Ok(content)
    }

    /// Writes a file of the node in place, running or off, and makes the directories above it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        if let Some(parent) = Path::new(path).parent() {
            let parent = text_of(parent);
            if self.is_running() {
                self.run(["mkdir", "-p", &parent])?;
            } else {
                fs::create_dir_all(self.root().join(parent.trim_start_matches('/')))?;
            }
        }
        self.open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?
            .write_all(content.as_ref())
            .with_context(|| format!("{path} on {} cannot be written", self.spec.name))
    }

    /// Whether the node has that file or directory.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<File> {
        let root = match self.init() {
            Some(init) => PathBuf::from(format!("/proc/{}/root", init.as_raw_nonzero())),
            None => self.root(),
        };
        let directory =
            File::open(&root).with_context(|| format!("the root of {} cannot be opened", self.spec.name))?;
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        let opened = rustix::fs::openat2(&directory, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT)
            .with_context(|| format!("{path} on {} cannot be opened", self.spec.name))?;
        Ok(File::from(opened))
    }

    /// Ends the node as a power cut would: every process at once, without a word to any of them.
    /// What was written but not synced survives (the machine's kernel lives on).
    ///
    /// # Errors
    /// When a process cannot be ended.
    pub fn power_cut(&self) -> Result<()> {
        self.group.kill()?;
        self.group.remove()
    }

    /// Shuts the node down in order: systemd stops its units. What then still does not listen to SIGTERM
    /// (pods, for which systemd would wait 90 s more) is cut off after 15 s in all.
    ///
    /// # Errors
    /// When a process cannot be ended even by force.
    pub fn shut_down(&self) -> Result<()> {
        self.services.stop(&self.service(), Signal::TERM, Duration::from_secs(15))?;
        self.power_cut()
    }

    /// Shuts down and boots.
    ///
    /// # Errors
    /// As the two.
    pub fn reboot(&self) -> Result<()> {
        self.shut_down()?;
        self.boot()
    }
}

/// A link costs nothing; where the cache is on another file system a copy does.
fn copy_or_link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    }
    Ok(())
}

fn write_new(root: &Path, file: &NodeFile) -> Result<()> {
    let path = root.join(file.path.trim_start_matches('/'));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    }
    // The base may have a link there (resolv.conf), which would lead out of the root.
    let _ = fs::remove_file(&path);
    fs::write(&path, &file.content).with_context(|| format!("{} cannot be written", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    Ok(())
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_name_fits_an_interface() {
        assert_eq!(machine_name("dev", "node1", 0), "dev-node1");
        let long = machine_name("a-bed-with-a-name", "a-node-with-a-name", 49);
        assert!(long.len() <= 12 && long.ends_with("-49"), "{long}");
    }
}
