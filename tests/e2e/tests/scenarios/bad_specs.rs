//! The table of bad specs, at the real API server.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Cluster, RegistryMirror, workspace};

fn specs(kind: &str) -> Result<Vec<PathBuf>> {
    let directory = workspace().join("crds/tests/specs").join(kind);
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("{} cannot be read", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `kubectl apply` as a user types it; returns whether it was accepted, and what was said.
fn apply(cluster: &Cluster, file: &str) -> Result<(bool, String)> {
    let output = cluster.bed().kubectl_command(["apply", "--dry-run=server", "-f", file])?.output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

pub fn refused(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let specs = specs("refused")?;
    ensure!(specs.len() >= 25, "the table has {} bad specs, at least 25 are asked for", specs.len());
    let mut wrong = Vec::new();
    for path in &specs {
        let text = fs::read_to_string(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(sentence) = text.lines().next().and_then(|line| line.strip_prefix("# refused: ")) else {
            bail!("{name} does not begin with `# refused: ` and the sentence that is expected");
        };
        let (accepted, said) = apply(cluster, &path.to_string_lossy())?;
        if accepted {
            wrong.push(format!("{name} was accepted"));
        } else if !said.contains(sentence) {
            wrong.push(format!("{name}: expected `{sentence}`, the API server said: {}", said.trim()));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} bad specs:\n{}", wrong.len(), specs.len(), wrong.join("\n"));
    Ok(())
}

pub fn accepted(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let mut wrong = Vec::new();
    for path in specs("accepted")? {
        let (accepted, said) = apply(cluster, &path.to_string_lossy())?;
        if !accepted {
            wrong.push(format!("{}: {}", path.display(), said.trim()));
        }
    }
    ensure!(wrong.is_empty(), "good specs were refused:\n{}", wrong.join("\n"));
    Ok(())
}

pub fn immutable(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let mut other = RegistryMirror::docker_hub();
    other.registry = "quay.io".to_owned();
    let Err(error) = cluster.apply(&other) else { bail!("the registry of an object could be changed") };
    let said = format!("{error:#}");
    ensure!(said.contains("registry") && said.contains("cannot be changed"), "the refusal does not say why: {said}");
    Ok(())
}
