//! `registry-mirror presets`: public mirrors as objects to apply.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::Args;
use registry_mirror_crds::RegistryMirror;

use crate::{exit::Exit, manifests::Manifests, output::Format};

/// By registry, each the text of an example.
const PRESETS: [(&str, &str); 11] = [
    ("docker.io", include_str!("../../../examples/presets/docker.io.yaml")),
    ("registry.k8s.io", include_str!("../../../examples/presets/registry.k8s.io.yaml")),
    ("docker.elastic.co", include_str!("../../../examples/presets/docker.elastic.co.yaml")),
    ("gcr.io", include_str!("../../../examples/presets/gcr.io.yaml")),
    ("ghcr.io", include_str!("../../../examples/presets/ghcr.io.yaml")),
    ("k8s.gcr.io", include_str!("../../../examples/presets/k8s.gcr.io.yaml")),
    ("mcr.microsoft.com", include_str!("../../../examples/presets/mcr.microsoft.com.yaml")),
    ("nvcr.io", include_str!("../../../examples/presets/nvcr.io.yaml")),
    ("quay.io", include_str!("../../../examples/presets/quay.io.yaml")),
    ("registry.jujucharms.com", include_str!("../../../examples/presets/registry.jujucharms.com.yaml")),
    ("rocks.canonical.com", include_str!("../../../examples/presets/rocks.canonical.com.yaml")),
];

/// Prints RegistryMirror objects for public mirrors, to look at and to apply with `kubectl apply -f -`.
#[derive(Debug, Args)]
pub struct PresetsArgs {
    /// A registry, for example docker.io; all of them where none is named.
    names: Vec<String>,
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "yaml")]
    output: Format,
}

/// Prints the objects.
///
/// # Errors
/// For a name that has no preset.
pub fn run(args: &PresetsArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let mut chosen = Vec::new();
    for name in &args.names {
        match PRESETS.iter().find(|(registry, _)| registry == name || registry.replace('.', "-") == *name) {
            Some((_, text)) => chosen.push(*text),
            None => {
                let known: Vec<&str> = PRESETS.iter().map(|(registry, _)| *registry).collect();
                bail!("there is no preset `{name}`: choose from {}", known.join(", "));
            }
        }
    }
    if args.names.is_empty() {
        chosen.extend(PRESETS.iter().map(|(_, text)| *text));
    }
    let mirrors: Vec<RegistryMirror> = chosen
        .iter()
        .map(|text| serde_saphyr::from_str(text))
        .collect::<Result<_, _>>()
        .context("a preset is no RegistryMirror")?;
    Manifests { yaml: &chosen.join("---\n"), mirrors: &mirrors, secrets: &[] }.write(args.output, out)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::objects::Objects;

    #[test]
    fn every_preset_is_an_object_for_its_registry() {
        for (registry, text) in PRESETS {
            let mut objects = Objects::default();
            objects.read_text(registry, text, "registry-mirror-system").expect(registry);
            let bundle = objects.compile("registry-mirror-system").expect(registry);
            let registries: Vec<&str> = bundle.entries.iter().map(|entry| entry.registry.as_str()).collect();
            assert_eq!(registries, [registry]);
        }
    }

    #[test]
    fn every_file_is_embedded() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/presets");
        let files: BTreeSet<String> = std::fs::read_dir(directory)
            .expect("the presets")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".yaml", ""))
            .collect();
        assert_eq!(files, PRESETS.iter().map(|(registry, _)| (*registry).to_owned()).collect());
    }

    #[test]
    fn one_by_name_and_all_without() {
        let shown_as = |output: Format, names: &[&str]| {
            let mut out = Vec::new();
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            run(&PresetsArgs { names, output }, &mut out).map(|_| String::from_utf8_lossy(&out).into_owned())
        };
        let shown = |names: &[&str]| shown_as(Format::Yaml, names);
        assert_eq!(shown(&[]).expect("all").matches("kind: RegistryMirror").count(), PRESETS.len());
        assert!(shown(&["docker.io"]).expect("one").contains("docker.m.daocloud.io"));
        assert_eq!(shown(&["docker-io"]).ok(), shown(&["docker.io"]).ok());
        insta::assert_snapshot!("presets-table", shown_as(Format::Table, &["docker.io", "quay.io"]).expect("a table"));
        let list: serde_json::Value =
            serde_json::from_str(&shown_as(Format::Json, &["docker.io"]).expect("JSON")).expect("JSON");
        assert_eq!(list["items"][0]["spec"]["registry"], "docker.io");
        insta::assert_snapshot!(shown(&["dockerhub"]).err().map(|error| error.to_string()).unwrap_or_default());
    }
}
