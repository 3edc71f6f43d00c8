//! `hosts.toml`, the file that tells containerd which hosts to ask for a registry, and in which order.
//!
//! [`render`] writes what a given containerd reads as meant, [`parse`] reads what a given containerd reads. Both follow
//! `core/remotes/docker/config/hosts.go` (`remotes/docker/config/hosts.go` before 2.0) of the releases 1.7.35, 2.0.14,
//! 2.1.9, 2.2.9, 2.3.7 and 2.4.2.

mod duration;
mod endpoint;
mod fields;
mod model;
mod parse;
mod render;
mod restrict;

pub use duration::{DurationError, format_go_duration, parse_go_duration};
pub use endpoint::{Endpoint, EndpointError};
pub use fields::Fields;
pub use model::{Capabilities, ClientPair, Host, HostsToml};
pub use parse::{ParseError, has_upstream, parse};
pub use render::{Rendered, render};
pub use restrict::{Omission, Omitted, accepts_file_without_hosts, restrict, restrict_host};
