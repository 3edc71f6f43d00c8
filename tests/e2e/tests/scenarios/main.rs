//! The operator on two real nodes, scenario by scenario: `cargo test -p e2e --test scenarios -- [FILTER]`.
//!
//! All scenarios share one bed, in this order. It is booted for the first and taken down after the last one.
//! `E2E_KEEP=1` leaves it up and uses it again, for a fast loop.

mod agents;
mod api_server_away;
mod bad_specs;
mod changes;
mod dead_mirror;
mod first_pull;
mod modes;
mod power_cut;
mod proxy;
mod restarts;
mod rollback;
mod rotation;
mod traps;
mod uninstall;

use std::process::ExitCode;

use e2e::{Cluster, Product, Scenario, play};

const SCENARIOS: &[Scenario] = &[
    ("traps::they_catch_what_they_are_meant_to", traps::they_work),
    ("agents::a_taken_metrics_port_costs_no_mirror", agents::port_taken),
    ("first_pull::one_apply_and_both_nodes_pull_through_the_mirror", first_pull::one_apply),
    ("bad_specs::each_is_refused_with_a_sentence", bad_specs::refused),
    ("bad_specs::the_registry_cannot_be_changed", bad_specs::immutable),
    ("bad_specs::good_ones_are_accepted", bad_specs::accepted),
    ("changes::files_follow_within_two_seconds", changes::files_follow),
    ("changes::fifty_in_a_row_under_continuous_pulls", changes::fifty_in_a_row),
    ("rotation::certificates_rotate_under_continuous_pulls", rotation::certificates),
    ("dead_mirror::is_taken_out_while_another_way_answers", dead_mirror::taken_out),
    ("dead_mirror::absent_on_the_nodes_own_subnet", dead_mirror::absent),
    ("api_server_away::mirrors_keep_working", api_server_away::a_minute),
    ("restarts::pods_deleted", restarts::pods_deleted),
    ("restarts::containerd_by_hand", restarts::containerd_by_hand),
    ("restarts::nodes_rebooted", restarts::nodes_rebooted),
    ("changes::a_file_fought_over_is_put_back_always", changes::fought_over),
    ("modes::dry_run_touches_no_file", modes::dry_run),
    ("modes::an_agent_that_starts_writes_nothing_before_it_knows_the_mode", modes::agents_that_start),
    ("modes::manual_waits_for_approve", modes::manual),
    ("proxy::both_changes_take_one_restart", proxy::one_restart_for_both),
    ("proxy::a_later_change_waits_for_approval", proxy::a_later_change_waits),
    ("proxy::one_that_breaks_the_unit_is_taken_back", proxy::one_that_breaks_the_unit),
    ("proxy::gone_with_the_operator_without_a_restart", proxy::gone_with_the_operator),
    ("rollback::broken_config_toml", rollback::broken_config),
    ("rollback::candidate_that_containerd_refuses", rollback::refused_candidate),
    ("rollback::changed_since_start_and_not_by_us", rollback::changed_since_start),
    ("rollback::unit_that_does_not_start", rollback::unit_fails),
    ("rollback::import_that_breaks_cri", rollback::import_breaks_cri),
    ("power_cut::agent_killed_after_the_rename", power_cut::killed_after_rename),
    ("power_cut::agent_killed_after_the_restart_call", power_cut::killed_after_restart_call),
    ("power_cut::power_cut_after_the_rename", power_cut::cut_after_rename),
    ("power_cut::power_cut_after_the_restart_call", power_cut::cut_after_restart_call),
    ("uninstall::every_node_is_as_it_was", uninstall::as_it_was),
    ("uninstall::a_node_that_is_away_is_named", uninstall::one_away),
    ("uninstall::without_hooks_each_node_by_hand", uninstall::by_hand),
];

fn main() -> ExitCode {
    play(|lifetime| Cluster::up("e2e", Product::build_with_faults()?, lifetime), SCENARIOS)
}
