//! The same value, written as bendy wants it: keys ascending and unrepeated, numbers plain.
//!
//! Nothing is copied unless it must be. Recursion here is bounded by the scanner's depth limit.

use super::{BencodeError, Rules, Scanned, Value};
use std::borrow::Cow;

/// The bytes of a scanned value, put in order where they are not. A repeated key is an error under strict rules;
/// otherwise its first value counts.
pub fn tidy<'a>(scanned: &Scanned<'a>, rules: &Rules) -> Result<Cow<'a, [u8]>, BencodeError> {
    let raw = scanned.value.raw();
    if scanned.tidy {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    write(scanned.value, rules.strict, &mut out)?;
    Ok(Cow::Owned(out))
}

fn write(value: Value<'_>, strict: bool, out: &mut Vec<u8>) -> Result<(), BencodeError> {
    if let Some(pairs) = value.pairs() {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|(key, _)| *key);
        out.push(b'd');
        let mut previous = None;
        for (key, value) in pairs {
            if previous == Some(key) {
                if strict {
                    return Err(BencodeError::duplicate(key));
                }
                continue;
            }
            previous = Some(key);
            write_string(key, out);
            write(value, strict, out)?;
        }
        out.push(b'e');
    } else if let Some(items) = value.items() {
        out.push(b'l');
        for item in items {
            write(item, strict, out)?;
        }
        out.push(b'e');
    } else if let Some(text) = value.string() {
        write_string(text, out);
    } else {
        write_integer(value.digits().unwrap_or_default(), out);
    }
    Ok(())
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(text);
}

fn write_integer(written: &[u8], out: &mut Vec<u8>) {
    let (negative, digits) = match written {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let significant = digits.iter().position(|d| *d != b'0').and_then(|zeros| digits.get(zeros..));
    let digits = significant.unwrap_or(b"0");
    out.push(b'i');
    if negative && digits != b"0" {
        out.push(b'-');
    }
    out.extend_from_slice(digits);
    out.push(b'e');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bencode::scan;
    use proptest::prelude::*;

    const LOOSE: Rules = Rules { depth: 32, tokens: 10_000, strict: false };
    const STRICT: Rules = Rules { strict: true, ..LOOSE };

    fn tidied(text: &str) -> String {
        String::from_utf8(tidy(&scan(text.as_bytes(), &LOOSE).unwrap(), &LOOSE).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn disorder_is_put_in_order_at_every_level() {
        assert_eq!(tidied("d1:bl05:hellod1:zi-0e1:yi+07eee1:ai00ee"), "d1:ai0e1:bl5:hellod1:yi7e1:zi0eeee");
    }

    #[test]
    fn of_repeated_keys_the_first_counts() {
        assert_eq!(tidied("d1:bi1e1:ai2e1:bi3ee"), "d1:ai2e1:bi1ee");
    }

    #[test]
    fn a_repeated_key_far_from_its_twin_is_found_too() {
        let scanned = scan(b"d1:bi1e1:ai2e1:bi3ee", &STRICT).unwrap();
        assert!(matches!(tidy(&scanned, &STRICT), Err(BencodeError::DuplicateKey { key }) if key == "b"));
    }

    #[test]
    fn what_is_in_order_is_not_copied() {
        assert!(matches!(tidy(&scan(b"d1:ai1ee", &LOOSE).unwrap(), &LOOSE), Ok(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn whatever_the_scanner_takes_bendy_reads_after_tidying(bytes in proptest::collection::vec(
            prop_oneof![Just(b'd'), Just(b'l'), Just(b'e'), Just(b'i'), Just(b'1'), Just(b'0'), Just(b':'), Just(b'-'), Just(b'a')], 0..64)) {
            if let Ok(scanned) = scan(&bytes, &LOOSE) {
                let tidy = tidy(&scanned, &LOOSE).unwrap();
                let tokens: Result<Vec<_>, _> = bendy::decoding::Decoder::new(&tidy).with_max_depth(32).tokens().collect();
                prop_assert!(tokens.is_ok(), "{:?} -> {:?}", bytes, tidy);
            }
        }
    }
}
