//! What the commands say, beside what containerd does: `cargo test -p e2e --test commands -- [FILTER]`.
//!
//! All share one bed, in this order; `E2E_KEEP=1` leaves it up and uses it again.

mod deny;
mod explain;
mod import;
mod proxy;
mod secrets;
mod status;
mod traffic;

use std::process::ExitCode;

use e2e::{Cluster, Product, Scenario, play};

const SCENARIOS: &[Scenario] = &[
    ("deny::no_packet_leaves_for_the_upstream", deny::no_packet),
    ("explain::names_the_hosts_that_containerd_then_asks", explain::order),
    ("secrets::stand_where_they_must_and_nowhere_else", secrets::nowhere_else),
    ("proxy::cluster_commands_go_through_the_one_of_the_environment", proxy::of_the_environment),
    ("status::fails_and_waits_while_something_is_amiss", status::exit_code),
    ("status::and_resume_know_where_the_operator_is_not", status::wrong_namespace),
    ("import::k3s_sends_the_same_requests", import::k3s),
];

fn main() -> ExitCode {
    play(|lifetime| Cluster::up("commands", Product::build_with_faults()?, lifetime), SCENARIOS)
}
