//! Which containerd reads the input.

use registry_mirror_core::containerd::Version;

/// A release on each side of every difference that `registry-mirror-core` knows.
pub const VERSIONS: [Version; 10] = [
    Version::new(1, 6, 16),
    Version::new(1, 6, 20),
    Version::new(1, 7, 35),
    Version::new(2, 0, 14),
    Version::new(2, 1, 9),
    Version::new(2, 2, 0),
    Version::new(2, 2, 9),
    Version::new(2, 3, 0),
    Version::new(2, 3, 7),
    Version::new(2, 4, 2),
];

/// Takes the daemon off the front of an input: the first byte, `0` to `9` in a seed that a person can read.
#[must_use]
pub fn split(data: &[u8]) -> Option<(Version, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((VERSIONS[usize::from(first.wrapping_sub(b'0')) % VERSIONS.len()], rest))
}
