//! The journal of the one restart: a single small file that says, after a crash at any point, what to finish or undo.
//!
//! What a page holds is the restart's own affair (`restart/ledger.rs`); here it is made sure that a page is whole, that
//! it is on disk before its effect begins, and that a broken one is set aside and not followed.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    fault,
    file_error::FileError,
    root::HostRoot,
    state::{self, Loaded, STATE_DIR, StateDir},
};

const NAME: &str = "journal.json";
/// A journal of a newer layout is neither followed nor touched: the guard, which reads none, still acts.
const VERSION: u32 = 1;

/// The journal could not be read or written. The effect that it was to announce has not begun.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the journal of containerd's restart: {0}")]
pub struct JournalError(#[from] FileError);

/// The journal of one host.
#[derive(Debug, Clone)]
pub struct Journal {
    state: StateDir,
}

/// Whether there is a journal, or it cannot be told.
#[must_use]
pub fn may_stand(root: &HostRoot) -> bool {
    !matches!(root.stat(&Path::new(STATE_DIR).join(NAME)), Ok(None))
}

impl Journal {
    /// In this state directory, which the caller has locked.
    #[must_use]
    pub fn of(state: &StateDir) -> Self {
        Self { state: state.clone() }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state.file(NAME)
    }

    /// The page that stands in it; none where nothing is under way, and none with a warning where the file is broken.
    ///
    /// # Errors
    /// On what the kernel says, and where a newer release wrote the page.
    pub fn load<P: DeserializeOwned>(&self) -> Result<Loaded<P>, JournalError> {
        Ok(state::load(self.state.writer(), &self.path(), VERSION)?)
    }

    /// Replaces the page. When this returns it is on disk.
    ///
    /// # Errors
    /// On what the kernel says; the earlier page stands then.
    pub fn advance<P: Serialize>(&self, page: &P) -> Result<(), JournalError> {
        fault::point("journal:before");
        state::save(self.state.writer(), &self.path(), VERSION, page)?;
        fault::point("journal:after");
        Ok(())
    }

    /// Removes the page: nothing is under way any more.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn clear(&self) -> Result<(), JournalError> {
        fault::point("journal:clear");
        self.state.writer().remove(&self.path())?;
        fault::point("journal:cleared");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::*;
    use crate::{files::WriteScope, root::HostRoot};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Page {
        step: String,
        boot: String,
    }

    fn page_of(step: &str) -> Page {
        Page { step: step.to_owned(), boot: "b0".to_owned() }
    }

    #[test]
    fn a_page_is_kept_replaced_and_cleared() {
        let host = tempfile::tempdir().expect("tempdir");
        let root = HostRoot::open(host.path()).expect("open");
        fs::create_dir_all(host.path().join("var/lib")).expect("mkdir");
        let state = StateDir::open(&crate::files::HostWriter::new(root, WriteScope::state_only())).expect("state");
        let journal = Journal::of(&state);
        assert_eq!(journal.load::<Page>().expect("load").value, None);
        for step in ["backed up", "renamed"] {
            let page = page_of(step);
            journal.advance(&page).expect("advance");
            assert_eq!(journal.load::<Page>().expect("load").value, Some(page));
        }

        // a torn file cannot come from us, but a disk may do it
        let file = host.path().join("var/lib/registry-mirror-operator/journal.json");
        let torn = fs::read_to_string(&file).expect("read").replace("renamed", "");
        fs::write(&file, &torn[..torn.len() - 3]).expect("write");
        let loaded = journal.load::<Page>().expect("load");
        assert_eq!(loaded.value, None);
        let warning = loaded.warning.expect("warned");
        assert!(warning.contains("is broken at line") && warning.contains(".broken-"), "{warning}");
        assert!(!file.exists());

        journal.clear().expect("clear");
        journal.clear().expect("clear twice");

        let newer = r#"{"version": 2, "data": {"steps": []}}"#;
        fs::write(&file, newer).expect("write");
        let error = journal.load::<Page>().expect_err("newer").to_string();
        assert!(error.contains("a newer release") && error.contains("layout 2"), "{error}");
        journal.advance(&page_of("renamed")).expect_err("not written over");
        assert_eq!(fs::read_to_string(&file).expect("read"), newer);
    }
}
