//! What a node needs: first so that containerd reads the directory at all ([`config`]), then which files stand in it
//! ([`files`]).

pub mod claims;
pub mod config;
pub mod files;
pub mod migrated;
pub mod rewrites;
pub mod shared;

pub use config::{ConfigPlan, PlanHash, plan_config};
