//! The program under test, and the images that it is tested with.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use testbed::{Bed, Image};

use crate::{
    traffic::{IMAGE, REGISTRIES, TAG},
    users,
};

/// The operator's binary.
#[derive(Debug, Clone)]
pub struct Product {
    /// It runs on the nodes.
    pub binary: PathBuf,
}

impl Product {
    /// Builds it; `MATRIX_BINARY` names one to use as it is.
    ///
    /// # Errors
    /// When cargo fails; it has then said why.
    pub fn build() -> Result<Self> {
        if let Some(binary) = std::env::var_os("MATRIX_BINARY") {
            let binary = PathBuf::from(binary);
            ensure!(binary.is_file(), "MATRIX_BINARY is {}, which is not a file", binary.display());
            return Ok(Self { binary });
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "registry-mirror-operator"])
            .current_dir(&root)
            .status()
            .context("cargo could not be started")?;
        ensure!(status.success(), "registry-mirror could not be built ({status}); cargo's message stands above");
        // Beside this test program, whose path is TARGET/PROFILE/deps/NAME.
        let here = std::env::current_exe()?;
        let binary = here.ancestors().nth(2).context("the build directory is not known")?.join("registry-mirror");
        ensure!(binary.is_file(), "cargo built registry-mirror, but {} is not there", binary.display());
        Ok(Self { binary })
    }
}

/// Puts the image into every registry that a cell may pull it from, and starts the registry that asks for users.
///
/// # Errors
/// When a registry's storage cannot be written, or the stand-in's address is taken.
pub fn seed(bed: &Bed) -> Result<()> {
    for registry in REGISTRIES {
        bed.push(registry, IMAGE, TAG, &Image::filler("matrix", 1))?;
    }
    users::serve(bed)
}
