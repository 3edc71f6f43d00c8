//! What a node needs: first so that containerd reads the directory at all ([`config`]), then which files stand in it
//! ([`files`]); beside them the forward proxy of containerd itself ([`proxy`]).

pub mod config;
pub mod files;
pub mod managed_elsewhere;
pub mod migrated;
pub mod proofs;
pub mod proxy;
pub mod put_backs;
pub mod rewrites;
pub mod shared;
pub mod since_start;

pub use config::{ConfigPlan, PlanHash, plan_config};
pub use proxy::{ProxyPlan, plan_proxy};
