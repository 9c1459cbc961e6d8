#![no_main]

#[path = "../targets/gate.rs"]
mod gate;

libfuzzer_sys::fuzz_target!(|input: &[u8]| gate::check(input));
