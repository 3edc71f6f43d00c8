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
    objects::{ObjectArgs, note, note_about, note_passed_over},
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
    note_passed_over(bundle, labels);
    let mut files = Vec::new();
    for entry in select(bundle, labels) {
        if entry.suspend {
            note(&format!("RegistryMirror `{}` is suspended: nodes keep what they have", entry.object));
            continue;
        }
        let wanted = desired(entry, &bundle.blobs, target, &BTreeSet::new())?;
        for shortfall in &wanted.notes {
            note(&note_about(&entry.object, shortfall));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::objects::Objects;

    const NAMESPACE: &str = "registry-mirror-system";

    /// What `kubectl create secret tls mirror-client` would make; the smallest PEM that is well formed.
    const CLIENT_SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: mirror-client}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    MIIBbzCCARWgAwIBAgIUE6lN62a8U3QP4kyPz9BGBvRl+CEwCgYIKoZIzj0EAwIw
    DDEKMAgGA1UEAwwBeDAgFw0yNjExMjEwOTE0NTlaGA8yMTI2MTAyODA5MTQ1OVow
    DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNC34kPKPYEL
    0UztP774Obl9ksb4ihjp0LMpfLmBR6K+odizxDvRDaN6/b/FVpT9q/5MkDbXs0b+
    /PoAZlwDOiejUzBRMB0GA1UdDgQWBBSFfh7Gdpr701Mht54XQavoUlhdNjAfBgNV
    HSMEGDAWgBSFfh7Gdpr701Mht54XQavoUlhdNjAPBgNVHRMBAf8EBTADAQH/MAoG
    CCqGSM49BAMCA0gAMEUCIQCEEDyFekPhFncnI/u9QQCMBa3EE2SPocoHXIJbFBEX
    JAIgLKVOFsg9qnxRoUNN+bIK6BcAT/8B0/Qcr/lg7WXvx1Y=
    -----END CERTIFICATE-----
  tls.key: |
    -----BEGIN PRIVATE KEY-----
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8OW8tUw3yQw+KegF
    t6SeoUnYRkm1B01ZLLA1W1E8UWGhRANCAATQt+JDyj2BC9FM7T+++Dm5fZLG+IoY
    6dCzKXy5gUeivqHYs8Q70Q2jev2/xVaU/av+TJA217NG/vz6AGZcAzon
    -----END PRIVATE KEY-----
";

    fn examples() -> BTreeMap<String, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        ["", "presets", "k3s"]
            .iter()
            .flat_map(|directory| fs::read_dir(root.join(directory)).expect("the examples"))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .filter(|path| !path.ends_with("registries.yaml"))
            .map(|path| {
                let name = path.strip_prefix(&root).expect("beneath").display().to_string();
                (name, fs::read_to_string(&path).expect("text"))
            })
            .collect()
    }

    #[test]
    fn every_example_parses_compiles_and_renders() {
        let mut shown = String::new();
        for (name, text) in examples() {
            let mut objects = Objects::default();
            objects.read_text(&name, &text, NAMESPACE).expect(&name);
            if name == "mutual-tls.yaml" {
                objects.read_text("the test", CLIENT_SECRET, NAMESPACE).expect("a Secret");
            }
            let bundle = objects.compile(NAMESPACE).expect(&name);
            for version in [Version::new(1, 6, 20), Version::new(2, 4, 2)] {
                let target = Target { version, certs_dir: Path::new("/etc/containerd/certs.d") };
                let labels = [("topology.kubernetes.io/region".to_owned(), "north".to_owned())].into();
                let files = files(&bundle, &labels, target).expect(&name);
                assert!(!files.is_empty(), "{name}");
                for Desired { registry, notes, .. } in files {
                    let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
                    shown += &format!("=== {name}, containerd {version}: {}\n", registry.registry.directory());
                    shown += &format!("{notes}{}\n", registry.hosts_toml);
                }
            }
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn nothing_is_written_where_an_object_is_refused() {
        let directory = std::env::temp_dir().join(format!("registry-mirror-render-{}", std::process::id()));
        let file = directory.join("objects.yaml");
        fs::create_dir_all(&directory).expect("a directory");
        let good = examples().remove("docker-hub.yaml").expect("an example");
        let bad = good.replace("docker-hub", "bad").replace("https://", "ftp://");
        fs::write(&file, format!("{good}---\n{bad}")).expect("a file");
        let args = |file: &Path| RenderArgs {
            objects: ObjectArgs {
                files: vec![file.to_owned()],
                namespace: NAMESPACE.to_owned(),
                node_labels: Vec::new(),
            },
            containerd_version: Version::new(2, 4, 2),
            output: directory.join("out"),
            certs_dir: "/etc/containerd/certs.d".into(),
        };
        let error = run(&args(&file), &mut Vec::new()).expect_err("refused");
        assert!(error.to_string().contains("`bad`: spec.mirrors[0].url"), "{error}");
        assert!(!directory.join("out").exists());

        fs::write(&file, good).expect("a file");
        let mut out = Vec::new();
        run(&args(&file), &mut out).expect("rendered");
        let written = directory.join("out/docker.io/hosts.toml");
        assert_eq!(String::from_utf8_lossy(&out).trim_end(), written.display().to_string());
        let text = fs::read_to_string(&written).expect("the file");
        assert!(text.starts_with("# registry-mirror-operator: RegistryMirror/docker-hub"), "{text}");
        fs::remove_dir_all(&directory).expect("removed");
    }
}
