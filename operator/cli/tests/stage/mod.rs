//! A host's files, and the program that is run on them.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A host's files, and a directory for objects.
pub struct Host {
    root: tempfile::TempDir,
    objects: tempfile::TempDir,
}

/// What the program said.
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// On stdout.
    pub out: String,
    /// On stderr.
    pub err: String,
}

impl Host {
    pub fn with(files: &[(&str, &str)]) -> Self {
        let host = Self {
            root: tempfile::tempdir().expect("a directory"),
            objects: tempfile::tempdir().expect("a directory"),
        };
        for directory in ["var/lib", "etc"] {
            fs::create_dir_all(host.root.path().join(directory)).expect("mkdir");
        }
        for (path, text) in files {
            host.write(path, text);
        }
        host
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect(path)
    }

    /// Every path with its mode and content; but for the lock, which names its last holder.
    pub fn tree(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        fn walk(directory: &Path, tree: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
            for entry in fs::read_dir(directory).expect("readable") {
                let path = entry.expect("readable").path();
                let metadata = fs::symlink_metadata(&path).expect("readable");
                let mode = metadata.permissions().mode();
                if metadata.is_dir() {
                    walk(&path, tree);
                    tree.insert(path, (mode, Vec::new()));
                } else {
                    let content = if metadata.is_file() { fs::read(&path).expect("readable") } else { Vec::new() };
                    tree.insert(path, (mode, content));
                }
            }
        }
        let mut tree = BTreeMap::new();
        walk(self.root.path(), &mut tree);
        tree.remove(&self.path("var/lib/registry-mirror-operator/lock"));
        tree
    }

    pub fn object(&self, name: &str, text: &str) -> String {
        let path = self.objects.path().join(name);
        fs::write(&path, text).expect("write");
        path.display().to_string()
    }

    /// Runs `registry-mirror node VERB ARGUMENTS --host-root …`.
    pub fn node(&self, verb: &str, arguments: &[&str]) -> Said {
        self.on_host(&[&["node", verb], arguments].concat())
    }

    /// Runs `registry-mirror ARGUMENTS --host-root …`.
    pub fn on_host(&self, arguments: &[&str]) -> Said {
        let root = self.root.path().display().to_string();
        self.run(&[arguments, &["--host-root", &root]].concat())
    }

    /// Runs `registry-mirror ARGUMENTS`.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_registry-mirror"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .output()
            .expect("starts");
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).expect("text");
            text.replace(&self.root.path().display().to_string(), "ROOT")
                .replace(&self.objects.path().display().to_string(), "OBJECTS")
        };
        Said { code: output.status.code().expect("ended"), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    pub fn shown(&self) -> String {
        let Self { code, out, err } = self;
        assert!(!format!("{out}{err}").contains("hunter2"), "a secret was printed: {out}{err}");
        let err = if err.is_empty() { String::new() } else { format!("\n--- stderr\n{err}") };
        format!("exit {code}\n{out}{err}")
    }
}
