//! What the daemon makes of its files: one configuration, by the merge rules of its version.
//!
//! 1.x (services/server/config/config.go): plugin tables are replaced whole, nothing is migrated.
//! 2.x (cmd/containerd/server/config/config.go): plugin tables are merged deeply, old tables are migrated, at different
//! times in 2.0 to 2.2 and in 2.3+.

use super::{
    document::{ConfigFile, location},
    errors::ConfigError,
    node::{Kind, Node, Place, Table},
    registry_table::RegistryTable,
    version::{Spelling, migrates_each_file, refuses_newer_imports},
};
use crate::containerd::Version;

/// The merged and migrated configuration.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    /// The version in force once all files are read: decides on 1.x which table is looked at.
    pub(crate) version: u32,
    pub(crate) plugins: Table,
    pub(crate) disabled: Vec<Disabled>,
    /// The plugin whose `registry` table the daemon reads after all migrations.
    pub(crate) plugin: Spelling,
    pub(crate) registry: RegistryTable,
}

/// An entry of `disabled_plugins`.
#[derive(Debug, Clone)]
pub(crate) struct Disabled {
    /// As the daemon takes it.
    pub(crate) name: String,
    /// As the file has it.
    pub(crate) written: String,
    pub(crate) place: Place,
}

impl Effective {
    /// The settings of the plugin that reads the registry table.
    pub(crate) fn images(&self) -> Option<&Table> {
        self.plugins.get(self.plugin.plugin())?.table()
    }

    pub(crate) fn registry_node(&self) -> Option<&Node> {
        self.images()?.get("registry")
    }
}

/// Merges the files as `version` does.
pub(crate) fn merge(files: &[ConfigFile], version: Version) -> Result<Effective, ConfigError> {
    let merged = if version.is_v1() { merge_v1(files, version)? } else { merge_v2(files, version)? };
    let Merged { in_force, plugins, disabled } = merged;
    let plugin = match (version.is_v1(), in_force) {
        (true, 1) => Spelling::Cri,
        (true, _) => Spelling::Grpc,
        (false, _) => Spelling::Images,
    };
    let node = plugins.get(plugin.plugin()).and_then(|plugin| plugin.table()?.get("registry"));
    let registry = RegistryTable::read(node, files, version)?;
    if version.is_v1() {
        check_default_runtime(plugins.get(plugin.plugin()), files, version)?;
    }
    Ok(Effective { version: in_force, plugins, disabled, plugin, registry })
}

struct Merged {
    in_force: u32,
    plugins: Table,
    disabled: Vec<Disabled>,
}

fn merge_v1(files: &[ConfigFile], version: Version) -> Result<Merged, ConfigError> {
    let mut merged = Merged { in_force: 1, plugins: Table::new(), disabled: Vec::new() };
    for file in files {
        if let Some(declared) = declared(file, version)? {
            merged.in_force = declared;
        }
        merged.plugins.extend(plugins(file)?.iter().map(|(name, node)| (name.clone(), node.clone())));
        merged.disabled.extend(disabled(file)?);
    }
    if merged.in_force == 2 {
        let names = merged.disabled.iter().map(|disabled| (&disabled.name, disabled.place));
        for (name, place) in names.chain(merged.plugins.iter().map(|(name, node)| (name, node.place))) {
            if !(name.starts_with("io.containerd.") && name.split('.').count() >= 4) {
                return Err(plugin_name(name, place, merged.in_force, files, version));
            }
        }
    }
    Ok(merged)
}

