//! The baseline of the figures: the least that any operator must do. It watches one Secret and writes what stands in
//! it to a file. `bare-watcher NAMESPACE SECRET FILE`, with a kubeconfig in `KUBECONFIG`.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, bail};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, runtime::watcher};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare-watcher: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the baseline is kube as it comes")]
fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [namespace, secret, file] = &args[..] else { bail!("usage: bare-watcher NAMESPACE SECRET FILE") };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let api: Api<Secret> = Api::namespaced(Client::try_default().await?, namespace);
        let mut changes = std::pin::pin!(watcher::watch_object(api, secret));
        while let Some(change) = changes.next().await {
            let Ok(Some(secret)) = change else { continue };
            let value = secret.data.unwrap_or_default().remove("value").map(|bytes| bytes.0).unwrap_or_default();
            let partial = format!("{file}.new");
            fs::write(&partial, value)
                .and_then(|()| fs::rename(&partial, file))
                .with_context(|| format!("writing {file}"))?;
        }
        Ok(())
    })
}
