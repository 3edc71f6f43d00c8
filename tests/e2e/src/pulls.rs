//! Pulls that go on while something else happens.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use testbed::Node;

/// What came of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulls {
    /// How many were asked for.
    pub asked: usize,
    /// Why some failed, a sentence each.
    pub failures: Vec<String>,
}

impl Pulls {
    /// Sees that there were enough of them to mean something, and that none failed.
    ///
    /// # Errors
    /// Holds the failures.
    pub fn all_went_well(&self, at_least: usize) -> Result<()> {
        let Self { asked, failures } = self;
        ensure!(failures.is_empty(), "{} of {asked} pulls failed:\n{}", failures.len(), failures.join("\n"));
        ensure!(*asked >= at_least, "only {asked} pulls were made, {at_least} would mean something");
        Ok(())
    }
}

/// Pulls and forgets images on each of the nodes, one after the other, until `work` is done. `image` makes the
/// reference of a node's next pull, whose number it is given.
///
/// # Errors
/// Those of `work`. A pull that fails is part of what is returned.
pub fn during<T>(
    nodes: &[Node],
    image: impl Fn(&Node, usize) -> Result<String> + Sync,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Pulls)> {
    let done = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let one = |node: &Node, number| -> Result<()> {
        let image = image(node, number)?;
        node.pull(&image)?;
        node.remove_image(&image)
    };
    let outcome = std::thread::scope(|scope| {
        let (done, asked, failures, one) = (&done, &asked, &failures, &one);
        for node in nodes {
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = one(node, number) {
                        let when = jiff::Timestamp::now();
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push(format!("{when} {}: {error:#}", node.name()));
                    }
                }
            });
        }
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        outcome
    })?;
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((outcome, Pulls { asked: asked.into_inner(), failures }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_or_too_few_is_not_well() {
        assert!(Pulls { asked: 5, failures: Vec::new() }.all_went_well(5).is_ok());
        assert!(Pulls { asked: 5, failures: Vec::new() }.all_went_well(6).is_err());
        assert!(Pulls { asked: 5, failures: vec!["why".to_owned()] }.all_went_well(1).is_err());
    }
}
