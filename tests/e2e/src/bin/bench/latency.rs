//! How long a change takes from the API server to a file on a node.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::{CERTS_D, MIRROR};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use testbed::{Bed, Node};

use crate::baseline;

const DEADLINE: Duration = Duration::from_secs(30);
/// Between two changes, so that the status writes of one are over before the next.
const REST: Duration = Duration::from_millis(700);

/// One duration per change and node.
pub struct Samples {
    /// A changed RegistryMirror -> hosts.toml.
    pub operator: Vec<Duration>,
    /// A changed Secret -> the baseline's file.
    pub baseline: Vec<Duration>,
}

/// Makes `changes` changes of each kind by turns.
pub fn measure(bed: &Bed, changes: usize) -> Result<Samples> {
    // A thread of its own: one that has entered the bed's network does not come back.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            bed.enter_network()?;
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(in_network(bed, changes))
        });
        measured.join().map_err(|_| anyhow!("a thread broke down")).flatten()
    })
}

async fn in_network(bed: &Bed, changes: usize) -> Result<Samples> {
    let kubeconfig = Kubeconfig::read_from(bed.kubeconfig())?;
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), baseline::NAMESPACE);
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("registry-mirror.dev", "v1alpha1", "RegistryMirror"));
    let mirrors: Api<DynamicObject> = Api::all_with(client, &kind);
    // Straight through the node's root: nothing in between takes time.
    let paths = |file: &str| -> Result<Vec<PathBuf>> {
        let init = |node: &Node| node.init().map(|pid| pid.as_raw_nonzero()).context("a node is off");
        bed.nodes().iter().map(|node| Ok(PathBuf::from(format!("/proc/{}/root{file}", init(node)?)))).collect()
    };
    let (hosts, bare) = (paths(&format!("{CERTS_D}/docker.io/hosts.toml"))?, paths(baseline::FILE)?);
    let merge = PatchParams::default();
    let mut samples = Samples { operator: Vec::new(), baseline: Vec::new() };
    for number in 0..changes {
        let mark = format!("change-{number}-");
        let header = json!([{"name": "X-Change", "values": [mark]}]);
        let spec = json!({"spec": {"mirrors": [{"url": MIRROR, "headers": header}]}});
        let start = Instant::now();
        mirrors.patch("docker-hub", &merge, &Patch::Merge(&spec)).await?;
        samples.operator.extend(seen(&hosts, &mark, start)?);
        tokio::time::sleep(REST).await;

        let data = json!({"stringData": {"value": mark}});
        let start = Instant::now();
        secrets.patch(baseline::SECRET, &merge, &Patch::Merge(&data)).await?;
        samples.baseline.extend(seen(&bare, &mark, start)?);
        tokio::time::sleep(REST).await;
    }
    Ok(samples)
}

/// When each of the files held the mark, counted from `start`.
fn seen(paths: &[PathBuf], mark: &str, start: Instant) -> Result<Vec<Duration>> {
    let mut found = vec![None; paths.len()];
    while found.iter().any(Option::is_none) {
        for (path, found) in paths.iter().zip(&mut found) {
            if found.is_none() && fs::read_to_string(path).is_ok_and(|text| text.contains(mark)) {
                *found = Some(start.elapsed());
            }
        }
        ensure!(
            start.elapsed() < DEADLINE,
            "a change did not reach {} within {} s",
            paths[0].display(),
            DEADLINE.as_secs()
        );
        std::thread::sleep(Duration::from_micros(300));
    }
    Ok(found.into_iter().flatten().collect())
}

/// The smallest sample that `percent` of all samples do not exceed.
pub fn quantile(samples: &[Duration], percent: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<Duration> = (1..=40).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&samples, 50), Duration::from_millis(20));
        assert_eq!(quantile(&samples, 99), Duration::from_millis(40));
        assert_eq!(quantile(&samples[..1], 50), Duration::from_millis(40));
    }
}
