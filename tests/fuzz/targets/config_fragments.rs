//! config.toml with imports from pieces: load, analyse, patch or migrate, undo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::{config::Host, fragments::assemble};

fuzz_target!(|data: &[u8]| {
    if let Some(host) = Host::read(&assemble(data)) {
        host.check();
    }
});
