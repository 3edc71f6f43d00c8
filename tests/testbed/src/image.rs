//! Small container images, made from files and laid into a registry's storage.
//!
//! They are written where the registry keeps them instead of being pushed: that works for a registry of any kind
//! (TLS, with credentials) and before it runs. The layout is that of the `filesystem` driver of docker-registry 2.x.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cache::hex;

/// A file of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What the file holds.
    pub content: Vec<u8>,
}

/// What goes into an image: each layer is a list of files.
#[derive(Debug, Clone, Default)]
pub struct Image {
    layers: Vec<Vec<ImageFile>>,
    entrypoint: Vec<String>,
}

/// A blob with its digest (`sha256:...`).
struct Blob {
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        Self { digest: format!("sha256:{}", hex(&Sha256::digest(&content))), content }
    }
}

impl Image {
    /// An image with nothing in it.
    #[must_use]
    pub fn from_scratch() -> Self {
        Self::default()
    }

    /// An image of `layers` layers with a little text each. The same `name` and number make the same image,
    /// another name makes other digests.
    #[must_use]
    pub fn filler(name: &str, layers: usize) -> Self {
        (0..layers).fold(Self::default(), |image, number| {
            image.layer(vec![ImageFile {
                path: format!("/layer-{number}"),
                mode: 0o644,
                content: format!("layer {number} of {name}\n").into_bytes(),
            }])
        })
    }

    /// Adds a layer.
    #[must_use]
    pub fn layer(mut self, files: Vec<ImageFile>) -> Self {
        self.layers.push(files);
        self
    }

    /// Adds a layer with one program, and makes it the entry point.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub fn program(self, path: &str, from: &Path) -> Result<Self> {
        let content = fs::read(from).with_context(|| format!("the program {} cannot be read", from.display()))?;
        let mut image = self.layer(vec![ImageFile { path: path.to_owned(), mode: 0o755, content }]);
        image.entrypoint = vec![path.to_owned()];
        Ok(image)
    }

    /// Lays the image into a registry's storage as `name:tag` and returns the manifest's digest.
    ///
    /// # Errors
    /// When the storage cannot be written.
    pub fn store(&self, storage: &Path, name: &str, tag: &str) -> Result<String> {
        let mut blobs = Vec::new();
        let mut diff_ids = Vec::new();
        let mut described = Vec::new();
        for files in &self.layers {
            let tar = tar(files)?;
            diff_ids.push(Blob::new(tar.clone()).digest);
            let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
            zipped.write_all(&tar)?;
            let layer = Blob::new(zipped.finish()?);
            described.push(descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer));
            blobs.push(layer);
        }
        let config = Blob::new(serde_json::to_vec(&json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))?);
        let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": descriptor("application/vnd.docker.container.image.v1+json", &config),
            "layers": described,
        }))?);
        blobs.push(config);
        store_manifest(storage, name, tag, &manifest, &blobs)
    }
}

/// Lays the single image of an OCI layout directory into a registry's storage as `name:tag`.
///
/// # Errors
/// When the layout holds more than one image, or cannot be read.
pub fn store_layout(layout: &Path, storage: &Path, name: &str, tag: &str) -> Result<String> {
    let index: Value = serde_json::from_slice(&read(&layout.join("index.json"))?).context("index.json is not JSON")?;
    let [entry] = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        bail!("{} does not hold exactly one image", layout.display());
    };
    let manifest = layout_blob(layout, entry)?;
    let parsed: Value = serde_json::from_slice(&manifest.content).context("the image's manifest is not JSON")?;
    let Some(layers) = parsed["layers"].as_array() else {
        bail!("{} holds an index of images, not an image: build it for one platform", layout.display());
    };
    let mut blobs = vec![layout_blob(layout, &parsed["config"])?];
    for layer in layers {
        blobs.push(layout_blob(layout, layer)?);
    }
    store_manifest(storage, name, tag, &manifest, &blobs)
}

