//! `testbed`: a real cluster on one machine, from the command line.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use testbed::{Bed, Cache, Health, NodeSpec, build_all, default_nodes, install};

/// A real Kubernetes cluster with real systemd nodes on one machine.
#[derive(Parser)]
#[command(name = "testbed", version)]
struct Args {
    /// The bed meant; several can exist side by side.
    #[arg(long, global = true, default_value = "dev", env = "RMO_BED")]
    name: String,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the Debian packages that are missing.
    Install,
    /// Build all parts into the cache.
    Build {
        /// All releases of containerd, not only those of the default nodes.
        #[arg(long)]
        all_containerds: bool,
    },
    /// Make a bed and wait until it is ready. A bed that is ready already is left as it is.
    Up {
        /// NAME=CONTAINERD[,config=FILE|none][,label=KEY=VALUE]...; default: node1=1.6.20 and node2=2.4.2.
        #[arg(long = "nodes", value_name = "SPEC")]
        nodes: Vec<String>,
        /// No nodes: a control plane and registries.
        #[arg(long, conflicts_with = "nodes")]
        no_nodes: bool,
        /// Only systemd and containerd on the nodes, no cluster.
        #[arg(long)]
        no_kubernetes: bool,
        /// Make it anew even if it is ready.
        #[arg(long)]
        fresh: bool,
    },
    /// Show what runs. Exit code 1 if something does not.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a bed down, in whatever state it is.
    Down {
        /// All beds.
        #[arg(long)]
        all: bool,
    },
    /// Run kubectl as the administrator.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// kubectl's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run helm as the administrator.
    #[command(disable_help_flag = true)]
    Helm {
        /// helm's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Open a shell on a node.
    Shell {
        /// The node.
        node: String,
    },
    /// Run a command on a node.
    Exec {
        /// The node.
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command of the machine in the bed's network.
    Net {
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Change the state of a node.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Stop or start a process of the bed: kube-apiserver, etcd, mirror, ... (`status` lists them).
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Print what was asked of a registry, one JSON object per line.
    Accesses {
        /// The registry.
        registry: String,
    },
    /// Put a small image into a registry.
    Push {
        /// The registry.
        registry: String,
        /// NAME:TAG, for example library/nginx:1.27.
        image: String,
        /// How many layers it has.
        #[arg(long, default_value_t = 1)]
        layers: usize,
    },
    /// Put the operator's binary as an image where every node can pull it, and print its reference.
    PushOperator {
        /// The static binary.
        binary: PathBuf,
    },
}

#[derive(Subcommand)]
enum NodeVerb {
    /// Boot it and wait until it is Ready.
    Boot {
        /// The node.
        node: String,
    },
    /// Shut it down in order.
    ShutDown {
        /// The node.
        node: String,
    },
    /// Shut it down and boot it.
    Reboot {
        /// The node.
        node: String,
    },
    /// End it as a power cut would.
    PowerCut {
        /// The node.
        node: String,
    },
}

#[derive(Subcommand)]
enum ServiceVerb {
    /// End it in order.
    Stop {
        /// The process.
        service: String,
    },
    /// End it at once.
    Kill {
        /// The process.
        service: String,
    },
    /// Start it again as it was.
    Start {
        /// The process.
        service: String,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Args { name, command }: Args) -> Result<ExitCode> {
    match command {
        Verb::Install => install()?,
        Verb::Build { all_containerds } => build_all(&Cache::locate()?, all_containerds)?,
        Verb::Up { nodes, no_nodes, no_kubernetes, fresh } => {
            up(&name, wanted(&nodes, no_nodes)?, !no_kubernetes, fresh)?;
        }
        Verb::Status { json } => return status(&name, json),
        Verb::Down { all: false } => Bed::remove(&name)?,
        Verb::Down { all: true } => Bed::names()?.iter().try_for_each(|name| Bed::remove(name))?,
        Verb::Kubectl { args } => become_program(Bed::attach(&name)?.kubectl_command(words(&args))?)?,
        Verb::Helm { args } => {
            let bed = Bed::attach(&name)?;
            let program = testbed::helm(&Cache::locate()?)?.join("helm");
            let mut helm = bed.inside([program.to_string_lossy().as_ref()]);
            become_program_ref(helm.env("KUBECONFIG", bed.kubeconfig()).args(args))?;
        }
        Verb::Shell { node } => {
            let mut shell = Bed::attach(&name)?.node(&node)?.command(["env", "TERM=xterm", "bash", "-l"])?;
            become_program_ref(&mut shell)?;
        }
        Verb::Exec { node, command } => become_program(Bed::attach(&name)?.node(&node)?.command(words(&command))?)?,
        Verb::Net { command } => become_program(Bed::attach(&name)?.inside(words(&command)))?,
        Verb::Node(verb) => {
            let bed = Bed::attach(&name)?;
            match verb {
                NodeVerb::Boot { node } => bed.boot(&node)?,
                NodeVerb::ShutDown { node } => bed.node(&node)?.shut_down()?,
                NodeVerb::PowerCut { node } => bed.node(&node)?.power_cut()?,
                NodeVerb::Reboot { node } => {
                    bed.node(&node)?.shut_down()?;
                    bed.boot(&node)?;
                }
            }
        }
        Verb::Service(verb) => {
            let bed = Bed::attach(&name)?;
            match verb {
                ServiceVerb::Stop { service } => bed.stop(&service)?,
                ServiceVerb::Kill { service } => bed.kill(&service)?,
                ServiceVerb::Start { service } => bed.start(&service)?,
            }
        }
        Verb::Accesses { registry } => {
            for access in Bed::attach(&name)?.accesses(&registry)? {
                println!("{}", serde_json::to_string(&access)?);
            }
        }
        Verb::Push { registry, image, layers } => {
            let (repository, tag) = image
                .rsplit_once(':')
                .with_context(|| format!("`{image}` has no tag: write NAME:TAG, for example library/nginx:1.27"))?;
            println!(
                "{}",
                Bed::attach(&name)?.push(&registry, repository, tag, &testbed::Image::filler(&image, layers))?
            );
        }
        Verb::PushOperator { binary } => println!("{}", Bed::attach(&name)?.push_operator_image(&binary)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn words(words: &[String]) -> impl Iterator<Item = &str> {
    words.iter().map(String::as_str)
}

fn become_program(mut command: Command) -> Result<()> {
    become_program_ref(&mut command)
}

/// Turns this process into that program, with this terminal.
fn become_program_ref(command: &mut Command) -> Result<()> {
    Err(command.stdin(std::process::Stdio::inherit()).exec()).context("the program could not be started")
}

fn wanted(specs: &[String], none: bool) -> Result<Vec<NodeSpec>> {
    if specs.is_empty() && !none {
        return Ok(default_nodes().into());
    }
    specs.iter().map(|spec| NodeSpec::parse(spec)).collect()
}

fn up(name: &str, nodes: Vec<NodeSpec>, kubernetes: bool, fresh: bool) -> Result<()> {
    let start = Instant::now();
    if !fresh
        && let Ok(bed) = Bed::attach(name)
        && bed.has(&nodes, kubernetes)
        && bed.health().is_ok_and(|health| health.is_good())
    {
        println!("the bed {name} is up already");
        return Ok(());
    }
    install()?;
    let mut bed = Bed::builder(name).kubernetes(kubernetes).nodes(nodes).up_or_leave(true).context(
        "the bed did not come up; what there is of it is left to be looked at (`testbed status`, the logs in its state directory), and `testbed down` removes it",
    )?;
    bed.keep();
    println!(
        "the bed {name} is up after {:.1} s; its files are in {}",
        start.elapsed().as_secs_f64(),
        bed.state().display()
    );
    Ok(())
}

fn status(name: &str, json: bool) -> Result<ExitCode> {
    let health = Bed::attach(name)?.health()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&health)?);
    } else {
        print(&health);
    }
    Ok(if health.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(health: &Health) {
    let pid = |pid: Option<i32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    println!("{:<26} PID", "SERVICE");
    for service in &health.services {
        println!("{:<26} {}", service.name, pid(service.pid));
    }
    println!("\n{:<12} {:<12} {:<14} {:<8} READY", "NODE", "CONTAINERD", "ADDRESS", "PID");
    for node in &health.nodes {
        let ready = node.ready.as_deref().unwrap_or("-");
        println!("{:<12} {:<12} {:<14} {:<8} {ready}", node.name, node.containerd, node.address, pid(node.pid));
    }
}
