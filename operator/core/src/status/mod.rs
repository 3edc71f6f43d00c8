//! What is said of a node and of a RegistryMirror: both sides of NodeMirror status, and RegistryMirror status made of what
//! all nodes say.
//!
//! An agent writes [`node::status`], and the controller reads it back as a [`node::Report`]; [`object::status`] sums the
//! reports up. [`event`] tells which changes of either a person hears of.

mod condition;
pub mod event;
pub mod node;
pub mod object;

pub use condition::{Status, whole_seconds};
