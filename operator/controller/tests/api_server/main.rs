//! The controller against a real API server and etcd, without kubelets: Nodes are objects only, and each agent is
//! played by the test, which writes the same status and Pod that an agent would.
//!
//! Needs `REGISTRY_MIRROR_TEST_KUBECONFIG`, an admin's kubeconfig of a cluster that the tests may do with as they like;
//! without it each test says so and passes. `make test` sets it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test says what it expects, and hands JSON about"
)]

mod bundle;
mod cluster;
mod fencing;
mod gate;
mod leadership;
mod lost_bundle;
mod nodes;
mod published;
mod restarts;
mod silent_peer;
mod status;
