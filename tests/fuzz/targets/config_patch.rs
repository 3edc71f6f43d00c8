//! config.toml with imports as text: load, analyse, patch or migrate, undo.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use registry_mirror_fuzz::{
    config::Host,
    lines::{Pool, mutate},
};

fuzz_target!(|data: &[u8]| {
    if let Some(host) = Host::read(data) {
        host.check();
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, Pool::Config)
});
