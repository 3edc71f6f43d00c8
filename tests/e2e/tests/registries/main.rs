//! Real registries of each kind, and real pods on three generations of containerd:
//! `cargo test -p e2e --test registries -- [FILTER]`.
//!
//! `E2E_KEEP=1` leaves the bed up and uses it again, for a fast loop.

mod fields;
mod kinds;
mod lifecycle;
mod objects;
mod refusals;
mod rotation;
mod run;
mod tokens;

use std::process::ExitCode;

use e2e::{Cluster, Product, Scenario, play};
use testbed::{NodeSpec, default_registries, token_registries};

/// The oldest release that is supported, the last one without the transfer service, and the newest.
const NODES: [(&str, &str); 3] = [("node1", "1.6.20"), ("node2", "1.7.35"), ("node3", "2.4.2")];

const SCENARIOS: &[Scenario] = &[
    ("kinds::a_pod_on_every_containerd_pulls_through_each", kinds::pods_pull),
    ("tokens::the_newest_pulls_and_the_others_say_why_not", tokens::pods_pull),
    ("refusals::a_mirror_that_refuses_is_passed_over", refusals::passed_over),
    ("refusals::with_deny_the_pull_fails_and_says_why", refusals::denied),
    ("fields::capabilities_share_the_work", fields::capabilities),
    ("fields::headers_arrive", fields::headers),
    ("fields::dial_timeout_where_it_is_known", fields::dial_timeout),
    ("fields::a_registry_with_a_port", fields::host_and_port),
    ("fields::another_upstream_server", fields::upstream_server),
    ("fields::a_mirror_for_some_nodes", fields::node_selector),
    ("lifecycle::suspend_leaves_the_nodes_as_they_are", lifecycle::suspend),
    ("lifecycle::the_older_of_two_objects_wins", lifecycle::conflict),
    ("lifecycle::what_a_missing_secret_breaks", lifecycle::references),
    ("rotation::a_password", rotation::password),
    ("rotation::an_authority", rotation::authority),
    // Last, because it is for every registry without an object of its own.
    ("fields::default_for_all_other_registries", fields::default_registry),
];

fn main() -> ExitCode {
    play(
        |lifetime| {
            let nodes = NODES.map(|(name, containerd)| NodeSpec::new(name, containerd));
            let registries = default_registries().into_iter().chain(token_registries()).collect();
            let product = Product::build_with_faults()?;
            Cluster::up_with("registries", |bed| bed.nodes(nodes).registries(registries), product, lifetime)
        },
        SCENARIOS,
    )
}
