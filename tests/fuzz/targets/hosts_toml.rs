//! hosts.toml as text: never a panic, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::hosts::check_text;

fuzz_target!(|data: &[u8]| check_text(data));
