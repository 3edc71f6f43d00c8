//! Which edit is right: after it the daemon reads the directory, all else as before, and pulls by the same path.

use std::path::Path;

use super::{
    LoadedConfig,
    analysis::Effectiveness,
    node::{Kind, Node, Table, same_tables},
    pull_path::{Trigger, pull_path},
    version::CONFIG_PATH,
    version::Spelling,
};

/// Which edit of [`super::patch::set_directory`] is right.
pub(crate) struct Judge<'a> {
    /// The file that may be edited; any where it is `None`.
    pub(crate) only: Option<usize>,
    /// The table to try first, unless `config_path` stands somewhere already.
    pub(crate) first: Option<Spelling>,
    /// What the daemon must read as before, apart from `config_path`, ...
    pub(crate) reference: &'a LoadedConfig,
    /// ... and from what was taken out of that file.
    pub(crate) removed: &'a [Vec<&'a str>],
}

/// What an edit did to the path by which the daemon pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathChange {
    None,
    /// The daemon pulled by its own client and would pull through the transfer service.
    ToTransfer,
    ToLocal,
}

impl Judge<'_> {
    /// Whether the daemon reads the directory, and all else as before.
    pub(crate) fn accepts(&self, edited: &LoadedConfig, file: usize, directory: &Path) -> bool {
        edited.analyze().effectiveness == Effectiveness::Directory(directory.to_owned())
            && same_but_for(self.reference, edited, file, Edited::Registry(self.removed))
    }

    pub(crate) fn path_change(&self, edited: &LoadedConfig) -> PathChange {
        match [self.reference, edited].map(|config| pull_path(config).is_local()) {
            [true, false] => PathChange::ToTransfer,
            [false, true] => PathChange::ToLocal,
            [true, true] | [false, false] => PathChange::None,
        }
    }
}

/// Whether the daemon pulls by its own client after an edit of `use_local_image_pull`, and reads all else as before it.
pub(crate) fn only_forces_local_pull(before: &LoadedConfig, after: &LoadedConfig, file: usize) -> bool {
    pull_path(after).is_local() && same_but_for(before, after, file, Edited::LocalPull)
}

/// What an edit is about.
#[derive(Clone, Copy)]
enum Edited<'a> {
    /// `config_path` of the registry tables, and these paths, which are taken out.
    Registry(&'a [Vec<&'a str>]),
    /// `use_local_image_pull`.
    LocalPull,
}

/// Whether the daemon reads the same, apart from what the edit is about.
fn same_but_for(a: &LoadedConfig, b: &LoadedConfig, file: usize, edited: Edited<'_>) -> bool {
    let rest = |config: &LoadedConfig| {
        let mut root = config.files[file].document().root.clone();
        if let Some(Node { kind: Kind::Table(plugins), .. }) = root.get_mut("plugins") {
            *plugins = stripped(plugins, edited);
        }
        root.retain(|name, node| name != "plugins" || node.table().is_none_or(|table| !table.is_empty()));
        root
    };
    // what was taken out under an old name is missing under the name that it was migrated to as well
    let removed = match edited {
        Edited::Registry(removed) => removed,
        Edited::LocalPull => &[],
    };
    let migrated: Vec<Vec<&str>> = Spelling::ALL
        .into_iter()
        .flat_map(|spelling| removed.iter().map(move |path| [&spelling.table(), &path[3..]].concat()))
        .collect();
    let everywhere = match edited {
        Edited::Registry(_) => Edited::Registry(&migrated),
        Edited::LocalPull => Edited::LocalPull,
    };
    let merged = |config: &LoadedConfig| stripped(&config.effective.plugins, everywhere);
    same_tables(&merged(a), &merged(b)) && same_tables(&rest(a), &rest(b))
}

/// The plugin tables without what an edit is about, and without tables of the CRI plugin that are empty then.
fn stripped(plugins: &Table, edited: Edited<'_>) -> Table {
    let mut plugins = plugins.clone();
    match edited {
        Edited::Registry(removed) => {
            for spelling in Spelling::ALL {
                let [_, plugin, registry] = spelling.table();
                remove(&mut plugins, &[plugin, registry, CONFIG_PATH]);
            }
            for path in removed {
                remove(&mut plugins, &path[1..]);
            }
        }
        Edited::LocalPull => {
            let path = [&[Spelling::Images.plugin()], Trigger::UseLocalImagePull.path()].concat();
            remove(&mut plugins, &path);
        }
    }
    plugins
}

/// Removes a key, and every table on the way that is empty then.
fn remove(table: &mut Table, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.remove(*first);
    } else if let Some(Node { kind: Kind::Table(below), .. }) = table.get_mut(*first) {
        remove(below, rest);
        if below.is_empty() {
            table.remove(*first);
        }
    }
}
