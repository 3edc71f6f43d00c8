//! The cluster that the user's kubeconfig names, and the way to it.

use anyhow::{Context as _, Result};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use registry_mirror_core::proxy::Environment;

/// From KUBECONFIG or ~/.kube/config.
pub async fn of_user(context: Option<&str>) -> Result<Config> {
    let kubeconfig = Kubeconfig::read()?;
    let own = own_proxy(&kubeconfig, context);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // kube (5.0.0) compares NO_PROXY with the proxy's own address, and does not know a proxy without a scheme. This is what
    // kubectl does: a proxy that the kubeconfig names is always asked, one of the environment where NO_PROXY allows it.
    let server = config.cluster_url.to_string();
    let proxy = own.or_else(|| std::env::vars_os().filter_map(as_text).collect::<Environment>().proxy_for(&server));
    config.proxy_url = proxy
        .map(|proxy| proxy.parse().context("the proxy before the API server (HTTPS_PROXY or proxy-url) is no url"))
        .transpose()?;
    Ok(config)
}

/// The `proxy-url` of the context's cluster.
fn own_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == name)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|proxy| !proxy.is_empty())
}

fn as_text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
