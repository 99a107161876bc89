//! Percent-encoding (RFC 3986) for magnet links and tracker URLs.

/// Appends `bytes` to `out`, with every byte except letters, digits and `-._~` as `%XX`. For binary hashes
/// and for text.
pub fn encode_into(bytes: &[u8], out: &mut String) {
    for &b in bytes {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(b as char);
        } else {
            out.push('%');
            let digits =
                [b >> 4, b & 15].into_iter().filter_map(|nibble| char::from_digit(nibble.into(), 16));
            out.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        }
    }
}

/// Returns the bytes that `text` encodes. A `%` without two hexadecimal digits behind it is kept.
pub fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, behind @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = behind;
                    continue;
                }
                _ => out.push(first),
            },
            _ => out.push(first),
        }
        rest = after;
    }
    out
}

/// Returns the value of a hexadecimal digit, in either case.
fn nibble(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_a_percent_sign_without_two_digits() {
        assert_eq!(decode("100%"), b"100%");
        assert_eq!(decode("%zz%4"), b"%zz%4");
        assert_eq!(decode("%C3%a9%+1"), "é%+1".as_bytes());
    }

    proptest! {
        #[test]
        fn decodes_its_own_encoding(bytes: Vec<u8>) {
            let mut text = String::new();
            encode_into(&bytes, &mut text);
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(decode(&text), bytes);
        }
    }
}
