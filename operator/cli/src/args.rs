//! The command line: which command, and its arguments.

use std::{ffi::OsString, io::Write};

use clap::{Parser, Subcommand};

use crate::{agent, cluster, controller, exit::Exit, explain, import, node, presets, render};

/// Kubernetes nodes pull images through mirrors.
#[derive(Debug, Parser)]
#[command(name = "registry-mirror", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller; the chart's Deployment does.
    Controller(controller::ControllerArgs),
    /// Run the agent; the chart's DaemonSet does.
    Agent(agent::AgentArgs),
    /// Write the files that a node would get, without a cluster or a node.
    Render(render::RenderArgs),
    /// Show whom containerd asks for an image, in which order, and which file says so.
    Explain(explain::ExplainArgs),
    /// Print objects that do what a file of K3s, containerd or Docker does.
    Import(import::ImportArgs),
    /// Print public mirrors as objects to apply.
    Presets(presets::PresetsArgs),
    /// Plan, set up or put back one host, without a cluster.
    Node(node::NodeArgs),
    /// Show objects, nodes and the roll-out at a glance.
    Status(cluster::status::StatusArgs),
    /// Grant the restart of containerd that nodes wait for.
    Approve(cluster::approve::ApproveArgs),
    /// Lift the pause after a failed restart.
    Resume(cluster::resume::ResumeArgs),
    /// Have every node put back as it was; `helm uninstall` does.
    Uninstall(cluster::uninstall::UninstallArgs),
}

impl Command {
    /// From the process's arguments. Exits with 2 on a usage error, as clap does.
    pub fn parse() -> Self {
        Cli::parse_from(with_plugin_name_stripped(std::env::args_os())).command
    }

    /// Carries it out; results go to `out`.
    ///
    /// # Errors
    /// A sentence for the person who must act.
    pub fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        match self {
            Self::Controller(args) => controller::run(args),
            Self::Agent(args) => agent::run(args),
            Self::Render(args) => render::run(&args, out),
            Self::Explain(args) => cluster::block_on(explain::run(&args, out)),
            Self::Import(args) => import::run(&args, out),
            Self::Presets(args) => presets::run(&args, out),
            Self::Node(args) => node::run(args, out),
            Self::Status(args) => cluster::block_on(cluster::status::run(args, out)),
            Self::Approve(args) => cluster::block_on(cluster::approve::run(args, out)),
            Self::Resume(args) => cluster::block_on(cluster::resume::run(args, out)),
            Self::Uninstall(args) => cluster::block_on(cluster::uninstall::run(args, out)),
        }
    }
}

/// kubectl runs a plugin as `kubectl-registry_mirror status`; nothing but the name differs.
fn with_plugin_name_stripped(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    std::iter::once(OsString::from("registry-mirror")).chain(arguments.skip(1)).collect()
}
