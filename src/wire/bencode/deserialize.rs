//! Reading with serde: a [`Value`] is a [`Deserializer`] for structs, tuples, strings and integers.
//!
//! It borrows from the scanned bytes and allocates nothing. Recursion follows the Rust types, none of which
//! contains itself. The span of a value is split off before the value is read, so the fields after one of the
//! wrong type can still be read.
//!
//! - Keys that the struct does not name are skipped by span, and so are repeated keys: the first counts.
//!   Fields are looked up in the list of names that `derive` passes to the deserializer.
//! - A list is read as a tuple, whose length is fixed, or as a [`List`](super::List), which yields its items
//!   one at a time. `Vec`, maps, enums, `untagged` and `flatten` are not supported, so that the input never
//!   decides how much memory is allocated.

use super::value::{split_string, split_value};
use super::{Encoded, Value};
use serde::de::value::U64Deserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt::Display;
use thiserror::Error;

/// The value does not have the requested type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a value of another type was expected")]
pub struct TypeMismatch;

/// Drops serde's message: the code that reads the field decides what a wrong type means, and formatting would
/// cost time.
impl serde::de::Error for TypeMismatch {
    fn custom<T: Display>(_: T) -> TypeMismatch {
        TypeMismatch
    }
}

/// Strings as borrowed bytes; where a `str` is requested, serde checks that they are UTF-8.
macro_rules! read_string {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeMismatch> {
            visitor.visit_borrowed_bytes(self.string().ok_or(TypeMismatch)?)
        }
    )*};
}

