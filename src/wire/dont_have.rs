//! `lt_donthave`: the sender no longer has a piece (BEP 54, over BEP 10). The payload is the piece index
//! alone.

/// Reads the payload of an extension message: the raw piece index, or `None` unless there are exactly four
/// bytes.
pub fn read_dont_have(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// Returns the payload of an extension message.
pub fn write_dont_have(piece: u32) -> [u8; 4] {
    piece.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_piece_index_from_exactly_four_bytes() {
        for piece in [0, 258, u32::MAX] {
            assert_eq!(read_dont_have(&write_dont_have(piece)), Some(piece));
        }
        assert_eq!(write_dont_have(258), [0, 0, 1, 2]);
        for odd in [&b""[..], &[0; 3], &[0; 5], b"d5:piecei1ee"] {
            assert_eq!(read_dont_have(odd), None);
        }
    }
}
