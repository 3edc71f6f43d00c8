//! `registry-mirror render`: the files that a node would get, without a cluster or a node.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{ArgGroup, Args};
use registry_mirror_core::{
    bundle::Bundle,
    containerd::Version,
    desired::{Desired, Target, desired},
    plan::files::certificate_mode,
    select::{Labels, select},
};

use crate::{
    exit::Exit,
    objects::{ObjectArgs, note},
};

/// Writes the files that an agent would write on a node with this containerd.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["files"]).required(true))]
pub struct RenderArgs {
    #[command(flatten)]
    objects: ObjectArgs,
    /// The containerd that will read the files, for example 2.1.4.
    #[arg(long, value_name = "VERSION")]
    containerd_version: Version,
    /// Where to write: one directory for each registry is made below it.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// The directory of all registries on the node; the paths of certificates begin with it.
    #[arg(long, value_name = "DIR", default_value = "/etc/containerd/certs.d", value_parser = absolute)]
    certs_dir: PathBuf,
}

/// An absolute path, for clap.
fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("write an absolute path".to_owned()) }
}

/// Writes the files and prints their paths.
///
/// # Errors
/// For a refused object, before anything is written, and where a file cannot be written.
pub fn run(args: &RenderArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let RenderArgs { objects, containerd_version, output, certs_dir } = args;
    let bundle = objects.bundle()?;
    let target = Target { version: *containerd_version, certs_dir };
    for path in write_all(&files(&bundle, &objects.labels(), target)?, output)? {
        writeln!(out, "{}", path.display())?;
    }
    Ok(Exit::Done)
}

/// The files of one node, each note printed on the way.
fn files(bundle: &Bundle, labels: &Labels, target: Target<'_>) -> anyhow::Result<Vec<Desired>> {
    let selected = select(bundle, labels);
    for entry in &bundle.entries {
        if !selected.iter().any(|chosen| chosen.object == entry.object) {
            let winner = selected.iter().find(|chosen| chosen.registry == entry.registry);
            match winner {
                Some(winner) => note(&format!(
                    "RegistryMirror `{}` gives way to `{}`, which is for {} too and comes first",
                    entry.object, winner.object, entry.registry
                )),
                None => note(&format!(
                    "RegistryMirror `{}` is not for a node with these labels: give the node's labels with --node-label",
                    entry.object
                )),
            }
        }
    }
    let mut files = Vec::new();
    for entry in selected {
        if entry.suspend {
            note(&format!("RegistryMirror `{}` is suspended: nodes keep what they have", entry.object));
            continue;
        }
        let wanted = desired(entry, &bundle.blobs, target, &BTreeSet::new())?;
        for sentence in &wanted.notes {
            note(&format!("RegistryMirror `{}`: {sentence}", entry.object));
        }
        files.push(wanted);
    }
    Ok(files)
}

/// Certificates before the hosts.toml that names them, as on a node.
fn write_all(files: &[Desired], output: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    make_directory(output)?;
    for Desired { registry, .. } in files {
        let directory = output.join(registry.registry.directory());
        make_directory(&directory)?;
        for (name, content) in &registry.certificates {
            written.push(write(&directory.join(name), content, certificate_mode(content))?);
        }
        written.push(write(&directory.join("hosts.toml"), &registry.file(), registry.mode())?);
    }
    Ok(written)
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("directory {} could not be made", path.display()))
}

/// The mode comes before the content, which may be a key.
fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<PathBuf> {
    let failed = || format!("file {} could not be written", path.display());
    let temporary = path.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&temporary).with_context(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).with_context(failed)?;
    file.write_all(content).with_context(failed)?;
    fs::rename(&temporary, path).with_context(failed)?;
    Ok(path.to_owned())
}
