//! The candidate, read by the host's own containerd before it comes into force.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use registry_mirror_core::{containerd::Version, observed::Unit};

use super::{Request, RestartError, Restarter};
use crate::{
    files::{Attributes, Owner},
    guard::unfinished,
    systemd::{Finished, HostCommand},
};

const UNIT: &str = "registry-mirror-check.service";
/// `config dump` only parses; on a slow disk the binary of 50 MB must be read first.
const LIMIT: Duration = Duration::from_secs(30);
/// What fits into a status message. The daemon's error is at the end of its output.
const LONGEST_REASON: usize = 300;

impl Restarter<'_> {
    /// Lets the host's containerd read `file` as its main configuration; `Err` in the answer is its own complaint.
    ///
    /// `config dump` finds broken TOML, unknown versions and (on 1.x) missing imports. It does not start plugins: what
    /// only shows then is found after the restart. Its output, which may hold credentials, goes to files with mode 0600
    /// that are removed at once, and never to the host's log.
    pub(super) async fn check(&self, request: &Request, file: &Path) -> Result<Result<(), String>, RestartError> {
        let checked = self.let_containerd_read(request, file).await;
        if checked.is_err() {
            self.forget_check().await?;
        }
        checked
    }

    async fn let_containerd_read(&self, request: &Request, file: &Path) -> Result<Result<(), String>, RestartError> {
        let Request { unit: Unit { binary, .. }, version, certs_d, .. } = request;
        let answer = self.ask(binary, &["--version"]).await?;
        if let Some(next) = release(&answer.stdout)
            && (next.major, next.minor) != (version.major, version.minor)
        {
            return Ok(Err(format!(
                "{} is containerd {next} by now, but {version} is running: restart it when its upgrade may take \
                 effect, and the configuration is planned anew for {next}",
                binary.display()
            )));
        }
        let answer = self.ask(binary, &["--config", &file.to_string_lossy(), "config", "dump"]).await?;
        let binary = binary.display();
        Ok(match answer.finished {
            Finished::Exited(0) if mentions(&answer.stdout, certs_d) => Ok(()),
            Finished::Exited(0) => Err(format!(
                "`{binary} config dump` accepts the new configuration, but {} is not in force in what it prints",
                certs_d.display()
            )),
            Finished::Exited(status) => Err(format!(
                "the host's own containerd refuses the new configuration (`{binary} config dump`, exit status \
                 {status}): {}",
                last_words(&answer.stderr)
            )),
            Finished::Aborted(how) => {
                Err(format!("`{binary} config dump`, which checks the new configuration, ended with `{how}`"))
            }
        })
    }

    /// Runs containerd's binary on the host, outside of any container.
    async fn ask(&self, binary: &Path, arguments: &[&str]) -> Result<Answer, RestartError> {
        let [stdout, stderr] = self.output();
        let finished = self.run_binary(binary, arguments, &stdout, &stderr).await;
        let read = |path: &Path| Ok::<_, RestartError>(self.writer.root().read(path)?.unwrap_or_default());
        let texts = read(&stdout).and_then(|out| Ok((out, read(&stderr)?)));
        self.remove_output()?;
        let (stdout, stderr) = texts?;
        Ok(Answer { finished: finished?, stdout, stderr })
    }

    /// Removes what a check leaves behind that was cut short.
    pub(super) async fn forget_check(&self) -> Result<(), RestartError> {
        self.systemd.stop_and_unload(UNIT).await?;
        self.remove_output()
    }

    fn output(&self) -> [PathBuf; 2] {
        ["check.out", "check.err"].map(|name| self.state.path().join(name))
    }

    fn remove_output(&self) -> Result<(), RestartError> {
        for path in self.output() {
            self.writer.remove(&unfinished(&path))?;
            self.writer.remove(&path)?;
        }
        Ok(())
    }

    async fn run_binary(
        &self,
        binary: &Path,
        arguments: &[&str],
        stdout: &Path,
        stderr: &Path,
    ) -> Result<Finished, RestartError> {
        let private = Attributes { mode: 0o600, owner: Owner::Root };
        for path in [stdout, stderr] {
            // A rest of an earlier check would be mixed in: systemd does not truncate.
            self.writer.remove(path)?;
            self.writer.write(path, b"", private)?;
        }
        let mut argv = vec![binary.to_string_lossy().into_owned()];
        argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let command = HostCommand {
            unit: UNIT,
            description: "Let containerd read a new configuration without starting",
            argv,
            stdout: PathBuf::from(stdout),
            stderr: PathBuf::from(stderr),
            limit: LIMIT,
        };
        Ok(self.systemd.run(&command).await?)
    }
}

struct Answer {
    finished: Finished,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The release in `containerd github.com/containerd/containerd/v2 v2.1.4 <commit>`. A build without a stamp has none.
fn release(output: &[u8]) -> Option<Version> {
    String::from_utf8_lossy(output).split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Whether the dump holds `config_path = "<certs_d>"`, in either kind of quotes (1.x and 2.x differ).
fn mentions(dump: &[u8], certs_d: &Path) -> bool {
    let certs_d = certs_d.to_string_lossy();
    String::from_utf8_lossy(dump).lines().any(|line| {
        let Some(value) = line.trim().strip_prefix("config_path") else { return false };
        let value = value.trim_start().strip_prefix('=').unwrap_or_default().trim();
        value.trim_matches(['"', '\'']) == certs_d
    })
}

/// The end of the output, on one line.
fn last_words(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    match line.char_indices().rev().nth(LONGEST_REASON - 1) {
        Some((start, _)) => format!("…{}", &line[start..]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_third_word() {
        let old = b"containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1\n";
        assert_eq!(release(old), Some(Version::new(1, 6, 20)));
        assert_eq!(
            release(b"containerd github.com/containerd/containerd/v2 v2.4.2 unknown\n"),
            Some(Version::new(2, 4, 2))
        );
        assert_eq!(
            release(b"containerd github.com/containerd/containerd/v2 2.0.0+unknown"),
            Some(Version::new(2, 0, 0))
        );
        assert_eq!(release(b"flag provided but not defined"), None);
    }

    #[test]
    fn both_kinds_of_quotes_are_read() {
        let certs_d = Path::new("/etc/containerd/certs.d");
        assert!(mentions(b"  [x.registry]\n      config_path = \"/etc/containerd/certs.d\"\n", certs_d));
        assert!(mentions(b"config_path = '/etc/containerd/certs.d'\n", certs_d));
        assert!(!mentions(b"config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n", certs_d));
        assert!(!mentions(b"root = '/etc/containerd/certs.d'\n", certs_d));
    }

    #[test]
    fn the_reason_is_the_last_line_and_not_a_page() {
        assert_eq!(
            last_words(b"usage\n\ncontainerd: toml: expected = at line 3\n\n"),
            "containerd: toml: expected = at line 3"
        );
        assert_eq!(last_words(b""), "no reason given");
        assert_eq!(last_words("ä".repeat(1000).as_bytes()).chars().count(), LONGEST_REASON + 1);
    }
}
