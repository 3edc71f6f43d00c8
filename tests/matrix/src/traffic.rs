//! Who served a pull: the registries' own access logs tell.

use anyhow::{Result, bail};
use testbed::{Bed, Node};

/// The repository, in every registry.
pub(crate) const IMAGE: &str = "library/matrix";
/// Its tag.
pub(crate) const TAG: &str = "1";

/// The registries of the bed that hold the image: two mirrors, one with a private CA and credentials, two upstreams, and
/// two upstreams with a private CA.
pub(crate) const REGISTRIES: [&str; 7] = ["mirror", "mirror2", "harbor", "docker.io", "quay.io", "tls", "mtls"];

/// Pulls the image of `registry` over CRI, as a kubelet does, and returns the registry of the bed that served it.
pub(crate) fn pull(bed: &Bed, node: &Node, registry: &str) -> Result<&'static str> {
    let image = format!("{registry}/{IMAGE}:{TAG}");
    let seen: Vec<usize> = REGISTRIES.iter().map(|name| Ok(bed.accesses(name)?.len())).collect::<Result<_>>()?;
    node.pull(&image)?;
    let manifests = format!("/v2/{IMAGE}/manifests/");
    let mut served = Vec::new();
    for (name, seen) in REGISTRIES.into_iter().zip(seen) {
        let accesses = bed.accesses(name)?;
        let answered = accesses[seen.min(accesses.len())..].iter().any(|access| {
            // A mirror is told the registry; the registry itself is not.
            let namespace = access.namespace.as_deref();
            let is_itself = name == registry || registry.starts_with(&format!("{name}."));
            let is_this = if is_itself { namespace.is_none() } else { namespace == Some(registry) };
            is_this && access.path.starts_with(&manifests) && access.status == 200
        });
        if answered {
            served.push(name);
        }
    }
    node.remove_image(&image)?;
    match served.as_slice() {
        [one] => Ok(one),
        [] => bail!("{image} was pulled, but no access log of the bed shows by whom it was served"),
        several => bail!("{image} was served by several registries: {}", several.join(", ")),
    }
}
