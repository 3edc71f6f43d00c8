//! The operator must not lock itself out.

use std::collections::{BTreeMap, BTreeSet};

use registry_mirror_crds::{Fallback, RegistryMirror, reason};

use super::{
    name_of,
    verdict::{Problem, Refusal},
};
use crate::registry::{RegistryName, split_image};

/// The registry that an image reference is pulled from: `docker.io` where it names none.
#[must_use]
pub fn registry_of_image(image: &str) -> Option<RegistryName> {
    match split_image(image).0 {
        None | Some("index.docker.io") => "docker.io".parse().ok(),
        Some(host) => host.parse().ok(),
    }
}

/// The objects that would keep a node from pulling the operator's own image.
///
/// With `fallback: Deny` and every mirror gone, a new agent could never start and put things right.
pub(super) fn denied(objects: &[&RegistryMirror], own: &BTreeSet<RegistryName>) -> BTreeMap<String, Refusal> {
    let denies = |object: &RegistryMirror| {
        object.spec.upstream.as_ref().is_some_and(|upstream| upstream.fallback == Fallback::Deny)
    };
    let mut refused = BTreeMap::new();
    for object in objects.iter().filter(|object| denies(object)) {
        let registry = object.spec.registry.as_str();
        let hit = if registry == RegistryName::DEFAULT {
            own.iter().find(|own| {
                // an object of its own, for all nodes, takes the registry out of `_default`
                !objects.iter().any(|other| {
                    other.spec.registry == own.as_str() && !denies(other) && other.spec.node_selector.is_none()
                })
            })
        } else {
            own.iter().find(|own| own.as_str() == registry)
        };
        if let Some(hit) = hit {
            let instead = if registry == RegistryName::DEFAULT {
                format!("add a RegistryMirror for {hit} with fallback: Allow and no nodeSelector")
            } else {
                "write fallback: Allow, or move that image to another registry".to_owned()
            };
            refused.insert(
                name_of(object).to_owned(),
                Refusal {
                    reason: reason::OWN_REGISTRY_DENIED,
                    problems: vec![Problem {
                        field: "spec.upstream.fallback".to_owned(),
                        sentence: format!(
                            "is Deny for {hit}, where the operator's own image or that of a mirror comes from: a node \
                             whose mirrors are down could then never start the agent again; {instead}"
                        ),
                    }],
                },
            );
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry() {
        for (image, expected) in [
            ("alpine", "docker.io"),
            ("library/alpine:3", "docker.io"),
            ("index.docker.io/library/alpine", "docker.io"),
            ("ghcr.io/x/y@sha256:00", "ghcr.io"),
            ("localhost/x", "localhost"),
            ("registry:5000/x", "registry:5000"),
        ] {
            assert_eq!(registry_of_image(image).as_ref().map(RegistryName::as_str), Some(expected), "{image}");
        }
    }
}
