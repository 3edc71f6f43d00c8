//! hosts.toml as a model: what is rendered is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::hosts::check_any_model;

fuzz_target!(|data: &[u8]| check_any_model(data));
