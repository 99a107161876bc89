//! The one way to say that a field of the wrong type is as good as absent, and the byte strings that serde lacks.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field that is absent, or has the wrong type: both are `None`, and the rest of its dictionary counts all the same.
///
/// Peers, trackers and torrent files put strings where integers belong, and the reverse. Every field that is not worth refusing the
/// whole message for has this type; `Option<Lenient<T>>` tells an absent field from a wrong one. `None` writes nothing, not even the
/// key.
///
/// ```text
///   #[derive(Deserialize, Serialize)]
///   struct Header {
///       piece: u32,                  // without it, or with another type, there is no Header
///       total_size: Lenient<u32>,    // without it, or with another type: Lenient(None)
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
    /// Never fails. serde asks for an absent field through a deserializer that refuses every type: `None`, too.
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
    /// Whether it is an integer other than 0, which is how bencode says yes.
    pub fn is_set(self) -> bool {
        self.0.is_some_and(|flag| flag != 0)
    }
}

impl<'a> Lenient<Bytes<'a>> {
    /// A string to be written, or none.
    pub fn of(bytes: Option<&'a [u8]>) -> Lenient<Bytes<'a>> {
        Lenient(bytes.map(Bytes))
    }

    /// The string, if it is one.
    pub fn bytes(self) -> Option<&'a [u8]> {
        self.0.map(|Bytes(bytes)| bytes)
    }
}

/// A byte string. serde takes a plain `&[u8]` for a list of integers when it writes.
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
