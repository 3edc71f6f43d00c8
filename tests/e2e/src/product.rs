//! The binary under test and the image made of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use testbed::{Bed, IMAGES, Image};

/// The operator's binary.
#[derive(Debug, Clone)]
pub struct Product {
    /// The static binary.
    pub binary: PathBuf,
}

impl Product {
    /// Builds the binary that users get.
    ///
    /// # Errors
    /// When cargo fails; it has then said why.
    pub fn build() -> Result<Self> {
        Self::built(&[])
    }

    /// Builds the binary with points at which a test can end it (`operator/host/src/fault.rs`).
    ///
    /// # Errors
    /// When cargo fails; it has then said why.
    pub fn build_with_faults() -> Result<Self> {
        Self::built(&["--features", "registry-mirror-host/fault-injection"])
    }

    /// `E2E_BINARY` names a binary to use as it is.
    fn built(features: &[&str]) -> Result<Self> {
        if let Some(binary) = set("E2E_BINARY") {
            let binary = PathBuf::from(binary);
            ensure!(binary.is_file(), "E2E_BINARY is {}, which is not a file", binary.display());
            return Ok(Self { binary });
        }
        Ok(Self { binary: build_program("registry-mirror-operator", "registry-mirror", features)? })
    }

    /// Puts the image where every node can pull it, whatever the mirrors do, and returns its repository and tag.
    /// The tag names the content, so that a node never runs an older build.
    ///
    /// # Errors
    /// When the binary cannot be read or the registry's storage cannot be written.
    pub fn push(&self, bed: &Bed) -> Result<(String, String)> {
        let stripped = self.stripped(&bed.state().join("registry-mirror.stripped"))?;
        let content = fs::read(&stripped).with_context(|| format!("{} cannot be read", stripped.display()))?;
        let tag: String = Sha256::digest(&content).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let image = Image::from_scratch().program("/registry-mirror", &stripped)?;
        bed.push("images", "registry-mirror-operator", &tag, &image)?;
        Ok((format!("{IMAGES}/registry-mirror-operator"), tag))
    }

    /// A development build carries some hundred megabytes of debug information that every node would have to pull.
    fn stripped(&self, to: &Path) -> Result<PathBuf> {
        let stripped = Command::new("strip").args(["--strip-all", "-o"]).arg(to).arg(&self.binary).status();
        match stripped {
            Ok(status) if status.success() => Ok(to.to_owned()),
            _ => Ok(self.binary.clone()),
        }
    }
}

/// Builds a program of this workspace and returns its path. `E2E_PROFILE` is the cargo profile, `release` if unset.
///
/// # Errors
/// When cargo fails; it has then said why.
pub fn build_program(package: &str, program: &str, features: &[&str]) -> Result<PathBuf> {
    let profile = set("E2E_PROFILE").unwrap_or_else(|| "release".to_owned());
    let status = Command::new(set("CARGO").unwrap_or_else(|| "cargo".to_owned()))
        .args(["build", "--quiet", "--package", package, "--bin", program, "--profile", &profile])
        .args(features)
        .current_dir(root())
        .status()
        .context("cargo could not be started")?;
    ensure!(status.success(), "{program} could not be built ({status}); cargo's message stands above");
    let directory = if profile == "dev" { "debug" } else { &profile };
    let target = set("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let binary = target.join(triple).join(directory).join(program);
    ensure!(binary.is_file(), "cargo built {program}, but {} is not there", binary.display());
    Ok(binary)
}

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
