//! Passes over one host without a cluster, as the agent makes them: for tests on real nodes.
//!
//! `node_pass [--pod-uid UID] [--stay] [--permission person|files|nobody] [--restore] [REGISTRY=URL]...`
//!
//! `--permission` says who lets containerd restart: the caller (unless it is said otherwise), nobody, so that the plan waits,
//! or nobody because the files shall only stand ready for its next start. Says what each pass found, a line for each fact; with `--stay` it goes on until it is killed, and looks again every
//! second and when something changes. `--restore` puts the host back, as an uninstall does.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use kube::{Client, Config};
use registry_mirror_agent::{
    ClusterApproval, Metrics, RestartPermission,
    node::{Node, NodeSettings},
};
use registry_mirror_core::bundle::{Bundle, Entry, MirrorHost, Mode, SCHEMA};
use registry_mirror_core::status::node::{Facts, Verdict};
use registry_mirror_host::restart::READY_LIMIT;

#[tokio::main]
async fn main() -> Result<()> {
    let mut settings = NodeSettings { host_root: PathBuf::from("/"), pod_uid: None, ready_limit: READY_LIMIT };
    let (mut stay, mut permission, mut mode, mut entries) =
        (false, RestartPermission::Person, Mode::Enforce, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pod-uid" => settings.pod_uid = arguments.next(),
            "--stay" => stay = true,
            "--permission" => permission = permission_of(&arguments.next().context("write whose permission")?)?,
            "--restore" => mode = Mode::Restore,
            mirror => entries.push(entry(mirror)?),
        }
    }
    let bundle = Bundle { schema: SCHEMA, mode, entries, blobs: BTreeMap::new(), proxy: None };
    let mut node = Node::open(settings)?;
    let metrics = Metrics::new();
    let mut watch = node.watch_for_drift(Duration::from_secs(1));
    let mut said = String::new();
    loop {
        let facts = node.pass(&bundle, &permission, &metrics).await;
        let text = words(&facts);
        if text != said {
            println!("{text}");
            said = text;
        }
        if !stay {
            return Ok(());
        }
        watch.set_directories(node.watched_directories());
        watch.look_by(node.look_again_at());
        tokio::select! {
            _ = watch.changed() => node.look_afresh(),
            () = node.due() => {}
        }
    }
}

fn permission_of(whom: &str) -> Result<RestartPermission> {
    Ok(match whom {
        "person" => RestartPermission::Person,
        "files" => RestartPermission::FilesOnly,
        "nobody" => {
            // Without a NodeMirror there is none to read, and nobody is asked.
            let client = Client::try_from(Config::new("http://127.0.0.1:1".parse()?))?;
            RestartPermission::Cluster(Box::new(ClusterApproval::new(client, "node".to_owned(), None)))
        }
        other => bail!("`{other}` gives no permission"),
    })
}

fn entry(text: &str) -> Result<Entry> {
    let (registry, url) = text.split_once('=').context("write REGISTRY=URL")?;
    Ok(Entry::new(registry.replace([':', '_'], "-"), registry.parse()?, vec![MirrorHost::new(url)]))
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Failed(failure, why) => format!("{}: {why}", failure.reason()),
        other => format!("{other:?}"),
    }
}

fn words(facts: &Facts) -> String {
    let mut lines = vec![format!("verdict {}", verdict(&facts.verdict)), format!("effective {:?}", facts.effective)];
    if let Some(containerd) = &facts.containerd {
        lines.push(format!("containerd {} {}", containerd.version, containerd.config_file));
        lines.push(format!("distribution {}: {}", containerd.distribution, containerd.evidence));
    }
    if let Some(plan) = &facts.plan {
        lines.push(format!("plan {} restart {}: {}", plan.kind.name(), plan.restart, plan.reason));
    }
    for registry in &facts.registries {
        lines.push(format!("registry {} {:?}", registry.registry, registry.error));
    }
    lines.extend(facts.conflicts.iter().map(|conflict| format!("conflict {conflict}")));
    lines.extend(facts.drift.iter().map(|drift| format!("drift {}", drift.what)));
    lines.push(format!("restarts {}", facts.restarts));
    lines.extend(facts.proved_restart.iter().map(|proved| format!("proved {}", proved.change)));
    lines.join("\n")
}
