//! Control groups of a bed: one subtree per hierarchy below the caller's own group, and in it one per node.
//!
//! Two kubelets in one group would share a `kubepods` tree and clean up each other's pods, and everything
//! that a bed started can be found and ended by its group, whatever became of the process that started it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::wait;

/// The same group in every hierarchy of the machine (one hierarchy under cgroup v2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    dirs: Vec<PathBuf>,
}

impl Group {
    /// The group of this process.
    pub(crate) fn own() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("{path} cannot be read"));
        let group = parse_own(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
        anyhow::ensure!(
            !group.dirs.is_empty(),
            "no cgroup hierarchy is mounted here: the test bed needs /sys/fs/cgroup"
        );
        Ok(group)
    }

    /// A group below this one, not yet made.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self { dirs: self.dirs.iter().map(|dir| dir.join(name)).collect() }
    }

    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Makes the group in every hierarchy.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in &self.dirs {
            match fs::create_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("the control group {} cannot be made", dir.display()));
                }
            }
            // A new cpuset is empty and lets no process in until it names processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = dir.join(file);
                let Ok(present) = fs::read_to_string(&own) else { continue };
                if present.trim().is_empty() && !dir.join("cgroup.controllers").exists() {
                    let inherited = fs::read_to_string(dir.with_file_name(file))?;
                    fs::write(&own, inherited).with_context(|| format!("{} cannot be set", own.display()))?;
                }
            }
            // Under cgroup v2 children get the controllers only when their parent hands them down.
            if let Ok(controllers) = fs::read_to_string(dir.join("cgroup.controllers")) {
                let enable: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
                if !enable.is_empty() {
                    let _ = fs::write(dir.join("cgroup.subtree_control"), enable.join(" "));
                }
            }
        }
        Ok(())
    }

    /// Every process in the group and below.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for dir in &self.dirs {
            collect(dir, &mut found);
        }
        found.sort_by_key(|pid| pid.as_raw_nonzero());
        found.dedup();
        found
    }

    /// Ends every process in the group at once, as a power cut would, and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<()> {
        for dir in &self.dirs {
            // cgroup v2 ends a whole subtree in one go; forks cannot slip through.
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
        wait::until("the end of every process of the test bed's control group", Duration::from_secs(20), || {
            let left = self.processes();
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            Ok(left.is_empty().then_some(()))
        })
    }

    /// Removes the group and everything below it. Its processes must be gone.
    pub(crate) fn remove(&self) -> Result<()> {
        for dir in &self.dirs {
            // The kernel may take a moment to let go of a group whose last process has just ended.
            wait::until(
                &format!("the removal of the control group {}", dir.display()),
                Duration::from_secs(10),
                || Ok((remove_below(dir).is_ok() || !dir.exists()).then_some(())),
            )?;
        }
        Ok(())
    }

    /// Groups of that name anywhere in the machine's hierarchies: what a run left behind that cannot say where it began.
    pub(crate) fn left_behind(name: &str) -> Self {
        let mut dirs = Vec::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for mount in mounts.lines().filter_map(parse_mount) {
            search(&mount.point, name, 4, &mut dirs);
        }
        Self { dirs }
    }
}

fn collect(dir: &Path, found: &mut Vec<Pid>) {
    if let Ok(listed) = fs::read_to_string(dir.join("cgroup.procs")) {
        // 0 stands for a process that this pid namespace cannot see.
        found.extend(listed.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw));
    }
    for child in children(dir) {
        collect(&child, found);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_below(dir: &Path) -> std::io::Result<()> {
    for child in children(dir) {
        remove_below(&child)?;
    }
    fs::remove_dir(dir)
}

fn search(dir: &Path, name: &str, depth: u8, found: &mut Vec<PathBuf>) {
    for child in children(dir) {
        if child.file_name().is_some_and(|own| own == name) {
            found.push(child);
        } else if depth > 0 {
            search(&child, name, depth - 1, found);
        }
    }
}

#[derive(Debug)]
struct Mount {
    root: PathBuf,
    point: PathBuf,
    unified: bool,
    options: Vec<String>,
}

/// A line of `/proc/self/mountinfo`, if it mounts a cgroup hierarchy.
fn parse_mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let filesystem = kind.next()?;
    let options = kind.nth(1)?.split(',').map(str::to_owned).collect();
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?.into(), place.next()?.into());
    matches!(filesystem, "cgroup" | "cgroup2").then_some(Mount {
        root,
        point,
        unified: filesystem == "cgroup2",
        options,
    })
}

/// Joins `/proc/self/cgroup` with the mounts: where this process's group is visible as a directory.
fn parse_own(own: &str, mountinfo: &str) -> Group {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(parse_mount).collect();
    let mut dirs = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mount = mounts.iter().find(|mount| {
            if controllers.is_empty() {
                mount.unified
            } else {
                !mount.unified && controllers.split(',').all(|name| mount.options.iter().any(|option| option == name))
            }
        });
        let Some(mount) = mount else { continue };
        let Ok(below) = Path::new(path).strip_prefix(&mount.root) else { continue };
        // Under cgroup v2 alone a group with processes cannot hand controllers down, so beds go to the top there.
        let alone = mount.unified && !mounts.iter().any(|other| !other.unified);
        dirs.push(if alone || below.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(below) });
    }
    Group { dirs }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn dirs(group: &Group) -> Vec<&str> {
        group.dirs.iter().map(|dir| dir.to_str().unwrap()).collect()
    }

    #[test]
    fn every_hierarchy_of_version_1_has_its_own_path() {
        let own = "9:name=systemd:/\n4:memory:/jobs/17\n2:cpu,cpuacct:/\n1:hugetlb:/\n0::/\n";
        assert_eq!(
            dirs(&parse_own(own, MOUNTS)),
            [
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/memory/jobs/17",
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/unified",
            ]
        );
    }

    #[test]
    fn version_2_alone_starts_at_the_top() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(dirs(&parse_own("0::/user.slice/session-1.scope\n", mounts)), ["/sys/fs/cgroup"]);
    }

    #[test]
    fn a_mount_of_a_subtree_is_taken_off_the_path() {
        let mounts = "35 31 0:32 /jobs /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(dirs(&parse_own("4:memory:/jobs/17\n", mounts)), ["/sys/fs/cgroup/memory/17"]);
    }

    #[test]
    fn a_child_is_below_in_every_hierarchy() {
        let group = Group { dirs: vec!["/a".into(), "/b".into()] };
        assert_eq!(dirs(&group.child("bed").child("node1")), ["/a/bed/node1", "/b/bed/node1"]);
    }
}
