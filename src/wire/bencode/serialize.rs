//! Writing with serde: a struct becomes a dictionary. Its fields are declared in ascending order of their
//! keys, as bencode requires it; debug builds check that, so that a test that writes the struct finds a
//! mistake.
//!
//! Supports structs, lists, tuples, strings, integers and [`Encoded`] values. A field that is `None` is left
//! out with its key. Appends to a buffer and allocates nothing else.

use super::Bytes;
use serde::ser::{Impossible, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct};
use serde::{Serialize, Serializer};
use std::fmt::Display;
use thiserror::Error;

/// Appends `value` in bencode.
pub fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    let written = value.serialize(&mut Writer { out, key: None, as_written: false });
    debug_assert!(written.is_ok(), "bencode cannot express this type");
}

/// Returns `value` in bencode.
pub fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// A type that bencode cannot express: a programming error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bencode cannot express this type")]
pub struct Unsupported;

impl serde::ser::Error for Unsupported {
    fn custom<T: Display>(_: T) -> Unsupported {
        Unsupported
    }
}

/// A value that is bencoded already and is written unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a>(pub &'a [u8]);

impl Encoded<'_> {
    /// The type name by which our serializer and deserializer recognize bytes that are passed unchanged.
    pub(super) const NAME: &'static str = "rill::bencode::Encoded";
}

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(Encoded::NAME, &Bytes(self.0))
    }
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// The key of the next value. Written with the value, so that `None` leaves no key behind.
    key: Option<&'static str>,
    /// Whether the next byte string is bencoded already.
    as_written: bool,
}

impl Writer<'_> {
    /// Writes the key of a field, before the first byte of its value.
    fn begin_value(&mut self) {
        if let Some(key) = self.key.take() {
            self.string(key.as_bytes());
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        if len < 10 {
            self.out.extend_from_slice(&[b'0' | len as u8, b':']);
        } else {
            self.decimal(len as u64);
            self.out.push(b':');
        }
        self.out.extend_from_slice(bytes);
    }

    fn integer(&mut self, negative: bool, magnitude: u64) {
        self.begin_value();
        self.out.push(b'i');
        if negative {
            self.out.push(b'-');
        }
        self.decimal(magnitude);
        self.out.push(b'e');
    }

    /// One digit per level of recursion, at most twenty.
    fn decimal(&mut self, number: u64) {
        if number >= 10 {
            self.decimal(number / 10);
        }
        self.out.push(b'0' | (number % 10) as u8);
    }
}

macro_rules! write_integer {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, number: $type) -> Result<(), Unsupported> {
            let number = i64::from(number);
            self.integer(number < 0, number.unsigned_abs());
            Ok(())
        }
    )*};
}

