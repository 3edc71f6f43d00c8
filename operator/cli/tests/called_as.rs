//! The names under which the program is called: its own, kubectl's plugin, and what completes that plugin's words.

#![expect(clippy::expect_used, reason = "a test whose stage cannot be set fails")]

use std::{os::unix::fs::symlink, process::Command};

fn called_as(name: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join(name);
    symlink(env!("CARGO_BIN_EXE_registry-mirror"), &program).expect("a link");
    let output = Command::new(&program).args(arguments).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn each_shell_gets_a_script_for_the_name_that_was_called() {
    for name in ["registry-mirror", "kubectl-registry_mirror"] {
        for shell in ["bash", "zsh", "fish", "powershell"] {
            let script = called_as(name, &["completions", shell]);
            assert!(script.contains(name) && script.contains("host-root"), "{shell}: {script}");
        }
    }
    let plain = called_as("registry-mirror", &["completions", "bash"]);
    assert!(!plain.contains("kubectl-"), "{plain}");
}

#[test]
fn bash_reads_the_script() {
    let script = called_as("kubectl-registry_mirror", &["completions", "bash"]);
    let text = format!("{script}\ncomplete -p kubectl-registry_mirror");
    let output = Command::new("bash").args(["--norc", "-c", &text]).output().expect("bash");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("kubectl-registry_mirror"), "{said}{output:?}");
}

#[test]
fn kubectl_is_answered_as_it_reads_it() {
    let said = called_as("kubectl_complete-registry_mirror", &["node", "re"]);
    assert_eq!(said, "restore\tPut a host back as it was before\n:4\n");
    assert!(called_as("kubectl-registry_mirror", &["presets", "quay.io"]).contains("registry: quay.io"));
}
