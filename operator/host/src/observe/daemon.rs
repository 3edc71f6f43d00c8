//! Which process is behind a containerd socket, what runs it and which configuration file it reads.

use std::path::{Path, PathBuf};

use registry_mirror_core::plan::managed_elsewhere::generated_config;
use tokio::net::UnixStream;

use crate::root::{FileError, HostRoot};

/// The file that containerd reads when it is not told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/containerd/config.toml";

/// A running containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// In the host's numbers.
    pub pid: u32,
    /// The binary, as the host sees it.
    pub binary: PathBuf,
    /// The arguments that it was started with, the binary's name first. K3s clears those of its processes.
    pub arguments: Vec<String>,
    /// Its directory of images and containers (`root`), by the database in it that the daemon holds open.
    pub data: Option<PathBuf>,
}

/// The metadata database below containerd's `root`, open for as long as the daemon runs (core/metadata and
/// plugins/metadata, 1.2 to 2.4).
const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";

impl Process {
    /// The configuration file that this process was told to read. Where the command line does not say, the place of
    /// its data does: K3s has one layout for both, and clears the command line.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        config_flag(&self.arguments)
            .or_else(|| generated_config(self.data.as_deref()?))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
    }
}

/// The process that listens on a socket (a path as this process opens it, and the same path on the host); `None` where
/// it cannot be told.
///
/// In a container without the host's process numbers the kernel names no peer. Then the socket's inode is looked for
/// among the open files of the host's containerd processes, through the host's `/proc`.
///
/// # Errors
/// The host's `/proc` cannot be read.
pub async fn listener(root: &HostRoot, opened_as: &Path, on_host: &Path) -> Result<Option<Process>, FileError> {
    let peer = UnixStream::connect(opened_as).await.ok().and_then(|stream| stream.peer_cred().ok()?.pid());
    if let Some(pid) = peer.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0) {
        // The number counts only if the host's `/proc` is the one of our own process numbers.
        if let Some(process) = process(root, pid)?.filter(Process::is_containerd) {
            return Ok(Some(process));
        }
    }
    let Some(sockets) = root.read(Path::new("/proc/1/net/unix"))? else { return Ok(None) };
    let inodes = inodes(&String::from_utf8_lossy(&sockets), on_host);
    let entries = root.read_dir(Path::new("/proc"))?.unwrap_or_default();
    let pids = entries.iter().filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok());
    for pid in pids {
        // Processes come and go meanwhile: what cannot be read is none of the daemons.
        let comm = root.read(&PathBuf::from(format!("/proc/{pid}/comm"))).ok().flatten();
        if comm.as_deref() != Some(b"containerd\n") || !holds(root, pid, &inodes) {
            continue;
        }
        if let Some(process) = process(root, pid)? {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

impl Process {
    fn is_containerd(&self) -> bool {
        self.binary.file_name().is_some_and(|name| name.to_string_lossy().starts_with("containerd"))
    }
}

/// What the host's `/proc` says of a process; `None` where there is none.
///
/// # Errors
/// `/proc` cannot be read.
pub fn process(root: &HostRoot, pid: u32) -> Result<Option<Process>, FileError> {
    let Some(arguments) = root.read(&PathBuf::from(format!("/proc/{pid}/cmdline")))? else { return Ok(None) };
    let arguments: Vec<String> = arguments
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    let binary = root.read_link(&PathBuf::from(format!("/proc/{pid}/exe")))?.unwrap_or_default();
    // The kernel's mark for a binary that was replaced while it runs.
    let binary = match binary.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => binary,
    };
    let data = open_files(root, pid).find_map(|file| data_of(&file));
    Ok(Some(Process { pid, binary, arguments, data }))
}

fn holds(root: &HostRoot, pid: u32, inodes: &[u64]) -> bool {
    let sockets: Vec<PathBuf> = inodes.iter().map(|inode| PathBuf::from(format!("socket:[{inode}]"))).collect();
    open_files(root, pid).any(|file| sockets.contains(&file))
}

/// What the descriptors of a process lead to. One that is closed meanwhile is passed over.
fn open_files(root: &HostRoot, pid: u32) -> impl Iterator<Item = PathBuf> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let files = root.read_dir(&directory).ok().flatten().unwrap_or_default();
    files.into_iter().filter_map(move |file| root.read_link(&directory.join(&file.name)).ok().flatten())
}

/// containerd's `root`, where this is its metadata database.
fn data_of(file: &Path) -> Option<PathBuf> {
    // The kernel's mark for a file that was removed while it is open.
    let file = file.to_str()?;
    let file = Path::new(file.strip_suffix(" (deleted)").unwrap_or(file));
    file.ends_with(DATABASE).then(|| file.ancestors().nth(2).map(Path::to_owned))?
}

