//! The forms of a result.

use std::io::Write;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

/// The output's form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl Format {
    /// Writes the value as JSON or YAML; `table` writes it for people.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn write<T: Serialize>(
        self,
        value: &T,
        out: &mut impl Write,
        table: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Table => table(out)?,
            Self::Json => {
                serde_json::to_writer_pretty(&mut *out, value)?;
                writeln!(out)?;
            }
            Self::Yaml => write!(out, "{}", serde_saphyr::to_string(value).context("writing YAML")?)?,
        }
        Ok(())
    }
}
