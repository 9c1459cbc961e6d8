#![no_main]

#[path = "../../tests/journal/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "../targets/replay.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| replay::check(input));
