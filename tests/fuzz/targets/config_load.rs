//! config.toml with imports as text: load and analyse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::config::Host;

fuzz_target!(|data: &[u8]| {
    let _ = Host::read(data).and_then(|host| host.load());
});
