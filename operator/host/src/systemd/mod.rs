//! systemd over D-Bus: what containerd's unit says, restarting it, and short-lived units that outlive this process.
//!
//! Every call opens a connection of its own and has a deadline. A connection costs about a millisecond, and one that
//! is not kept cannot go stale when systemd re-executes or the bus restarts.

mod connection;
mod error;
mod job;
mod private;
mod transient;
mod unit;

use std::path::{Path, PathBuf};

pub use error::SystemdError;
pub use transient::{Finished, HostCommand};
pub use unit::{ActiveState, InvocationId, ListedUnit, UnitState};

use connection::Bus;

use crate::fault;

/// The systemd of one host, reached through the sockets beneath the host's root directory.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// Tried in this order: the system bus first, because it is the documented interface; then the socket that
    /// `systemctl` itself uses for root, which works on hosts without a message bus.
    sockets: [Socket; 2],
}

#[derive(Debug, Clone)]
struct Socket {
    path: PathBuf,
    kind: SocketKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketKind {
    MessageBus,
    Private,
}

impl Systemd {
    /// The systemd of the host whose `/` is mounted at `host_root`. Nothing is opened yet.
    #[must_use]
    pub fn new(host_root: &Path) -> Self {
        Self {
            sockets: [
                Socket { path: host_root.join("run/dbus/system_bus_socket"), kind: SocketKind::MessageBus },
                Socket { path: host_root.join("run/systemd/private"), kind: SocketKind::Private },
            ],
        }
    }

    /// Whether this host runs systemd at all, by the directory that `sd_booted(3)` looks for.
    #[must_use]
    pub fn is_booted(host_root: &Path) -> bool {
        host_root.join("run/systemd/system").is_dir()
    }

    async fn bus(&self) -> Result<Bus, SystemdError> {
        fault::effect("systemd").map_err(|errno| SystemdError::Unreachable {
            tried: "a socket of a test".to_owned(),
            why: errno.to_string(),
        })?;
        Bus::connect(&self.sockets).await
    }
}
