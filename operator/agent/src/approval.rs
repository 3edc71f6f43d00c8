//! Permission to restart containerd, as the controller writes it into the NodeMirror.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, Client};
use registry_mirror_core::plan::PlanHash;
use registry_mirror_crds::{NodeMirror, RestartApproval};
use registry_mirror_host::restart::{Approval, ApprovalError};

/// Whom a pass asks before it restarts containerd.
#[derive(Debug, Clone)]
pub enum RestartPermission {
    /// The controller.
    Cluster(Box<ClusterApproval>),
    /// Nobody: a person at the host asked for it.
    Person,
    /// Nobody: the files shall stand as they must before the next start, and no restart is made.
    FilesOnly,
}

/// The permission of the controller for one node.
#[derive(Debug, Clone)]
pub struct ClusterApproval {
    api: Api<NodeMirror>,
    node: String,
    /// What the watch has shown; enough to see whether asking live is worth a request.
    seen: Option<Arc<NodeMirror>>,
}

impl ClusterApproval {
    /// Asks about `node`; `seen` is its NodeMirror as last watched.
    #[must_use]
    pub fn new(client: Client, node: String, seen: Option<Arc<NodeMirror>>) -> Self {
        Self { api: Api::all(client), node, seen }
    }

    /// The question for one plan, if the watch has shown permission for it that was given after `newer_than`.
    #[must_use]
    pub fn for_plan(&self, plan: &PlanHash, newer_than: Option<Timestamp>) -> Option<PlanApproval> {
        let given_at = given_at(self.seen.as_ref()?, plan, newer_than)?;
        let (api, node, plan) = (self.api.clone(), self.node.clone(), plan.clone());
        Some(PlanApproval { api, node, plan, newer_than, given_at })
    }
}

/// Permission for one plan on one node.
#[derive(Debug, Clone)]
pub struct PlanApproval {
    api: Api<NodeMirror>,
    node: String,
    plan: PlanHash,
    newer_than: Option<Timestamp>,
    /// When it was given.
    pub given_at: Timestamp,
}

/// When permission for this plan was given. One that is not newer was used up by an attempt that failed.
fn given_at(mirror: &NodeMirror, wanted: &PlanHash, newer_than: Option<Timestamp>) -> Option<Timestamp> {
    let RestartApproval { plan, approved_at } = mirror.spec.restart_approval.as_ref()?;
    let unused = newer_than.is_none_or(|used| approved_at.0 > used);
    (plan == wanted.as_str() && unused).then_some(approved_at.0)
}

impl Approval for PlanApproval {
    async fn granted(&self) -> Result<bool, ApprovalError> {
        let mirror = self.api.get(&self.node).await.map_err(|error| {
            ApprovalError(format!("the approval on NodeMirror {} could not be read: {error}", self.node))
        })?;
        Ok(given_at(&mirror, &self.plan, self.newer_than).is_some())
    }
}
