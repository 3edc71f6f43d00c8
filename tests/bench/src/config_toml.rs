//! From the text of a config.toml to the checked edit.

use std::{fmt::Write as _, hint::black_box, path::Path};

use anyhow::{Result, ensure};
use bench::Table;
use registry_mirror_core::{
    config_toml::{MapSource, load},
    containerd::Version,
    observed::{Detected, Distribution, Observed, Proof, Supervisor, Writable},
    plan::{ConfigPlan, plan_config},
};
use toml_edit::DocumentMut;

use crate::clock::{milliseconds, repeated, throughput};

const MAIN: &str = "/etc/containerd/config.toml";

pub fn measure(table: &mut Table) -> Result<()> {
    let ordinary = testbed::default_containerd_config("2.4.2");
    let pair = timed(&ordinary)?;
    table.row(
        &format!("patch of config.toml, {} lines", ordinary.lines().count()),
        &throughput(ordinary.len(), pair.one),
        &throughput(ordinary.len(), pair.other),
        &pair.ratio(),
    );
    let long = of_lines(10_000);
    let pair = timed(&long)?;
    table.row(
        &format!("plan for config.toml, {} lines", long.lines().count()),
        &milliseconds(pair.one),
        &milliseconds(pair.other),
        &pair.ratio(),
    );
    Ok(())
}

fn timed(text: &str) -> Result<crate::clock::Pair> {
    let ConfigPlan::Patch { edit: Some(_), .. } = plan(text) else {
        anyhow::bail!("the configuration to measure with is not one that is patched: {:?}", plan(text).reason());
    };
    ensure!(text.parse::<DocumentMut>().is_ok(), "the baseline cannot read the configuration");
    Ok(repeated(
        || drop(black_box(plan(black_box(text)))),
        || drop(black_box(black_box(text).parse::<DocumentMut>().map(|document| document.to_string()))),
    ))
}

fn plan(text: &str) -> ConfigPlan {
    let version = Version::new(2, 4, 2);
    let source = MapSource::new().with(MAIN, text);
    let observed = Observed {
        containerd: version,
        distribution: Detected { distribution: Distribution::Plain, evidence: "a measurement".to_owned() },
        supervisor: Supervisor::Offline,
        config_file: MAIN.into(),
        config: load(Path::new(MAIN), version, &source),
        config_writable: Writable::Yes,
        imports_writable: std::collections::BTreeMap::new(),
        links: std::collections::BTreeMap::new(),
        directory_writable: Writable::Yes,
        proof: Proof::NotAsked,
    };
    plan_config(&observed, "2026-11-21")
}

/// A configuration with very many runtimes.
fn of_lines(lines: usize) -> String {
    let mut text = testbed::default_containerd_config("2.4.2");
    let missing = lines.saturating_sub(text.lines().count());
    for number in 0..missing / 5 {
        let table = format!("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.class{number}");
        let _ = write!(
            text,
            "[{table}]\n  # a runtime class of its own\n  runtime_type = 'io.containerd.runc.v2'\n[{table}.options]\n  \
             SystemdCgroup = true\n"
        );
    }
    text
}
