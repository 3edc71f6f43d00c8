//! Objects that a command prints for people to look at and to apply.

use std::io::Write;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use registry_mirror_crds::RegistryMirror;
use serde_json::json;
use tabwriter::TabWriter;

use crate::output::Format;

/// The objects, and their text as YAML documents, which may carry comments.
pub struct Manifests<'a> {
    /// What `-o yaml` prints.
    pub yaml: &'a str,
    /// The mirrors.
    pub mirrors: &'a [RegistryMirror],
    /// What they refer to.
    pub secrets: &'a [Secret],
}

impl Manifests<'_> {
    /// Writes YAML documents, a `List` as JSON, or a table without the Secrets' values.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn write(&self, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
        let Self { yaml, mirrors, secrets } = self;
        match format {
            Format::Yaml => write!(out, "{yaml}")?,
            Format::Json => {
                let mut items = mirrors.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
                items.extend(secrets.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
                serde_json::to_writer_pretty(&mut *out, &json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
                writeln!(out)?;
            }
            Format::Table => {
                let mut rows = TabWriter::new(&mut *out).padding(3);
                writeln!(rows, "REGISTRYMIRROR\tREGISTRY\tMIRRORS")?;
                for mirror in *mirrors {
                    let urls: Vec<&str> = mirror.spec.mirrors.iter().map(|mirror| mirror.url.as_str()).collect();
                    writeln!(rows, "{}\t{}\t{}", mirror.name_any(), mirror.spec.registry, urls.join(", "))?;
                }
                rows.flush()?;
                for secret in *secrets {
                    writeln!(out, "with the Secret {}", secret.name_any())?;
                }
            }
        }
        Ok(())
    }
}
