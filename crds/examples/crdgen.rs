//! Writes the generated CRDs into the directory that is given.

use std::{error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: crdgen DIRECTORY")?;
    for (name, text) in registry_mirror_crds::crd_files()? {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}
