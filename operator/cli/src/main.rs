//! `registry-mirror`: controller, agent and the commands that people use, in one static binary.

mod agent;
mod args;
mod cluster;
mod completions;
mod controller;
mod crds;
mod exit;
mod explain;
mod import;
mod logging;
mod manifests;
mod node;
mod objects;
mod output;
mod presets;
mod render;
mod shutdown;
mod tls;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use crate::exit::Exit;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let outcome = args::Invocation::of_this_process().run(&mut out).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match outcome {
        Ok(exit) => exit.into(),
        // `registry-mirror presets | head` is no failure.
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            // The chain from what was tried to what went wrong, in one line.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            Exit::Failed.into()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == ErrorKind::BrokenPipe)
}
