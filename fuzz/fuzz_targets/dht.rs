#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::engine::fuzzing_dht::dht(bytes));
