//! `registry-mirror controller`: from arguments to the controller's settings.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use registry_mirror_controller::{AGENT_GRACE, ControllerConfig};
use registry_mirror_core::{
    budget::{MaxUnavailable, Policy},
    bundle::Mode,
    compile::registry_of_image,
    lease::LeaseTimes,
    proxy::{DirectMirror, NoProxyEntry, ProxySettings, ProxyUrl},
    registry::RegistryName,
};

use crate::{exit::Exit, logging, logging::LogFormat, shutdown, tls};

/// Compiles RegistryMirrors, budgets restarts and sums up status; runs in the cluster.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The operator's namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "registry-mirror-system")]
    namespace: String,
    /// This pod's name, for the Lease and Events.
    #[arg(long, env = "POD_NAME", default_value = "registry-mirror-controller")]
    identity: String,
    /// Whether nodes are changed.
    #[arg(long, value_enum, default_value = "Enforce")]
    mode: ModeArg,
    /// Who decides that a node's containerd may restart.
    #[arg(long, value_enum, default_value = "Automatic")]
    restart_policy: PolicyArg,
    /// How many nodes may be unavailable at a time: a number, or a share such as 10%.
    #[arg(long, default_value = "10%")]
    max_unavailable: MaxUnavailable,
    /// Whether a failed restart stops all further ones until `registry-mirror resume`.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pause_on_failure: bool,
    /// The key of the taint that new nodes carry until their mirrors are in force.
    #[arg(long)]
    startup_taint: Option<String>,
    /// Seconds from a node's creation after which this taint goes in any case.
    #[arg(long, default_value_t = 300)]
    startup_taint_deadline_seconds: u64,
    /// The operator's own image: its registry can never be denied.
    #[arg(long, env = "OPERATOR_IMAGE")]
    own_image: Option<String>,
    /// A registry that mirrors themselves are served from, which can never be denied. May be repeated.
    #[arg(long)]
    own_registry: Vec<RegistryName>,
    /// containerd's forward proxy for http registries on every node: http://HOST:PORT.
    #[arg(long)]
    containerd_http_proxy: Option<ProxyUrl>,
    /// The same for https registries.
    #[arg(long)]
    containerd_https_proxy: Option<ProxyUrl>,
    /// A host, domain, address or range that containerd reaches without the proxy. May be repeated.
    #[arg(long)]
    containerd_no_proxy: Vec<NoProxyEntry>,
    /// A mirror that containerd reaches without the proxy, by its url. May be repeated.
    #[arg(long)]
    containerd_direct_mirror: Vec<DirectMirror>,
    /// Where health and metrics are served; [::] is every address, IPv4 and IPv6.
    #[arg(long, default_value = "[::]:8080")]
    listen: SocketAddr,
    /// The log's form.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// Spelled as in the chart's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum ModeArg {
    /// Nodes are made as the objects say.
    Enforce,
    /// Each node reports its plan; nothing is touched.
    DryRun,
}

/// Spelled as in the chart's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PolicyArg {
    /// The controller grants restarts within the budget.
    Automatic,
    /// A person approves each with `registry-mirror approve`.
    Manual,
    /// No restart is ever made.
    Never,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Where the controller cannot start, or a part of it that it needs has ended.
pub fn run(args: ControllerArgs) -> anyhow::Result<Exit> {
    let ControllerArgs {
        namespace,
        identity,
        mode,
        restart_policy,
        max_unavailable,
        pause_on_failure,
        startup_taint,
        startup_taint_deadline_seconds,
        own_image,
        own_registry,
        containerd_http_proxy,
        containerd_https_proxy,
        containerd_no_proxy,
        containerd_direct_mirror,
        listen,
        log_format,
    } = args;
    logging::start(log_format);
    tls::use_ring();
    let own_image = own_image.as_deref().and_then(registry_of_image);
    let proxy = ProxySettings::new(
        containerd_http_proxy,
        containerd_https_proxy,
        containerd_no_proxy,
        containerd_direct_mirror,
    )?;
    let config = ControllerConfig {
        namespace,
        identity,
        mode: match mode {
            ModeArg::Enforce => Mode::Enforce,
            ModeArg::DryRun => Mode::DryRun,
        },
        policy: match restart_policy {
            PolicyArg::Automatic => Policy::Automatic,
            PolicyArg::Manual => Policy::Manual,
            PolicyArg::Never => Policy::Never,
        },
        max_unavailable,
        pause_on_failure,
        startup_taint: startup_taint.filter(|key| !key.is_empty()),
        startup_taint_deadline: Duration::from_secs(startup_taint_deadline_seconds),
        agent_grace: AGENT_GRACE,
        listen,
        lease: LeaseTimes::default(),
        own_registries: own_registry.into_iter().chain(own_image).collect(),
        proxy,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let client = registry_mirror_client::infer().await.context(
            "the API server's address and token could not be read; the controller runs in a pod of the cluster",
        )?;
        registry_mirror_controller::run(config, client, shutdown::requested()).await?;
        Ok(Exit::Done)
    })
}
