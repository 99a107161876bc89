//! The fuzz target of answers of a SOCKS5 proxy; `fuzz/` and the test over its corpus call it.
//!
//! It takes arbitrary bytes and panics if a negotiation takes bytes that are not its own, or depends on how the bytes
//! are split. Not part of the public API.

use super::socks5::{Login, Socks5Error, Socks5Negotiation, Target};

/// Checks the answers of a proxy.
pub fn socks5(bytes: &[u8]) {
    for login in [None, Login::new(b"user".to_vec(), b"password".to_vec())] {
        let whole = negotiate(bytes, login.clone(), usize::MAX);
        assert_eq!(whole, negotiate(bytes, login, 1), "the result depends on the split");
    }
}

/// Returns whether the negotiation is over, and the number of bytes that were read.
fn negotiate(mut bytes: &[u8], login: Option<Login>, at_once: usize) -> (Result<bool, Socks5Error>, usize) {
    let total = bytes.len();
    let mut negotiation = Socks5Negotiation::new(&Target::Name("host".into(), 1), login);
    loop {
        let output = negotiation.output().len();
        negotiation.on_written(output);
        let room = negotiation.room();
        let n = room.len().min(bytes.len()).min(at_once);
        if n == 0 {
            return (Ok(false), total - bytes.len());
        }
        room[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        match negotiation.on_read(n) {
            Ok(false) => {}
            end => {
                assert!(end.is_err() || negotiation.room().is_empty(), "room at the end");
                return (end, total - bytes.len());
            }
        }
    }
}
