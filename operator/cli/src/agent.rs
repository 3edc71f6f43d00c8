//! `registry-mirror agent`: from arguments to the agent's settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum, value_parser};
use registry_mirror_agent::{
    AgentConfig,
    probes::{self, Progress},
};
use registry_mirror_controller::contract::BUNDLE_SECRET;
use registry_mirror_host::restart::READY_LIMIT;

use crate::{exit::Exit, logging, logging::LogFormat, shutdown, tls};

/// Runs on each node; needs root and the host's file system.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The Node that this agent runs on.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// The operator's namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "registry-mirror-system")]
    namespace: String,
    /// The Secret that holds the bundle.
    #[arg(long, default_value = BUNDLE_SECRET)]
    bundle_secret: String,
    /// The UID of the agent's own pod: the containerd that lists it is the one to configure.
    #[arg(long, env = "POD_UID")]
    pod_uid: Option<String>,
    /// Where the host's / is mounted.
    #[arg(long, default_value = "/host")]
    host_root: PathBuf,
    /// Where metrics are served.
    #[arg(long, default_value = "127.0.0.1:19464")]
    listen: SocketAddr,
    /// Seconds at most until the host is looked at again although nothing hinted at a change.
    #[arg(long, default_value_t = 30)]
    look_interval_seconds: u64,
    /// Seconds that containerd may take after its one restart to be ready, and to be proved once it is, before the old
    /// configuration is put back.
    #[arg(long, default_value_t = READY_LIMIT.as_secs(), value_parser = value_parser!(u64).range(5..=240))]
    ready_limit_seconds: u64,
    /// The log's form.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// Asks the agent of the pod that it is run in; the kubelet does.
#[derive(Debug, Args)]
pub struct AgentProbeArgs {
    /// What must be true.
    #[arg(value_enum)]
    question: Question,
    /// The UID of the pod.
    #[arg(long, env = "POD_UID")]
    pod_uid: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Question {
    /// Its loop runs.
    Alive,
    /// It has looked at the node once.
    Started,
}

/// Fails unless the agent is as far as that.
///
/// # Errors
/// A sentence for the pod's Events.
pub fn probe(args: &AgentProbeArgs) -> anyhow::Result<Exit> {
    let progress = probes::ask(&args.pod_uid).context("the agent does not answer")?;
    match (args.question, progress) {
        (Question::Alive, _) | (Question::Started, Progress::Started) => Ok(Exit::Done),
        (Question::Started, Progress::Alive) => bail!("the node has not been looked at yet"),
    }
}

/// Runs until it is told to stop.
///
/// # Errors
/// Where the agent cannot start, or a part of it that it needs has ended.
pub fn run(args: AgentArgs) -> anyhow::Result<Exit> {
    let AgentArgs {
        node_name,
        namespace,
        bundle_secret,
        pod_uid,
        host_root,
        listen,
        look_interval_seconds,
        ready_limit_seconds,
        log_format,
    } = args;
    logging::start(log_format);
    tls::use_ring();
    let config = AgentConfig {
        node_name,
        namespace,
        bundle_secret,
        pod_uid,
        host_root,
        listen,
        look_interval: Duration::from_secs(look_interval_seconds.max(1)),
        ready_limit: Duration::from_secs(ready_limit_seconds),
    };
    // One thread: an agent is idle nearly all the time, and each thread costs every node memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let client = registry_mirror_client::infer()
            .await
            .context("the API server's address and token could not be read; the agent runs in a pod of the cluster")?;
        registry_mirror_agent::run(config, client, shutdown::requested()).await?;
        Ok(Exit::Done)
    })
}
