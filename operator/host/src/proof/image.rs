//! The image that is pulled around our own restart: one layer with one file of a few bytes. What is in it differs each
//! time, so that containerd has none of it and must fetch, check and unpack all of it.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use registry_mirror_core::digest::Digest;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A manifest, a configuration or a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub media_type: &'static str,
    /// `sha256:…`
    pub digest: String,
    pub content: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        Self { media_type, digest: named(&content), content }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.content.len()})
    }
}

/// An image as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TinyImage {
    pub manifest: Blob,
    pub config: Blob,
    pub layer: Blob,
}

impl TinyImage {
    /// The image that holds `nonce`.
    pub(super) fn new(nonce: &str) -> std::io::Result<Self> {
        let tar = tar(nonce.as_bytes());
        let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
        zipped.write_all(&tar)?;
        let layer = Blob::new(LAYER, zipped.finish()?);
        let config = json!({
            // containerd unpacks only what is for its own platform
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [named(&tar)]},
        });
        let config = Blob::new(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        Ok(Self { manifest, config, layer })
    }

    /// What stands at a path below the repository, `manifests/TAG` or `blobs/DIGEST`. There is one tag, whatever it is
    /// called.
    pub(super) fn at(&self, path: &str) -> Option<&Blob> {
        match path.split_once('/')? {
            ("manifests", reference) if !reference.contains(':') || reference == self.manifest.digest => {
                Some(&self.manifest)
            }
            ("blobs", digest) => [&self.manifest, &self.config, &self.layer].into_iter().find(|it| it.digest == digest),
            _ => None,
        }
    }
}

fn named(content: &[u8]) -> String {
    format!("sha256:{}", Digest::of(content))
}

/// This machine's architecture by Go's name, as images have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}

/// A ustar archive of one file.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| {
        for (place, byte) in header.iter_mut().skip(at).zip(text) {
            *place = *byte;
        }
    };
    put(0, b"proof");
    // mode, owner, group
    put(100, b"0000444\x000000000\x000000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    // the time of change, then blanks where the sum will stand, then the kind: a file
    put(136, b"00000000000\0        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    for (place, byte) in header.iter_mut().skip(148).zip(sum.bytes()) {
        *place = byte;
    }
    let mut archive = header.to_vec();
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn each_nonce_makes_another_image_of_a_few_hundred_bytes() {
        let [one, other] = ["00ff", "00fe"].map(|nonce| TinyImage::new(nonce).expect("an image"));
        for (one, other) in [(&one.manifest, &other.manifest), (&one.config, &other.config), (&one.layer, &other.layer)]
        {
            assert_ne!(one.digest, other.digest);
            assert!(one.content.len() < 700, "{} bytes", one.content.len());
        }
        assert_eq!(one, TinyImage::new("00ff").expect("an image"));
    }

    #[test]
    fn a_registry_has_it_by_tag_and_by_digest() {
        let image = TinyImage::new("00ff").expect("an image");
        assert_eq!(image.at("manifests/x"), Some(&image.manifest));
        assert_eq!(image.at(&format!("manifests/{}", image.manifest.digest)), Some(&image.manifest));
        assert_eq!(image.at(&format!("blobs/{}", image.layer.digest)), Some(&image.layer));
        assert_eq!(image.at("manifests/sha256:00"), None);
        assert_eq!(image.at(&format!("blobs/{}x", image.layer.digest)), None);
        assert_eq!(image.at("tags/list"), None);
    }

    #[test]
    fn tar_reads_the_layer() {
        let image = TinyImage::new("00ff").expect("an image");
        let mut tar = Command::new("tar")
            .args(["-xzvO"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tar");
        tar.stdin.take().expect("its input").write_all(&image.layer.content).expect("the layer");
        let output = tar.wait_with_output().expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"00ff");
        assert_eq!(output.stderr, b"proof\n");
    }
}
