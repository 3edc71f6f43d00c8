//! One Secret holds the bundle; what does not fit is refused, newest first.

use std::collections::{BTreeMap, BTreeSet};

use registry_mirror_crds::reason;

use super::{
    CompileOptions, empty_bundle,
    verdict::{InForce, Problem, Refusal},
};
use crate::{
    bundle::{Blob, Bundle, Entry, pack},
    digest::Digest,
};

type WithBlobs = (Entry, BTreeMap<Digest, Blob>);

/// One object on its way into the bundle.
pub(super) struct Candidate {
    pub name: String,
    pub created: Option<jiff::Timestamp>,
    /// The object as it stands, where it is good.
    pub compiled: Option<WithBlobs>,
    /// Its entry in the bundle in force.
    pub before: Option<WithBlobs>,
}

pub(super) struct TooLarge {
    pub refusal: Refusal,
    pub in_force: InForce,
}

/// The bundle of as many candidates as fit, which come oldest first, and those that do not.
///
/// What changed gives way before what stands, so that no edit takes a mirror away from another object; among these the
/// newest object gives way first. Without the refused changes the bundle is what it was, which fitted.
pub(super) fn fit(candidates: &[Candidate], options: &CompileOptions<'_>) -> (Bundle, BTreeMap<String, TooLarge>) {
    let whole = assemble(candidates, &BTreeSet::new(), &BTreeSet::new(), options);
    if size(&whole) <= options.max_bytes {
        return (whole, BTreeMap::new());
    }
    let is_changed = |candidate: &Candidate| match (&candidate.compiled, &candidate.before) {
        (Some((new, _)), Some((old, _))) => new != old,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let newest_first = || candidates.iter().enumerate().rev();
    let changed = newest_first().filter(|(_, c)| is_changed(c)).map(|(i, _)| i);
    let mut queue: Vec<(usize, Step)> = changed.map(|i| (i, Step::Revert)).collect();
    // A bound that shrank, or no bundle in force: then even what stands has to give way.
    queue.extend(newest_first().map(|(i, _)| (i, Step::Drop)));

    let apply = |count: usize| {
        let mut reverted = BTreeSet::new();
        let mut dropped = BTreeSet::new();
        for (i, step) in queue.iter().take(count) {
            match step {
                Step::Revert => reverted.insert(*i),
                Step::Drop => dropped.insert(*i),
            };
        }
        (reverted, dropped)
    };
    // Each further step makes the bundle smaller or leaves it, so the least number of steps is found by halving.
    let (mut low, mut high) = (1, queue.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let (reverted, dropped) = apply(middle);
        if size(&assemble(candidates, &reverted, &dropped, options)) <= options.max_bytes {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let (reverted, dropped) = apply(low);
    let bundle = assemble(candidates, &reverted, &dropped, options);
    let refused = candidates
        .iter()
        .enumerate()
        .filter(|(i, _)| reverted.contains(i) || dropped.contains(i))
        .map(|(i, candidate)| {
            let kept = !dropped.contains(&i) && candidate.before.is_some();
            let in_force = if kept { InForce::LastGood } else { InForce::Nothing };
            (candidate.name.clone(), TooLarge { refusal: refusal(options.max_bytes), in_force })
        })
        .collect();
    (bundle, refused)
}

#[derive(Clone, Copy)]
enum Step {
    /// Back to the entry of the bundle in force, where there is one.
    Revert,
    /// Out.
    Drop,
}

fn assemble(
    candidates: &[Candidate],
    reverted: &BTreeSet<usize>,
    dropped: &BTreeSet<usize>,
    options: &CompileOptions<'_>,
) -> Bundle {
    let mut bundle = Bundle { proxy: options.proxy.cloned(), ..empty_bundle(options.mode) };
    for (i, candidate) in candidates.iter().enumerate().filter(|(i, _)| !dropped.contains(i)) {
        let compiled = candidate.compiled.as_ref().filter(|_| !reverted.contains(&i));
        if let Some((entry, blobs)) = compiled.or(candidate.before.as_ref()) {
            bundle.entries.push(entry.clone());
            bundle.blobs.extend(blobs.iter().map(|(digest, blob)| (digest.clone(), blob.clone())));
        }
    }
    bundle
}

/// A bundle that cannot be packed counts as too large; serialisation of these types does not fail.
fn size(bundle: &Bundle) -> usize {
    pack(bundle).map_or(usize::MAX, |bytes| bytes.len())
}

fn refusal(max_bytes: usize) -> Refusal {
    Refusal {
        reason: reason::BUNDLE_TOO_LARGE,
        problems: vec![Problem {
            field: "spec".to_owned(),
            sentence: format!(
                "does not fit beside the other objects into the one Secret of {max_bytes} bytes that nodes read: let \
                 mirrors share one CA bundle, trim CA bundles to the certificates that are needed, or delete objects"
            ),
        }],
    }
}
