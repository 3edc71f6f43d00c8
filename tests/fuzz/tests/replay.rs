//! Every input that fuzzing kept, and every seed, through the function that its fuzz target calls.

use std::{collections::BTreeMap, fs, io::Read as _, panic::catch_unwind, path::Path};

use flate2::read::GzDecoder;
use registry_mirror_fuzz::{bundle, config, hosts, import, seeds::seeds};

#[test]
fn hosts_toml() {
    replay("hosts_toml", 370, hosts::check_text);
}

#[test]
fn hosts_toml_render() {
    replay("hosts_toml_render", 48, hosts::check_any_model);
}

#[test]
fn config_patch() {
    replay("config_patch", 660, config::check);
}

#[test]
fn config_fragments() {
    replay("config_fragments", 215, config::check_fragments);
}

#[test]
fn bundle_of_all_nodes() {
    replay("bundle", 280, bundle::check);
}

#[test]
fn imports() {
    replay("import", 1270, import::check);
}

/// `at_least` inputs stand in the archive: one that is cut off, or read wrongly, proves nothing.
fn replay(name: &str, at_least: usize, check: fn(&[u8])) {
    let mut inputs = archive(name);
    assert!(inputs.len() >= at_least, "{name}: {} inputs, there should be {at_least} or more", inputs.len());
    let seeds = seeds().unwrap().remove(name);
    inputs.extend(seeds.into_iter().flatten().enumerate().map(|(index, seed)| (format!("seed {index}"), seed)));
    for (input, bytes) in inputs {
        if catch_unwind(|| check(&bytes)).is_err() {
            panic!("{name}, {input}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// The files of `corpus/NAME.tar.gz`, by name. Of the headers (POSIX ustar) name and size are all that it uses.
fn archive(name: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{name}.tar.gz"));
    let mut tar = Vec::new();
    GzDecoder::new(&fs::read(path).unwrap()[..]).read_to_end(&mut tar).unwrap();
    let text = |field: &[u8]| String::from_utf8(field.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap();
    let (mut rest, mut files) = (&tar[..], BTreeMap::new());
    while let Some((header, after)) = rest.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).unwrap();
        files.insert(text(&header[..100]), after[..size].to_vec());
        rest = &after[size.next_multiple_of(512)..];
    }
    files
}
