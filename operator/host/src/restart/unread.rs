//! The last look before a restart at what it would bring into force besides our own change.

use std::path::PathBuf;

use registry_mirror_core::{
    config_toml,
    plan::since_start::{Unread, unread},
};

use super::{Request, RestartError, Restarter};
use crate::since_start;

impl Restarter<'_> {
    /// A file that somebody else has changed since the daemon's start; the plan was made before that.
    pub(super) async fn changed_since_start(&self, request: &Request) -> Result<Option<PathBuf>, RestartError> {
        let Request { unit, version, main_config, known, .. } = request;
        let state = self.systemd.unit(&unit.name).await?;
        let Some(start) = since_start::start(&state) else { return Ok(None) };
        let root = self.writer.root();
        let config = config_toml::load(main_config, *version, root);
        // It could be read when the plan was made.
        let Ok(config) = config else { return Ok(Some(main_config.clone())) };
        let files = since_start::files(root, &state, &config)?;
        let (unread, _) = unread(&files, &start, known.as_ref());
        Ok(unread.into_iter().next().map(|what| match what {
            Unread::Changed(path) | Unread::Gone(path) => path,
            Unread::Unit(name) => state.fragment.unwrap_or_else(|| PathBuf::from(name)),
        }))
    }
}
