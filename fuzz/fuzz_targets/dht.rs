#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::engine::fuzz_dht::dht(bytes));
