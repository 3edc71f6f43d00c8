//! Takes a bed down, whatever state it is in: also what a killed run left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bed::{Record, group_name, state_dir, state_root};
use crate::cache::{Cache, remove_tree};
use crate::cgroup::Group;
use crate::command::{command, run};
use crate::netns::Netns;
use crate::node_spec::check_name;
use crate::wait;

/// Ends every process of the bed, then removes its control groups, network, mounts and files. Nothing there is fine.
///
/// # Errors
/// Names what could not be removed.
pub(crate) fn tear_down(bed: &str) -> Result<()> {
    check_name("a bed", bed)?;
    // A command that a killed `up` had just started (cp, ip) may still be at work: look again until nothing comes back.
    let mut last = None;
    let gone = wait::until(&format!("the end of the bed {bed}"), Duration::from_secs(30), || match remove_once(bed) {
        Ok(anything_left) => Ok((!anything_left).then_some(())),
        Err(error) => {
            last = Some(error);
            Ok(None)
        }
    });
    match (gone, last) {
        (Err(_), Some(error)) => Err(error),
        (gone, _) => gone,
    }
}

/// Whether something is there after all was removed.
fn remove_once(bed: &str) -> Result<bool> {
    let state = state_dir(bed);
    let record = Record::read(&state).ok();
    let data = match &record {
        Some(record) => record.data.clone(),
        None => Cache::locate()?.var().join(bed),
    };
    // The groups as they were written down, and any of that name: the state may be gone while processes live.
    let recorded = record.map(|record| record.group);
    for group in recorded.into_iter().chain([Group::left_behind(&group_name(bed))]) {
        group.kill()?;
        group.remove()?;
    }
    let netns = Netns::of_bed(bed);
    netns.destroy()?;
    unmount_below(&state)?;
    unmount_below(&data)?;
    remove_tree(&data)?;
    remove_tree(&state)?;
    // Only if no other bed is there.
    let _ = fs::remove_dir(state_root());
    Ok(state.exists() || data.exists() || netns.exists() || !Group::left_behind(&group_name(bed)).dirs().is_empty())
}

/// The names of beds of which something is there.
///
/// # Errors
/// When the state directory cannot be read.
pub(crate) fn names() -> Result<Vec<String>> {
    let root = state_root();
    let mut names = Vec::new();
    match fs::read_dir(&root) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", root.display())),
    }
    names.sort();
    Ok(names)
}

/// Held while a bed of that name is made or taken down, and for the life of a bed that a test owns.
pub(crate) fn lock(bed: &str) -> Result<File> {
    check_name("a bed", bed)?;
    // Not in the state directory, which comes and goes.
    let locks = Cache::locate()?.locks();
    fs::create_dir_all(&locks).with_context(|| format!("{} cannot be made", locks.display()))?;
    let path = locks.join(format!("bed-{bed}"));
    let file = File::create(&path).with_context(|| format!("the lock {} cannot be made", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => anyhow::bail!(
            "the bed {bed} is being used by another process, which holds {}: wait for it, or choose another --name",
            path.display()
        ),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("the lock {} cannot be taken", path.display()))
        }
    }
}

fn unmount_below(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo cannot be read")?;
    for point in mount_points_below(&mounts, dir) {
        run(command(["umount", "--lazy"]).arg(point))?;
    }
    Ok(())
}

/// The newest first, as they must be taken off.
fn mount_points_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(dir))
        .collect();
    points.reverse();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_taken_off_in_reverse_order() {
        let mounts = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /x/bed rw - tmpfs b rw\n3 2 0:3 / /x/bed/deep rw - tmpfs c rw\n4 1 0:4 / /x/bed2 rw - tmpfs d rw\n";
        assert_eq!(mount_points_below(mounts, Path::new("/x/bed")), [Path::new("/x/bed/deep"), Path::new("/x/bed")]);
    }
}
