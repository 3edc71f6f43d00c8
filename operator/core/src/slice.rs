//! A node's part of the bundle: what its agent works from, and keeps on the host's disk for the time when the
//! controller or the API server is away.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bundle::{Bundle, Entry},
    digest::Digest,
    select::{Labels, select},
};

/// The bundle without what is not for a node with these labels: its entries, and the certificates that they use.
///
/// A slice of a slice with the same labels is itself: the selectors stay.
#[must_use]
pub fn slice(bundle: &Bundle, labels: &Labels) -> Bundle {
    let Bundle { schema, mode, entries: _, blobs, proxy } = bundle;
    let entries: Vec<Entry> = select(bundle, labels).into_iter().cloned().collect();
    let used: BTreeSet<&Digest> = entries.iter().flat_map(Entry::digests).collect();
    let blobs: BTreeMap<_, _> = blobs
        .iter()
        .filter(|(digest, _)| used.contains(digest))
        .map(|(digest, blob)| (digest.clone(), blob.clone()))
        .collect();
    Bundle { schema: *schema, mode: *mode, entries, blobs, proxy: proxy.clone() }
}

#[cfg(test)]
mod tests {
    use registry_mirror_crds::{Capability, LabelSelector};

    use super::*;
    use crate::{
        bundle::{Blob, MirrorHost, Mode, SCHEMA, Tls, Upstream},
        proxy::ProxySettings,
        sensitive::Sensitive,
    };

    fn entry(object: &str, registry: &str, region: Option<&str>, ca: Option<&Digest>) -> Entry {
        Entry {
            object: object.to_owned(),
            registry: registry.parse().expect("a registry"),
            node_selector: region.map(|region| LabelSelector {
                match_labels: [("region".to_owned(), region.to_owned())].into(),
                match_expressions: Vec::new(),
            }),
            suspend: false,
            health_interval_seconds: None,
            mirrors: vec![MirrorHost {
                url: "https://m".to_owned(),
                display_url: "https://m".to_owned(),
                override_path: false,
                capabilities: vec![Capability::Pull],
                tls: Tls { ca: ca.cloned(), ..Tls::default() },
                headers: Vec::new(),
                has_credentials: false,
                dial_timeout_ms: None,
            }],
            upstream: Upstream::Registry,
        }
    }

    #[test]
    fn a_node_keeps_its_entries_and_their_certificates_alone() {
        let blob =
            |pem: &str| (Digest::of(pem.as_bytes()), Blob { pem: Sensitive::new(pem.to_owned()), private: false });
        let (ours, theirs) = (blob("ours"), blob("theirs"));
        let bundle = Bundle {
            schema: SCHEMA,
            mode: Mode::Enforce,
            entries: vec![
                entry("north", "docker.io", Some("north"), Some(&ours.0)),
                entry("south", "docker.io", Some("south"), Some(&theirs.0)),
                entry("all", "quay.io", None, None),
            ],
            blobs: [ours.clone(), theirs].into(),
            proxy: ProxySettings::new("http://proxy".parse().ok(), None, Vec::new(), Vec::new()).expect("valid"),
        };
        let labels = [("region".to_owned(), "north".to_owned())].into();
        let north = slice(&bundle, &labels);
        assert_eq!(north.entries.iter().map(|entry| entry.object.as_str()).collect::<Vec<_>>(), ["north", "all"]);
        assert_eq!(north.blobs, [ours].into());
        assert_eq!(north.proxy, bundle.proxy);
        assert_eq!(slice(&north, &labels), north);
    }
}
