//! `registry-mirror import`: what others configured, as RegistryMirror objects.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use registry_mirror_core::{
    config_toml,
    containerd::Version,
    import::{self, Imported, RegistryFile},
};
use registry_mirror_host::root::HostRoot;
use serde::Serialize;

use crate::{
    exit::Exit,
    manifests::Manifests,
    objects::{Objects, note},
    output,
};

/// Prints RegistryMirror objects, and Secrets for credentials and keys, that do what a file of others does.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// What PATH is.
    format: Format,
    /// registries.yaml of K3s or RKE2, config.toml of containerd, a certs.d directory, or daemon.json of Docker.
    path: PathBuf,
    /// The operator's namespace: Secrets come out in it.
    #[arg(long, short = 'n', default_value = "registry-mirror-system")]
    namespace: String,
    /// The containerd that reads the file.
    #[arg(long, value_name = "VERSION", default_value = "1.7.0")]
    containerd_version: Version,
    /// Certificates that the file names are read below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    /// Leave out what a RegistryMirror cannot express, with a note for each. Without it nothing is printed then.
    #[arg(long)]
    leave_out: bool,
    /// The output's form; table shows no Secret's values.
    #[arg(long, short, value_enum, default_value = "yaml")]
    output: output::Format,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// registries.yaml of K3s or RKE2.
    K3s,
    /// The registry.mirrors, .configs and .auths tables of containerd's config.toml.
    Containerd,
    /// A directory of hosts.toml files.
    #[value(name = "certs.d")]
    CertsD,
    /// daemon.json of Docker.
    Docker,
}

/// Prints the objects.
///
/// # Errors
/// For what cannot be read, and for what cannot be expressed.
pub fn run(args: &ImportArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ImportArgs { format, path, namespace, containerd_version, host_root, leave_out, output } = args;
    let files = HostRoot::open(host_root)?;
    let text =
        || fs::read_to_string(path).with_context(|| format!("file {} could not be read as text", path.display()));
    let imported = match format {
        Format::K3s => import::k3s(&text()?, &files, namespace)?,
        Format::Docker => import::docker(&text()?, namespace)?,
        Format::CertsD => import::certs_d(&registries(path, host_root)?, *containerd_version, &files, namespace)?,
        Format::Containerd => containerd(path, *containerd_version, &files, namespace)?,
    };
    let Imported { mirrors, secrets, left_out, remarks } = &imported;
    if !left_out.is_empty() && !leave_out {
        bail!(
            "{} holds what a RegistryMirror cannot express; with --leave-out the rest is printed:\n{}",
            path.display(),
            left_out.join("\n")
        );
    }
    left_out.iter().for_each(|sentence| note(sentence));
    remarks.iter().for_each(|remark| note(&remark.to_string()));
    if mirrors.is_empty() {
        bail!(
            "{} names no mirror and no settings of a registry that containerd {containerd_version} reads",
            path.display()
        );
    }
    let text = documents(mirrors)? + &documents(secrets)?;
    // What is printed must be what the controller takes.
    let mut objects = Objects::default();
    objects.read_text("the result", &text, namespace)?;
    objects.compile(namespace).context("the result would be refused")?;
    Manifests { yaml: text.trim_start_matches("---\n"), mirrors, secrets }.write(*output, out)?;
    Ok(Exit::Done)
}

fn documents<T: Serialize>(objects: &[T]) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object).context("writing YAML")?);
    }
    Ok(text)
}

/// The hosts.toml files of a directory, with their paths as the host sees them.
fn registries(directory: &Path, host_root: &Path) -> anyhow::Result<Vec<RegistryFile>> {
    let shown = directory.display();
    let directory = fs::canonicalize(directory).with_context(|| format!("directory {shown} could not be read"))?;
    let host_root = fs::canonicalize(host_root).with_context(|| format!("{} is not there", host_root.display()))?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("directory {shown} could not be read"))? {
        let entry = entry.with_context(|| format!("directory {shown} could not be read"))?;
        let file = entry.path().join("hosts.toml");
        if !file.is_file() {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("file {} could not be read", file.display()))?;
        let path = match file.strip_prefix(&host_root) {
            Ok(beneath) => Path::new("/").join(beneath),
            Err(_) => file,
        };
        found.push(RegistryFile { directory: entry.file_name().to_string_lossy().into_owned(), path, text });
    }
    if found.is_empty() {
        bail!("directory {shown} holds no REGISTRY/hosts.toml");
    }
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(found)
}

fn containerd(path: &Path, version: Version, files: &HostRoot, namespace: &str) -> anyhow::Result<Imported> {
    let shown = path.display();
    let main = fs::canonicalize(path).with_context(|| format!("file {shown} could not be read"))?;
    // Its imports stand where it says, on this machine; certificates below the host root.
    let config = config_toml::load(&main, version, &HostRoot::open(Path::new("/"))?)?;
    Ok(import::containerd(&config, files, namespace)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/k3s").join(name)
    }

    fn imported(format: Format, path: PathBuf, leave_out: bool) -> anyhow::Result<String> {
        let args = ImportArgs {
            format,
            path,
            namespace: "registry-mirror-system".to_owned(),
            containerd_version: Version::new(1, 7, 0),
            host_root: "/".into(),
            leave_out,
            output: output::Format::Yaml,
        };
        let mut out = Vec::new();
        run(&args, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn the_example_is_what_the_command_prints() {
        let committed = fs::read_to_string(example("registry-mirrors.yaml")).expect("the example");
        let committed: String =
            committed.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        assert_eq!(imported(Format::K3s, example("registries.yaml"), false).expect("an import"), committed);
    }

    #[test]
    fn what_cannot_be_expressed_stops_the_import_unless_it_may_be_left_out() {
        let file = std::env::temp_dir().join(format!("registry-mirror-import-{}.yaml", std::process::id()));
        let text = "mirrors: {docker.io: {endpoint: [https://m.example], rewrite: {'^a/(.*)': 'b/$1'}}}\n";
        fs::write(&file, text).expect("a file");
        let refused = imported(Format::K3s, file.clone(), false).expect_err("a rewrite").to_string();
        let printed = imported(Format::K3s, file.clone(), true).expect("the rest");
        fs::remove_file(&file).expect("removed");
        insta::assert_snapshot!(refused.replace(&file.display().to_string(), "FILE"));
        assert!(printed.contains("https://m.example"), "{printed}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = imported(Format::Docker, "/nowhere/daemon.json".into(), false).expect_err("no file");
        assert_eq!(missing.to_string(), "file /nowhere/daemon.json could not be read as text");
    }
}
