//! `registry-mirror completions`: the script with which a shell completes the commands. Where the program is kubectl's
//! plugin, kubectl asks it for each completion ([`kubectl`]).

pub mod kubectl;

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::exit::Exit;

/// Prints the script with which a shell completes the commands, for example
/// `source <(registry-mirror completions bash)`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script for the name under which the program was called: a shell looks completions up by name.
///
/// # Errors
/// Where `out` cannot be written.
pub fn run(
    args: &CompletionsArgs,
    mut command: clap::Command,
    name: &str,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    // The generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    Ok(Exit::Done)
}
