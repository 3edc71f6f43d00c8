//! Every containerd line with every kind of configuration that it may start from, on real systemd nodes without a
//! cluster: `registry-mirror node apply`, a pull through the mirror, `node restore`, and a pull as before.

mod cell;
mod daemon;
mod dump;
mod field;
mod product;
mod start;
mod traffic;
mod users;

pub use cell::{Cell, MATRIX, covering, run};
pub use field::{FIELD, Field};
pub use product::{Product, seed};
pub use start::Start;
