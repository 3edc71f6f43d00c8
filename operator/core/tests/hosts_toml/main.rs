//! hosts.toml as a whole: what is rendered is read back, by this project's parser and by containerd's own code.

mod oracle;
mod parsing;
mod rendering;
mod roundtrip;
mod strategy;
