//! What one node says of itself: the facts of a pass as plain values, and NodeMirror status made of them.

mod facts;
mod report;

pub use facts::{
    ContainerdFacts, DRIFT_KEPT, DriftFacts, Effective, Facts, MirrorFacts, MirrorUse, NodeFailure, PlanFacts,
    ProxyFacts, RegistryFacts, Verdict,
};
pub use report::status;
