//! Typed decoding: one [`Shape`] for each thing that is written in bencode, read through bendy's decoder.
//!
//! `Shape` is bendy's `FromBencode` for types that borrow from the input, so that forty megabytes of piece hashes
//! are looked at and not copied. A field of the wrong type fails its own `read` and nothing else: whoever holds
//! the dictionary decides whether that field was needed.

use bendy::decoding::{Decoder, Error, Object};

/// Something that is written as one bencode value.
pub trait Shape<'a>: Sized {
    /// Reads it from bendy's object.
    fn read(object: Object<'_, 'a>) -> Result<Self, Error>;
}

/// Reads the one value in `bytes`, which the scanner has seen and [`super::tidy`] put in order.
pub fn decode<'a, T: Shape<'a>>(bytes: &'a [u8], depth: usize) -> Result<T, Error> {
    match Decoder::new(bytes).with_max_depth(depth).next_object()? {
        Some(object) => T::read(object),
        None => Err(Error::missing_field("value")),
    }
}

/// The value if it has the right type; a field that nobody needs is not worth an error.
pub fn optional<'a, T: Shape<'a>>(object: Object<'_, 'a>) -> Option<T> {
    T::read(object).ok()
}

/// Hands every key and value of a dictionary to `each`.
pub fn pairs<'a>(object: Object<'_, 'a>, mut each: impl FnMut(&'a [u8], Object<'_, 'a>)) -> Result<(), Error> {
    let mut dict = object.try_into_dictionary()?;
    while let Some((key, value)) = dict.next_pair()? {
        each(key, value);
    }
    Ok(())
}

impl<'a> Shape<'a> for i64 {
    fn read(object: Object<'_, 'a>) -> Result<i64, Error> {
        Ok(object.try_into_integer()?.parse()?)
    }
}

impl<'a> Shape<'a> for &'a [u8] {
    fn read(object: Object<'_, 'a>) -> Result<&'a [u8], Error> {
        object.try_into_bytes()
    }
}

/// A list in which every item must be right.
impl<'a, T: Shape<'a>> Shape<'a> for Vec<T> {
    fn read(object: Object<'_, 'a>) -> Result<Vec<T>, Error> {
        let mut list = object.try_into_list()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_object()? {
            items.push(T::read(item)?);
        }
        Ok(items)
    }
}

/// A list of which the good items count and the others are passed over; a lone item is a list of one.
#[derive(Debug)]
pub struct Lenient<T>(pub Vec<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Lenient(Vec::new())
    }
}

impl<'a, T: Shape<'a>> Shape<'a> for Lenient<T> {
    fn read(object: Object<'_, 'a>) -> Result<Lenient<T>, Error> {
        let Object::List(mut list) = object else { return Ok(Lenient(vec![T::read(object)?])) };
        let mut items = Vec::new();
        while let Some(item) = list.next_object()? {
            items.extend(T::read(item));
        }
        Ok(Lenient(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lenient_list_keeps_what_is_good() {
        assert_eq!(decode::<Lenient<i64>>(b"li1e1:xlei2ee", 8).unwrap().0, [1, 2]);
        assert_eq!(decode::<Lenient<i64>>(b"i7e", 8).unwrap().0, [7]);
        assert!(decode::<Vec<i64>>(b"li1e1:xe", 8).is_err());
        assert!(decode::<Lenient<i64>>(b"de", 8).is_err());
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_without_a_long_stack() {
        assert!(decode::<Vec<Vec<i64>>>(b"lllleeee", 3).is_err());
    }
}
