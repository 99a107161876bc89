#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::wire::fuzz_packets::port_mapping(bytes));
