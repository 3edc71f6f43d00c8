//! The commands that speak to a cluster with the user's own kubeconfig.

pub mod approve;
mod config;
pub mod resume;
pub mod rollout;
pub mod status;
pub mod uninstall;

use anyhow::Context;
use clap::Args;

use crate::tls;

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// The operator's namespace.
    #[arg(long, short = 'n', env = "REGISTRY_MIRROR_NAMESPACE", default_value = "registry-mirror-system")]
    pub namespace: String,
    /// The kubeconfig's context.
    #[arg(long)]
    pub context: Option<String>,
}

impl ClusterArgs {
    /// A client for it, from KUBECONFIG or ~/.kube/config, or from the pod's own account inside a cluster.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        tls::use_ring();
        let config = match (config::of_user(self.context.as_deref()).await, &self.context) {
            (Ok(config), _) => config,
            (Err(error), Some(context)) => {
                return Err(error).with_context(|| {
                    format!("context {context} of the kubeconfig could not be used; see `kubectl config get-contexts`")
                });
            }
            (Err(error), None) => kube::Config::incluster()
                .map_err(|_| error)
                .context("no cluster to speak to: set KUBECONFIG, or write ~/.kube/config, as for kubectl")?,
        };
        registry_mirror_client::connect(config).context("the API server's address or credentials could not be used")
    }
}

/// Runs a command that waits for the network.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(work)
}
