//! What must hold for every input, and how an input becomes files of a host.
//!
//! The targets are one line each; the properties stand here, so that what a fuzzer tries, what it kept in `corpus/` and
//! what a person wrote go through the same checks. A property that does not hold is a panic.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod config;
pub mod daemon;
pub mod fragments;
pub mod hosts;
pub mod import;
pub mod lines;
pub mod progress;
pub mod secret;
pub mod seeds;
