#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_support_cache::verify::fuzzing::content(input));
