//! What the end-to-end scenarios, the demo and the figures share: a real cluster with the operator on it, and
//! witnesses of what really happened (systemd, containerd, the registries' access logs, the API server).
//!
//! Nothing here knows the operator's code; it is used as a cluster admin uses it: helm, kubectl, the command line.

mod cluster;
mod dump;
mod install;
mod objects;
mod pristine;
mod product;
mod pulls;
mod stage;
mod status;
mod traps;
mod witness;

pub use cluster::{CERTS_D, CONFIG_TOML, Cluster, Lifetime, certs_d};
pub use install::{NAMESPACE, Proxy, Values};
pub use objects::{MIRROR, MIRROR2, RegistryMirror, manifest, pod};
pub use pristine::{host_files, leftovers, same_files};
pub use product::{Product, build_program, root as workspace};
pub use pulls::{Pulls, during};
pub use stage::{Scenario, play};
pub use status::{Condition, condition};
pub use testbed::wait::until;
pub use traps::{FAULT_FILE, Trap, restart_with_its_files};
pub use witness::{Restart, Task, Witness, insertion};
