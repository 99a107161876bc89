//! A scanned value, read in place without a copy, an allocation or another check.
//!
//! Invariant: the bytes are exactly one well-formed value of bounded depth, because only the scanner creates
//! a [`Value`]. Iteration needs no recursion.

use super::{Encoded, TypeMismatch};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;

/// The span of one well-formed bencode value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Wraps bytes that the scanner has checked.
    pub(super) fn checked(bytes: &'a [u8]) -> Value<'a> {
        Value(bytes)
    }

    /// Returns the value as written.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// Reads it as a `T`.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, TypeMismatch> {
        T::deserialize(self)
    }

    /// Returns the string, if the value is one.
    pub fn string(self) -> Option<&'a [u8]> {
        split_string(self.0).map(|(text, _)| text)
    }

    /// Returns the integer, if the value is one and fits 64 bits.
    pub fn int(self) -> Option<i64> {
        Value::parse_int(self.digits()?)
    }

    /// Returns sign and digits as written, if the value is an integer.
    pub fn digits(self) -> Option<&'a [u8]> {
        self.inside(b'i')
    }

    pub(super) fn parse_int(digits: &[u8]) -> Option<i64> {
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Returns whether the value is a dictionary.
    pub fn is_dict(self) -> bool {
        self.0.first() == Some(&b'd')
    }

    /// Returns whether the value is a list.
    pub fn is_list(self) -> bool {
        self.0.first() == Some(&b'l')
    }

    /// Returns the first value with this key, if the value is a dictionary that has it.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.pairs()?.find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Returns keys and values in the order written, if the value is a dictionary.
    pub fn pairs(self) -> Option<impl Iterator<Item = (&'a [u8], Value<'a>)>> {
        let mut rest = self.inside(b'd')?;
        Some(std::iter::from_fn(move || {
            let (key, after) = split_string(rest)?;
            let (value, after) = split_value(after)?;
            rest = after;
            Some((key, value))
        }))
    }

    /// Returns the items, if the value is a list.
    pub fn items(self) -> Option<impl Iterator<Item = Value<'a>>> {
        let mut rest = self.inside(b'l')?;
        Some(std::iter::from_fn(move || {
            let (value, after) = split_value(rest)?;
            rest = after;
            Some(value)
        }))
    }

    /// Returns the bytes between the first, which must be `kind`, and the last.
    pub(super) fn inside(self, kind: u8) -> Option<&'a [u8]> {
        match self.0 {
            [first, inside @ .., _] if *first == kind => Some(inside),
            _ => None,
        }
    }
}

/// A field of this type accepts any value and keeps it as written.
impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value<'a>, D::Error> {
        struct AsWritten;

        impl<'de> Visitor<'de> for AsWritten {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of our own deserializer")
            }

            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Value<'de>, E> {
                Ok(Value::checked(bytes))
            }
        }

        deserializer.deserialize_newtype_struct(Encoded::NAME, AsWritten)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Encoded(self.0).serialize(serializer)
    }
}

/// Splits off the string at the start of `bytes`.
pub(super) fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let mut len = decimal_digit(*first)?;
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        if *byte == b':' {
            return rest.split_at_checked(len);
        }
        len = len.checked_mul(10)?.checked_add(decimal_digit(*byte)?)?;
    }
}

fn decimal_digit(byte: u8) -> Option<usize> {
    byte.is_ascii_digit().then_some(usize::from(byte & 0x0f))
}

/// Returns the length in these digits, unless it overflows.
pub(super) fn length(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |len, digit| len.checked_mul(10)?.checked_add(usize::from(digit & 0x0f)))
}

/// Splits off the value at the start of `bytes`.
pub(super) fn split_value(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let mut rest = bytes;
    let mut open = 0usize;
    loop {
        let (first, after) = rest.split_first()?;
        match first {
            b'l' | b'd' => {
                open = open.checked_add(1)?;
                rest = after;
            }
            b'e' => {
                open = open.checked_sub(1)?;
                rest = after;
            }
            b'i' => {
                let end = after.iter().position(|b| *b == b'e')?;
                rest = after.split_at_checked(end)?.1.strip_prefix(b"e")?;
            }
            _ => rest = split_string(rest)?.1,
        }
        if open == 0 {
            let value = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
            return Some((Value(value), rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::bencode::{Rules, Value, scan};

    fn value(text: &str) -> Value<'_> {
        scan(text.as_bytes(), &Rules { depth: 8, tokens: 100, strict: false }).unwrap().value
    }

    #[test]
    fn reads_a_dictionary_in_place() {
        let v = value("d1:ad1:xl1:yi5eee1:bi-07e1:b1:ze");
        assert_eq!(v.get(b"a").unwrap().raw(), b"d1:xl1:yi5eee");
        assert_eq!(v.get(b"b").unwrap().int(), Some(-7), "the first of two counts");
        assert_eq!(v.pairs().unwrap().count(), 3);
        assert_eq!(v.get(b"a").unwrap().get(b"x").unwrap().items().unwrap().count(), 2);
        assert!(v.get(b"c").is_none() && v.items().is_none() && v.string().is_none() && v.int().is_none());
    }

    #[test]
    fn an_integer_beyond_64_bits_has_no_value() {
        assert_eq!(value("i9223372036854775807e").int(), Some(i64::MAX));
        assert_eq!(value("i9223372036854775808e").int(), None);
        assert_eq!(value("i+5e").int(), Some(5));
    }
}
