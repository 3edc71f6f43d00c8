//! A new configuration file for a daemon that need not restart for it: it reads the directory already, and somebody
//! else took the setting out of the file.

use registry_mirror_core::config_toml::Edit;

use super::{Change, Request, RestartError, Restarter, candidate_beside};

impl Restarter<'_> {
    /// Lets the host's containerd read a change as it does before a restart, and leaves everything as it is; `Err` in
    /// the answer is what speaks against the change.
    ///
    /// # Errors
    /// A file beside the configuration cannot be written or removed.
    pub async fn validate(&self, request: &Request) -> Result<Result<(), String>, RestartError> {
        let Change { config: Some(Edit { file, after, .. }), .. } = &request.change else { return Ok(Ok(())) };
        // The file that a link names is replaced, not the link.
        let file = self.writer.root().resolve(file)?.unwrap_or_else(|| file.clone());
        let candidate = candidate_beside(&file);
        if let Some(directory) = candidate.parent() {
            self.writer.create_dir(directory, 0o755)?;
        }
        self.writer.write(&candidate, after, self.attributes_of(&file)?)?;
        let checked = self.check(request, &candidate).await;
        self.writer.remove(&candidate)?;
        Ok(checked.unwrap_or_else(|error| Err(error.to_string())))
    }
}