fn merge_v2(files: &[ConfigFile], version: Version) -> Result<Merged, ConfigError> {
    let newest = version.newest_config_version();
    let mut merged = Merged { in_force: newest, plugins: Table::new(), disabled: Vec::new() };
    let main_version = files.first().and_then(ConfigFile::declared_version);
    for file in files {
        let declared = declared(file, version)?;
        if let (Some(declared), Some(main)) = (declared, main_version)
            && declared > main
            && refuses_newer_imports(version)
        {
            let (path, line) = (file.path().to_owned(), line_of(file, "version"));
            return Err(ConfigError::ImportNewerThanMain { file: path, line, declared, main, version });
        }
        let mut plugins = plugins(file)?.clone();
        let mut disabled = disabled(file)?;
        if declared.is_none_or(|declared| declared == 1) {
            rename_cri(&mut plugins, &mut disabled, file, version)?;
        } else if let Some(Disabled { name, place, .. }) = disabled.iter().find(|entry| !entry.name.contains('.')) {
            return Err(plugin_name(name, *place, declared.unwrap_or(newest), files, version));
        }
        if migrates_each_file(version) {
            if declared.is_none_or(|declared| declared < newest) {
                migrate(&mut plugins);
            }
        } else if let Some(declared @ 2..) = declared {
            merged.in_force = declared;
        }
        for (name, node) in plugins {
            overlay(&mut merged.plugins, name, node);
        }
        merged.disabled.extend(disabled);
    }
    if !migrates_each_file(version) && merged.in_force < newest {
        migrate(&mut merged.plugins);
    }
    Ok(merged)
}

/// A later file wins, key by key; arrays and empty values override too.
fn overlay(into: &mut Table, name: String, node: Node) {
    if let (Some(Node { kind: Kind::Table(old), .. }), Kind::Table(_)) = (into.get_mut(&name), &node.kind) {
        if let Kind::Table(new) = node.kind {
            for (key, value) in new {
                overlay(old, key, value);
            }
        }
        return;
    }
    into.insert(name, node);
}

/// `v1Migrate`: only the name of the CRI plugin matters here.
fn rename_cri(
    plugins: &mut Table,
    disabled: &mut [Disabled],
    file: &ConfigFile,
    version: Version,
) -> Result<(), ConfigError> {
    if let Some(cri) = plugins.remove(Spelling::Cri.plugin()) {
        if plugins.contains_key(Spelling::Grpc.plugin()) {
            let line = file.document().line(cri.place.start);
            return Err(ConfigError::AmbiguousPlugin { file: file.path().to_owned(), line, version });
        }
        plugins.insert(Spelling::Grpc.plugin().to_owned(), cri);
    }
    for Disabled { name, .. } in disabled {
        if name == Spelling::Cri.plugin() {
            Spelling::Grpc.plugin().clone_into(name);
        }
    }
    Ok(())
}

/// `migrateConfig` of plugins/cri/images/plugin.go: whole tables are copied over, so an old `registry` table replaces a
/// new one; what stands in `containerd` counts only beside a table of runtimes.
fn migrate(plugins: &mut Table) {
    let Some(Kind::Table(old)) = plugins.get(Spelling::Grpc.plugin()).map(|node| node.kind.clone()) else {
        return;
    };
    let mut moved = Table::new();
    for key in ["registry", "max_concurrent_downloads", "image_pull_with_sync_fs"] {
        moved.extend(old.get(key).map(|node| (key.to_owned(), node.clone())));
    }
    if let Some(containerd) = old.get("containerd").and_then(Node::table)
        && containerd.contains_key("runtimes")
    {
        for key in ["snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"] {
            moved.extend(containerd.get(key).map(|node| (key.to_owned(), node.clone())));
        }
    }
    let Some(place) = plugins.get(Spelling::Grpc.plugin()).map(|node| node.place) else {
        return;
    };
    let images = plugins
        .entry(Spelling::Images.plugin().to_owned())
        .or_insert_with(|| Node { kind: Kind::Table(Table::new()), place });
    if let Kind::Table(images) = &mut images.kind {
        images.extend(moved);
    }
}

