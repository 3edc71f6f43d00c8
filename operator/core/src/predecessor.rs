//! What a new bundle starts from. An object that cannot be compiled keeps its entry of the bundle before: where that one
//! is lost, the object would vanish from nodes that have it, a `fallback: Deny` with it. Then nothing is published until
//! the object can be compiled or is deleted.

use std::collections::BTreeSet;

use registry_mirror_crds::RegistryMirror;

use crate::{
    bundle::{Bundle, Mode},
    compile::{Compiled, InForce, Unreadable},
    status::{node::NodeReport, object::has_entry},
};

/// The bundle in force.
#[derive(Debug, Clone, Copy)]
pub enum Predecessor<'a> {
    /// It was read.
    Known(&'a Bundle),
    /// There is none: never, or somebody deleted it.
    Absent,
    /// It is damaged, or of a release that this one does not know.
    Unreadable,
}

impl<'a> Predecessor<'a> {
    /// What objects keep their entries of.
    #[must_use]
    pub const fn known(self) -> Option<&'a Bundle> {
        match self {
            Self::Known(bundle) => Some(bundle),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// The objects that a bundle in force had something of, by the traces that it left: what was said of each object then,
/// and what nodes say that they have. A first install has none.
#[must_use]
pub fn traces<'a>(
    objects: impl IntoIterator<Item = &'a RegistryMirror>,
    reports: impl IntoIterator<Item = &'a NodeReport>,
) -> BTreeSet<String> {
    let objects = objects.into_iter().filter(|object| object.status.as_ref().is_some_and(has_entry));
    let objects = objects.filter_map(|object| object.metadata.name.clone());
    let registries = reports.into_iter().flat_map(|report| report.registries.iter());
    objects.chain(registries.map(|registry| registry.object.clone())).collect()
}

/// The objects that exist, that nodes have something of, and that this bundle would take away from them. While there are
/// any it must not be published.
#[must_use]
pub fn vanishing(
    compiled: &Compiled,
    unreadable: &[Unreadable],
    predecessor: Predecessor<'_>,
    traces: &BTreeSet<String>,
) -> BTreeSet<String> {
    // A node that is put back loses all of them, and is meant to.
    if predecessor.known().is_some() || compiled.bundle.mode == Mode::Restore {
        return BTreeSet::new();
    }
    let left_out = compiled.verdicts.iter().filter(|(_, verdict)| verdict.in_force == InForce::Nothing);
    let left_out = left_out.map(|(name, _)| name).filter(|name| traces.contains(*name));
    // What wrote the bundle wrote these too, and its agents' reports need not be readable either.
    let of_that_release = matches!(predecessor, Predecessor::Unreadable);
    let unreadable = unreadable.iter().map(|object| &object.name);
    let unreadable = unreadable.filter(|name| of_that_release || traces.contains(*name));
    left_out.chain(unreadable).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use registry_mirror_crds::{MirrorNodes, RegistryMirrorStatus};

    use super::*;
    use crate::{
        compile::{CompileOptions, References, compile, empty_bundle},
        status::node::{Readiness, RegistryReport},
    };

    fn object(name: &str, mirror: &serde_json::Value, was_in_force: bool) -> RegistryMirror {
        let mut object: RegistryMirror = serde_json::from_value(serde_json::json!({
            "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": name},
            "spec": {"registry": "docker.io", "mirrors": [mirror], "upstream": {"fallback": "Deny"}},
        }))
        .expect("an object");
        let mirrors = if was_in_force { vec![MirrorNodes::default()] } else { Vec::new() };
        object.status = Some(RegistryMirrorStatus { mirrors, ..RegistryMirrorStatus::default() });
        object
    }

    fn good(name: &str, was_in_force: bool) -> RegistryMirror {
        object(name, &serde_json::json!({"url": "https://m.example.com"}), was_in_force)
    }

    fn unresolved(name: &str, was_in_force: bool) -> RegistryMirror {
        let mirror = serde_json::json!({"url": "https://m.example.com", "auth": {"secretRef": {"name": "gone"}}});
        object(name, &mirror, was_in_force)
    }

    fn report(objects: &[&str]) -> NodeReport {
        let registry = |object: &&str| RegistryReport {
            object: (*object).to_owned(),
            hash: String::new(),
            error: None,
            mirrors: Vec::new(),
            credentials_unusable: false,
        };
        NodeReport {
            readiness: Readiness::Ready,
            message: Box::default(),
            registries: Arc::new(objects.iter().map(registry).collect()),
        }
    }

    fn held(
        objects: &[RegistryMirror],
        unreadable: &[&str],
        reports: &[NodeReport],
        predecessor: Predecessor<'_>,
        mode: Mode,
    ) -> Vec<String> {
        let unreadable: Vec<_> =
            unreadable.iter().map(|name| Unreadable { name: (*name).to_owned(), created: None }).collect();
        let options = CompileOptions {
            mode,
            previous: predecessor.known(),
            unreadable: &unreadable,
            ..CompileOptions::default()
        };
        let compiled = compile(objects, &References::default(), &options);
        vanishing(&compiled, &unreadable, predecessor, &traces(objects, reports)).into_iter().collect()
    }

    #[test]
    fn what_nodes_have_is_not_published_away() {
        let empty = empty_bundle(Mode::Enforce);
        let objects = [good("good", true), unresolved("lost", true), unresolved("new", false)];
        for (predecessor, expected) in [
            (Predecessor::Absent, vec!["lost"]),
            (Predecessor::Unreadable, vec!["lost"]),
            // it says that nodes have nothing of any
            (Predecessor::Known(&empty), vec![]),
        ] {
            assert_eq!(held(&objects, &[], &[], predecessor, Mode::Enforce), expected, "{predecessor:?}");
        }
        assert_eq!(held(&objects, &[], &[], Predecessor::Absent, Mode::DryRun), ["lost"]);
        assert!(held(&objects, &[], &[], Predecessor::Absent, Mode::Restore).is_empty(), "an uninstall goes on");
        // its status was lost, or is not written yet
        assert_eq!(held(&objects, &[], &[report(&["new"])], Predecessor::Absent, Mode::Enforce), ["lost", "new"]);
    }

    #[test]
    fn a_first_install_is_published_whatever_is_wrong_with_its_objects() {
        let objects = [good("good", false), unresolved("a", false)];
        assert!(held(&objects, &["newer"], &[report(&[])], Predecessor::Absent, Mode::Enforce).is_empty());
    }

    #[test]
    fn what_is_put_right_or_deleted_holds_nothing_back() {
        let reports = [report(&["lost", "gone"])];
        assert!(held(&[good("lost", true)], &[], &reports, Predecessor::Absent, Mode::Enforce).is_empty());
        assert!(held(&[], &[], &reports, Predecessor::Absent, Mode::Enforce).is_empty());
    }

    #[test]
    fn an_object_of_another_release_counts_like_its_bundle() {
        let named = |predecessor, reports: &[NodeReport]| held(&[], &["newer"], reports, predecessor, Mode::Enforce);
        assert_eq!(named(Predecessor::Unreadable, &[]), ["newer"]);
        assert!(named(Predecessor::Absent, &[]).is_empty());
        assert_eq!(named(Predecessor::Absent, &[report(&["newer"])]), ["newer"]);
    }
}
