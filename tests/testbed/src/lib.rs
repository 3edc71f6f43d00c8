//! A real Kubernetes cluster on one machine, for tests that must see the real thing.
//!
//! A *bed* is a control plane, registries and nodes in network namespaces and control groups of their own.
//! Each node is a Debian with systemd and a containerd of a chosen release; nothing is simulated but the hardware.
//! It needs root on Linux, and leaves the machine's interfaces, services and kernel settings alone.
//!
//! ```no_run
//! use testbed::{Bed, NodeSpec};
//!
//! # fn main() -> anyhow::Result<()> {
//! let bed = Bed::builder("demo").node(NodeSpec::new("node1", "1.6.20")).node(NodeSpec::new("node2", "2.4.2")).up()?;
//! bed.push("mirror", "library/nginx", "1.27", &testbed::Image::filler("nginx", 3))?;
//! bed.node("node1")?.pull("docker.io/library/nginx:1.27")?;
//! # Ok(())
//! # } // the bed is torn down here
//! ```

mod access_log;
mod bed;
mod builder;
mod cache;
mod cgroup;
mod command;
mod containerd_config;
mod control_plane;
mod health;
mod image;
pub mod k3s;
mod netns;
mod node;
mod node_files;
mod node_spec;
mod parts;
pub mod pins;
mod pki;
mod registry;
mod service;
mod teardown;
mod token_server;
pub mod wait;

pub use access_log::Access;
pub use bed::Bed;
pub use builder::Builder;
pub use cache::Cache;
pub use containerd_config::for_version as default_containerd_config;
pub use health::{Health, NodeHealth, ServiceHealth};
pub use image::{Image, ImageFile};
pub use netns::{BLACKHOLE, GATEWAY};
pub use node::Node;
pub use node_spec::{Config, NodeFile, NodeSpec, default_nodes};
pub use parts::{all as build_all, forward_proxy, helm, install, pause};
pub use pki::Pair;
pub use registry::{
    Account, Admission, Behaviour, IMAGES, ROBOT, RegistrySpec, TOKEN_ROBOT, Transport, default_registries,
    token_registries,
};
