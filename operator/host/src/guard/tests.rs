//! The guard's texts, and its script run for real under every `sh` that is here.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use tempfile::TempDir;

use super::*;

fn paths_in(dir: &Path) -> GuardPaths {
    let mut paths = GuardPaths::new(&dir.join("state"), "containerd.service");
    paths.unit = dir.join("unused");
    paths
}

fn config_alone(file: &Path, existed: bool) -> Subject {
    let files = vec![GuardedFile { file: file.to_owned(), is_drop_in: false, existed, removed: false }];
    Subject { unit: "containerd.service".to_owned(), files }
}

#[test]
fn the_texts_are_as_reviewed() {
    let config_file = Path::new("/etc/containerd/config.toml");
    let paths = GuardPaths::new(Path::new("/var/lib/registry-mirror-operator"), "containerd.service");
    insta::assert_snapshot!("script", script(&paths, &config_alone(config_file, true)));
    insta::assert_snapshot!("script_without_a_file_before", script(&paths, &config_alone(config_file, false)));
    let mut both = config_alone(config_file, true);
    insta::assert_snapshot!("boot_unit", boot_unit(&paths, &both));
    let file = PathBuf::from("/etc/systemd/system/containerd.service.d/x.conf");
    both.files.push(GuardedFile { file, is_drop_in: true, existed: true, removed: true });
    insta::assert_snapshot!("script_with_a_drop_in_that_goes", script(&paths, &both));
}

/// A host's directory with the guard's files in it, and a `systemctl` that writes down how it was called.
struct Host {
    dir: TempDir,
    paths: GuardPaths,
    config: PathBuf,
    config_paths: FilePaths,
}

const OLD: &str = "version = 2\n# old\n\n";
const NEW: &str = "version = 2\n# new\n\n";

impl Host {
    /// `shell` with a `PATH` that holds `tools` alone.
    fn armed(had_config: bool) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        // A directory name with everything that a shell might trip over.
        let base = dir.path().join("a 'b' $c");
        let paths = paths_in(&base);
        let config = base.join("etc/config.toml");
        fs::create_dir_all(&paths.directory).expect("state");
        fs::create_dir_all(base.join("etc")).expect("etc");
        fs::create_dir_all(dir.path().join("bin")).expect("bin");
        let subject = config_alone(&config, had_config);
        let config_paths = paths.of(&subject.files[0]);
        fs::write(&config_paths.written, NEW).expect("written");
        fs::write(&config_paths.previous, if had_config { OLD } else { "" }).expect("previous");
        fs::set_permissions(&config_paths.previous, fs::Permissions::from_mode(0o640)).expect("mode");
        fs::write(&paths.armed, "another boot\n").expect("armed");
        fs::write(&paths.script, script(&paths, &subject)).expect("script");
        let systemctl = dir.path().join("bin/systemctl");
        let log = dir.path().join("systemctl.log");
        fs::write(&systemctl, format!("#!/bin/sh\necho \"$*\" >>'{}'\n", log.display())).expect("systemctl");
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("mode");
        Self { dir, paths, config, config_paths }
    }

    /// The same with a drop-in that is replaced or removed in the same restart.
    fn with_drop_in(removed: bool) -> (Self, PathBuf) {
        let host = Self::armed(true);
        let drop_in = host.config.with_file_name("unit.d").join("x.conf");
        fs::create_dir_all(drop_in.parent().expect("a directory")).expect("mkdir");
        let mut subject = config_alone(&host.config, true);
        let guarded = GuardedFile { file: drop_in.clone(), is_drop_in: true, existed: true, removed };
        let FilePaths { written, previous } = host.paths.of(&guarded);
        if !removed {
            fs::write(written, "new\n").expect("written");
        }
        fs::write(previous, "old\n").expect("previous");
        subject.files.push(guarded);
        fs::write(&host.paths.script, script(&host.paths, &subject)).expect("script");
        (host, drop_in)
    }

    fn run(&self, shell: &[&str], argument: &str) -> Vec<String> {
        let path = format!("{}:/usr/bin:/bin", self.dir.path().join("bin").display());
        let status = Command::new(shell[0])
            .args(&shell[1..])
            .arg(&self.paths.script)
            .arg(argument)
            .env("PATH", path)
            .status()
            .expect("the shell runs");
        assert!(status.success(), "{status}");
        fs::read_to_string(self.dir.path().join("systemctl.log"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn config(&self) -> Option<String> {
        fs::read_to_string(&self.config).ok()
    }
}

fn shells() -> Vec<Vec<&'static str>> {
    let here = |path: &str| Path::new(path).exists();
    let mut shells = vec![vec!["/bin/sh"]];
    for (path, shell) in [
        ("/usr/bin/dash", vec!["/usr/bin/dash"]),
        ("/usr/bin/bash", vec!["/usr/bin/bash", "--posix"]),
        ("/usr/bin/busybox", vec!["/usr/bin/busybox", "sh"]),
    ] {
        if here(path) {
            shells.push(shell);
        }
    }
    shells
}

const RESTARTED: [&str; 2] = ["reset-failed containerd.service", "restart containerd.service"];

#[test]
fn at_the_deadline_the_old_file_comes_back_and_containerd_restarts() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, NEW).expect("config");
        assert_eq!(host.run(&shell, "deadline"), RESTARTED, "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(OLD), "{shell:?}");
        let mode = fs::metadata(&host.config).expect("config").permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "the mode comes back too");
        assert!(host.paths.fired.exists() && !host.paths.armed.exists());
    }
}

