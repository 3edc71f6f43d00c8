//! hosts.toml as a model: what is rendered is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_mirror_fuzz::hosts::AnyModel;

fuzz_target!(|model: AnyModel| model.check());
