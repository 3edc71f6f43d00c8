//! The YAML beside `src/` is what the types generate.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

#[test]
fn the_yaml_is_up_to_date() {
    for (name, text) in registry_mirror_crds::crd_files().unwrap() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let found = fs::read_to_string(&path).unwrap();
        assert!(found == text, "crds/{name} is out of date: run `make crds`");
    }
}
