//! config.toml with imports as text: load and analyse.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use registry_mirror_fuzz::{
    config::Host,
    lines::{Pool, mutate},
};

fuzz_target!(|data: &[u8]| {
    let _ = Host::read(data).and_then(|host| host.load());
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, Pool::Config)
});
