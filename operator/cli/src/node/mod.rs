//! `registry-mirror node plan|apply|restore`: one host, without a cluster.

mod apply;
mod diff;
mod host;
mod plan;
mod redact;
mod restore;

use std::io::Write;

use clap::{Args, Subcommand};

use crate::{cluster::block_on, exit::Exit, logging};

/// Works on the containerd of this host, or on the files of another one, without a cluster.
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Show what a host needs so that its containerd uses the mirrors; touch nothing.
    Plan(plan::PlanArgs),
    /// Make a host's containerd use the mirrors, its one restart and the proof included.
    Apply(apply::ApplyArgs),
    /// Put a host back as it was before.
    Restore(restore::RestoreArgs),
}

/// Carries the command out.
///
/// # Errors
/// A sentence for the person who must act.
pub fn run(args: NodeArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    logging::start_for_people();
    match args.command {
        NodeCommand::Plan(args) => block_on(plan::run(args, out)),
        NodeCommand::Apply(args) => block_on(apply::run(args, out)),
        NodeCommand::Restore(args) => block_on(restore::run(args, out)),
    }
}
