//! The bundle: unpack, slice, render.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::bundle::check;

fuzz_target!(|data: &[u8]| check(data));
