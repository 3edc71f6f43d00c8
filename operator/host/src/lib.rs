//! Effects on a Linux host, thin and named after what they do: files beneath a root, the journal, the lock, the
//! watch for drift, systemd, CRI and the one restart.

pub mod certs_d;
pub mod cri;
pub mod fault;
pub mod file_error;
pub mod files;
pub mod guard;
pub mod journal;
pub mod lock;
pub mod observe;
mod own;
pub mod probe;
pub mod proof;
pub mod restart;
pub mod root;
pub mod shared;
pub mod since_start;
pub mod state;
pub mod systemd;
pub mod watch;
