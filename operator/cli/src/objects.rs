//! RegistryMirrors with the Secrets and ConfigMaps that they name, read from files instead of a cluster.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use registry_mirror_core::{
    bundle::Bundle,
    compile::{CompileOptions, References, compile},
    desired::Note,
    select::{Labels, PassedOver, passed_over},
};
use registry_mirror_crds::{GROUP, RegistryMirror, VERSION};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Which files, and how they are looked at.
#[derive(Debug, Clone, clap::Args)]
pub struct ObjectArgs {
    /// RegistryMirror objects as YAML or JSON, with the Secrets and ConfigMaps that they name: a file, a directory, or
    /// - for stdin. May be given several times.
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The namespace that the operator would run in: Secrets and ConfigMaps with another one are refused.
    #[arg(long, short = 'n', default_value = "registry-mirror-system")]
    pub namespace: String,
    /// A label of the node, for objects with a nodeSelector. May be given several times.
    #[arg(long = "node-label", value_name = "KEY=VALUE", value_parser = label)]
    pub node_labels: Vec<(String, String)>,
}

impl ObjectArgs {
    /// Reads and compiles the files.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong, with the file and the object.
    pub fn bundle(&self) -> anyhow::Result<Bundle> {
        let mut objects = Objects::default();
        for file in &self.files {
            objects.read(file, &self.namespace)?;
        }
        objects.compile(&self.namespace)
    }

    /// The node's labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        self.node_labels.iter().cloned().collect()
    }
}

/// `key=value`, for clap.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, for example region=north".to_owned()),
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Objects {
    mirrors: Vec<RegistryMirror>,
    references: References,
    /// Where each object stands, by kind and name.
    places: BTreeMap<(&'static str, String), String>,
}

impl Objects {
    /// Reads a file, the files of a directory, or stdin for `-`.
    ///
    /// # Errors
    /// For what cannot be read, with the file and the document.
    pub fn read(&mut self, path: &Path, namespace: &str) -> anyhow::Result<()> {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("stdin could not be read as text")?;
            return self.read_text("stdin", &text, namespace);
        }
        let shown = path.display();
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("directory {shown} could not be read"))?;
            let mut files: Vec<PathBuf> = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()
                .with_context(|| format!("directory {shown} could not be read"))?;
            files.retain(|file| {
                let extension = file.extension().and_then(|extension| extension.to_str());
                file.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
            });
            files.sort();
            if files.is_empty() {
                bail!("directory {shown} holds no .yaml, .yml or .json file");
            }
            return files.iter().try_for_each(|file| self.read(file, namespace));
        }
        let text = fs::read_to_string(path).with_context(|| format!("file {shown} could not be read as text"))?;
        self.read_text(&shown.to_string(), &text, namespace)
    }

    /// Reads YAML or JSON; `origin` names it in messages.
    ///
    /// # Errors
    /// For what cannot be read, with the document.
    pub fn read_text(&mut self, origin: &str, text: &str, namespace: &str) -> anyhow::Result<()> {
        // The lines around an error may hold a Secret.
        let options = serde_saphyr::options! { with_snippet: false };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| anyhow::anyhow!("{origin} is no valid YAML: {error}"))?;
        for (number, document) in documents.into_iter().enumerate() {
            self.add(&format!("{origin}, document {}", number + 1), document, namespace)?;
        }
        Ok(())
    }

    fn add(&mut self, place: &str, document: Value, namespace: &str) -> anyhow::Result<()> {
        if document.is_null() {
            return Ok(());
        }
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if kind.is_empty() {
            bail!("{place} is no Kubernetes object: it has no `kind`");
        }
        if kind == "List" {
            let items = document.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            return items
                .into_iter()
                .enumerate()
                .try_for_each(|(number, item)| self.add(&format!("{place}, item {}", number + 1), item, namespace));
        }
        let kind = match kind.as_str() {
            "RegistryMirror" => "RegistryMirror",
            "Secret" => "Secret",
            "ConfigMap" => "ConfigMap",
            other => {
                note(&format!("{place}: the {other} `{name}` is passed over"));
                return Ok(());
            }
        };
        if name.is_empty() {
            bail!("{place}: the {kind} has no metadata.name");
        }
        let here = format!("{place}: {kind} `{name}`");
        let expected = if kind == "RegistryMirror" { format!("{GROUP}/{VERSION}") } else { "v1".to_owned() };
        if api_version != expected {
            bail!("{here} has the apiVersion `{api_version}`: write {expected}");
        }
        if let Some(earlier) = self.places.insert((kind, name), place.to_owned()) {
            bail!("{here} stands in {earlier} too: leave one of them out");
        }
        if kind == "RegistryMirror" {
            self.mirrors.push(mirror(&here, document)?);
            return Ok(());
        }
        let given = text("/metadata/namespace");
        if !given.is_empty() && given != namespace {
            bail!(
                "{here} stands in the namespace `{given}`, the operator reads only its own, `{namespace}`: move it \
                 there, or name the operator's namespace with --namespace"
            );
        }
        if kind == "Secret" {
            self.references.insert_secret(reference::<Secret>(&here, document)?);
        } else {
            self.references.insert_config_map(reference::<ConfigMap>(&here, document)?);
        }
        Ok(())
    }

    /// Compiles what was read, as the controller does.
    ///
    /// # Errors
    /// A sentence for each object that the controller would refuse.
    pub fn compile(&self, namespace: &str) -> anyhow::Result<Bundle> {
        if self.mirrors.is_empty() {
            bail!("no RegistryMirror was found: name a file that holds one with -f");
        }
        let options = CompileOptions { namespace, ..CompileOptions::default() };
        let compiled = compile(&self.mirrors, &self.references, &options);
        let problems: Vec<String> = compiled
            .verdicts
            .iter()
            .flat_map(|(name, verdict)| {
                verdict.problems().map(move |problem| format!("RegistryMirror `{name}`: {problem}"))
            })
            .collect();
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        Ok(compiled.bundle)
    }
}

