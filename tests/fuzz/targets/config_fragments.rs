//! config.toml with imports from pieces: load, analyse, patch or migrate, undo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::config::check_fragments;

fuzz_target!(|data: &[u8]| check_fragments(data));
