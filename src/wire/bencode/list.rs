//! Lists of any length, read item by item during iteration.

use super::{Lenient, TypeMismatch, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;

/// A list of `T`, kept as its span. Iteration reads one item at a time, so the list takes no memory; code
/// that collects items must limit their number.
///
/// With `LONE`, a value that is not a list counts as a list of one item: see [`OneOrMany`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a, T, const LONE: bool = false>(Value<'a>, PhantomData<T>);

/// A list of `T`, or a single `T` in its place: some programs omit the list around one item.
pub type OneOrMany<'a, T> = List<'a, T, true>;

impl<'de: 'a, 'a, T, const LONE: bool> Deserialize<'de> for List<'a, T, LONE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if LONE || value.is_list() {
            Ok(List(value, PhantomData))
        } else {
            Err(serde::de::Error::custom(TypeMismatch))
        }
    }
}

impl<T, const LONE: bool> Serialize for List<'_, T, LONE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'a, T: Deserialize<'a>, const LONE: bool> List<'a, T, LONE> {
    /// Iterates over the items, with [`TypeMismatch`] for an item of the wrong type.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, TypeMismatch>> + use<'a, T, LONE> {
        let lone = (!self.0.is_list()).then_some(self.0);
        self.0.items().into_iter().flatten().chain(lone).map(Value::read)
    }
}

impl<'a, T: Deserialize<'a>, const LONE: bool> Lenient<List<'a, T, LONE>> {
    /// Returns the items of the right type; none if the field is absent or not a list.
    pub fn good_items(&self) -> impl Iterator<Item = T> + use<'a, T, LONE> {
        self.0.as_ref().map(List::iter).into_iter().flatten().filter_map(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bencode::{Bytes, Rules, scan};

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Lenient<T> {
        scan(text.as_bytes(), &Rules { depth: 32, tokens: 10_000, strict: false })
            .unwrap()
            .value
            .read()
            .unwrap()
    }

    #[test]
    fn a_lenient_list_keeps_items_of_the_right_type() {
        assert!(read::<List<i64>>("li1e1:xlei2ee").good_items().eq([1, 2]));
        assert!(read::<OneOrMany<i64>>("li1e1:xlei2ee").good_items().eq([1, 2]));
        assert!(read::<OneOrMany<i64>>("i7e").good_items().eq([7]));
        assert!(read::<List<i64>>("i7e").0.is_none());
        assert!(read::<List<i64>>("li1e1:xe").0.unwrap().iter().eq([Ok(1), Err(TypeMismatch)]));
        for none in ["de", "1:x", "le"] {
            assert_eq!(read::<OneOrMany<i64>>(none).good_items().count(), 0, "{none}");
        }
        let tiers = read::<OneOrMany<OneOrMany<Bytes>>>("ll1:a1:bei5e1:clee");
        assert!(tiers.good_items().map(|tier| Lenient(Some(tier)).good_items().count()).eq([2, 0, 1, 0]));
    }
}
