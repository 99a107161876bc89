#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::wire::fuzzing::tracker_reply(bytes));
