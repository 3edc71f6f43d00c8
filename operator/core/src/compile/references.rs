//! The Secrets and ConfigMaps that objects name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use registry_mirror_crds::{ObjectKind, RegistryMirror, reason};

use super::verdict::{Problem, Unresolved};

/// The kind of object that is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl fmt::Display for RefKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        })
    }
}

impl From<ObjectKind> for RefKind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Secret => Self::Secret,
            ObjectKind::ConfigMap => Self::ConfigMap,
        }
    }
}

/// An object in the operator's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name } = self;
        write!(f, "{kind} `{name}`")
    }
}

/// What the Secrets and ConfigMaps of the operator's namespace hold. `Debug` shows names and keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct References {
    objects: BTreeMap<Reference, Data>,
}

/// The data of one object, by key.
pub type Data = BTreeMap<String, Vec<u8>>;

impl References {
    /// Adds or replaces the data of one object.
    pub fn insert(&mut self, reference: Reference, data: Data) {
        self.objects.insert(reference, data);
    }

    /// Adds or replaces a Secret; `stringData` counts as in the API server.
    pub fn insert_secret(&mut self, secret: Secret) {
        let name = secret.metadata.name.unwrap_or_default();
        let mut data: Data = secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect();
        data.extend(secret.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes())));
        self.insert(Reference { kind: RefKind::Secret, name }, data);
    }

    /// Adds or replaces a ConfigMap.
    pub fn insert_config_map(&mut self, config_map: ConfigMap) {
        let name = config_map.metadata.name.unwrap_or_default();
        let mut data: Data = config_map.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
        data.extend(config_map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes())));
        self.insert(Reference { kind: RefKind::ConfigMap, name }, data);
    }

    /// Adds all of the other's objects.
    pub fn extend(&mut self, other: &Self) {
        self.objects.extend(other.objects.iter().map(|(reference, data)| (reference.clone(), data.clone())));
    }

    /// The object's data, where it is known.
    #[must_use]
    pub fn get(&self, reference: &Reference) -> Option<&Data> {
        self.objects.get(reference)
    }
}

impl fmt::Debug for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.objects.iter().map(|(reference, data)| (reference, data.keys().collect::<Vec<_>>()));
        f.debug_map().entries(names).finish()
    }
}

/// The Secrets and ConfigMaps that these objects name: what the controller has to watch.
#[must_use]
pub fn required_refs<'o>(objects: impl IntoIterator<Item = &'o RegistryMirror>) -> BTreeSet<Reference> {
    let mut required = BTreeSet::new();
    for object in objects {
        let spec = &object.spec;
        let mut secret = |name: &str| {
            required.insert(Reference { kind: RefKind::Secret, name: name.to_owned() });
        };
        for mirror in &spec.mirrors {
            if let Some(auth) = &mirror.auth {
                secret(&auth.secret_ref.name);
            }
            for header in &mirror.headers {
                if let Some(key) = &header.value_from {
                    secret(&key.name);
                }
            }
        }
        let upstream = spec.upstream.as_ref().and_then(|upstream| upstream.tls.as_ref());
        for tls in spec.mirrors.iter().filter_map(|mirror| mirror.tls.as_ref()).chain(upstream) {
            if let Some(client) = &tls.client_cert_ref {
                required.insert(Reference { kind: RefKind::Secret, name: client.name.clone() });
            }
            if let Some(ca) = &tls.ca_ref {
                required.insert(Reference { kind: ca.kind.into(), name: ca.name.clone() });
            }
        }
    }
    required
}

/// One reference on its way to a value: knows the field and the object for the messages.
#[derive(Debug, Clone)]
pub(super) struct Lookup<'a> {
    field: &'a str,
    reference: Reference,
    data: &'a Data,
}

impl<'a> Lookup<'a> {
    pub fn new(
        references: &'a References,
        namespace: &str,
        field: &'a str,
        kind: RefKind,
        name: &str,
    ) -> Result<Self, Unresolved> {
        let reference = Reference { kind, name: name.to_owned() };
        match references.get(&reference) {
            Some(data) => Ok(Self { field, reference, data }),
            None => Err(Unresolved {
                reason: reason::REF_NOT_FOUND,
                problem: Problem {
                    field: field.to_owned(),
                    sentence: format!(
                        "names the {reference}, which does not exist in the namespace `{namespace}`: create it there, \
                         or correct the name"
                    ),
                },
            }),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.data.contains_key(key)
    }

    pub fn missing_key(&self, key: &str) -> Unresolved {
        let Self { reference, .. } = self;
        self.because(
            reason::REF_NOT_FOUND,
            format!("names the {reference}, which has no key `{key}`: {}", self.keys_sentence()),
        )
    }

    fn keys_sentence(&self) -> String {
        if self.data.is_empty() {
            return "it is empty".to_owned();
        }
        let keys: Vec<_> = self.data.keys().take(5).map(|key| format!("`{key}`")).collect();
        let more = if self.data.len() > keys.len() { " and more" } else { "" };
        format!("it has {}{more}", keys.join(", "))
    }

    /// `sentence` says what is wrong with the object's content, without quoting it.
    pub fn malformed(&self, sentence: impl fmt::Display) -> Unresolved {
        let Self { reference, .. } = self;
        self.because(reason::REF_MALFORMED, format!("names the {reference}, which {sentence}"))
    }

    fn because(&self, reason: &'static str, sentence: String) -> Unresolved {
        Unresolved { reason, problem: Problem { field: self.field.to_owned(), sentence } }
    }

    pub fn bytes(&self, key: &str) -> Result<&'a [u8], Unresolved> {
        self.data.get(key).map(Vec::as_slice).ok_or_else(|| self.missing_key(key))
    }

    pub fn text(&self, key: &str) -> Result<&'a str, Unresolved> {
        std::str::from_utf8(self.bytes(key)?)
            .map_err(|_| self.malformed(format_args!("holds bytes in the key `{key}` that are no text")))
    }
}
