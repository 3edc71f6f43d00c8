//! What one node says of itself: the facts of a pass as plain values, the agent's write of NodeMirror status made of them,
//! and the controller's read of it.

mod facts;
mod failure;
mod read;
mod write;

pub use facts::{
    ContainerdFacts, DRIFT_KEPT, DriftFacts, Effective, Facts, MirrorFacts, MirrorUse, PlanFacts, ProxyFacts,
    RegistryFacts, Verdict,
};
pub use failure::{Attempt, NodeFailure};
pub use read::{AgentStatus, Health, MirrorReport, NodeReport, Readiness, RegistryReport, restart};
pub use write::status;

#[cfg(test)]
mod tests;
