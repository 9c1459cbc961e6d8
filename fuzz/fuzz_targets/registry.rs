#![no_main]

#[path = "../targets/registry.rs"]
mod registry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| registry::check(input));
