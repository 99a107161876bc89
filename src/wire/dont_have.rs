//! A piece is gone again (BEP 54, over BEP 10): the whole payload is the piece's number.

/// Reads an extension message's payload: the piece, raw; `None` for what means nothing.
pub fn read_dont_have(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// The payload of a message.
pub fn write_dont_have(piece: u32) -> [u8; 4] {
    piece.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_are_a_piece_and_nothing_else_is() {
        for piece in [0, 258, u32::MAX] {
            assert_eq!(read_dont_have(&write_dont_have(piece)), Some(piece));
        }
        assert_eq!(write_dont_have(258), [0, 0, 1, 2]);
        for odd in [&b""[..], &[0; 3], &[0; 5], b"d5:piecei1ee"] {
            assert_eq!(read_dont_have(odd), None);
        }
    }
}
