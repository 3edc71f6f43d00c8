//! `registry-mirror crds`: the definitions that belong to this release, for clusters that take them by hand.

use std::io::Write;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use registry_mirror_crds::crd_files;
use serde_json::{Value, json};

use crate::exit::Exit;

/// Prints the CustomResourceDefinitions of this release, for `kubectl apply --server-side -f -`.
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "yaml")]
    output: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// For people and kubectl.
    Yaml,
    /// For programs.
    Json,
}

/// Prints them.
///
/// # Errors
/// Where `out` cannot be written.
pub fn run(args: &CrdsArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let files = crd_files()?;
    match args.output {
        Form::Yaml => {
            for (_, text) in files {
                write!(out, "---\n{text}")?;
            }
        }
        Form::Json => {
            let items = files.iter().map(|(name, text)| {
                serde_saphyr::from_str::<Value>(text).with_context(|| format!("{name} could not be read back"))
            });
            let items = items.collect::<anyhow::Result<Vec<_>>>()?;
            serde_json::to_writer_pretty(&mut *out, &json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
            writeln!(out)?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(output: Form) -> String {
        let mut out = Vec::new();
        run(&CrdsArgs { output }, &mut out).expect("they are printed");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn both_kinds_are_there_in_both_forms() {
        let list: Value = serde_json::from_str(&printed(Form::Json)).expect("JSON");
        let names: Vec<_> = (0..2).map(|at| list["items"][at]["spec"]["names"]["kind"].clone()).collect();
        assert_eq!(names, ["RegistryMirror", "NodeMirror"]);
        let text = printed(Form::Yaml);
        assert_eq!(text.matches("\nkind: CustomResourceDefinition").count(), 2, "{text}");
    }
}
