//! The canonical form of a value (BEP 3): the keys of each dictionary ascend strictly, and numbers have no
//! leading zeros, no plus sign and no `-0`.
//!
//! The replies of HTTP trackers are read in this form. A canonical value is borrowed, any other is copied.
//! The recursion is no deeper than the scanner's limit on nesting.

use super::{BencodeError, Bytes, Scanned, Value};
use std::borrow::Cow;

/// A value in canonical form.
#[derive(Debug)]
pub struct Canonical<'a>(Cow<'a, [u8]>);

impl Canonical<'_> {
    /// Returns the value. It borrows from this canonical form.
    pub fn value(&self) -> Value<'_> {
        Value::checked(&self.0)
    }
}

/// Returns a scanned value in canonical form. Of a repeated key only the first value is kept.
pub fn canonicalize<'a>(scanned: &Scanned<'a>) -> Canonical<'a> {
    let raw = scanned.value.raw();
    if scanned.is_canonical {
        return Canonical(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    write_value(scanned.value, &mut out);
    Canonical(Cow::Owned(out))
}

/// Checks that no dictionary in the value, at any depth, has a key twice. A canonical value takes constant
/// time: the scanner found that its keys ascend strictly.
///
/// # Errors
/// [`BencodeError::DuplicateKey`] with one such key.
pub fn refuse_repeated_keys(scanned: &Scanned<'_>) -> Result<(), BencodeError> {
    if scanned.is_canonical { Ok(()) } else { refuse_repeated_keys_in(scanned.value) }
}

fn refuse_repeated_keys_in(value: Value<'_>) -> Result<(), BencodeError> {
    if value.is_dict() {
        let mut previous = None;
        for (key, value) in sorted_pairs(value) {
            if previous == Some(key) {
                return Err(BencodeError::duplicate(key));
            }
            previous = Some(key);
            refuse_repeated_keys_in(value)?;
        }
        Ok(())
    } else {
        value.items().into_iter().flatten().try_for_each(refuse_repeated_keys_in)
    }
}

/// Returns the pairs of a dictionary, sorted by key. Pairs with equal keys keep their order.
fn sorted_pairs(dictionary: Value<'_>) -> Vec<(&[u8], Value<'_>)> {
    let mut pairs: Vec<_> = dictionary.pairs().into_iter().flatten().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    if value.is_dict() {
        out.push(b'd');
        let mut previous = None;
        for (key, value) in sorted_pairs(value) {
            if previous != Some(key) {
                previous = Some(key);
                write_string(key, out);
                write_value(value, out);
            }
        }
        out.push(b'e');
    } else if let Some(items) = value.items() {
        out.push(b'l');
        items.for_each(|item| write_value(item, out));
        out.push(b'e');
    } else if let Some(text) = value.string() {
        write_string(text, out);
    } else {
        // The scanner accepts no other type than these four.
        write_integer(value.digits().unwrap_or_default(), out);
    }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    super::write(&Bytes(text), out);
}

/// Writes an integer of any length, given as sign and digits.
fn write_integer(number: &[u8], out: &mut Vec<u8>) {
    let (negative, digits) = match number {
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
    use crate::wire::bencode::{Rules, scan};
    use proptest::prelude::*;

    const TOLERANT: Rules = Rules { depth: 32, tokens: 10_000, strict: false };
    const STRICT: Rules = Rules { strict: true, ..TOLERANT };

    fn canonical(text: &str) -> String {
        String::from_utf8(canonicalize(&scan(text.as_bytes(), &TOLERANT).unwrap()).value().raw().to_vec())
            .unwrap()
    }

    #[test]
    fn sorts_keys_and_rewrites_numbers_at_every_level() {
        assert_eq!(
            canonical("d1:bl05:hellod1:zi-0e1:yi+07eee1:ai00ee"),
            "d1:ai0e1:bl5:hellod1:yi7e1:zi0eeee"
        );
    }

    #[test]
    fn keeps_the_first_of_repeated_keys() {
        assert_eq!(canonical("d1:bi1e1:ai2e1:bi3ee"), "d1:ai2e1:bi1ee");
    }

    #[test]
    fn finds_repeated_keys_that_are_not_adjacent() {
        for text in ["d1:bi1e1:ai2e1:bi3ee", "d1:blld1:bi1e1:ai2e1:bi3eeee1:ai1ee"] {
            let scanned = scan(text.as_bytes(), &STRICT).unwrap();
            let refused = refuse_repeated_keys(&scanned).unwrap_err();
            assert!(matches!(refused, BencodeError::DuplicateKey { key } if key == "b"), "{text}");
        }
        assert_eq!(refuse_repeated_keys(&scan(b"ld1:bi1e1:ai2eed1:bi1e1:ai2eee", &STRICT).unwrap()), Ok(()));
    }

    #[test]
    fn does_not_copy_a_canonical_value() {
        assert!(matches!(canonicalize(&scan(b"d1:ai1ee", &TOLERANT).unwrap()), Canonical(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        // bendy is a decoder that accepts canonical values only.
        fn bendy_reads_the_canonical_form_of_every_value_that_scans(
            bytes in proptest::collection::vec(proptest::sample::select(b"dlei10:-a".to_vec()), 0..64)
        ) {
            if let Ok(scanned) = scan(&bytes, &TOLERANT) {
                let canonical = canonicalize(&scanned);
                let decoder = bendy::decoding::Decoder::new(canonical.value().raw()).with_max_depth(32);
                let tokens: Result<Vec<_>, _> = decoder.tokens().collect();
                prop_assert!(tokens.is_ok(), "{:?} -> {:?}", bytes, canonical);
            }
        }
    }
}
