use super::*;
use crate::{
    compile::{CompileOptions, RefKind, Reference, References, compile},
    containerd::Version,
    health::Seen,
    observed::{Distribution, Proof, Supervisor, Writable},
    plan::{
        files::{Listing, Ownership, foreign::Root},
        managed_elsewhere::ManagedElsewhere,
        proxy::ObservedProxy,
        rewrites::Rewrite,
        since_start::{ChangedSinceStart, Unread},
    },
    status::node::ContainerdFacts,
};

/// A node of its own, whose containerd reads an empty directory.
pub fn observation(version: Version) -> Observation {
    let directory = PathBuf::from("/etc/containerd/certs.d");
    let plan = ConfigPlan::Adopt { directory: directory.clone(), then: Vec::new(), reason: "it is read".to_owned() };
    let containerd = ContainerdObservation {
        facts: ContainerdFacts {
            version: version.to_string(),
            distribution: Distribution::Plain.name().to_owned(),
            evidence: "nothing else".to_owned(),
            config_file: "/etc/containerd/config.toml".to_owned(),
            config_version: Some(2),
            directory: Some(directory.display().to_string()),
            started_at: None,
        },
        version,
        plan,
        held: None,
        known: None,
        config_readable: true,
        unit: None,
        config_file: "/etc/containerd/config.toml".into(),
        proof: Proof::Effective,
        proxy: ObservedProxy {
            distribution: Distribution::Plain,
            supervisor: Supervisor::Offline,
            drop_in: None,
            writable: Writable::Yes,
            running: None,
            elsewhere: Vec::new(),
        },
        rewrite: Rewrite::None,
        as_written: None,
    };
    Observation {
        containerd,
        role: Role::Alone,
        directories: vec![Root { path: directory, listing: Listing::default(), ownership: Ownership::default() }],
        managed_elsewhere: ManagedElsewhere::default(),
        migrated_before: Vec::new(),
        writer: 0,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn slice(health_check: bool) -> Bundle {
    let object = serde_json::from_value(serde_json::json!({
        "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": "hub"},
        "spec": {
            "registry": "docker.io",
            "mirrors": [{"url": "https://m", "auth": {"secretRef": {"name": "robot"}}}],
            "healthCheck": {"enabled": health_check},
        },
    }))
    .expect("an object");
    let mut references = References::default();
    let data = [("username", "u"), ("password", "p")];
    references.insert(
        Reference { kind: RefKind::Secret, name: "robot".to_owned() },
        data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into(),
    );
    compile(&[object], &references, &CompileOptions::default()).bundle
}

fn complaints(slice: &Bundle, health: &MirrorHealth, version: Version) -> usize {
    let asked = Asked { bundle: Some(slice), proxy: None, restart: RestartBy::Operator };
    let plan = plan_node(&observation(version), asked, health);
    plan.registries.iter().flat_map(RegistryFacts::credentials_unusable).count()
}

fn answered(wants_token: bool) -> MirrorHealth {
    let mut health = MirrorHealth::under_way();
    health.note(&Destination::mirror("hub", "https://m"), Seen::Answer, Some(wants_token));
    health
}

/// A robot account in basic authentication works on every release, and most mirrors have no token server.
#[test]
fn an_old_containerd_is_no_reason_to_complain_of_credentials_that_arrive() {
    let (old, new) = (Version::new(1, 7, 35), Version::new(2, 1, 0));
    let slice = slice(true);
    assert_eq!(complaints(&slice, &answered(false), old), 0);
    assert_eq!(complaints(&slice, &answered(true), old), 1);
    assert_eq!(complaints(&slice, &answered(true), new), 0);
}

#[test]
fn what_a_mirror_does_with_credentials_is_awaited_where_somebody_asks() {
    let old = Version::new(1, 7, 35);
    assert_eq!(complaints(&slice(true), &MirrorHealth::under_way(), old), 0);
    assert_eq!(complaints(&slice(false), &MirrorHealth::under_way(), old), 1);
    assert_eq!(complaints(&slice(true), &MirrorHealth::default(), old), 1);
}

/// A status that says "restart" of a node that no object is for would be approved, and nothing would come of it.
#[test]
fn without_a_mirror_there_is_no_restart() {
    let edit = ConfigPlan::Patch { directory: "/certs.d".into(), edit: None, reason: "it is not set".to_owned() };
    let mut observed = observation(Version::new(1, 7, 35));
    observed.containerd.plan = edit;
    let (some, none) = (slice(true), Bundle { entries: Vec::new(), ..slice(true) });
    let restart = |bundle: Option<&Bundle>| {
        let asked = Asked { bundle, proxy: None, restart: RestartBy::Operator };
        plan_node(&observed, asked, &MirrorHealth::default()).facts().restart
    };
    // Without a bundle it is asked what the configuration needs.
    assert_eq!([Some(&some), Some(&none), None].map(restart), [true, false, true]);
}

#[test]
fn a_restart_that_is_held_back_is_none() {
    let mut observed = observation(Version::new(1, 7, 35));
    observed.containerd.plan =
        ConfigPlan::Patch { directory: "/certs.d".into(), edit: None, reason: "it is not set".to_owned() };
    observed.containerd.held =
        ChangedSinceStart::of("containerd.service", vec![Unread::Changed("/etc/containerd/config.toml".into())]);
    let bundle = slice(true);
    let plan = |restart| {
        let asked = Asked { bundle: Some(&bundle), proxy: None, restart };
        plan_node(&observed, asked, &MirrorHealth::default())
    };
    let held = plan(RestartBy::Operator);
    assert_eq!(held.stop.as_ref().map(|stop| stop.failure), Some(NodeFailure::ChangedSinceStart));
    assert!(!held.facts().restart && held.facts().kind == PlanKind::Unsupported);
    let by_others = plan(RestartBy::Others);
    assert!(by_others.stop.is_none() && by_others.facts().restart);
}
