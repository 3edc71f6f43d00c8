//! The bundle that agents unpack, and the files that they make of it.

use std::{collections::BTreeSet, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};
use registry_mirror_core::{
    bundle::{Bundle, pack, unpack},
    desired::{Desired, Target, desired},
    hosts_toml::{self, Host},
    node_bundle::node_bundle,
    select::Labels,
};

use crate::{daemon, progress::Progress};

static PROGRESS: Progress = Progress::new(["inputs", "unpacked", "entries rendered"]);

/// The daemon by the first byte; then `z` and packed bytes, or the JSON inside.
///
/// # Panics
/// A bundle does not survive packing, a slice is not its own slice, or a file would stand outside of its directory.
pub fn check(data: &[u8]) {
    let Some((version, rest)) = daemon::split(data) else { return };
    PROGRESS.reached(0);
    let packed = match rest.strip_prefix(b"z") {
        Some(packed) => packed.to_vec(),
        None => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
            encoder.write_all(rest).and_then(|()| encoder.finish()).expect("memory takes all writes")
        }
    };
    let Ok(bundle) = unpack(&packed) else { return };
    PROGRESS.reached(1);
    let again = unpack(&pack(&bundle).expect("a bundle packs")).expect("and unpacks");
    assert_eq!(again, bundle);
    let labels: Labels = [("region".to_owned(), "north".to_owned())].into();
    let ours = node_bundle(&bundle, &labels);
    assert_eq!(node_bundle(&ours, &labels), ours);
    let Bundle { entries, blobs, .. } = &ours;
    let target = Target { version, certs_dir: Path::new("/etc/containerd/certs.d") };
    for entry in entries {
        let drained: BTreeSet<String> = entry.mirrors.iter().take(1).map(|mirror| mirror.url.clone()).collect();
        for drained in [BTreeSet::new(), drained] {
            let Ok(Desired { registry, hosts, notes }) = desired(entry, blobs, target, &drained) else { continue };
            let _ = notes.iter().map(ToString::to_string).collect::<Vec<_>>();
            for name in registry.certificates.keys().chain([&registry.registry.directory()]) {
                assert!(!name.contains('/') && !matches!(name.as_str(), "" | "." | ".."), "{name} leads out");
            }
            // what the controller never writes, and hosts.toml cannot hold
            let odd =
                |host: &Host| host.fields.dial_timeout.is_some_and(|time| i64::try_from(time.as_nanos()).is_err());
            if !hosts.hosts.is_empty() && !hosts.hosts.iter().any(odd) && hosts.server.as_deref() != Some("") {
                let text = hosts_toml::render(&hosts, version).text;
                assert!(hosts_toml::parse(&text, version).as_ref() == Ok(&hosts), "{text}\nis not\n{hosts:#?}");
                PROGRESS.reached(2);
            }
        }
    }
}
