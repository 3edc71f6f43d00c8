//! config.toml with imports as text: load, analyse, patch or migrate, undo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::config::Host;

fuzz_target!(|data: &[u8]| {
    if let Some(host) = Host::read(data) {
        host.check();
    }
});