/// The file's `version`; 0 counts as none, as in containerd.
fn declared(file: &ConfigFile, version: Version) -> Result<Option<u32>, ConfigError> {
    let Some(node) = file.document().root.get("version") else {
        return Ok(None);
    };
    let (path, line) = (file.path().to_owned(), file.document().line(node.place.start));
    match node.kind {
        Kind::Integer(0) => Ok(None),
        Kind::Integer(number) => match u32::try_from(number) {
            Ok(declared) if declared <= version.newest_config_version() => Ok(Some(declared)),
            Err(_) if number < 0 => {
                Err(ConfigError::Type { file: path, line, key: "version".to_owned(), expected: "a positive number" })
            }
            _ => Err(ConfigError::NewerVersion {
                file: path,
                line,
                declared: number,
                newest: version.newest_config_version(),
                version,
            }),
        },
        _ => Err(ConfigError::Type { file: path, line, key: "version".to_owned(), expected: "a number" }),
    }
}

fn plugins(file: &ConfigFile) -> Result<&Table, ConfigError> {
    static NONE: Table = Table::new();
    let wrong = |node: &Node, key: &str| ConfigError::Type {
        file: file.path().to_owned(),
        line: file.document().line(node.place.start),
        key: key.to_owned(),
        expected: "a table",
    };
    let Some(node) = file.document().root.get("plugins") else {
        return Ok(&NONE);
    };
    let table = node.table().ok_or_else(|| wrong(node, "plugins"))?;
    for spelling in Spelling::ALL {
        if let Some(node) = table.get(spelling.plugin())
            && node.table().is_none()
        {
            return Err(wrong(node, spelling.plugin()));
        }
    }
    Ok(table)
}

fn disabled(file: &ConfigFile) -> Result<Vec<Disabled>, ConfigError> {
    let Some(node) = file.document().root.get("disabled_plugins") else {
        return Ok(Vec::new());
    };
    let wrong = |node: &Node| ConfigError::Type {
        file: file.path().to_owned(),
        line: file.document().line(node.place.start),
        key: "disabled_plugins".to_owned(),
        expected: "an array of strings",
    };
    let Kind::Array(entries) = &node.kind else {
        return Err(wrong(node));
    };
    let read = |entry: &Node| {
        let name = entry.text().ok_or_else(|| wrong(entry))?.to_owned();
        Ok(Disabled { written: name.clone(), name, place: entry.place })
    };
    entries.iter().map(read).collect()
}

/// A `runtimes` table replaces the default one on 1.x; without the default runtime in it CRI does not load
/// (`no corresponding runtime configured in containerd.runtimes`).
fn check_default_runtime(plugin: Option<&Node>, files: &[ConfigFile], version: Version) -> Result<(), ConfigError> {
    let Some(containerd) = plugin.and_then(|plugin| plugin.at(&["containerd"])) else {
        return Ok(());
    };
    let Some(runtimes) = containerd.at(&["runtimes"]).filter(|node| node.table().is_some_and(|t| !t.is_empty())) else {
        return Ok(());
    };
    let has_type =
        |path: &[&str]| containerd.at(path).and_then(Node::text).is_some_and(|runtime_type| !runtime_type.is_empty());
    // the deprecated `default_runtime` brings its own entry
    if has_type(&["default_runtime", "runtime_type"]) {
        return Ok(());
    }
    let runtime = containerd.at(&["default_runtime_name"]).and_then(Node::text).unwrap_or("runc");
    if runtimes.table().is_some_and(|table| table.contains_key(runtime)) {
        return Ok(());
    }
    let (file, line) = location(files, runtimes.place);
    Err(ConfigError::DefaultRuntimeMissing { file, line, runtime: runtime.to_owned(), version })
}

fn plugin_name(name: &str, place: Place, declared: u32, files: &[ConfigFile], version: Version) -> ConfigError {
    let (file, line) = location(files, place);
    ConfigError::PluginName { file, line, name: name.to_owned(), declared, version }
}

fn line_of(file: &ConfigFile, key: &str) -> usize {
    file.document().root.get(key).map_or(1, |node| file.document().line(node.place.start))
}
