//! parse(render(x)) = x, as far as the release can express x.

use proptest::{prop_assert_eq, prop_assume, proptest, sample::select};
use registry_mirror_core::hosts_toml::{accepts_file_without_hosts, parse, render, restrict};

use crate::strategy::{VERSIONS, file};

proptest! {
    #[test]
    fn what_is_rendered_is_read_back(file in file(), version in select(VERSIONS.to_vec())) {
        let rendered = render(&file, version);
        let read = parse(&rendered.text, version);
        let (restricted, omitted) = restrict(&file, version);
        prop_assert_eq!(&rendered.omitted, &omitted);
        // With neither a host nor a server there is nothing that an old release would read.
        prop_assume!(!restricted.hosts.is_empty() || accepts_file_without_hosts(version));
        prop_assert_eq!(read.as_ref(), Ok(&restricted));
        if omitted.is_empty() {
            prop_assert_eq!(read, Ok(file));
        }
    }

    #[test]
    fn a_second_restriction_changes_nothing(file in file(), version in select(VERSIONS.to_vec())) {
        let (restricted, _) = restrict(&file, version);
        prop_assert_eq!(restrict(&restricted, version), (restricted.clone(), Vec::new()));
    }

    /// Where nodes share one certs.d the file is rendered for the oldest of them.
    #[test]
    fn a_file_for_an_old_release_says_the_same_to_a_newer_one(
        file in file(),
        versions in (select(VERSIONS.to_vec()), select(VERSIONS.to_vec())),
    ) {
        let (old, new) = (versions.0.min(versions.1), versions.0.max(versions.1));
        let rendered = render(&file, old);
        let (restricted, _) = restrict(&file, old);
        prop_assume!(!restricted.hosts.is_empty() || accepts_file_without_hosts(old));
        // What 1.x reads of such a host is nothing to 2.x: `Readers::obstacle` keeps it from being written.
        prop_assume!(old.is_v1() == new.is_v1() || !restricted.hosts.iter().any(|host| host.url.contains('[')));
        prop_assert_eq!(parse(&rendered.text, new), Ok(restricted.clone()));
        prop_assert_eq!(restrict(&restricted, new), (restricted, Vec::new()));
    }
}
