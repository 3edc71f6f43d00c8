//! `registry-mirror resume`: lifts the pause after a failed restart, saying what failed, and calls off an uninstall that
//! was broken off.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use kube::api::{Patch, PatchParams};
use registry_mirror_controller::contract::ROLLOUT_CONFIG_MAP;
use serde_json::json;

use super::{
    ClusterArgs,
    rollout::{self, Pause},
};
use crate::{exit::Exit, objects::note, output::Format};

/// Lifts the pause after a failed restart, saying what failed; calls off an uninstall that did not end.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Sets `paused` to false in the roll-out's ConfigMap, and takes the mode of an uninstall out of it.
///
/// # Errors
/// Where the cluster cannot be reached.
pub async fn run(args: ResumeArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ResumeArgs { output, cluster } = args;
    let api = rollout::api(cluster.client().await?, &cluster.namespace);
    let restored = rollout::restores(&api).await?;
    if restored {
        rollout::stop_restoring(&api).await?;
        note("an uninstall had every node put back as it was and did not end; nodes are set up again");
    }
    let Some(pause) = rollout::pause(&api).await? else {
        let value = json!({ "resumed": null, "uninstallCalledOff": restored });
        output.write(&value, out, |out| match restored {
            true => writeln!(out, "The uninstall is called off."),
            false => writeln!(out, "The roll-out is not paused. A node whose restart failed is tried again after `registry-mirror approve NODE`."),
        })?;
        return Ok(Exit::Done);
    };
    let patch = json!({ "data": { "paused": "false" } });
    api.patch(ROLLOUT_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be changed"))?;
    let Pause { node, reason, since } = &pause;
    let value = json!({
        "resumed": { "node": node, "reason": reason, "since": since },
        "uninstallCalledOff": restored,
    });
    output.write(&value, out, |out| {
        writeln!(out, "Resumed. It was paused since {since}: the restart on {node} failed: {reason}")
    })?;
    Ok(Exit::Done)
}
