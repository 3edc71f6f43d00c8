//! config.toml with imports as text: load and analyse.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use registry_mirror_fuzz::{
    config::check_load,
    lines::{Pool, mutate},
};

fuzz_target!(|data: &[u8]| check_load(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, Pool::Config, fuzzer_mutate)
});
