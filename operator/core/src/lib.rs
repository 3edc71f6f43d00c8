//! Decisions, and nothing else: every function here goes from values to values.
//!
//! The crate builds without an async runtime, a Kubernetes client or a system-call library, so that what it says
//! about a node can be tested without one.

pub mod budget;
pub mod bundle;
pub mod compile;
pub mod config_toml;
pub mod containerd;
pub mod desired;
pub mod digest;
pub mod explain;
pub mod health;
pub mod hosts_toml;
pub mod import;
pub mod lease;
pub mod node_bundle;
pub mod node_plan;
pub mod observed;
pub mod plan;
pub mod predecessor;
pub mod provenance;
pub mod proxy;
pub mod registry;
pub mod select;
pub mod sensitive;
pub mod startup_taint;
pub mod status;
