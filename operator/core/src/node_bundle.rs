//! A node's part of the bundle: what its agent works from, and keeps on the host's disk for the time when the
//! controller or the API server is away.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bundle::{Bundle, Entry, Mode},
    digest::Digest,
    select::{Labels, select},
};

/// The bundle without what is not for a node with these labels: its entries, and the certificates that they use.
///
/// A part of a part with the same labels is itself: the selectors stay.
#[must_use]
pub fn node_bundle(bundle: &Bundle, labels: &Labels) -> Bundle {
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

/// What the API server has told of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<T> {
    /// It has not answered yet.
    NotYet,
    /// There is no such object, or nobody can read it.
    Nothing,
    /// The object.
    Is(T),
}

/// What an agent works from.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Nothing yet: the API server may answer any moment.
    Wait,
    /// This part of the bundle.
    Bundle(Bundle),
    /// The part that it remembers.
    Remembered {
        /// The mode in force, where that was heard; otherwise the mode is remembered too.
        mode: Option<Mode>,
    },
}

/// Decides what an agent works from. `has_waited`: it has given the API server its time to answer.
///
/// While the API server is away a node goes on from memory. But what an agent remembers when it starts is of
/// yesterday: a dry run may have been asked for since, and then the first file that it puts back is one too many. The
/// files of before stand on the host anyway, so that a node which starts loses nothing while it waits. A mode that was
/// heard counts for what is remembered, too.
#[must_use]
pub fn wish(bundle: Heard<&Bundle>, labels: Heard<&Labels>, has_waited: bool) -> Wish {
    let some_may_come = matches!(bundle, Heard::NotYet) || matches!(labels, Heard::NotYet);
    match (bundle, labels) {
        (Heard::Is(bundle), Heard::Is(labels)) => Wish::Bundle(node_bundle(bundle, labels)),
        // Whatever was for the node, all of it goes.
        (Heard::Is(bundle), _) if bundle.mode == Mode::Restore => Wish::Bundle(node_bundle(bundle, &Labels::new())),
        _ if some_may_come && !has_waited => Wish::Wait,
        (Heard::Is(bundle), Heard::NotYet | Heard::Nothing) => Wish::Remembered { mode: Some(bundle.mode) },
        (Heard::NotYet | Heard::Nothing, _) => Wish::Remembered { mode: None },
    }
}

#[cfg(test)]
mod tests {
    use registry_mirror_crds::LabelSelector;

    use super::*;
    use crate::{
        bundle::{Blob, MirrorHost, Mode, SCHEMA, Tls},
        proxy::ProxySettings,
        sensitive::Sensitive,
    };

    fn entry(object: &str, registry: &str, region: Option<&str>, ca: Option<&Digest>) -> Entry {
        let tls = Tls { ca: ca.cloned(), ..Tls::default() };
        Entry {
            node_selector: region.map(|region| LabelSelector {
                match_labels: [("region".to_owned(), region.to_owned())].into(),
                match_expressions: Vec::new(),
            }),
            ..Entry::new(
                object,
                registry.parse().expect("a registry"),
                vec![MirrorHost { tls, ..MirrorHost::new("https://m") }],
            )
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
        let north = node_bundle(&bundle, &labels);
        assert_eq!(north.entries.iter().map(|entry| entry.object.as_str()).collect::<Vec<_>>(), ["north", "all"]);
        assert_eq!(north.blobs, [ours].into());
        assert_eq!(north.proxy, bundle.proxy);
        assert_eq!(node_bundle(&north, &labels), north);
    }

    #[test]
    fn nothing_is_done_from_memory_before_the_mode_was_heard_or_the_time_for_it_is_over() {
        let bundle = |mode| Bundle { schema: SCHEMA, mode, entries: Vec::new(), blobs: BTreeMap::new(), proxy: None };
        let (enforce, dry_run, labels) = (bundle(Mode::Enforce), bundle(Mode::DryRun), Labels::new());
        let restore = bundle(Mode::Restore);
        let (known, told) = (Heard::Is(&labels), Heard::Is(&enforce));
        for (what, has_waited, expected) in [
            ((told, known), false, Wish::Bundle(enforce.clone())),
            ((told, Heard::NotYet), false, Wish::Wait),
            ((Heard::NotYet, known), false, Wish::Wait),
            ((Heard::Nothing, Heard::NotYet), false, Wish::Wait),
            ((Heard::NotYet, Heard::NotYet), true, Wish::Remembered { mode: None }),
            ((Heard::Is(&restore), Heard::NotYet), false, Wish::Bundle(restore.clone())),
            // The answer that there is none, or none that can be read, is an answer.
            ((Heard::Nothing, known), false, Wish::Remembered { mode: None }),
            ((Heard::Is(&dry_run), Heard::NotYet), true, Wish::Remembered { mode: Some(Mode::DryRun) }),
            ((Heard::Is(&dry_run), Heard::Nothing), false, Wish::Remembered { mode: Some(Mode::DryRun) }),
        ] {
            assert_eq!(wish(what.0, what.1, has_waited), expected, "{what:?}, {has_waited}");
        }
    }
}
