//! Runs programs and turns their failure into a sentence.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command with nothing on its standard input.
pub(crate) fn command<I, S>(argv: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut argv = argv.into_iter();
    let program = argv.next();
    let mut command = match &program {
        Some(program) => Command::new(program),
        None => Command::new("false"),
    };
    command.args(argv).stdin(Stdio::null());
    command
}

/// Runs to the end and captures both outputs.
///
/// # Errors
/// When the program cannot be started, or ends with a code other than 0; the message holds what it printed.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("`{}` could not be started", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", shown(command), output.status, said(&output));
    }
    Ok(output)
}

/// Runs to the end and returns standard output as text.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", shown(command)))
}

/// What a program printed, standard error first, for an error message.
pub(crate) fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    let both = format!("{}\n{}", error.trim(), text.trim());
    let both = both.trim();
    let skipped = both.chars().count().saturating_sub(4000);
    if skipped == 0 { both.to_owned() } else { format!("... {}", both.chars().skip(skipped).collect::<String>()) }
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().take(12) {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    if text.chars().count() > 300 {
        text = text.chars().take(300).collect::<String>() + "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = run(&mut command(["sh", "-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("broken"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut command(["/nonexistent/program"])).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/program"), "{error}");
    }
}