/// The listening sockets bound to a path, from `/proc/net/unix`:
/// `Num RefCount Protocol Flags Type St Inode Path`.
fn inodes(table: &str, path: &Path) -> Vec<u64> {
    const ACCEPTING: u32 = 0x0001_0000;
    let Some(path) = path.to_str() else { return Vec::new() };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, _, _, flags, _, _, inode, name] = fields.as_slice() else { return None };
            let accepting = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & ACCEPTING != 0);
            // /var/run is /run on every host with systemd.
            let same = *name == path || name.strip_prefix("/var").is_some_and(|name| name == path);
            (accepting && same).then(|| inode.parse().ok())?
        })
        .collect()
}

/// The file that `--config` or `-c` names, as containerd's command line is read (urfave/cli: one dash or two, the value
/// after `=` or as the next word, the last one wins, and nothing after the first word that is no flag).
#[must_use]
pub fn config_flag(arguments: &[String]) -> Option<PathBuf> {
    let mut found = None;
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { break };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        // All of containerd's flags but these take a value.
        if matches!(name, "help" | "h" | "version" | "v") {
            continue;
        }
        let value = value.or_else(|| words.next().cloned());
        if matches!(name, "config" | "c") {
            found = value;
        }
    }
    // A relative path is meant from the unit's working directory, which is `/` unless it says otherwise.
    found.filter(|path| !path.is_empty()).map(|path| Path::new("/").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/proc/PID` of a containerd of K3s, seen on 1.35.0: its name, a space and NULs, and a binary that may lie anywhere.
    fn cleared(database: &str) -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().expect("tempdir");
        let proc = dir.path().join("proc/42");
        std::fs::create_dir_all(proc.join("fd")).expect("mkdir");
        std::fs::write(proc.join("cmdline"), b"containerd \0\0\0\0\0\0\0").expect("cmdline");
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, proc.join(name)).expect("symlink");
        link("/var/lib/rancher/k3s/data/cafe/bin/k3s", "exe");
        link("socket:[7]", "fd/3");
        link(database, "fd/9");
        let root = HostRoot::open(dir.path()).expect("root");
        (dir, root)
    }

    #[test]
    fn a_containerd_of_k3s_is_known_by_the_database_that_it_holds_open() {
        for (database, expected) in [
            (
                "/var/lib/rancher/k3s/agent/containerd/io.containerd.metadata.v1.bolt/meta.db",
                "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            ),
            (
                "/srv/k3s/agent/containerd/io.containerd.metadata.v1.bolt/meta.db",
                "/srv/k3s/agent/etc/containerd/config.toml",
            ),
            (
                "/srv/agent/containerd/io.containerd.metadata.v1.bolt/meta.db (deleted)",
                "/srv/agent/etc/containerd/config.toml",
            ),
            ("/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", DEFAULT_CONFIG),
            ("/var/lib/containerd/io.containerd.grpc.v1.cri/meta.db", DEFAULT_CONFIG),
        ] {
            let (_dir, root) = cleared(database);
            let process = process(&root, 42).expect("proc").expect("there");
            assert_eq!(process.config_file(), Path::new(expected), "{database}");
        }
    }

    #[test]
    fn a_command_line_that_speaks_beats_the_place_of_the_data() {
        let process = Process {
            pid: 7,
            binary: PathBuf::from("/var/lib/rancher/rke2/data/v1/bin/containerd"),
            arguments: ["containerd", "-c", "/etc/own.toml"].map(str::to_owned).to_vec(),
            data: Some(PathBuf::from("/var/lib/rancher/rke2/agent/containerd")),
        };
        assert_eq!(process.config_file(), Path::new("/etc/own.toml"));
    }

    fn flag(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        config_flag(&words).map(|path| path.display().to_string())
    }

    #[test]
    fn every_spelling_of_the_flag() {
        for (line, expected) in [
            ("/usr/bin/containerd", None),
            ("containerd --config /a.toml", Some("/a.toml")),
            ("containerd --config=/a.toml", Some("/a.toml")),
            ("containerd -c /a.toml", Some("/a.toml")),
            ("containerd -c=/a.toml --log-level info", Some("/a.toml")),
            ("containerd -config /a.toml", Some("/a.toml")),
            ("containerd --log-level --config --config /b.toml", Some("/b.toml")),
            ("containerd -l debug -c /a.toml -c /b.toml", Some("/b.toml")),
            ("containerd --address /x.sock --config a.toml", Some("/a.toml")),
            ("containerd config --config /a.toml", None),
            ("containerd --config", None),
        ] {
            assert_eq!(flag(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn only_sockets_that_accept_count() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 21514 /run/containerd/containerd.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 21515 /run/containerd/containerd.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 99 /run/containerd/containerd.sock.ttrpc\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 77 /var/run/containerd/containerd.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 5\n";
        assert_eq!(inodes(table, Path::new("/run/containerd/containerd.sock")), [21514, 77]);
    }

    #[tokio::test]
    async fn this_process_is_found_by_the_hosts_proc() {
        let root = HostRoot::open(Path::new("/")).expect("root");
        let process = process(&root, std::process::id()).expect("proc").expect("we run");
        assert_eq!(process.binary, std::env::current_exe().expect("exe"));
        assert!(super::process(&root, u32::MAX).expect("proc").is_none());
    }
}
