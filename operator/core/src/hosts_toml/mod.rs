//! `hosts.toml`, the file that tells containerd which hosts to ask for a registry, and in which order.
//!
//! [`render`] writes what a given containerd reads as meant, [`parse`] reads what a given containerd reads. Both follow
//! `core/remotes/docker/config/hosts.go` (`remotes/docker/config/hosts.go` before 2.0) of the releases 1.7.35, 2.0.14,
//! 2.1.9, 2.2.9, 2.3.7 and 2.4.2.

mod duration;
mod endpoint;
mod fields;
mod model;
mod omission;
mod parse;
mod reader;
mod render;
mod restrict;
mod text;

pub use duration::{DurationError, format_go_duration, parse_go_duration};
pub use endpoint::{Endpoint, EndpointError};
pub use model::{Capabilities, ClientPair, Fields, Host, HostsToml};
pub use omission::{Omission, Omitted};
pub use parse::{has_upstream, parse};
pub use reader::ParseError;
pub use render::{Rendered, render};
pub use restrict::{accepts_file_without_hosts, restrict, restrict_host};
