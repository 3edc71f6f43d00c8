//! Two nodes of different releases with one certs.d, as KinD's `extraMounts` make it:
//! `cargo test -p e2e --test shared_certs_d -- [FILTER]`.
//!
//! The scenarios build on each other, in this order, from the installation to the uninstallation. `E2E_KEEP=1` leaves
//! the bed up; the first scenario begins anew on it.

mod scenarios;

use std::{process::ExitCode, sync::OnceLock};

use anyhow::{Context as _, Result};
use e2e::{CERTS_D, Cluster, Product, Scenario, play};
use testbed::NodeSpec;

use scenarios::Before;

const SCENARIOS: &[Scenario] = &[
    ("one_writes_and_both_pull_through_the_mirror", |cluster| with_before(cluster, scenarios::one_writes)),
    ("files_are_for_the_oldest_containerd", |cluster| with_before(cluster, scenarios::oldest_decides)),
    ("an_object_for_one_node_alone_is_not_claimed", |cluster| with_before(cluster, scenarios::one_node_alone)),
    ("another_takes_over_when_the_writer_dies", |cluster| with_before(cluster, scenarios::takeover)),
    ("old_tables_are_not_carried_over", |cluster| with_before(cluster, scenarios::old_tables)),
    ("an_idle_directory_is_not_written", |cluster| with_before(cluster, scenarios::idle)),
    ("uninstall_leaves_the_directory_as_it_was", |cluster| with_before(cluster, scenarios::uninstall)),
];

/// The bed as it was before the first scenario.
static BEFORE: OnceLock<Before> = OnceLock::new();

fn with_before(cluster: &Cluster, scenario: fn(&Cluster, &Before) -> Result<()>) -> Result<()> {
    scenario(cluster, BEFORE.get().context("the bed was not looked at when it came up")?)
}

fn main() -> ExitCode {
    play(
        |lifetime| {
            let nodes = [("node1", "1.6.20"), ("node2", "2.4.2")];
            let nodes = nodes.map(|(name, release)| NodeSpec::new(name, release).shared(CERTS_D));
            let product = Product::build_with_faults()?;
            let cluster = Cluster::up_with("e2e-shared", |bed| bed.nodes(nodes), product, lifetime)?;
            let before = Before::take(&cluster)?;
            BEFORE.get_or_init(|| before);
            Ok(cluster)
        },
        SCENARIOS,
    )
}
