#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::wire::fuzz_packets::http_tracker(bytes));
