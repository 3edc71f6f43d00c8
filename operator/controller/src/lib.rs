//! The controller: compiles RegistryMirrors into the bundle, keeps one NodeMirror per node, budgets restarts, sums up.
//!
//! One loop, driven by the level and not by the edge: each pass looks at the caches, asks the pure half
//! (`registry-mirror-core`) what should be, and writes the difference. Killed at any point, the next start finds the
//! same level and goes on.

mod caches;
mod config;
pub mod contract;
mod errors;
mod events;
mod leader;
mod metrics;
mod node_mirrors;
mod presence;
mod publish;
mod restart_scheduler;
mod rollout;
mod run;
mod serve;
mod signals;
mod status;
mod taints;

pub use config::{AGENT_GRACE, ControllerConfig};
pub use errors::ControllerError;
pub use run::run;
