//! What was built once is kept: one directory per part, keyed by a hash of everything that goes into it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The cache directory.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$RMO_CACHE`, or `registry-mirror-operator` in the user's cache directory.
    ///
    /// # Errors
    /// When none of `RMO_CACHE`, `XDG_CACHE_HOME` and `HOME` is set.
    pub fn locate() -> Result<Self> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = named("RMO_CACHE")
            .or_else(|| named("XDG_CACHE_HOME").map(|dir| dir.join("registry-mirror-operator")))
            .or_else(|| named("HOME").map(|dir| dir.join(".cache/registry-mirror-operator")))
            .context("the test bed has no place for what it builds: set RMO_CACHE to a directory with 10 GB of room")?;
        Ok(Self { root })
    }

    /// The directory where beds keep their nodes' files. It is on a real disk, which `/run` is not.
    #[must_use]
    pub fn var(&self) -> PathBuf {
        self.root.join("var")
    }

    /// Where the files lie that are locked while a part is built or a bed is used.
    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// Where `part`, made from `pins`, is or will be.
    #[must_use]
    pub fn path(&self, part: &str, pins: &[u8]) -> PathBuf {
        self.root.join(format!("{part}-{}", &hex(&Sha256::digest(pins))[..12]))
    }

    /// The directory of `part`, built by `build` in a directory beside it if it is not there yet.
    /// A build that fails or is killed leaves nothing that the next one would take for complete,
    /// and two processes never build the same part at once.
    ///
    /// # Errors
    /// What `build` says, with the part's name.
    pub fn ensure(&self, part: &str, pins: &[u8], build: impl FnOnce(&Path, &Self) -> Result<()>) -> Result<PathBuf> {
        let ready = self.path(part, pins);
        if ready.is_dir() {
            return Ok(ready);
        }
        fs::create_dir_all(self.locks())
            .with_context(|| format!("the cache directory {} cannot be made", self.root.display()))?;
        let lock_path = self.locks().join(format!("part-{part}"));
        let lock =
            File::create(&lock_path).with_context(|| format!("the lock {} cannot be made", lock_path.display()))?;
        lock.lock().with_context(|| format!("the lock {} cannot be taken", lock_path.display()))?;
        if ready.is_dir() {
            return Ok(ready);
        }
        let building = self.root.join(format!(".building-{part}"));
        remove_tree(&building)?;
        fs::create_dir_all(&building)?;
        build(&building, self).with_context(|| format!("the part {part} of the test bed could not be built"))?;
        fs::rename(&building, &ready).with_context(|| format!("{} cannot be moved into place", ready.display()))?;
        Ok(ready)
    }

    /// Runs one step of a build, saying what is being done and how long it took the last time.
    ///
    /// # Errors
    /// What `work` says, with the step's name.
    pub fn step<T>(&self, step: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let durations = self.root.join("durations");
        let record = durations.join(step.replace([' ', '/'], "-"));
        match fs::read_to_string(&record) {
            Ok(seconds) => eprintln!("{step} ({} s last time)", seconds.trim()),
            Err(_) => eprintln!("{step} (the first time here)"),
        }
        let start = Instant::now();
        let value = work().with_context(|| format!("{step} failed"))?;
        let taken = start.elapsed().as_secs();
        eprintln!("{step}: done in {taken} s");
        fs::create_dir_all(&durations)?;
        fs::write(&record, format!("{taken}\n"))?;
        Ok(value)
    }
}

/// Removes a directory and all below it; it need not exist.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", dir.display())),
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { root: dir.path().join("cache") };
        (dir, cache)
    }

    #[test]
    fn a_part_is_built_once() {
        let (_dir, cache) = cache();
        let first = cache.ensure("part", b"1", |dir, _| Ok(fs::write(dir.join("file"), "x")?)).unwrap();
        let second = cache.ensure("part", b"1", |_, _| bail!("must not be built again")).unwrap();
        assert_eq!(first, second);
        assert!(second.join("file").is_file());
    }

    #[test]
    fn other_pins_are_another_part() {
        let (_dir, cache) = cache();
        assert_ne!(cache.path("part", b"1"), cache.path("part", b"2"));
    }

    #[test]
    fn a_failed_build_is_not_taken_for_a_part() {
        let (_dir, cache) = cache();
        let failed = cache.ensure("part", b"1", |dir, _| {
            fs::write(dir.join("half"), "x")?;
            bail!("power cut")
        });
        assert!(failed.is_err());
        let built = cache.ensure("part", b"1", |dir, _| Ok(fs::write(dir.join("file"), "x")?)).unwrap();
        assert!(!built.join("half").exists());
    }
}