macro_rules! unsupported {
    ($($method:ident($($type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok, Unsupported> {
            Err(Unsupported)
        }
    )*};
}

type Never = Impossible<(), Unsupported>;

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = ListWriter<'w, 'o>;
    type SerializeTuple = ListWriter<'w, 'o>;
    type SerializeTupleStruct = ListWriter<'w, 'o>;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = DictionaryWriter<'w, 'o>;
    type SerializeStructVariant = Never;

    write_integer!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    write_integer!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32);

    fn serialize_u64(self, number: u64) -> Result<(), Unsupported> {
        self.integer(false, number);
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), Unsupported> {
        self.begin_value();
        self.string(text.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Unsupported> {
        self.begin_value();
        if std::mem::take(&mut self.as_written) {
            self.out.extend_from_slice(bytes);
        } else {
            self.string(bytes);
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unsupported> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        self.as_written = name == Encoded::NAME;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ListWriter<'w, 'o>, Unsupported> {
        self.begin_value();
        self.out.push(b'l');
        Ok(ListWriter { writer: self })
    }

    fn serialize_tuple(self, len: usize) -> Result<ListWriter<'w, 'o>, Unsupported> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<ListWriter<'w, 'o>, Unsupported> {
        self.serialize_seq(Some(len))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<DictionaryWriter<'w, 'o>, Unsupported> {
        self.begin_value();
        self.out.push(b'd');
        Ok(DictionaryWriter { writer: self, last: "" })
    }

    unsupported! {
        serialize_bool(bool) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_map(Option<usize>) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
}

/// Writes the items of a list.
struct ListWriter<'w, 'o> {
    writer: &'w mut Writer<'o>,
}

macro_rules! write_items {
    ($($trait:ident::$method:ident),*) => {$(
        impl $trait for ListWriter<'_, '_> {
            type Ok = ();
            type Error = Unsupported;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Unsupported> {
                item.serialize(&mut *self.writer)
            }

            fn end(self) -> Result<(), Unsupported> {
                self.writer.out.push(b'e');
                Ok(())
            }
        }
    )*};
}

write_items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field
);

/// Writes the pairs of a dictionary.
struct DictionaryWriter<'w, 'o> {
    writer: &'w mut Writer<'o>,
    /// The previous field.
    last: &'static str,
}

impl SerializeStruct for DictionaryWriter<'_, '_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        debug_assert!(self.last < key || self.last.is_empty(), "`{key}` is declared after `{}`", self.last);
        self.last = key;
        self.writer.key = Some(key);
        value.serialize(&mut *self.writer)?;
        self.writer.key = None;
        Ok(())
    }

    fn end(self) -> Result<(), Unsupported> {
        self.writer.out.push(b'e');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bencode::{Lenient, Rules, Value, scan};
    use proptest::prelude::*;

    #[derive(Serialize)]
    struct AllTypes<'a> {
        #[serde(rename = "")]
        empty: i64,
        a: &'a [String],
        b: (&'a str, i8),
        m: u64,
        none: Option<u8>,
        raw: Option<Value<'a>>,
        z: Lenient<Bytes<'a>>,
    }

    #[test]
    fn leaves_out_absent_fields_with_their_keys() {
        let raw = scan(b"d1:bi1e1:ai2ee", &Rules { depth: 2, tokens: 9, strict: false }).unwrap().value;
        let texts = ["x".to_owned(), String::new()];
        let full = AllTypes {
            empty: i64::MIN,
            a: &texts,
            b: ("1234567890", -1),
            m: u64::MAX,
            none: None,
            raw: Some(raw),
            z: Lenient(Some(Bytes(b"\xff"))),
        };
        let expected =
            b"d0:i-9223372036854775808e1:al1:x0:e1:bl10:1234567890i-1ee1:mi18446744073709551615e3:rawd1:bi1e1:ai2ee1:z1:\xffe";
        assert_eq!(to_bytes(&full).escape_ascii().to_string(), expected.escape_ascii().to_string());
        let sparse = AllTypes { empty: 0, a: &[], b: ("", 0), m: 0, none: None, raw: None, z: Lenient(None) };
        assert_eq!(to_bytes(&sparse), b"d0:i0e1:ale1:bl0:i0ee1:mi0ee");
    }

    #[test]
    #[should_panic(expected = "`a` is declared after `b`")]
    fn refuses_fields_that_are_not_declared_in_order() {
        #[derive(Serialize)]
        struct Unsorted {
            b: u8,
            a: u8,
        }
        to_bytes(&Unsorted { b: 1, a: 2 });
    }

    #[test]
    fn refuses_types_that_bencode_cannot_express() {
        let mut out = Vec::new();
        assert_eq!(
            1.5f64.serialize(&mut Writer { out: &mut out, key: None, as_written: false }),
            Err(Unsupported)
        );
        assert_eq!(
            ().serialize(&mut Writer { out: &mut out, key: None, as_written: false }),
            Err(Unsupported)
        );
    }

    proptest! {
        #[test]
        fn writes_numbers_in_plain_decimal(number: i64, len in 0usize..2000) {
            prop_assert_eq!(to_bytes(&number), format!("i{number}e").into_bytes());
            let start = format!("{len}:");
            prop_assert!(to_bytes(&Bytes(&vec![0; len])).starts_with(start.as_bytes()));
        }
    }
}
