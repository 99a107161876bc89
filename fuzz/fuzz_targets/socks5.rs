#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rill::wire::fuzz_socks5::socks5(bytes));
