use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

const PUBLIC: Attributes = Attributes { mode: 0o644, owner: Owner::Root };
const PRIVATE: Attributes = Attributes { mode: 0o600, owner: Owner::Root };

struct Host {
    directory: tempfile::TempDir,
    writer: HostWriter,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(directory.path().join("etc/containerd")).expect("mkdir");
        let writer = writer(directory.path());
        Self { directory, writer }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).expect("list");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn writer(root: &Path) -> HostWriter {
    let scope = WriteScope::for_host([Path::new("/etc/containerd/config.toml")], Path::new("/etc/containerd/certs.d"));
    HostWriter::new(HostRoot::open(root).expect("open"), scope)
}

#[test]
fn writes_whole_files_and_only_when_something_differs() {
    let host = Host::new();
    let path = Path::new("/etc/containerd/a");
    assert_eq!(host.writer.write(path, b"one", PRIVATE), Ok(Written::Written));
    assert_eq!(host.writer.write(path, b"one", PRIVATE), Ok(Written::Unchanged));
    let mut reader = fs::File::open(host.path("etc/containerd/a")).expect("open");
    assert_eq!(host.writer.write(path, b"one", PUBLIC), Ok(Written::Written), "another mode");
    assert_eq!(host.writer.write(path, b"two", PUBLIC), Ok(Written::Written));
    let stat = fs::metadata(host.path("etc/containerd/a")).expect("stat");
    assert_eq!(stat.permissions().mode() & 0o7777, 0o644);
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut reader, &mut seen).expect("read");
    assert_eq!(seen, "one", "a new file took its place, and who had opened the old one still reads it");
    assert_eq!(fs::read(host.path("etc/containerd/a")).expect("read"), b"two");
    assert_eq!(host.names("etc/containerd"), ["a"]);
}

#[test]
fn a_temporary_file_of_a_killed_run_is_no_obstacle() {
    let host = Host::new();
    fs::write(host.path("etc/containerd/.registry-mirror.a"), b"half").expect("write");
    host.writer.write(Path::new("/etc/containerd/a"), b"whole", PUBLIC).expect("write");
    assert_eq!(host.names("etc/containerd"), ["a"]);
}

#[test]
fn the_owner_is_kept_where_asked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let host = Host::new();
    fs::write(host.path("etc/containerd/a"), b"old").expect("write");
    std::os::unix::fs::chown(host.path("etc/containerd/a"), Some(12), Some(34)).expect("chown");
    let path = Path::new("/etc/containerd/a");
    let owner = |host: &Host| {
        let stat = fs::metadata(host.path("etc/containerd/a")).expect("stat");
        (stat.uid(), stat.gid())
    };
    host.writer.write(path, b"new", Attributes { mode: 0o640, owner: Owner::Keep }).expect("write");
    assert_eq!(owner(&host), (12, 34));
    host.writer.write(path, b"new", Attributes { mode: 0o640, owner: Owner::Root }).expect("write");
    assert_eq!(owner(&host), (0, 0));
    host.writer
        .write(path, b"new", Attributes { mode: 0o640, owner: Owner::Numbers { uid: 5, gid: 6 } })
        .expect("write");
    assert_eq!(owner(&host), (5, 6));
}

#[test]
fn nothing_is_written_out_of_scope() {
    let host = Host::new();
    fs::create_dir_all(host.path("etc/passwd.d")).expect("mkdir");
    fs::create_dir_all(host.path("opt/certs")).expect("mkdir");
    symlink("/etc/passwd.d", host.path("etc/containerd/link")).expect("symlink");
    symlink("../../../../../../../../../../tmp", host.path("etc/containerd/up")).expect("symlink");
    symlink("/opt/certs", host.path("etc/containerd/certs.d")).expect("symlink");
    let mut said = Vec::new();
    for path in
        ["/etc/passwd", "/etc/passwd.d/x", "/etc/containerd/link/x", "/etc/containerd/../x", "/etc/containerdx", "/"]
    {
        said.push(host.writer.write(Path::new(path), b"x", PUBLIC).expect_err(path).to_string());
    }
    said.push(host.writer.create_dir(Path::new("/opt/other/x"), 0o755).expect_err("mkdir").to_string());
    said.push(host.writer.remove(Path::new("/opt/other")).expect_err("remove").to_string());
    said.push(
        host.writer
            .rename(Path::new("/etc/passwd.d"), Path::new("/etc/containerd/stolen"))
            .expect_err("rename")
            .to_string(),
    );
    let error = host.writer.write(Path::new("/etc/containerd/up/x"), b"x", PUBLIC).expect_err("up");
    assert!(matches!(error.reason(), Reason::Dangling { .. } | Reason::OutOfScope { .. }), "{error}");
    insta::assert_snapshot!(said.join("\n"));
    assert!(host.names("etc/passwd.d").is_empty());

    // certs.d itself may be a link: the administrator chose the place
    host.writer.write(Path::new("/etc/containerd/certs.d/x"), b"x", PUBLIC).expect("write");
    assert_eq!(host.names("opt/certs"), ["x"]);
}

