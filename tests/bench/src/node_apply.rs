//! `node apply` on a host's files, without a restart.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench::Table;
use tempfile::TempDir;

use crate::clock::{medians, milliseconds};

const SAMPLES: usize = 15;
const OBJECTS: usize = 10;
const CONFIG: &str = "etc/containerd/config.toml";

pub fn measure(table: &mut Table, binary: &Path) -> Result<()> {
    let objects = TempDir::new()?;
    let file = objects.path().join("mirrors.yaml");
    fs::write(&file, manifests())?;

    // What is to be copied: the files as `node apply` leaves them.
    let written = host()?;
    apply(binary, written.path(), &file)?;
    let certs = written.path().join("etc/containerd/certs.d");
    let files = fs::read_dir(&certs)?.count();
    ensure!(files == OBJECTS, "`node apply` wrote {files} directories, not {OBJECTS}");

    let [mut first, mut copied, mut synced, mut again] = [const { Vec::new() }; 4];
    for _ in 0..SAMPLES {
        first.push(apply(binary, host()?.path(), &file)?);
        copied.push(copy(written.path(), host()?.path(), false)?);
        synced.push(copy(written.path(), host()?.path(), true)?);
        again.push(apply(binary, written.path(), &file)?);
    }
    for (figure, operator, baseline) in [
        (format!("node apply of {OBJECTS} registries, against cp").as_str(), &first, &copied),
        ("the same, against cp and a sync of each file", &first, &synced),
        ("node apply again, nothing to do, against cp", &again, &copied),
    ] {
        let pair = medians(operator, baseline);
        table.row(figure, &milliseconds(pair.one), &milliseconds(pair.other), &pair.ratio());
    }
    Ok(())
}

/// A host that has a config.toml without `config_path`.
fn host() -> Result<TempDir> {
    let root = TempDir::new()?;
    fs::create_dir_all(root.path().join("var/lib"))?;
    let config = root.path().join(CONFIG);
    fs::create_dir_all(config.parent().context("a directory")?)?;
    fs::write(config, testbed::default_containerd_config("2.4.2"))?;
    Ok(root)
}

fn apply(binary: &Path, root: &Path, file: &Path) -> Result<Duration> {
    let mut command = Command::new(binary);
    command.args(["node", "apply", "--no-restart", "--containerd-version", "2.4.2", "--host-root"]);
    timed(command.arg(root).arg("-f").arg(file))
}

fn copy(from: &Path, to: &Path, safely: bool) -> Result<Duration> {
    let mut command = Command::new("sh");
    let script = "cp -r \"$1/etc/.\" \"$2/etc\"";
    let script = if safely { format!("{script} && find \"$2/etc\" -exec sync {{}} +") } else { script.to_owned() };
    timed(command.args(["-c", &script, "sh"]).arg(from).arg(to))
}

fn timed(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().context("a program could not be started")?;
    let took = start.elapsed();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took)
}

fn manifests() -> String {
    (0..OBJECTS)
        .map(|number| {
            format!(
                "---\napiVersion: registry-mirror.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: m{number}}}\n\
                 spec:\n  registry: registry{number}.example.com\n  mirrors:\n  - url: https://a.example.com\n    \
                 repositoryPrefix: p{number}\n  - url: https://b.example.com\n"
            )
        })
        .collect()
}
