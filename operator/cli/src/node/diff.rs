//! What an edit does to a file, as a unified diff.

use registry_mirror_core::config_toml::Edit;
use similar::TextDiff;

use super::redact::redact;

/// Whether secret values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// They are not.
    Hidden,
    /// They are: to root, on the host itself, where root can read the file anyway.
    Shown,
}

/// The diff of an edit; empty where nothing changes.
#[must_use]
pub fn diff(edit: &Edit, secrets: Secrets) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match secrets {
            Secrets::Hidden => redact(&text),
            Secrets::Shown => text.into_owned(),
        }
    };
    let (before, after) = (text(edit.before.as_deref().unwrap_or_default()), text(&edit.after));
    let file = edit.file.display().to_string();
    let from = if edit.before.is_some() { file.as_str() } else { "/dev/null" };
    TextDiff::from_lines(&before, &after).unified_diff().header(from, &file).to_string()
}