/// Whatever a plan was told to be writable can be written: one question, asked twice.
#[test]
fn what_may_be_written_is_written_whether_its_directories_exist_or_not() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd")).expect("mkdir");
    fs::create_dir_all(host.path().join("opt/node")).expect("mkdir");
    fs::write(host.path().join("opt/node/main.toml"), b"old").expect("write");
    symlink("/opt/node/main.toml", host.path().join("etc/containerd/config.toml")).expect("symlink");
    let config = Path::new("/etc/containerd/config.toml");
    let scope = WriteScope::for_host([config], Path::new("/cfg/containerd/certs.d"));
    let writer = HostWriter::new(HostRoot::open(host.path()).expect("open"), scope);
    let places = ["/etc/containerd/config.toml", "/cfg/containerd/certs.d/x", "/var/lib/registry-mirror-operator/x"];
    for place in places {
        let place = Path::new(place);
        writer.check_writable(place).unwrap_or_else(|error| panic!("planning: {error}"));
        let resolved = writer.root().resolve(place).expect("resolves").unwrap_or_else(|| place.to_owned());
        writer.create_dir(resolved.parent().expect("a parent"), 0o755).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(writer.write(&resolved, b"new", PUBLIC), Ok(Written::Written));
    }
    assert_eq!(fs::read(host.path().join("opt/node/main.toml")).expect("read"), b"new");
    for place in ["/opt/other/x", "/cfg/x", "/cfg/containerd/x", "/var/lib/x", "/etc/x"] {
        let planned = writer.check_writable(Path::new(place)).expect_err(place);
        assert!(matches!(planned.reason(), Reason::OutOfScope { .. }), "{planned}");
        assert_eq!(
            writer.write(Path::new(place), b"x", PUBLIC).map_err(|error| error.reason().clone()),
            match place {
                "/opt/other/x" => Err(Reason::NoDirectory),
                _ => Err(planned.reason().clone()),
            }
        );
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let host = Host::new();
    fs::create_dir(host.path("etc/containerd/directory")).expect("mkdir");
    fs::write(host.path("etc/containerd/directory/keep"), b"").expect("write");
    fs::write(host.path("etc/containerd/file"), b"").expect("write");
    symlink("file", host.path("etc/containerd/link")).expect("symlink");
    let path = |name: &str| Path::new("/etc/containerd").join(name);
    let said = [
        host.writer.write(&path("directory"), b"x", PUBLIC).expect_err("directory"),
        host.writer.write(&path("link"), b"x", PUBLIC).expect_err("link"),
        host.writer.write(&path("file/below"), b"x", PUBLIC).expect_err("below a file"),
        host.writer.write(&path("absent/below"), b"x", PUBLIC).expect_err("below nothing"),
        host.writer.remove(&path("directory")).expect_err("remove"),
        host.writer.create_dir(&path("file"), 0o755).expect_err("mkdir"),
        host.writer.rename(&path("file"), &path("link")).expect_err("rename"),
        host.writer.rename(&path("absent"), &path("file")).expect_err("rename"),
        host.writer.remove_dir_if_empty(&path("file")).expect_err("rmdir"),
    ];
    insta::assert_snapshot!(said.map(|error| error.to_string()).join("\n"));
    assert_eq!(host.writer.remove_dir_if_empty(&path("directory")), Ok(Written::Unchanged));
    assert_eq!(host.writer.remove(&path("absent/below")), Ok(Written::Unchanged));
    assert_eq!(host.names("etc/containerd"), ["directory", "file", "link"]);
}

#[test]
fn directories_come_with_their_mode_and_go_when_empty() {
    let host = Host::new();
    let path = Path::new("/var/lib/registry-mirror-operator/backups");
    fs::create_dir_all(host.path("var/lib")).expect("mkdir");
    assert_eq!(host.writer.create_dir(path, 0o700), Ok(Written::Written));
    assert_eq!(host.writer.create_dir(path, 0o755), Ok(Written::Unchanged));
    let mode = |path: &str| fs::metadata(host.path(path)).expect("stat").permissions().mode() & 0o7777;
    assert_eq!(mode("var/lib/registry-mirror-operator/backups"), 0o700);
    assert_eq!(host.writer.set_dir_mode(path, 0o750), Ok(Written::Written));
    assert_eq!(mode("var/lib/registry-mirror-operator/backups"), 0o750);
    assert_eq!(host.writer.remove_dir_if_empty(path), Ok(Written::Written));
    assert_eq!(host.writer.remove_dir_if_empty(path), Ok(Written::Unchanged));
}

