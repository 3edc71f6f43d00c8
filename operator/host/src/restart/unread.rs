//! The looks before a restart at what it would bring into force besides our own change.

use std::path::PathBuf;

use registry_mirror_core::{
    config_toml,
    plan::since_start::{Unread, unread},
};

use super::{Request, RestartError, Restarter};
use crate::since_start;

impl Restarter<'_> {
    /// A file that somebody else has changed since the daemon's start, or since the plan was made: where the daemon has
    /// started anew meanwhile the unit counts as changed, for the plan was made for another start, perhaps of another
    /// binary.
    pub(super) async fn changed_since_start(&self, request: &Request) -> Result<Option<PathBuf>, RestartError> {
        let Request { unit, version, main_config, known, .. } = request;
        let state = self.systemd.unit(&unit.name).await?;
        let Some(start) = since_start::start(&state) else { return Ok(None) };
        let unit_file = || state.fragment.clone().unwrap_or_else(|| PathBuf::from(&unit.name));
        if known.as_ref().is_some_and(|known| !known.is_of(&start)) {
            return Ok(Some(unit_file()));
        }
        let root = self.writer.root();
        let config = config_toml::load(main_config, *version, root);
        // It could be read when the plan was made.
        let Ok(config) = config else { return Ok(Some(main_config.clone())) };
        let files = since_start::files(root, &state, &config)?;
        let (unread, _) = unread(&files, &start, known.as_ref());
        Ok(unread.into_iter().next().map(|what| match what {
            Unread::Changed(path) | Unread::Gone(path) => path,
            Unread::Unit(_) => unit_file(),
        }))
    }
}
