//! Which tables hold the registry settings of CRI, by daemon and by `version` of the file.

use crate::containerd::Version;

/// The key of a registry table that names the directory.
pub(crate) const CONFIG_PATH: &str = "config_path";

/// The names under which the CRI plugin's settings stand in `[plugins]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spelling {
    /// `cri`: files of version 1.
    Cri,
    /// `io.containerd.grpc.v1.cri`: version 2, and the older files that 2.x migrates.
    Grpc,
    /// `io.containerd.cri.v1.images`: version 3 and later.
    Images,
}

impl Spelling {
    pub(crate) const ALL: [Self; 3] = [Self::Images, Self::Grpc, Self::Cri];

    pub(crate) const fn plugin(self) -> &'static str {
        match self {
            Self::Cri => "cri",
            Self::Grpc => "io.containerd.grpc.v1.cri",
            Self::Images => "io.containerd.cri.v1.images",
        }
    }

    /// The path of the registry table.
    pub(crate) const fn table(self) -> [&'static str; 3] {
        ["plugins", self.plugin(), "registry"]
    }

    /// The path of the plugin's own table.
    pub(crate) const fn plugin_table(self) -> [&'static str; 2] {
        ["plugins", self.plugin()]
    }

    /// As it is written in a header.
    pub(crate) const fn display(self) -> &'static str {
        match self {
            Self::Cri => "plugins.cri.registry",
            Self::Grpc => "plugins.\"io.containerd.grpc.v1.cri\".registry",
            Self::Images => "plugins.\"io.containerd.cri.v1.images\".registry",
        }
    }

    /// The spelling for a file that has no table of the CRI plugin yet.
    ///
    /// `declared` is the file's own version on 2.x, the one in force for all files on 1.x. A version-2 file gets the
    /// version-2 table also on 2.x, so that it still works when containerd is downgraded.
    pub(crate) const fn for_new_table(version: Version, declared: Option<u32>) -> Self {
        match declared {
            Some(2) => Self::Grpc,
            _ if version.is_v1() => Self::Cri,
            _ => Self::Images,
        }
    }
}

/// The `version` of a file that is written from nothing: the newest that the daemon reads without migrating.
pub(crate) const fn for_new_file(version: Version) -> u32 {
    version.newest_config_version()
}

/// 2.0 to 2.2 migrate the merged configuration once, and only if it ends up below version 3; 2.3+ migrates each file
/// by itself before merging (containerd cmd/containerd/server/config/config.go `LoadConfigWithPlugins`).
pub(crate) fn migrates_each_file(version: Version) -> bool {
    version >= Version::new(2, 3, 0)
}

/// 2.3.0 to 2.3.4 refuse an import whose version is higher than that of a main file which has one.
pub(crate) fn refuses_newer_imports(version: Version) -> bool {
    version >= Version::new(2, 3, 0) && version < Version::new(2, 3, 5)
}

/// Whether a registry table under this spelling in a file of version `declared` reaches the daemon at all.
/// `in_force` is the version after all files are read.
pub(crate) fn is_read(version: Version, spelling: Spelling, declared: Option<u32>, in_force: u32) -> bool {
    if version.is_v1() {
        return spelling == if in_force == 1 { Spelling::Cri } else { Spelling::Grpc };
    }
    let renamed = declared.is_none_or(|declared| declared == 1);
    let migrated = if migrates_each_file(version) {
        declared.is_none_or(|declared| declared < version.newest_config_version())
    } else {
        in_force < version.newest_config_version()
    };
    match spelling {
        Spelling::Images => true,
        Spelling::Grpc => migrated,
        Spelling::Cri => migrated && renamed,
    }
}
