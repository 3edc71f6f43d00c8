//! The bundle as bytes: JSON, compressed with gzip, in one key of a Secret.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::Deserialize;
use thiserror::Error;

use super::{Bundle, SCHEMA};

/// The Secret's key.
pub const BUNDLE_KEY: &str = "bundle.json.gz";

/// How large the packed bundle may be, in bytes. A Secret holds 1 MiB in all; the rest is left for its metadata.
pub const MAX_BUNDLE_BYTES: usize = 1_000_000;

/// Far more than a packed bundle of [`MAX_BUNDLE_BYTES`] honestly unpacks to; a bound on what an agent allocates.
const MAX_UNPACKED_BYTES: u64 = 64 * 1024 * 1024;

/// A bundle that cannot be used. An agent keeps its last state.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// Written by a newer release.
    #[error(
        "the bundle has schema {found}, this agent knows {SCHEMA}: it keeps its last state until the DaemonSet is \
         upgraded"
    )]
    UnknownSchema {
        /// What the bundle says.
        found: u32,
    },
    /// Neither gzip nor the expected JSON.
    #[error("the bundle cannot be read ({0}): the controller writes it anew at its next change or restart")]
    Damaged(String),
}

/// Packs a bundle. The same bundle always gives the same bytes.
///
/// # Errors
/// Where serialisation fails, which is a mistake in this program.
pub fn pack(bundle: &Bundle) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(bundle).map_err(std::io::Error::other)?;
    // `GzEncoder` writes no time stamp, so equal bundles are equal bytes.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&json)?;
    encoder.finish()
}

/// Unpacks what [`pack`] made.
///
/// # Errors
/// [`UnpackError`] for a newer schema or damaged bytes.
pub fn unpack(bytes: &[u8]) -> Result<Bundle, UnpackError> {
    #[derive(Deserialize)]
    struct SchemaOnly {
        schema: u32,
    }
    let mut json = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_UNPACKED_BYTES)
        .read_to_end(&mut json)
        .map_err(|error| UnpackError::Damaged(error.to_string()))?;
    let damaged = |error: serde_json::Error| UnpackError::Damaged(format!("line {}", error.line()));
    let SchemaOnly { schema } = serde_json::from_slice(&json).map_err(damaged)?;
    if schema != SCHEMA {
        return Err(UnpackError::UnknownSchema { found: schema });
    }
    serde_json::from_slice(&json).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{bundle::Mode, proxy::ProxySettings};

    fn bundle(proxy: Option<ProxySettings>) -> Bundle {
        Bundle { schema: SCHEMA, mode: Mode::Enforce, entries: Vec::new(), blobs: BTreeMap::new(), proxy }
    }

    fn proxy() -> Option<ProxySettings> {
        let https = "http://proxy:3128".parse().expect("a proxy");
        ProxySettings::new(None, Some(https), Vec::new(), Vec::new()).expect("valid")
    }

    fn json(packed: &[u8]) -> serde_json::Value {
        serde_json::from_reader(GzDecoder::new(packed)).expect("JSON")
    }

    #[test]
    fn a_proxy_survives_the_wire() {
        let packed = pack(&bundle(proxy())).expect("packs");
        assert_eq!(unpack(&packed).expect("unpacks"), bundle(proxy()));
    }

    /// Agents ignore what they do not know: the agent of a release without the proxy goes on with the rest, and without
    /// a proxy the bytes are those that such a release writes.
    #[test]
    fn a_bundle_without_a_proxy_is_as_before() {
        let without = json(&pack(&bundle(None)).expect("packs"));
        assert_eq!(without, serde_json::json!({"schema": 1, "mode": "Enforce", "entries": [], "blobs": {}}));
        let mut newer = json(&pack(&bundle(proxy())).expect("packs"));
        newer["unheardOf"] = serde_json::json!({"a": 1});
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(newer.to_string().as_bytes()).expect("writes");
        assert_eq!(unpack(&encoder.finish().expect("ends")).expect("unpacks"), bundle(proxy()));
    }
}
