//! The agent: one on each node. It hears what is wanted, looks at the host, plans, applies, proves and reports.

mod approval;
mod config;
mod facts;
mod health;
mod inputs;
mod metrics;
pub mod node;
pub mod probes;
mod report;
mod reporter;
mod run;
mod second_look;
mod serve;

pub use approval::{ClusterApproval, Leave};
pub use config::AgentConfig;
pub use facts::{
    ContainerdFacts, DriftFacts, Effective, Facts, MirrorFacts, MirrorUse, NodeFailure, PlanFacts, RegistryFacts,
    Verdict,
};
pub use health::HealthMap;
pub use metrics::Metrics;
pub use run::{AgentError, run};
