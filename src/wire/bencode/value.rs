//! A scanned value, read in place: no copy, no allocation, no second check.
//!
//! Invariant: the bytes are exactly one well-formed value of bounded depth, because only the scanner makes one.
//! Everything here relies on that, and walks without recursion.

/// One well-formed bencode value and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// For the scanner: these bytes have been checked.
    pub(super) fn checked(bytes: &'a [u8]) -> Value<'a> {
        Value(bytes)
    }

    /// The bytes as written, from the first to the last of the value.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The string, if it is one.
    pub fn string(self) -> Option<&'a [u8]> {
        if self.0[0].is_ascii_digit() { Some(split_string(self.0).0) } else { None }
    }

    /// The number, if it is one of at most 64 bits.
    pub fn int(self) -> Option<i64> {
        if self.0[0] == b'i' { Value::parse_int(self.digits()) } else { None }
    }

    /// The number's sign and digits as written.
    pub(super) fn digits(self) -> &'a [u8] {
        &self.0[1..self.0.len() - 1]
    }

    pub(super) fn parse_int(digits: &[u8]) -> Option<i64> {
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Whether it is a dictionary.
    pub fn is_dict(self) -> bool {
        self.0[0] == b'd'
    }

    /// The first value under `key`, if this is a dictionary that has one.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.pairs()?.find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Keys and values in the order written, if this is a dictionary.
    pub fn pairs(self) -> Option<impl Iterator<Item = (&'a [u8], Value<'a>)>> {
        let mut rest = self.inside(b'd')?;
        Some(std::iter::from_fn(move || {
            let (key, after) = (!rest.is_empty()).then(|| split_string(rest))?;
            let (value, after) = split_value(after);
            rest = after;
            Some((key, value))
        }))
    }

    /// The items, if this is a list.
    pub fn items(self) -> Option<impl Iterator<Item = Value<'a>>> {
        let mut rest = self.inside(b'l')?;
        Some(std::iter::from_fn(move || {
            let (value, after) = (!rest.is_empty()).then(|| split_value(rest))?;
            rest = after;
            Some(value)
        }))
    }

    fn inside(self, kind: u8) -> Option<&'a [u8]> {
        if self.0[0] == kind { Some(&self.0[1..self.0.len() - 1]) } else { None }
    }
}

/// The string at the start of `bytes`, and what follows it.
fn split_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let colon = bytes.iter().position(|b| *b == b':').expect("a scanned string has a colon");
    let len = bytes[..colon].iter().fold(0, |len, digit| len * 10 + usize::from(digit - b'0'));
    bytes[colon + 1..].split_at(len)
}

/// The value at the start of `bytes`, and what follows it.
fn split_value(bytes: &[u8]) -> (Value<'_>, &[u8]) {
    let mut rest = bytes;
    let mut open = 0usize;
    loop {
        match rest[0] {
            b'l' | b'd' => {
                open += 1;
                rest = &rest[1..];
            }
            b'e' => {
                open -= 1;
                rest = &rest[1..];
            }
            b'i' => {
                let end = rest.iter().position(|b| *b == b'e').expect("a scanned integer has an end");
                rest = &rest[end + 1..];
            }
            _ => rest = split_string(rest).1,
        }
        if open == 0 {
            return (Value(&bytes[..bytes.len() - rest.len()]), rest);
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
    fn a_dictionary_is_walked_in_place() {
        let v = value("d1:ad1:xl1:yi5eee1:bi-07e1:b1:ze");
        assert_eq!(v.get(b"a").unwrap().raw(), b"d1:xl1:yi5eee");
        assert_eq!(v.get(b"b").unwrap().int(), Some(-7), "the first of two counts");
        assert_eq!(v.pairs().unwrap().count(), 3);
        assert_eq!(v.get(b"a").unwrap().get(b"x").unwrap().items().unwrap().count(), 2);
        assert!(v.get(b"c").is_none() && v.items().is_none() && v.string().is_none() && v.int().is_none());
    }

    #[test]
    fn numbers_too_big_are_not_numbers() {
        assert_eq!(value("i9223372036854775807e").int(), Some(i64::MAX));
        assert_eq!(value("i9223372036854775808e").int(), None);
        assert_eq!(value("i+5e").int(), Some(5));
    }
}
