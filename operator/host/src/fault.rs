//! Points at which a test can end the process as a power cut would: at once, without destructors or flushes; and effects
//! that a test can make fail.
//!
//! Without the cargo feature `fault-injection` every call here compiles to nothing. With it, a point kills the process
//! when its name is
//! - the value of `REGISTRY_MIRROR_FAULT`, or `#17` there for the 17th point that is reached, or
//! - the content of the file `/run/registry-mirror-fault` beneath a host root that was opened; the file is removed
//!   first, so that it happens once.
//!
//! `REGISTRY_MIRROR_FAULT_RUN=POINT=COMMAND` runs a shell command when the point of this name is reached and waits for
//! its end: for what happens to a host at that moment.
//!
//! `REGISTRY_MIRROR_FAULT_LOG` names a file that gets one line for each point reached, which is how a test learns how
//! many there are.
//!
//! An effect fails once, with EIO, when its number (`17`) is the value of `REGISTRY_MIRROR_ERROR`.
//! `REGISTRY_MIRROR_ERROR_LOG` names a file that gets a line for each effect (`! 17 rename`) and each point.

use rustix::io::Errno;

/// A place between two effects. `name` is made of the effect and the moment, for example `write:renamed`.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn point(_name: &str) {}

/// An effect that is about to be made, by its kind: `write`, `rename`, `systemd`.
///
/// # Errors
/// Where a test wants it to fail.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn effect(_kind: &str) -> Result<(), Errno> {
    Ok(())
}

/// Makes the fault file beneath this host root count.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn watch_root(_root: &std::path::Path) {}

#[cfg(feature = "fault-injection")]
pub(crate) use armed::watch_root;
#[cfg(feature = "fault-injection")]
pub use armed::{effect, point};

#[cfg(feature = "fault-injection")]
mod armed {
    use std::{
        collections::BTreeSet,
        fs,
        io::Write as _,
        path::{Path, PathBuf},
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::Errno;

    const FAULT_FILE: &str = "run/registry-mirror-fault";

    static REACHED: AtomicUsize = AtomicUsize::new(0);
    static EFFECTS: AtomicUsize = AtomicUsize::new(0);
    static ROOTS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

    /// A place between two effects. `name` is made of the effect and the moment, for example `write:renamed`.
    pub fn point(name: &str) {
        let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
        let is_meant = |wanted: &str| wanted == name || wanted == format!("#{number}");
        note("REGISTRY_MIRROR_FAULT_LOG", &format!("{number} {name}"));
        note("REGISTRY_MIRROR_ERROR_LOG", name);
        if std::env::var("REGISTRY_MIRROR_FAULT").is_ok_and(|wanted| is_meant(&wanted)) {
            die();
        }
        if let Ok(at) = std::env::var("REGISTRY_MIRROR_FAULT_RUN")
            && let Some((wanted, command)) = at.split_once('=')
            && is_meant(wanted)
        {
            let _ = std::process::Command::new("/bin/sh").args(["-c", command]).status();
        }
        let roots = ROOTS.lock().map(|roots| roots.clone()).unwrap_or_default();
        for root in roots {
            let file = root.join(FAULT_FILE);
            if fs::read_to_string(&file).is_ok_and(|wanted| is_meant(wanted.trim())) && fs::remove_file(&file).is_ok() {
                die();
            }
        }
    }

    /// An effect that is about to be made, by its kind: `write`, `rename`, `systemd`.
    ///
    /// # Errors
    /// Where a test wants it to fail.
    pub fn effect(kind: &str) -> Result<(), Errno> {
        let number = EFFECTS.fetch_add(1, Ordering::SeqCst) + 1;
        note("REGISTRY_MIRROR_ERROR_LOG", &format!("! {number} {kind}"));
        match std::env::var("REGISTRY_MIRROR_ERROR").is_ok_and(|wanted| wanted == number.to_string()) {
            true => Err(Errno::IO),
            false => Ok(()),
        }
    }

    fn note(variable: &str, line: &str) {
        if let Some(log) = std::env::var_os(variable)
            && let Ok(mut log) = fs::OpenOptions::new().create(true).append(true).open(log)
        {
            let _ = writeln!(log, "{line}");
        }
    }

    /// Makes the fault file beneath this host root count.
    pub(crate) fn watch_root(root: &Path) {
        if let Ok(mut roots) = ROOTS.lock() {
            roots.insert(root.to_owned());
        }
    }

    fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The kernel drops a SIGKILL that the first process of a pid namespace sends to itself (pid_namespaces(7)):
        // an agent in its container would live on. An abort ends that one too, and flushes as little.
        std::process::abort()
    }
}
