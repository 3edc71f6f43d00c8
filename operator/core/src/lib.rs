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
pub mod marker;
pub mod node_plan;
pub mod observed;
pub mod plan;
pub mod predecessor;
pub mod proxy;
pub mod registry;
pub mod select;
pub mod sensitive;
pub mod slice;
pub mod startup_taint;
pub mod status;

pub use status::node as node_status;
