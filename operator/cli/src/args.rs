//! The command line: which command, and its arguments.

use std::{ffi::OsString, io::Write, path::Path};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{agent, cluster, completions, controller, crds, exit::Exit, explain, import, node, presets, render};

/// Kubernetes nodes pull images through mirrors.
#[derive(Debug, Parser)]
#[command(name = "registry-mirror", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The program's own name.
const NAME: &str = "registry-mirror";
/// As kubectl's plugin: kubectl runs it as `kubectl-registry_mirror status`.
const PLUGIN: &str = "kubectl-registry_mirror";
/// As what completes the plugin's words.
const PLUGIN_COMPLETION: &str = "kubectl_complete-registry_mirror";

/// What the process was called for.
#[derive(Debug)]
pub enum Invocation {
    /// A command, with the name under which the program was called.
    Command(Box<Command>, &'static str),
    /// Candidates for the last of these words.
    PluginCompletion(Vec<String>),
}

impl Invocation {
    /// From the process's arguments. Exits with 2 on a usage error, as clap does.
    pub fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let called = arguments.next().unwrap_or_default();
        let called = Path::new(&called).file_name().unwrap_or_default();
        if called == PLUGIN_COMPLETION {
            return Self::PluginCompletion(arguments.map(|word| word.to_string_lossy().into_owned()).collect());
        }
        let name = if called == PLUGIN { PLUGIN } else { NAME };
        // Usage and errors speak of the program by one name.
        let cli = Cli::parse_from(std::iter::once(OsString::from(NAME)).chain(arguments));
        Self::Command(Box::new(cli.command), name)
    }

    /// Carries it out; results go to `out`.
    ///
    /// # Errors
    /// A sentence for the person who must act.
    pub fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        match self {
            Self::PluginCompletion(words) => completions::kubectl::run(Cli::command(), &words, out),
            Self::Command(command, name) => command.run(name, out),
        }
    }
}

/// One command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller; the chart's Deployment does.
    Controller(controller::ControllerArgs),
    /// Run the agent; the chart's DaemonSet does.
    Agent(agent::AgentArgs),
    /// Ask the agent of this pod whether it lives; the kubelet does.
    #[command(hide = true)]
    AgentProbe(agent::AgentProbeArgs),
    /// Write the files that a node would get, without a cluster or a node.
    Render(render::RenderArgs),
    /// Show whom containerd asks for an image, in which order, and which file says so.
    Explain(explain::ExplainArgs),
    /// Print objects that do what a file of K3s, containerd or Docker does.
    Import(import::ImportArgs),
    /// Print public mirrors as objects to apply.
    Presets(presets::PresetsArgs),
    /// Print the CustomResourceDefinitions of this release.
    Crds(crds::CrdsArgs),
    /// Plan, set up or put back one host, without a cluster.
    Node(node::NodeArgs),
    /// Print the script with which a shell completes the commands.
    Completions(completions::CompletionsArgs),
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
    fn run(self, name: &str, out: &mut impl Write) -> anyhow::Result<Exit> {
        match self {
            Self::Controller(args) => controller::run(args),
            Self::Agent(args) => agent::run(args),
            Self::AgentProbe(args) => agent::probe(&args),
            Self::Render(args) => render::run(&args, out),
            Self::Explain(args) => cluster::block_on(explain::run(&args, out)),
            Self::Import(args) => import::run(&args, out),
            Self::Presets(args) => presets::run(&args, out),
            Self::Crds(args) => crds::run(&args, out),
            Self::Node(args) => node::run(args, out),
            Self::Completions(args) => completions::run(&args, Cli::command(), name, out),
            Self::Status(args) => cluster::block_on(cluster::status::run(args, out)),
            Self::Approve(args) => cluster::block_on(cluster::approve::run(args, out)),
            Self::Resume(args) => cluster::block_on(cluster::resume::run(args, out)),
            Self::Uninstall(args) => cluster::block_on(cluster::uninstall::run(args, out)),
        }
    }
}
