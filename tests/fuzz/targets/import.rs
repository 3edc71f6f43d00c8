//! registries.yaml, daemon.json, certs.d and old tables: import.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::import::check;

fuzz_target!(|data: &[u8]| check(data));
