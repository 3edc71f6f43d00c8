//! Which code of the daemon pulls images.
//!
//! From 2.1 on CRI hands pulls to the transfer service unless a setting forces the old way, its own client. The two
//! differ in what they can do: the client splits a list in `config_path` and unpacks for any snapshotter; the transfer
//! service does not split it, and unpacks only for what its own `unpack_config` names, by default overlayfs. So an edit
//! that changes the path can end every pull of a node, with "unable to initialize unpacker: no unpack platforms
//! defined" (seen on 2.4.2 with the native snapshotter; 2.1 to 2.3 have the same code).

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    LoadedConfig,
    document::location,
    node::{Kind, Node, Place, Table},
};

/// A key of the images plugin that makes CRI of 2.1+ pull by its own client (`CheckLocalImagePullConfigs` of
/// internal/cri/config/config.go).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// `use_local_image_pull = true`: says so itself.
    UseLocalImagePull,
    /// `disable_snapshot_annotations = false`; the default is true.
    DisableSnapshotAnnotations,
    /// `discard_unpacked_layers = true`.
    DiscardUnpackedLayers,
    /// `registry.mirrors` with an entry.
    Mirrors,
    /// `registry.configs` with an entry.
    Configs,
    /// `registry.auths` with an entry.
    Auths,
    /// `max_concurrent_downloads` other than 3, the default.
    MaxConcurrentDownloads,
    /// `image_pull_with_sync_fs = true`.
    ImagePullWithSyncFs,
}

impl Trigger {
    /// In the daemon's order.
    const ALL: [Self; 8] = [
        Self::UseLocalImagePull,
        Self::DisableSnapshotAnnotations,
        Self::DiscardUnpackedLayers,
        Self::Mirrors,
        Self::Configs,
        Self::Auths,
        Self::MaxConcurrentDownloads,
        Self::ImagePullWithSyncFs,
    ];

    /// Below the table of the images plugin.
    pub(crate) const fn path(self) -> &'static [&'static str] {
        match self {
            Self::UseLocalImagePull => &["use_local_image_pull"],
            Self::DisableSnapshotAnnotations => &["disable_snapshot_annotations"],
            Self::DiscardUnpackedLayers => &["discard_unpacked_layers"],
            Self::Mirrors => &["registry", "mirrors"],
            Self::Configs => &["registry", "configs"],
            Self::Auths => &["registry", "auths"],
            Self::MaxConcurrentDownloads => &["max_concurrent_downloads"],
            Self::ImagePullWithSyncFs => &["image_pull_with_sync_fs"],
        }
    }

    /// Whether a value at that path forces the client.
    fn is_pulled_by(self, value: &Node) -> bool {
        match (self, &value.kind) {
            (
                Self::UseLocalImagePull | Self::DiscardUnpackedLayers | Self::ImagePullWithSyncFs,
                Kind::Boolean(value),
            ) => *value,
            (Self::DisableSnapshotAnnotations, Kind::Boolean(value)) => !*value,
            (Self::Mirrors | Self::Configs | Self::Auths, Kind::Table(table)) => !table.is_empty(),
            (Self::MaxConcurrentDownloads, Kind::Integer(number)) => *number != 3,
            _ => false,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().join("."))
    }
}

/// Which code of the daemon pulls images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPath {
    /// CRI's own client. Up to 2.0 there is nothing else.
    OnlyLocal,
    /// CRI's own client, because a setting forces it.
    Local {
        /// The first in the daemon's order.
        trigger: Trigger,
        /// The file, as the host names it.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The transfer service.
    Transfer,
}

impl PullPath {
    /// CRI's own client pulls, whatever makes it do so.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        !matches!(self, Self::Transfer)
    }
}

/// By which path the daemon pulls with these files.
pub(crate) fn pull_path(config: &LoadedConfig) -> PullPath {
    if !config.version.pulls_through_transfer_service() {
        return PullPath::OnlyLocal;
    }
    let Some((trigger, place)) = config.effective.images().and_then(first_trigger) else {
        return PullPath::Transfer;
    };
    let (file, line) = location(&config.files, place);
    PullPath::Local { trigger, file, line }
}

/// The first trigger of a table of the images plugin, and where it stands.
fn first_trigger(images: &Table) -> Option<(Trigger, Place)> {
    Trigger::ALL.into_iter().find_map(|trigger| {
        let (first, rest) = trigger.path().split_first()?;
        let value = images.get(*first)?.at(rest).filter(|value| trigger.is_pulled_by(value))?;
        let entries = value.table().into_iter().flat_map(Table::values).map(|entry| entry.place);
        Some((trigger, entries.min().unwrap_or(value.place)))
    })
}

/// Whether a registry table forces the client by itself.
pub(crate) fn registry_is_trigger(registry: &Node) -> bool {
    [Trigger::Mirrors, Trigger::Configs, Trigger::Auths].into_iter().any(|trigger| {
        let value = trigger.path().split_first().and_then(|(_, rest)| registry.at(rest));
        value.is_some_and(|value| trigger.is_pulled_by(value))
    })
}
