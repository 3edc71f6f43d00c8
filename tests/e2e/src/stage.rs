//! Runs scenarios one after the other on one bed, which is booted for the first and taken down after the last.
//!
//! A program of its own rather than libtest: the scenarios share the bed, in their order, and it goes also when one
//! fails. `E2E_KEEP=1` leaves it up and uses it again, for a fast loop.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{Cluster, Lifetime};

/// A name to filter by, and what is done.
pub type Scenario = (&'static str, fn(&Cluster) -> Result<()>);

/// The bed, once it is needed.
enum Stage {
    Dark,
    Lit(Box<Cluster>),
    Broken(String),
}

impl Stage {
    fn cluster(&mut self, up: impl FnOnce() -> Result<Cluster>) -> Result<&Cluster, String> {
        if matches!(self, Self::Dark) {
            let start = Instant::now();
            *self = match up() {
                Ok(cluster) => Self::Lit(Box::new(cluster)),
                Err(error) => Self::Broken(format!("{error:#}")),
            };
            eprintln!("the bed was up after {:.0} s", start.elapsed().as_secs_f64());
        }
        match self {
            Self::Lit(cluster) => Ok(cluster),
            Self::Broken(why) => Err(why.clone()),
            Self::Dark => Err("the bed was taken down already".to_owned()),
        }
    }
}

/// The whole of a test program: its arguments are libtest's.
pub fn play(up: fn(Lifetime) -> Result<Cluster>, scenarios: &'static [Scenario]) -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let lifetime = if std::env::var_os("E2E_KEEP").is_some() { Lifetime::Kept } else { Lifetime::Program };
    let stage = Arc::new(Mutex::new(Stage::Dark));
    let trials = scenarios.iter().map(|(name, scenario)| {
        let (stage, scenario) = (Arc::clone(&stage), *scenario);
        Trial::test(*name, move || {
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            let cluster = stage
                .cluster(|| up(lifetime))
                .map_err(|why| Failed::from(format!("the bed did not come up: {why}")))?;
            let start = Instant::now();
            let outcome = scenario(cluster);
            eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
            outcome.map_err(|error| {
                // At once, and not only when all scenarios have run.
                eprintln!("{name} failed: {error:#}");
                Failed::from(format!("{error:#}\n\n{}", cluster.dump()))
            })
        })
    });
    let conclusion = libtest_mimic::run(&args, trials.collect());
    let stage = std::mem::replace(&mut *stage.lock().unwrap_or_else(PoisonError::into_inner), Stage::Dark);
    if let Stage::Lit(cluster) = stage
        && lifetime == Lifetime::Program
    {
        let name = cluster.bed().name().to_owned();
        if let Err(error) = cluster.down() {
            eprintln!("the bed is not gone: {error:#}; run `testbed --name {name} down`");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}
