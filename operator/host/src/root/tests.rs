use std::{fs, os::unix::fs::symlink};

use proptest::prelude::*;

use super::*;

/// The same host through the kernel's resolution and through our own.
fn both(path: &Path) -> [HostRoot; 2] {
    [HostRoot::open(path).expect("open"), HostRoot::without_openat2(path).expect("open")]
}

#[test]
fn reads_what_is_there_and_says_none_where_nothing_is() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir(host.path().join("etc")).expect("mkdir");
    fs::write(host.path().join("etc/a"), b"content").expect("write");
    for root in both(host.path()) {
        assert_eq!(root.read(Path::new("/etc/a")).expect("read").as_deref(), Some(&b"content"[..]));
        assert_eq!(root.read(Path::new("/etc/b")).expect("read"), None);
        assert_eq!(root.read(Path::new("/no/such")).expect("read"), None);
        assert_eq!(root.read_dir(Path::new("/no/such")).expect("list"), None);
        assert_eq!(root.stat(Path::new("/etc")).expect("stat").expect("there").kind, Kind::Directory);
        assert_eq!(
            root.read_dir(Path::new("/")).expect("list").expect("there"),
            [DirEntry { name: "etc".into(), kind: Kind::Directory }]
        );
    }
}

#[test]
fn a_symlink_never_leads_out_of_the_root() {
    let outside = tempfile::tempdir().expect("tempdir");
    fs::write(outside.path().join("secret"), b"outside").expect("write");
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir(host.path().join("etc")).expect("mkdir");
    let up = format!("{}{}/secret", "../".repeat(20), outside.path().display());
    symlink(outside.path().join("secret"), host.path().join("etc/absolute")).expect("symlink");
    symlink(up, host.path().join("etc/upwards")).expect("symlink");
    symlink(outside.path(), host.path().join("etc/directory")).expect("symlink");
    for root in both(host.path()) {
        for path in ["/etc/absolute", "/etc/upwards", "/etc/directory/secret"] {
            let error = root.read(Path::new(path)).expect_err(path);
            assert!(matches!(error.reason(), Reason::Dangling { .. }), "{error}");
        }
        let up = PathBuf::from(format!("/../..{}/secret", outside.path().display()));
        assert_eq!(root.read(&up).expect("absent beneath the root"), None);
    }
}

#[test]
fn links_within_the_root_are_followed() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(host.path().join("opt/real")).expect("mkdir");
    fs::create_dir(host.path().join("etc")).expect("mkdir");
    fs::write(host.path().join("opt/real/config.toml"), b"version = 2").expect("write");
    symlink("/opt/real", host.path().join("etc/containerd")).expect("symlink");
    symlink("../opt/real/config.toml", host.path().join("etc/direct")).expect("symlink");
    for root in both(host.path()) {
        for path in ["/etc/containerd/config.toml", "/etc/direct", "/etc/containerd/../real/config.toml"] {
            assert_eq!(root.read(Path::new(path)).expect("read").as_deref(), Some(&b"version = 2"[..]), "{path}");
            let resolved = root.resolve(Path::new(path)).expect("resolve");
            assert_eq!(resolved.as_deref(), Some(Path::new("/opt/real/config.toml")), "{path}");
        }
        // the link is fine: what is missing lies behind it
        assert_eq!(root.read(Path::new("/etc/containerd/certs.d/hosts.toml")).expect("absent"), None);
        assert_eq!(root.stat_link(Path::new("/etc/direct")).expect("stat").expect("there").kind, Kind::Symlink);
        let link = root.read_link(Path::new("/etc/direct")).expect("readlink");
        assert_eq!(link.as_deref(), Some(Path::new("../opt/real/config.toml")));
        assert_eq!(root.read_link(Path::new("/opt/real/config.toml")).expect("readlink"), None);
    }
}