fn layout_blob(layout: &Path, descriptor: &Value) -> Result<Blob> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let Some(digits) =
        digest.strip_prefix("sha256:").filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))
    else {
        bail!("{} names a blob by `{digest}`, which is not a sha256 digest", layout.display());
    };
    let blob = Blob::new(read(&layout.join("blobs/sha256").join(digits))?);
    anyhow::ensure!(blob.digest == digest, "the blob {digest} in {} is damaged", layout.display());
    Ok(blob)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "size": blob.content.len(), "digest": blob.digest})
}

fn store_manifest(storage: &Path, name: &str, tag: &str, manifest: &Blob, blobs: &[Blob]) -> Result<String> {
    let root = storage.join("docker/registry/v2");
    let repository = root.join("repositories").join(name);
    let link = |dir: String, blob: &Blob| write(&repository.join(dir), "link", blob.digest.as_bytes());
    let split = |blob: &Blob| blob.digest.replace(':', "/");
    for blob in blobs.iter().chain([manifest]) {
        let digits = blob.digest.strip_prefix("sha256:").unwrap_or(&blob.digest);
        write(&root.join("blobs/sha256").join(&digits[..2]).join(digits), "data", &blob.content)?;
        link(format!("_layers/{}", split(blob)), blob)?;
    }
    link(format!("_manifests/revisions/{}", split(manifest)), manifest)?;
    link(format!("_manifests/tags/{tag}/index/{}", split(manifest)), manifest)?;
    link(format!("_manifests/tags/{tag}/current"), manifest)?;
    Ok(manifest.digest.clone())
}

/// Writes beside and renames: the registry may be reading.
fn write(dir: &Path, file: &str, content: &[u8]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let partial = dir.join(format!(".{file}.{:?}", std::thread::current().id()));
    fs::write(&partial, content)
        .and_then(|()| fs::rename(&partial, dir.join(file)))
        .with_context(|| format!("{} cannot be written", dir.display()))
}

/// A tar archive (ustar) of the files with the directories above them.
fn tar(files: &[ImageFile]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut made = std::collections::BTreeSet::new();
    for file in files {
        let path = file.path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            if made.insert(&path[..=end]) {
                archive.extend(tar_header(&path[..=end], 0o755, 0, b'5')?);
            }
        }
        archive.extend(tar_header(path, file.mode, file.content.len(), b'0')?);
        archive.extend(&file.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    Ok(archive)
}

fn tar_header(path: &str, mode: u32, size: usize, kind: u8) -> Result<[u8; 512]> {
    anyhow::ensure!(path.len() < 100, "the path {path} is too long for a test image (99 bytes at most)");
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn tar_reads_the_archive() {
        let files = [
            ImageFile { path: "/bin/tool".to_owned(), mode: 0o755, content: vec![7; 700] },
            ImageFile { path: "/bin/other".to_owned(), mode: 0o600, content: b"x".to_vec() },
        ];
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.tar"), tar(&files).unwrap()).unwrap();
        let listed = Command::new("tar").args(["-tvf", "a.tar"]).current_dir(dir.path()).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with("bin/"), "{listed}");
        assert!(lines[1].starts_with("-rwxr-xr-x") && lines[1].contains(" 700 "), "{listed}");
        assert!(lines[2].starts_with("-rw-------") && lines.len() == 3, "{listed}");
    }

    #[test]
    fn the_same_filler_is_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let first = Image::filler("a", 2).store(dir.path(), "library/a", "1").unwrap();
        assert_eq!(first, Image::filler("a", 2).store(dir.path(), "library/a", "2").unwrap());
        assert_ne!(first, Image::filler("b", 2).store(dir.path(), "library/b", "1").unwrap());
    }

    #[test]
    fn every_blob_is_where_its_digest_says() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Image::filler("a", 3).store(dir.path(), "library/a", "1").unwrap();
        let root = dir.path().join("docker/registry/v2");
        let tag = fs::read_to_string(root.join("repositories/library/a/_manifests/tags/1/current/link")).unwrap();
        assert_eq!(tag, digest);
        let digits = digest.strip_prefix("sha256:").unwrap();
        let manifest = fs::read(root.join("blobs/sha256").join(&digits[..2]).join(digits).join("data")).unwrap();
        assert_eq!(hex(&Sha256::digest(&manifest)), digits);
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
    }
}
