//! `make bench`: figures of the operator on the two-node cluster, each beside a baseline of the same run.

mod baseline;
mod footprint;
mod latency;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use bench::Table;
use e2e::{Cluster, Lifetime, Product, RegistryMirror, Values, Witness, build_program};

const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match figures() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn figures() -> Result<()> {
    let changes = match std::env::var("BENCH_CHANGES") {
        Ok(text) => text.parse().context("BENCH_CHANGES is no number")?,
        Err(_) => 20,
    };
    let product = Product::build()?;
    let bare_watcher = build_program("e2e", "bare-watcher", &[])?;
    let cluster = Cluster::up("bench", product.clone(), Lifetime::Program)?;
    let mut table = Table::default();

    cluster.install(&Values::default())?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    for node in cluster.nodes() {
        let restart = Witness::restarts(node)?.last().copied().context("the journal shows no restart of containerd")?;
        let took = restart.started.duration_since(restart.stopping).as_millis();
        table.row(&format!("the one restart of containerd {}", node.spec().containerd), &format!("{took} ms"), "", "");
    }

    baseline::start(&cluster, &bare_watcher)?;
    let samples = latency::measure(cluster.bed(), changes)?;
    for (name, quantile) in [("p50", 50), ("p99", 99)] {
        let (operator, bare) =
            (latency::quantile(&samples.operator, quantile), latency::quantile(&samples.baseline, quantile));
        table.row(
            &format!("apply -> file on a node, {name} of {}", samples.operator.len()),
            &format!("{:.1} ms", operator.as_secs_f64() * 1e3),
            &format!("{:.1} ms", bare.as_secs_f64() * 1e3),
            &format!("{:.2}", operator.as_secs_f64() / bare.as_secs_f64()),
        );
    }

    let bare = footprint::baseline(&cluster)?;
    for (name, memory) in footprint::operator(&cluster)? {
        for (kind, of) in [("VmRSS", memory.resident_kib), ("RssAnon", memory.anonymous_kib)] {
            let beside = if kind == "VmRSS" { bare.resident_kib } else { bare.anonymous_kib };
            table.row(&format!("{name} idle, {kind}"), &mib(of), &mib(beside), &ratio(of, beside));
        }
    }
    let size = footprint::size(&product.binary)?;
    let beside = footprint::size(&bare_watcher)?;
    table.row("binary", &mib(size.binary / 1024), &mib(beside.binary / 1024), &ratio(size.binary, beside.binary));
    table.row(
        "image, compressed",
        &mib(size.compressed / 1024),
        &mib(beside.compressed / 1024),
        &ratio(size.compressed, beside.compressed),
    );
    println!("{}", table.text());
    println!(
        "Baseline: a bare client that watches one Secret and writes it to a file, on the same nodes in the same run."
    );
    cluster.down()
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn ratio(one: u64, other: u64) -> String {
    format!("{:.2}", one as f64 / other as f64)
}
