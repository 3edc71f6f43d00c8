//! What kubectl shows when `kubectl registry-mirror …` is completed.
//!
//! kubectl runs `kubectl_complete-registry_mirror` with the words after the plugin's name, the last of which is being
//! typed and may be empty. It reads one candidate a line, a tab before its description, and then a directive
//! (kubectl pkg/cmd/plugin/plugin_completion.go).

use std::io::Write;

use clap::{Arg, Command, ValueHint, builder::PossibleValue};

use crate::exit::Exit;

/// What may stand in place of the word that is being typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Completion {
    /// Each with its description.
    candidates: Vec<(String, String)>,
    /// A path fits as well.
    files: bool,
}

/// Prints the candidates for the last of these words.
///
/// # Errors
/// Where `out` cannot be written.
pub fn run(mut command: Command, words: &[String], out: &mut impl Write) -> anyhow::Result<Exit> {
    // Arguments that every command has reach the subcommands by this.
    command.build();
    let Completion { candidates, files } = complete(&command, words);
    for (candidate, description) in &candidates {
        writeln!(out, "{candidate}\t{description}")?;
    }
    // cobra's ShellCompDirective: 0 lets the shell offer files, 4 does not.
    writeln!(out, ":{}", if files && candidates.is_empty() { 0 } else { 4 })?;
    Ok(Exit::Done)
}

fn complete(root: &Command, words: &[String]) -> Completion {
    let Some((typed, before)) = words.split_last() else { return Completion::default() };
    let mut command = root;
    // The argument whose value comes next.
    let mut awaiting: Option<&Arg> = None;
    let mut positionals = 0;
    for word in before {
        if awaiting.take().is_some() {
            continue;
        }
        if word.starts_with('-') && word.len() > 1 {
            awaiting = flag(command, word).filter(|arg| takes_value(arg) && !word.contains('='));
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
            positionals = 0;
        } else {
            positionals += 1;
        }
    }
    if let Some(arg) = awaiting {
        return values(arg, "", typed);
    }
    if let Some((name, value)) = typed.split_once('=').filter(|(name, _)| name.starts_with("--")) {
        return flag(command, name).map(|arg| values(arg, &format!("{name}="), value)).unwrap_or_default();
    }
    if typed.starts_with('-') {
        return Completion { candidates: flags(command, typed), files: false };
    }
    let mut completion = positional(command, positionals).map(|arg| values(arg, "", typed)).unwrap_or_default();
    if positionals == 0 {
        let commands = command.get_subcommands().filter(|known| !known.is_hide_set());
        let fitting = commands.filter(|known| known.get_name().starts_with(typed.as_str()));
        completion.candidates.extend(fitting.map(|known| {
            (known.get_name().to_owned(), known.get_about().map(ToString::to_string).unwrap_or_default())
        }));
    }
    completion
}

fn flag<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let name = word.split('=').next().unwrap_or_default();
    command.get_arguments().find(|arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => name.strip_prefix('-').is_some_and(|short| arg.get_short().is_some_and(|own| short == own.to_string())),
    })
}

fn flags(command: &Command, typed: &str) -> Vec<(String, String)> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| {
            let name = format!("--{}", arg.get_long()?);
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            name.starts_with(typed).then_some((name, help))
        })
        .collect()
}

/// The positional argument that stands there; the last one may stand several times.
fn positional(command: &Command, number: usize) -> Option<&Arg> {
    let several = |arg: &&Arg| arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    command.get_positionals().nth(number).or_else(|| command.get_positionals().last().filter(several))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn values(arg: &Arg, prefix: &str, typed: &str) -> Completion {
    let described = |value: &PossibleValue| {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        (format!("{prefix}{}", value.get_name()), help)
    };
    let fits = |value: &PossibleValue| !value.is_hide_set() && value.get_name().starts_with(typed);
    Completion {
        candidates: arg.get_possible_values().iter().filter(|value| fits(value)).map(described).collect(),
        files: arg.get_value_hint() == ValueHint::AnyPath,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn shown(words: &[&str]) -> String {
        let mut out = Vec::new();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        run(Cli::command(), &words, &mut out).expect("a completion");
        format!("{words:?}\n{}", String::from_utf8_lossy(&out))
    }

    #[test]
    fn what_fits_in_place_of_the_last_word() {
        let cases: [&[&str]; 11] = [
            &["re"],
            &["node", ""],
            &["node", "plan", "--o"],
            &["node", "plan", "-o", ""],
            &["node", "plan", "--output=y"],
            &["import", ""],
            &["import", "k3s", "reg"],
            &["explain", "alpine", "--host-root", ""],
            &["explain", "alpine", "--node", ""],
            &["no-such-command", ""],
            &[],
        ];
        insta::assert_snapshot!(cases.map(shown).join("\n"));
    }
}
