//! containerd's config.toml: a table of hand-written cases, properties of generated files, and undo.

mod cases;
mod properties;
mod undo;
