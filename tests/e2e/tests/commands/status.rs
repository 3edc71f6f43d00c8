//! What scripts read from the exit codes of commands about the cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, until};
use serde_json::json;

/// `status` fails while an object refers to what is not there, and `--watch` goes on until it is mended.
pub fn exit_code(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let code = |args: &[&str]| -> Result<Option<i32>> { Ok(cluster.command_line(args)?.status.code()) };
    ensure!(code(&["status"])? == Some(0) && code(&["status", "--watch"])? == Some(0), "nothing is amiss");

    let name = "e2e-unresolved";
    let mirrors = json!([{"url": MIRROR, "auth": {"secretRef": {"name": "e2e-missing"}}}]);
    cluster.bed().apply(&e2e::manifest(name, &json!({"registry": "unresolved.example", "mirrors": mirrors})))?;
    cluster.programmed(name, "0/2", Duration::from_secs(30))?;
    ensure!(code(&["status"])? == Some(1), "RefNotFound is no success");
    let mut watching = cluster.command(&["status", "--watch"])?.stdout(std::process::Stdio::null()).spawn()?;
    ensure!(watching.try_wait()?.is_none(), "`status --watch` does not wait");
    cluster.delete("registrymirror", name)?;
    let ended = until("the end of `status --watch`", Duration::from_secs(30), || Ok(watching.try_wait()?));
    let _ = watching.kill();
    watching.wait()?;
    ensure!(ended?.code() == Some(0), "`status --watch` ends with what it waited for");
    Ok(())
}

/// Where the operator is not, nothing is known of a pause.
pub fn wrong_namespace(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    for command in ["resume", "status"] {
        let output = cluster.command_line(&[command, "-n", "default"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && said.contains("is not in the namespace default"),
            "{command}: {said}"
        );
    }
    Ok(())
}
