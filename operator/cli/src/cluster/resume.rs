//! `registry-mirror resume`: lifts the pause after a failed restart, saying what failed.

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
use crate::{exit::Exit, output::Format};

/// Lifts the pause after a failed restart, saying what failed.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Sets `paused` to false in the roll-out's ConfigMap.
///
/// # Errors
/// Where the cluster cannot be reached.
pub async fn run(args: ResumeArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ResumeArgs { output, cluster } = args;
    let api = rollout::api(cluster.client().await?, &cluster.namespace);
    let Some(pause) = rollout::pause(&api).await? else {
        output.write(&json!({ "resumed": null }), out, |out| writeln!(out, "The roll-out is not paused."))?;
        return Ok(Exit::Done);
    };
    let patch = json!({ "data": { "paused": "false" } });
    api.patch(ROLLOUT_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be changed"))?;
    let Pause { node, reason, since } = &pause;
    let value = json!({ "resumed": { "node": node, "reason": reason, "since": since } });
    output.write(&value, out, |out| {
        writeln!(out, "Resumed. It was paused since {since}: the restart on {node} failed: {reason}")
    })?;
    Ok(Exit::Done)
}