#[test]
fn symlinks_are_put_and_replaced() {
    let host = Host::new();
    let path = Path::new("/etc/containerd/link");
    assert_eq!(host.writer.symlink(path, Path::new("/a")), Ok(Written::Written));
    assert_eq!(host.writer.symlink(path, Path::new("/a")), Ok(Written::Unchanged));
    assert_eq!(host.writer.symlink(path, Path::new("/b")), Ok(Written::Written));
    assert_eq!(fs::read_link(host.path("etc/containerd/link")).expect("readlink"), Path::new("/b"));
    assert_eq!(host.writer.replace(path, b"file", PUBLIC), Ok(Written::Written));
    assert_eq!(fs::read(host.path("etc/containerd/link")).expect("read"), b"file");
}

#[test]
fn a_reader_never_sees_a_torn_file() {
    let host = Host::new();
    let path = Path::new("/etc/containerd/hosts.toml");
    let content = |byte: u8| vec![byte; 64 * 1024 + usize::from(byte)];
    host.writer.write(path, &content(0), PUBLIC).expect("write");
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (file, done) = (host.path("etc/containerd/hosts.toml"), Arc::clone(&done));
        move || {
            let mut seen = 0_usize;
            while !done.load(Ordering::Relaxed) {
                let bytes = fs::read(&file).expect("always there");
                assert_eq!(bytes.len(), 64 * 1024 + usize::from(bytes[0]), "torn");
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn");
                seen += 1;
            }
            seen
        }
    });
    for round in 0..400_u32 {
        host.writer.write(path, &content((round % 251) as u8), PUBLIC).expect("write");
    }
    done.store(true, Ordering::Relaxed);
    assert!(reader.join().expect("the reader saw whole files only") > 0);
}

/// Runs this test again in a mount namespace of its own, after `mount` has been run there; `false` where the machine
/// allows neither.
fn again_with_mount(test: &str, mount: &str, at: &Path) -> bool {
    let this = std::env::current_exe().expect("the test's own binary");
    let script = format!("{mount} && exec \"$0\" --exact --nocapture \"$1\"");
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(this)
        .arg(format!("files::tests::{test}"))
        .env("REGISTRY_MIRROR_TEST_MOUNT", at)
        .env("AT", at)
        .status();
    let Ok(status) = status else { return false };
    // sh says 32 (mount's own code) or unshare says 1 where mounting is not allowed
    if matches!(status.code(), Some(1 | 32)) {
        return false;
    }
    assert!(status.success(), "{test} failed in its mount namespace: {status}");
    true
}

fn mounted() -> Option<PathBuf> {
    std::env::var_os("REGISTRY_MIRROR_TEST_MOUNT").map(PathBuf::from)
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    if let Some(at) = mounted() {
        fs::create_dir_all(at.join("etc/containerd")).expect("mkdir");
        let writer = writer(&at);
        let path = Path::new("/etc/containerd/hosts.toml");
        writer.write(path, b"old", PUBLIC).expect("write");
        let error = writer.write(path, &vec![1; 1 << 20], PUBLIC).expect_err("64 KiB are too small for 1 MiB");
        insta::assert_snapshot!(error, @"cannot write /etc/containerd/hosts.toml: no space is left on the device; free some space");
        assert_eq!(fs::read(at.join("etc/containerd/hosts.toml")).expect("read"), b"old");
        assert_eq!(fs::read_dir(at.join("etc/containerd")).expect("list").count(), 1, "nothing is left behind");
        writer.write(path, b"new", PUBLIC).expect("there is room again");
        return;
    }
    let host = tempfile::tempdir().expect("tempdir");
    if !again_with_mount(
        "a_full_disk_leaves_the_old_file_whole",
        "mount -t tmpfs -o size=64k tmpfs \"$AT\"",
        host.path(),
    ) {
        eprintln!("not tested: no mount namespace is to be had here");
    }
}

#[test]
fn a_read_only_file_system_is_named() {
    if let Some(at) = mounted() {
        let writer = writer(&at);
        let path = Path::new("/etc/containerd/config.toml");
        let error = writer.write(path, b"new", PUBLIC).expect_err("read-only");
        assert!(error.is_read_only(), "{error}");
        assert_eq!(writer.check_writable(path).expect_err("read-only"), error);
        insta::assert_snapshot!(error, @"cannot write /etc/containerd/config.toml: the file system is read-only; remount it writable, or use the registry mirror setting that this host's own distribution has");
        assert!(writer.create_dir(Path::new("/etc/containerd/certs.d"), 0o755).expect_err("read-only").is_read_only());
        return;
    }
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("etc/containerd")).expect("mkdir");
    fs::write(host.path().join("etc/containerd/config.toml"), b"old").expect("write");
    let mount = "mount --bind \"$AT\" \"$AT\" && mount -o remount,bind,ro \"$AT\"";
    if !again_with_mount("a_read_only_file_system_is_named", mount, host.path()) {
        eprintln!("not tested: no mount namespace is to be had here");
    }
    assert!(writer(host.path()).check_writable(Path::new("/etc/containerd/config.toml")).is_ok());
}
