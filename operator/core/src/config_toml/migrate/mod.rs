//! Carries `registry.mirrors` and `configs.*.tls` over into hosts.toml, and comments the old tables out in the same edit.
//!
//! What is carried: endpoints in their order, the default server behind them, TLS files (1.x; 2.x ignores them in
//! `configs`). Credentials stay where they are, on every release: `configs.*.auth` and `auths` are allowed beside
//! `config_path` and go on working, only where a pull brings none of its own. A header in hosts.toml would be sent with
//! every request and beat the pod's own pull secret, for containerd does not ask again after a 403 (seen on 2.4.2); up to
//! 2.0 it would not even reach token servers.

mod carried;
mod comment_out;

use std::{collections::BTreeSet, path::Path};

pub use carried::{MigratedEndpoint, MigratedRegistry};

use super::{
    ConfigFile, LoadedConfig,
    analysis::spelling_at,
    errors::PatchError,
    judge::Judge,
    node::{Node, Place},
    patch::{self, Change, Edit},
    pull_path::Trigger,
    splice::{self, Splice},
    version::Spelling,
};
use carried::Removal;

/// Plans the whole step: old tables commented out (with `date` and the reason), `config_path = directory` set, and what
/// hosts.toml files must say so that nothing stops pulling.
///
/// # Errors
/// As for [`super::patch`], and where an old setting cannot be expressed in hosts.toml.
pub fn migrate(
    config: &LoadedConfig,
    directory: &Path,
    date: &str,
) -> Result<(Edit, Vec<MigratedRegistry>), PatchError> {
    patch::check(config, directory)?;
    if config.analyze().in_the_way().is_none() {
        return patch::patch(config, directory).map(|edit| (edit, Vec::new()));
    }
    let carried::Carried { registries, removals } = carried::carry(config)?;
    let (index, spelling) = the_one_file(config)?;
    let no_place = || PatchError::NoPlace { main: config.main.clone(), version: config.version };

    let file = &config.files[index];
    let document = file.document();
    let paths: Vec<Vec<&str>> = removals.iter().map(|removal| removal.path(spelling)).collect();
    let note = format!(
        "{date} registry-mirror-operator: moved to {}/*/hosts.toml; containerd does not load CRI with both",
        directory.display()
    );
    let commented = comment_out::comment_out(document, &paths, &note).ok_or_else(no_place)?;
    let splices: Vec<Splice> = commented
        .splices
        .into_iter()
        .map(|splice| Splice { at: splice.at.start + document.mark..splice.at.end + document.mark, ..splice })
        .collect();
    let without = splice::apply(file.bytes(), &splices).ok_or_else(no_place)?;
    let back = splice::inverse(file.bytes(), &splices).ok_or_else(no_place)?;
    let bare = config.with_file(index, without)?;
    // an old table may hide a new one: with its keys gone, `config_path` must keep it in place
    let judge = Judge { only: Some(index), first: Some(spelling), reference: config, removed: &paths };
    let Edit { after, changes: keys, mut undo, .. } = patch::set_directory(&bare, directory, &judge)
        .map_err(|error| two_files(config, &bare, index).unwrap_or(error))?;
    let mut changes: Vec<Change> = removals
        .iter()
        .map(|removal| Change {
            file: file.path().to_owned(),
            key: format!("{}.{}", spelling.display(), removal.key()),
            from: Some(removal.shown.clone()),
            to: None,
        })
        .collect();
    changes.extend(keys);
    undo.add_comments(back, commented.blocks, &after);
    let edit = Edit { file: file.path().to_owned(), before: Some(file.bytes().to_vec()), after, changes, undo };
    Ok((edit, registries))
}

/// The file and table that all the settings to be taken out stand in: one rename can change one file only.
fn the_one_file(config: &LoadedConfig) -> Result<(usize, Spelling), PatchError> {
    let registry = &config.effective.registry;
    let places: Vec<Place> = registry
        .mirrors
        .iter()
        .map(|mirror| mirror.place)
        .chain(registry.configs.iter().filter_map(|config| Some(config.tls.as_ref()?.1)))
        .collect();
    // a table that two files share is merged: ask for the files of its values
    let values =
        config.effective.registry_node().map(|node| ["mirrors", "configs", "auths"].map(|key| node.at(&[key])));
    let values = values.into_iter().flatten().flatten().flat_map(Node::leaves);
    let files: BTreeSet<usize> = places.iter().copied().chain(values).map(|place| place.file).collect();
    let spelling = places.first().and_then(|place| spelling_at(&config.files, *place));
    match (files.len(), files.first(), spelling) {
        (1, Some(&file), Some(spelling)) => Ok((file, spelling)),
        (0 | 1, _, _) => Err(PatchError::NoPlace { main: config.main.clone(), version: config.version }),
        _ => Err(PatchError::SeveralFiles {
            files: files.iter().filter_map(|&file| Some(config.files.get(file)?.path().to_owned())).collect(),
        }),
    }
}

/// What keeps one edit from being enough: old tables, a `config_path` or a `use_local_image_pull` of another file are in
/// force as well.
fn two_files(config: &LoadedConfig, bare: &LoadedConfig, index: usize) -> Option<PatchError> {
    let this = config.files.get(index)?.path();
    let in_the_way = bare.analyze().in_the_way().map(|origin| origin.file);
    let config_path = |config: &LoadedConfig| {
        let (_, place) = config.effective.registry.config_path.as_ref()?;
        Some(config.files.get(place.file)?.path().to_owned())
    };
    let local_pull = || {
        let [key] = Trigger::UseLocalImagePull.path() else { return None };
        let place = config.effective.images()?.get(*key)?.place;
        Some(config.files.get(place.file)?.path().to_owned())
    };
    let mirrors = config.files.iter().filter(|file| has_mirrors(file)).map(|file| file.path().to_owned());
    let found = [in_the_way, config_path(bare), config_path(config), local_pull()];
    let other = found.into_iter().flatten().chain(mirrors).find(|other| other != this)?;
    Some(PatchError::SeveralFiles { files: vec![this.to_owned(), other] })
}

fn has_mirrors(file: &ConfigFile) -> bool {
    let plugins = file.document().root.get("plugins");
    Spelling::ALL.into_iter().any(|spelling| {
        let mirrors = plugins.and_then(|plugins| plugins.at(&[spelling.plugin(), "registry", "mirrors"]));
        mirrors.and_then(Node::table).is_some_and(|table| !table.is_empty())
    })
}

impl Removal {
    fn path(&self, spelling: Spelling) -> Vec<&str> {
        spelling.table().into_iter().chain(self.below.iter().map(String::as_str)).collect()
    }

    /// Dotted, below the registry table.
    fn key(&self) -> String {
        let quoted = |(index, key): (usize, &String)| if index == 1 { format!("\"{key}\"") } else { key.clone() };
        self.below.iter().enumerate().map(quoted).collect::<Vec<_>>().join(".")
    }
}
