//! The log goes to stderr; stdout belongs to results.

use std::{ffi::OsStr, io::IsTerminal};

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
const QUIET: &str = "kube_client=off,kube_runtime=off,zbus=error";

/// Starts logging. `RUST_LOG` overrides the default level `info`; a library of [`QUIET`] speaks when it is named there.
pub fn start(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let directives = format!("{QUIET},{}", wanted.as_deref().unwrap_or("info"));
    // A directive that cannot be read is told on stderr and left out; the others hold.
    let filter = EnvFilter::new(directives);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colours()).with_target(false)).init();
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr).with_target(false)).init(),
    }
}

fn colours() -> bool {
    wants_colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref())
}

/// On a terminal, unless the person wants none (<https://no-color.org>).
fn wants_colours(on_terminal: bool, no_color: Option<&OsStr>) -> bool {
    on_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// For a command that a person runs: what goes wrong, and nothing of what goes well. `RUST_LOG` overrides that.
pub fn start_for_people() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,zbus=error"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours());
    tracing_subscriber::registry().with(filter).with(lines.with_target(false).without_time()).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_of_people_who_want_them() {
        assert!(wants_colours(true, None) && wants_colours(true, Some(OsStr::new(""))));
        assert!(!wants_colours(false, None) && !wants_colours(true, Some(OsStr::new("1"))));
    }
}