/// Unknown fields are errors, as they are for `kubectl apply`.
fn mirror(here: &str, document: Value) -> anyhow::Result<RegistryMirror> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let path = serde_path_to_error::Deserializer::new(document, &mut track);
    let mut note_unknown = |path: serde_ignored::Path<'_>| {
        let path = path.to_string();
        // a live object's status and server-side metadata are no concern here
        if path.starts_with("spec.") {
            unknown.push(indexed(&path.replace(".?", "")));
        }
    };
    let parsed: Result<RegistryMirror, _> = serde_ignored::deserialize(path, &mut note_unknown);
    let parsed = parsed.map_err(|error| match track.path().to_string() {
        path if path == "." => anyhow::anyhow!("{here}: {error}"),
        path => anyhow::anyhow!("{here}: {path}: {error}"),
    })?;
    if let Some(field) = unknown.first() {
        bail!("{here} has a field `{field}` that a RegistryMirror does not have: correct its name or leave it out");
    }
    Ok(parsed)
}

/// `spec.mirrors.0.url` as it is written elsewhere: `spec.mirrors[0].url`.
fn indexed(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('.') {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(part);
        }
    }
    text
}

/// Messages name the key and never the value, which may be secret.
fn reference<T: DeserializeOwned>(here: &str, document: Value) -> anyhow::Result<T> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        anyhow::anyhow!(
            "{here}: {} is not as Kubernetes has it: `data` of a Secret is base64, plain text goes into `stringData`",
            error.path()
        )
    })
}

/// Says of each object that it is not for a node with these labels, and why.
pub fn note_passed_over(bundle: &Bundle, labels: &Labels) {
    for (entry, why) in passed_over(bundle, labels) {
        let object = &entry.object;
        match why {
            PassedOver::GivesWay(winner) => note(&format!(
                "RegistryMirror `{object}` gives way to `{}`, which is for {} too and comes first",
                winner.object, entry.registry
            )),
            PassedOver::OtherNodes => note(&format!(
                "RegistryMirror `{object}` is not for a node with these labels: give the node's labels with --node-label"
            )),
        }
    }
}

/// Something that the user should know and that is no result.
pub fn note(sentence: &str) {
    use std::io::Write as _;
    // Where stderr is closed nobody wants to know.
    let _ = writeln!(std::io::stderr(), "note: {sentence}");
}

/// What a containerd does not do of an object, in the words of every command.
pub fn note_about(object: &str, note: &Note) -> String {
    format!("RegistryMirror `{object}`: {note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRROR: &str = "
apiVersion: registry-mirror.dev/v1alpha1
kind: RegistryMirror
metadata: {name: docker-hub}
spec:
  registry: docker.io
  mirrors:
  - url: https://m.example
";

    fn refusal(text: &str) -> String {
        let mut objects = Objects::default();
        let read = objects.read_text("test.yaml", text, "registry-mirror-system");
        match read.and_then(|()| objects.compile("registry-mirror-system").map(drop)) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn refusals_say_where_and_what_to_write_instead() {
        let with = |more: &str| format!("{MIRROR}{more}");
        let refusals = [
            refusal("a: [1"),
            refusal("a: 1"),
            refusal("---\n# nothing\n"),
            refusal(&MIRROR.replace("v1alpha1", "v1")),
            refusal(&MIRROR.replace("name: docker-hub", "labels: {}")),
            refusal(&MIRROR.replace("- url", "- uri")),
            refusal(&with("    repositoryPrefx: x\n")),
            refusal(&with("    capabilities: [fetch]\n")),
            refusal(&with("    auth: {secretRef: {name: robot}}\n")),
            refusal(&with(&format!("---{MIRROR}"))),
            refusal(&MIRROR.replace("docker.io", "index.docker.io")),
            refusal(&with("---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: not-base64!}\n")),
            refusal(&with("---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\n")),
        ];
        insta::assert_snapshot!(refusals.join("\n---\n"));
        assert!(!refusals.join("").contains("not-base64!"));
    }

    #[test]
    fn lists_and_other_kinds_are_read() {
        let list = format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {{name: x}}\n-{}",
            MIRROR.replace("\n", "\n  ").trim_start_matches('\n').replacen("  apiVersion", " apiVersion", 1)
        );
        assert_eq!(refusal(&list), "accepted");
    }

    #[test]
    fn an_unknown_field_of_the_status_is_no_concern() {
        assert_eq!(refusal(&format!("{MIRROR}status: {{future: 1}}\n")), "accepted");
    }
}