#[test]
fn errors_are_sentences() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::create_dir(host.path().join("directory")).expect("mkdir");
    fs::write(host.path().join("file"), b"").expect("write");
    symlink("loop-b", host.path().join("loop-a")).expect("symlink");
    symlink("loop-a", host.path().join("loop-b")).expect("symlink");
    symlink("/gone", host.path().join("dangling")).expect("symlink");
    rustix::fs::mknodat(CWD, host.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
    for root in both(host.path()) {
        let mut said = Vec::new();
        for path in ["/directory", "/file/below", "/loop-a", "/dangling", "/pipe", "relative"] {
            said.push(root.read(Path::new(path)).expect_err(path).to_string());
        }
        said.push(root.read_dir(Path::new("/file")).expect_err("file").to_string());
        said.push(root.glob("/a[").expect_err("pattern").to_string());
        insta::assert_snapshot!("errors_are_sentences", said.join("\n"));
    }
    let error = HostRoot::open(Path::new("/nonexistent/host")).expect_err("absent");
    insta::assert_snapshot!(error, @"cannot open the host's root /nonexistent/host: it does not exist; check the path");
}

#[test]
fn a_huge_file_is_refused_without_reading_it_all() {
    let host = tempfile::tempdir().expect("tempdir");
    fs::File::create(host.path().join("huge")).expect("create").set_len(READ_LIMIT + 1).expect("grow");
    let error = HostRoot::open(host.path()).expect("open").read(Path::new("/huge")).expect_err("too large");
    assert_eq!(error.reason(), &Reason::TooLarge { limit: READ_LIMIT });
}

#[test]
fn globs_as_containerd_does() {
    let host = tempfile::tempdir().expect("tempdir");
    for path in
        ["etc/conf.d/b.toml", "etc/conf.d/a.toml", "etc/conf.d/.hidden.toml", "etc/conf.d/c.bak", "etc/x/a.toml"]
    {
        let file = host.path().join(path);
        fs::create_dir_all(file.parent().expect("parent")).expect("mkdir");
        fs::write(file, b"").expect("write");
    }
    fs::create_dir(host.path().join("etc/conf.d/directory.toml")).expect("mkdir");
    symlink("/etc/conf.d", host.path().join("etc/link")).expect("symlink");
    for root in both(host.path()) {
        let glob = |pattern: &str| -> Vec<String> {
            root.glob(pattern).expect(pattern).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            glob("/etc/conf.d/*.toml"),
            ["/etc/conf.d/.hidden.toml", "/etc/conf.d/a.toml", "/etc/conf.d/b.toml", "/etc/conf.d/directory.toml"]
        );
        assert_eq!(glob("/etc/*/a.toml"), ["/etc/conf.d/a.toml", "/etc/link/a.toml", "/etc/x/a.toml"]);
        assert_eq!(glob("/etc/conf.d/a.toml"), ["/etc/conf.d/a.toml"]);
        assert!(glob("/etc/conf.d/absent.toml").is_empty() && glob("/nowhere/*").is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any tree of links, any path: the kernel's answer and the walk's are the same.
    #[test]
    fn the_walk_agrees_with_the_kernel(
        links in proptest::collection::vec(("[abc]", "(/|\\.\\./|)([abc]|\\.\\.)(/[abc]|/\\.\\.){0,2}"), 0..4),
        path in "(/[abc]|/\\.\\.){1,4}",
    ) {
        let host = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(host.path().join("a/b")).expect("mkdir");
        fs::create_dir_all(host.path().join("b/c")).expect("mkdir");
        fs::write(host.path().join("a/c"), b"a/c").expect("write");
        fs::write(host.path().join("b/c/a"), b"b/c/a").expect("write");
        for (at, target) in links {
            let _ = symlink(target, host.path().join("a/b").join(&at));
            let _ = symlink(&at, host.path().join("c"));
        }
        let [kernel, walk] = both(host.path());
        let path = Path::new(&path);
        let answer = |root: &HostRoot| (
            root.read(path).map_err(|error| error.to_string()),
            root.stat(path).map_err(|error| error.to_string()),
            root.stat_link(path).map_err(|error| error.to_string()),
            root.read_dir(path).map_err(|error| error.to_string()),
        );
        prop_assert_eq!(answer(&kernel), answer(&walk));
    }
}
