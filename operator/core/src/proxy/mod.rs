//! containerd's own forward proxy: what the cluster asks for, what a process makes of it, and the drop-in that says so
//! to systemd.

mod drop_in;
mod environment;
mod settings;

pub use drop_in::{DROP_IN_NAME, drop_in_path, is_ours, render, sets};
pub use environment::{Environment, VARIABLES, without_userinfo};
pub use settings::{BadProxy, DirectMirror, NoProxyEntry, ProxySettings, ProxyUrl};
