//! The log goes to stderr; stdout belongs to results.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// The log's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries that log each try of what is retried for as long as it takes. The watch or the campaign that is retried
/// says so itself, once, and says when it works again.
const QUIET: &str = "kube_client=off,kube_runtime=off,kube_lease_manager=off,zbus=error";

/// Starts logging. `RUST_LOG` overrides the default level `info`; a library of [`QUIET`] speaks when it is named there.
pub fn start(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let directives = format!("{QUIET},{}", wanted.as_deref().unwrap_or("info"));
    // A directive that cannot be read is told on stderr and left out; the others hold.
    let filter = EnvFilter::new(directives);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false)).init();
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr).with_target(false)).init(),
    }
}

/// For a command that a person runs: what goes wrong, and nothing of what goes well. `RUST_LOG` overrides that.
pub fn start_for_people() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,zbus=error"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines.with_target(false).without_time()).init();
}
