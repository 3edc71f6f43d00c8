//! A bed with nodes on which the example program makes passes.

use std::{
    path::PathBuf,
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Bed, Node, NodeSpec};

/// Writes a line for each start of containerd: the witness of how often it was restarted.
const COUNT_STARTS: &str = "[Service]\nExecStartPost=/bin/sh -c 'echo start >>/var/starts'\n";
/// What each pass wants.
pub const WISH: &str = "docker.io=http://10.88.0.1:5000";

/// A node specification with the witness.
pub fn spec(name: &str, release: &str) -> NodeSpec {
    NodeSpec::new(name, release).file("/etc/systemd/system/containerd.service.d/count.conf", 0o644, COUNT_STARTS)
}

/// The nodes of a bed of this name, with the program on them.
pub fn boot(name: &str, specs: impl IntoIterator<Item = NodeSpec>) -> Result<Bed> {
    let mut builder = Bed::builder(&format!("agent-{name}")).kubernetes(false);
    let specs: Vec<NodeSpec> = specs.into_iter().collect();
    for spec in &specs {
        builder = builder.node(spec.clone());
    }
    let bed = builder.up()?;
    let program = program()?;
    for spec in &specs {
        bed.node(&spec.name)?.install_program(&program, "node_pass")?;
    }
    Ok(bed)
}

/// One pass; what it says.
pub fn pass(node: &Node) -> Result<String> {
    pass_with(node, WISH)
}

/// One pass with these arguments.
pub fn pass_with(node: &Node, arguments: &str) -> Result<String> {
    node.sh(&format!("node_pass {arguments} 2>&1"))
}

/// Passes without end beside the test, which say what they find into the file.
pub struct Stay<'a> {
    node: &'a Node,
    passes: Child,
}

impl<'a> Stay<'a> {
    pub fn begin(node: &'a Node, arguments: &str) -> Result<Self> {
        let script = format!("exec node_pass --stay {arguments} >/var/said 2>&1");
        Ok(Self { node, passes: node.command(["sh", "-c", &script])?.spawn()? })
    }

    /// What the last pass that found something new has said.
    pub fn said(&self) -> Result<String> {
        // The shell makes the file a moment after it is started.
        let said = self.node.sh("cat /var/said 2>/dev/null || true")?;
        Ok(said[said.rfind("verdict").unwrap_or_default()..].to_owned())
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        // nsenter(1), which waits for it, ends with it.
        let _ = self.node.sh("pkill -x node_pass");
        let _ = self.passes.wait();
    }
}

/// How many pulls of a proof containerd was asked for since it was installed.
pub fn proof_pulls(node: &Node) -> Result<usize> {
    // One pull has several lines, with the same number.
    let pulls = "journalctl -u containerd -o cat --no-pager | grep -o 'proof/[0-9a-f]\\{16\\}' | sort -u | wc -l";
    Ok(node.sh(pulls)?.trim().parse()?)
}

pub fn starts(node: &Node) -> Result<usize> {
    Ok(node.sh("wc -l </var/starts")?.trim().parse()?)
}

pub fn config(node: &Node) -> Result<String> {
    Ok(String::from_utf8(node.read("/etc/containerd/config.toml")?)?)
}

/// Which file config.toml is and when it was last written.
pub fn identity(node: &Node) -> Result<String> {
    node.run(["stat", "--format=%i %y %z %a %u:%g", "/etc/containerd/config.toml"])
}

/// The one setting that a text has more than another, which is in it byte for byte; a table of its own may be above it.
pub fn only_addition(before: &str, after: &str) -> Result<String> {
    let head = before.bytes().zip(after.bytes()).take_while(|(one, other)| one == other).count();
    let (old, new) = (&before.as_bytes()[head..], &after.as_bytes()[head..]);
    ensure!(new.len() > old.len() && new.ends_with(old), "more than one piece differs:\n{before}\n---\n{after}");
    let added = String::from_utf8_lossy(&new[..new.len() - old.len()]).into_owned();
    // The piece may begin in the middle of a line that is like the one after it.
    let at = after.as_bytes()[..head].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let whole = format!("{}{added}", &after[at..head]);
    let is_ours = |line: &&str| !line.is_empty() && !line.starts_with('#') && !before.contains(*line);
    let lines: Vec<&str> = whole.lines().map(str::trim).filter(is_ours).collect();
    match lines.as_slice() {
        [key] => Ok((*key).to_owned()),
        [table, key] if table.starts_with("[plugins.") && table.ends_with(".registry]") => Ok((*key).to_owned()),
        others => bail!("more than the key was added: {others:?}"),
    }
}

/// Pulls through containerd and sees the mirror asked for it.
pub fn pulls_through_the_mirror(bed: &Bed, node: &Node) -> Result<()> {
    let before = bed.accesses("mirror")?.len();
    let image = "docker.io/library/busybox:1.35";
    // It may not be there.
    let _ = node.remove_image(image);
    node.pull(image)?;
    let asked =
        bed.accesses("mirror")?.into_iter().skip(before).any(|access| access.namespace.as_deref() == Some("docker.io"));
    ensure!(asked, "{}: the mirror was not asked", node.name());
    Ok(())
}

/// The example, built once for all tests; `NODE_PASS` names one that is built already.
fn program() -> Result<PathBuf> {
    static BUILT: Mutex<bool> = Mutex::new(false);
    if let Some(program) = std::env::var_os("NODE_PASS") {
        return Ok(program.into());
    }
    let mut is_built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_built {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "registry-mirror-agent", "--example", "node_pass"])
            .status()?;
        if !built.success() {
            bail!("the example does not build");
        }
        *is_built = true;
    }
    let deps = std::env::current_exe()?;
    let profile = deps.parent().and_then(|deps| deps.parent()).context("a test runs from target/PROFILE/deps")?;
    Ok(profile.join("examples/node_pass"))
}