/// Integers as `i64`; serde checks that they fit the requested type.
macro_rules! read_integer {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeMismatch> {
            visitor.visit_i64(self.int().ok_or(TypeMismatch)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = TypeMismatch;

    read_string!(deserialize_bytes deserialize_str);
    read_integer!(deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeMismatch> {
        visitor.visit_some(self)
    }

    /// A [`Value`] is passed as written.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeMismatch> {
        if name == Encoded::NAME {
            visitor.visit_borrowed_bytes(self.raw())
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeMismatch> {
        debug_assert!(names.len() <= 64, "`seen` has a bit for each field");
        let rest = self.inside(b'd').ok_or(TypeMismatch)?;
        visitor.visit_map(Fields { rest, names, seen: 0, expected: 0, value: self })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, TypeMismatch> {
        visitor.visit_seq(Elements { rest: self.inside(b'l').ok_or(TypeMismatch)? })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        n: usize,
        visitor: V,
    ) -> Result<V::Value, TypeMismatch> {
        self.deserialize_tuple(n, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, TypeMismatch> {
        Err(TypeMismatch)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u64 u128 f32 f64 char string byte_buf unit unit_struct seq map enum identifier ignored_any
    }
}

/// The fields of a struct among the pairs of a dictionary.
struct Fields<'de> {
    /// The unread pairs.
    rest: &'de [u8],
    names: &'static [&'static str],
    /// A bit for each field that has been found, by its index in `names`.
    seen: u64,
    /// The index in `names` where the next field is expected: most dictionaries are sorted.
    expected: usize,
    /// The value of the last field found.
    value: Value<'de>,
}

impl Fields<'_> {
    fn place_of(&self, key: &[u8]) -> Option<usize> {
        let (before, after) = self.names.split_at_checked(self.expected)?;
        let find = |names: &[&str]| names.iter().position(|name| name.as_bytes() == key);
        find(after).map(|place| place.saturating_add(self.expected)).or_else(|| find(before))
    }

    /// Returns the index in `names` of the next key that names a field not found before.
    fn next_field(&mut self) -> Option<u64> {
        loop {
            let (key, after) = split_string(self.rest)?;
            let (value, after) = split_value(after)?;
            self.rest = after;
            let Some(place) = self.place_of(key) else { continue };
            self.expected = place.saturating_add(1);
            let bit = 1u64.checked_shl(place as u32).unwrap_or_default();
            if self.seen & bit == 0 {
                self.seen |= bit;
                self.value = value;
                return Some(place as u64);
            }
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = TypeMismatch;

    /// `derive` accepts a field's index instead of its name.
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypeMismatch> {
        self.next_field().map(|place| seed.deserialize(U64Deserializer::new(place))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeMismatch> {
        seed.deserialize(self.value)
    }
}

/// The items of a list that is read as a tuple.
struct Elements<'de> {
    rest: &'de [u8],
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = TypeMismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeMismatch> {
        let Some((value, rest)) = split_value(self.rest) else { return Ok(None) };
        self.rest = rest;
        seed.deserialize(value).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bencode::{Bytes, Lenient, Rules, scan};
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Dictionary<'a> {
        number: Option<u16>,
        #[serde(borrow, rename = "a pair")]
        pair: Lenient<TextAndNumber<'a>>,
        text: Lenient<&'a str>,
        raw: Option<Value<'a>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct TextAndNumber<'a>(#[serde(borrow)] Bytes<'a>, i64);

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, TypeMismatch> {
        scan(text.as_bytes(), &Rules { depth: 32, tokens: 10_000, strict: false }).unwrap().value.read()
    }

    #[test]
    fn finds_fields_in_any_order_and_skips_unknown_keys() {
        let got: Dictionary =
            read("d4:text2:hi4:junkld1:a1:bee6:numberi7e6:a pairl1:xi-5e5:extrae3:rawd1:zleee").unwrap();
        let pair = Lenient(Some(TextAndNumber(Bytes(b"x"), -5)));
        let text = Lenient(Some("hi"));
        assert_eq!((got.number, got.pair, got.text), (Some(7), pair, text));
        assert_eq!(got.raw.map(Value::raw), Some(&b"d1:zlee"[..]));
        assert_eq!(
            read::<Dictionary>("de"),
            Ok(Dictionary { number: None, pair: Lenient(None), text: Lenient(None), raw: None })
        );
    }

    #[test]
    fn keeps_the_first_of_repeated_keys_even_with_the_wrong_type() {
        let got: Dictionary = read("d6:numberi1e4:texti1e6:numberi2e4:text2:hie").unwrap();
        assert_eq!((got.number, got.text), (Some(1), Lenient(None)));
    }

    #[test]
    fn a_field_of_the_wrong_type_fails_its_struct_unless_it_is_lenient() {
        for wrong in [
            "d6:number1:7e",
            "d6:numberi65536ee",
            "d6:numberi-1ee",
            "d6:numberi99999999999999999999ee",
            "le",
            "i7e",
            "0:",
        ] {
            assert_eq!(read::<Dictionary>(wrong), Err(TypeMismatch), "{wrong}");
        }
        for absent in ["d4:textle6:a pairlee", "d6:a pairl1:xe4:textdee", "d6:a pairli1ei1eee"] {
            let got: Dictionary = read(absent).unwrap_or_else(|_| panic!("{absent}"));
            assert_eq!(got.pair, Lenient(None), "{absent}");
        }
        let invalid =
            scan(b"d4:text2:\xff\xfee", &Rules { depth: 4, tokens: 9, strict: false }).unwrap().value;
        assert_eq!(invalid.read::<Dictionary>().unwrap().text, Lenient(None), "text that is not UTF-8");
    }

    #[test]
    fn does_not_collect_lists_and_dictionaries() {
        assert_eq!(read::<Vec<i64>>("li1ei2ee"), Err(TypeMismatch));
        assert_eq!(read::<std::collections::BTreeMap<String, i64>>("d1:ai1ee"), Err(TypeMismatch));
        assert_eq!(read::<String>("1:a"), Err(TypeMismatch));
    }

    #[test]
    fn nesting_is_limited_and_needs_no_long_stack() {
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let deep = |levels| format!("d4:junk{}{}4:text2:hie", "l".repeat(levels), "e".repeat(levels));
        let read = move || {
            assert_eq!(read::<Dictionary>(&deep(31)).unwrap().text, Lenient(Some("hi")));
            scan(deep(32).as_bytes(), &Rules { depth: 32, tokens: 10_000, strict: false })
                .map(|scanned| scanned.value.is_dict())
        };
        let refused = small.spawn(read).unwrap().join().unwrap();
        assert!(
            matches!(refused, Err(crate::wire::bencode::BencodeError::TooDeep { limit: 32, .. })),
            "{refused:?}"
        );
    }
}
