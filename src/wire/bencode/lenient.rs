//! [`Lenient`] marks fields for which a wrong type counts as absent; [`Bytes`] is a byte string, which serde
//! lacks.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field for which a wrong type counts as absent: both are `None`, and the rest of the dictionary is read.
///
/// Peers, trackers and torrent files contain strings in place of integers, and the reverse. A field of a
/// plain type fails the whole struct; a `Lenient` one does not. `Option<Lenient<T>>` tells an absent field
/// from a wrong one. `None` is not written, nor is its key.
///
/// ```text
///   #[derive(Deserialize, Serialize)]
///   struct Header {
///       piece: u32,                  // absent or of another type: TypeMismatch
///       total_size: Lenient<u32>,    // absent or of another type: Lenient(None)
///   }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lenient<T>(pub Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Lenient<T> {
        Lenient(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    /// Never fails. serde reads an absent field from a deserializer that refuses every type, which gives
    /// `None` as well.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<T>, D::Error> {
        Ok(Lenient(T::deserialize(deserializer).ok()))
    }
}

impl<T: Serialize> Serialize for Lenient<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_none(),
        }
    }
}

impl Lenient<i64> {
    /// Returns whether it is an integer other than 0: flags are written as `i1e`.
    pub fn is_set(self) -> bool {
        self.0.is_some_and(|flag| flag != 0)
    }
}

impl<'a> Lenient<Bytes<'a>> {
    /// Returns a string to write, or an absent field.
    pub fn of(bytes: Option<&'a [u8]>) -> Lenient<Bytes<'a>> {
        Lenient(bytes.map(Bytes))
    }

    /// Returns the string, if there is one.
    pub fn bytes(self) -> Option<&'a [u8]> {
        self.0.map(|Bytes(bytes)| bytes)
    }
}

/// A byte string. serde would write a plain `&[u8]` as a list of integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes<'a>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Bytes)
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
