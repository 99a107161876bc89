#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::utp::fuzzing::utp_stream(bytes));
