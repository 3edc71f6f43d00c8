//! containerd's config.toml: a table of hand-written cases, properties of generated files, and undo.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of a test fails as its body does")]

mod cases;
mod properties;
mod undo;
