//! hosts.toml as text: never a panic, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use registry_mirror_fuzz::{
    hosts::check_text,
    lines::{Pool, mutate},
};

fuzz_target!(|data: &[u8]| check_text(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, Pool::Hosts, fuzzer_mutate)
});
