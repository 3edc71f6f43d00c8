//! The agent: one on each node. It hears what is wanted, looks at the host, plans, applies, proves and reports.

mod approval;
mod config;
mod health;
mod inputs;
mod metrics;
pub mod node;
pub mod probes;
mod reporter;
mod run;
mod second_look;
mod serve;

pub use approval::{ClusterApproval, RestartPermission};
pub use config::AgentConfig;
pub use metrics::Metrics;
pub use run::{AgentError, run};