#[test]
fn at_boot_the_old_file_comes_back_and_nothing_restarts() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, NEW).expect("config");
        assert!(host.run(&shell, "boot").is_empty(), "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(OLD), "{shell:?}");
    }
}

#[test]
fn in_the_boot_that_armed_it_a_start_of_containerd_changes_nothing() {
    for shell in shells() {
        let host = Host::armed(true);
        let boot = fs::read("/proc/sys/kernel/random/boot_id").expect("boot id");
        fs::write(&host.paths.armed, boot).expect("armed");
        fs::write(&host.config, NEW).expect("config");
        assert!(host.run(&shell, "boot").is_empty(), "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(NEW), "{shell:?}");
        assert!(host.paths.armed.exists(), "{shell:?}");
        // ... and the deadline still does
        assert_eq!(host.run(&shell, "deadline"), RESTARTED, "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(OLD), "{shell:?}");
    }
}

#[test]
fn a_file_that_was_not_there_before_goes_away_again() {
    for shell in shells() {
        let host = Host::armed(false);
        fs::write(&host.config, NEW).expect("config");
        assert_eq!(host.run(&shell, "deadline"), RESTARTED, "{shell:?}");
        assert_eq!(host.config(), None, "{shell:?}");
        assert!(!host.config_paths.previous.exists(), "{shell:?}");

        let host = Host::armed(false);
        assert!(host.run(&shell, "deadline").is_empty(), "nothing was renamed: {shell:?}");
    }
}

#[test]
fn another_programs_file_stays() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, "# theirs\n").expect("config");
        assert_eq!(host.run(&shell, "deadline"), RESTARTED, "{shell:?}");
        assert_eq!(host.config().as_deref(), Some("# theirs\n"), "{shell:?}");
    }
}

#[test]
fn nothing_restarts_if_the_new_file_never_came_into_place() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, OLD).expect("config");
        assert!(host.run(&shell, "deadline").is_empty(), "{shell:?}");
        assert!(host.paths.fired.exists(), "{shell:?}");
    }
}

#[test]
fn a_rollback_that_died_before_its_restart_gets_one() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::rename(&host.config_paths.previous, &host.config).expect("our own rollback");
        assert_eq!(host.run(&shell, "deadline"), RESTARTED, "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(OLD), "{shell:?}");
    }
}

#[test]
fn a_guard_that_lost_does_nothing() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, NEW).expect("config");
        fs::rename(&host.paths.armed, &host.paths.disarmed).expect("we own it");
        assert!(host.run(&shell, "deadline").is_empty(), "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(NEW), "{shell:?}");
    }
}

#[test]
fn a_guard_that_was_cut_short_goes_on() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, NEW).expect("config");
        fs::rename(&host.paths.armed, &host.paths.fired).expect("its first step");
        assert!(host.run(&shell, "boot").is_empty(), "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(OLD), "{shell:?}");
    }
}

/// minbase images have no `cmp`.
#[test]
fn without_cmp_the_contents_are_compared_by_the_shell() {
    for shell in shells() {
        let host = Host::armed(true);
        fs::write(&host.config, NEW).expect("config");
        for tool in ["cat", "mv", "rm", "sync"] {
            let real = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool)).into_iter().find(|path| path.exists());
            std::os::unix::fs::symlink(real.expect(tool), host.dir.path().join("bin").join(tool)).expect("link");
        }
        let text = fs::read_to_string(&host.paths.script).expect("script");
        let only = host.dir.path().join("bin");
        fs::write(&host.paths.script, format!("PATH='{}'\n{text}", only.display())).expect("script");
        assert_eq!(host.run(&shell, "deadline"), RESTARTED, "{shell:?}");
        assert_eq!(host.config().as_deref(), Some(OLD), "{shell:?}");

        let host = Host::armed(true);
        fs::write(&host.config, format!("{NEW}\n")).expect("config, one newline more");
        host.run(&shell, "deadline");
        assert_eq!(host.config(), Some(format!("{NEW}\n")), "{shell:?}");
    }
}

/// Both files of one restart, and each alone, in every state in which a process can have left them.
#[test]
fn two_files_come_back_together_and_systemd_reads_the_drop_in_anew() {
    const RELOADED: [&str; 3] = ["daemon-reload", "reset-failed containerd.service", "restart containerd.service"];
    for shell in shells() {
        for (removed, renamed_config, changed_drop_in) in
            [(false, true, true), (true, true, true), (false, true, false), (false, false, true), (true, false, true)]
        {
            let case = format!("{shell:?}: removed {removed}, renamed {renamed_config}, changed {changed_drop_in}");
            let (host, drop_in) = Host::with_drop_in(removed);
            fs::write(&host.config, if renamed_config { NEW } else { OLD }).expect("config");
            match (changed_drop_in, removed) {
                (true, true) => {}
                (true, false) => fs::write(&drop_in, "new\n").expect("drop-in"),
                (false, _) => fs::write(&drop_in, "old\n").expect("drop-in"),
            }
            let at_boot = renamed_config && changed_drop_in && !removed;
            let called = host.run(&shell, if at_boot { "boot" } else { "deadline" });
            assert_eq!(called, if at_boot { &RELOADED[..1] } else { &RELOADED[..] }, "{case}");
            assert_eq!(host.config().as_deref(), Some(OLD), "{case}");
            assert_eq!(fs::read_to_string(&drop_in).ok().as_deref(), Some("old\n"), "{case}");
        }
        let (host, drop_in) = Host::with_drop_in(false);
        fs::write(&host.config, OLD).expect("config");
        fs::write(&drop_in, "old\n").expect("drop-in");
        assert!(host.run(&shell, "deadline").is_empty(), "nothing came into place: {shell:?}");
    }
}
