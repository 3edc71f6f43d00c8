//! hosts.toml as a whole: what is rendered is read back, by this project's parser and by containerd's own code.
#![allow(clippy::expect_used, clippy::panic, reason = "a helper of a test fails as its body does")]

mod oracle;
mod parsing;
mod rendering;
mod roundtrip;
mod strategy;
