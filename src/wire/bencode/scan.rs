//! One pass over untrusted bytes: finds a whole bencode value, its length, and whether it is in canonical
//! form.
//!
//! Uses no recursion and no allocation, and takes time linear in the input. A string's length is compared
//! with the bytes that follow. What a value means is left to the types that read it.

use super::Value;
use super::value::length;
use crate::wire::text::printable;
use thiserror::Error;

/// Why bytes are refused as bencode. Positions count from the start of the scanned bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BencodeError {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// The bytes end inside a value.
    #[error("it ends in the middle of a value, at byte {at}")]
    Truncated {
        /// Length of the input.
        at: usize,
    },
    /// A byte that starts no token.
    #[error("unexpected byte {byte:#04x} at {at}")]
    Unexpected {
        /// The byte.
        byte: u8,
        /// Its position.
        at: usize,
    },
    /// A string's length is more than the bytes that follow.
    #[error("the string at byte {at} is longer than the bytes that follow")]
    StringTooLong {
        /// Position of the string.
        at: usize,
    },
    /// A malformed number, or one that strict rules refuse.
    #[error("malformed number at byte {at}")]
    Number {
        /// Position of the number.
        at: usize,
    },
    /// A dictionary key that is not a string.
    #[error("the dictionary key at byte {at} is not a string")]
    Key {
        /// Position of the key.
        at: usize,
    },
    /// A dictionary that ends after a key.
    #[error("the dictionary that ends at byte {at} has a key without a value")]
    MissingValue {
        /// Position of the dictionary's end.
        at: usize,
    },
    /// A dictionary has a key twice, and strict rules apply.
    #[error("the key `{key}` occurs twice")]
    DuplicateKey {
        /// The key, sanitized for display.
        key: String,
    },
    /// More nesting than the rules allow.
    #[error("it is nested more than {limit} deep, at byte {at}")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Position of the value that is too deep.
        at: usize,
    },
    /// More tokens than the rules allow.
    #[error("it has more than {limit} elements")]
    TooManyTokens {
        /// The limit.
        limit: usize,
    },
}

impl BencodeError {
    pub(super) fn duplicate(key: &[u8]) -> BencodeError {
        BencodeError::DuplicateKey { key: printable(key, 40) }
    }
}

/// Limits of a scan, and how strict it is.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Levels of nesting, at most [`Rules::MAX_DEPTH`].
    pub depth: usize,
    /// Number of keys, values and ends.
    pub tokens: usize,
    /// Whether repeated keys and numbers in unusual form are refused.
    pub strict: bool,
}

impl Rules {
    /// Depth of the scanner's fixed stack.
    pub const MAX_DEPTH: usize = 32;
}

/// A whole value and the bytes that follow it.
#[derive(Clone, Copy, Debug)]
pub struct Scanned<'a> {
    /// The value.
    pub value: Value<'a>,
    /// Bytes after it.
    pub rest: &'a [u8],
    /// Whether it is in canonical form: keys ascend strictly, and numbers have no leading zeros or plus
    /// signs.
    pub is_canonical: bool,
}

/// A list or dictionary that has not ended yet.
#[derive(Clone, Copy)]
enum Container<'a> {
    List,
    /// A dictionary before a key; the key before that one.
    Key(Option<&'a [u8]>),
    /// A dictionary before the value of this key.
    Value(&'a [u8]),
}

struct Scanner<'a> {
    /// The unread rest of `whole` bytes.
    rest: &'a [u8],
    whole: usize,
    is_canonical: bool,
    rules: Rules,
    stack: [Container<'a>; Rules::MAX_DEPTH],
    depth: usize,
}

/// Finds the value at the start of `bytes` and checks all of it against `rules`.
pub fn scan<'a>(bytes: &'a [u8], rules: &Rules) -> Result<Scanned<'a>, BencodeError> {
    if bytes.is_empty() {
        return Err(BencodeError::Empty);
    }
    debug_assert!(rules.depth <= Rules::MAX_DEPTH);
    let stack = [Container::List; Rules::MAX_DEPTH];
    let mut s =
        Scanner { rest: bytes, whole: bytes.len(), is_canonical: true, rules: *rules, stack, depth: 0 };
    for _ in 0..rules.tokens {
        s.token()?;
        if s.depth == 0 {
            let (value, rest) = bytes.split_at(s.at());
            return Ok(Scanned { value: Value::checked(value), rest, is_canonical: s.is_canonical });
        }
    }
    Err(BencodeError::TooManyTokens { limit: rules.tokens })
}

impl<'a> Scanner<'a> {
    fn token(&mut self) -> Result<(), BencodeError> {
        let at = self.at();
        let (byte, after) = self.rest.split_first().ok_or(self.truncated())?;
        match byte {
            b'0'..=b'9' => return self.string(),
            b'e' => {
                let outer = self.depth.checked_sub(1).ok_or(BencodeError::Unexpected { byte: b'e', at })?;
                if let Some(Container::Value(_)) = self.top() {
                    return Err(BencodeError::MissingValue { at });
                }
                self.depth = outer;
            }
            b'i' | b'l' | b'd' => self.begin_value()?,
            _ => return Err(BencodeError::Unexpected { byte: *byte, at }),
        }
        self.rest = after;
        match byte {
            b'i' => self.integer(),
            b'l' => self.push(Container::List, at),
            b'd' => self.push(Container::Key(None), at),
            _ => Ok(()),
        }
    }

    /// Returns the position of the next byte.
    fn at(&self) -> usize {
        self.whole.saturating_sub(self.rest.len())
    }

    fn truncated(&self) -> BencodeError {
        BencodeError::Truncated { at: self.whole }
    }

    fn top(&mut self) -> Option<&mut Container<'a>> {
        self.depth.checked_sub(1).and_then(|top| self.stack.get_mut(top))
    }

    fn push(&mut self, frame: Container<'a>, at: usize) -> Result<(), BencodeError> {
        let limit = self.rules.depth;
        match self.stack.get_mut(self.depth).filter(|_| self.depth < limit) {
            Some(free) => *free = frame,
            None => return Err(BencodeError::TooDeep { limit, at }),
        }
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    /// Called at the start of a value that is not a string; in a dictionary a key must precede it.
    fn begin_value(&mut self) -> Result<(), BencodeError> {
        let at = self.at();
        let Some(frame) = self.top() else { return Ok(()) };
        match *frame {
            Container::Key(_) => return Err(BencodeError::Key { at }),
            Container::Value(key) => *frame = Container::Key(Some(key)),
            Container::List => {}
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), BencodeError> {
        let start = self.at();
        let digits = self.digits(start, b':')?;
        self.unusual(!matches!(digits, [b'0', _, ..]), start)?;
        let text = length(digits).and_then(|len| self.rest.split_at_checked(len));
        let (text, rest) = text.ok_or(BencodeError::StringTooLong { at: start })?;
        self.rest = rest;
        self.name_or_value(text)
    }

    /// A string is a key or a value, depending on its place.
    fn name_or_value(&mut self, text: &'a [u8]) -> Result<(), BencodeError> {
        let strict = self.rules.strict;
        let Some(frame) = self.top() else { return Ok(()) };
        match *frame {
            Container::Key(previous) => {
                *frame = Container::Value(text);
                if strict && previous == Some(text) {
                    return Err(BencodeError::duplicate(text));
                }
                self.is_canonical &= previous.is_none_or(|p| p < text);
            }
            Container::Value(key) => *frame = Container::Key(Some(key)),
            Container::List => {}
        }
        Ok(())
    }

    fn integer(&mut self) -> Result<(), BencodeError> {
        let start = self.at();
        let written = self.rest;
        let (sign, after) = match self.rest {
            [sign @ (b'+' | b'-'), after @ ..] => (Some(*sign), after),
            after => (None, after),
        };
        self.rest = after;
        let digits = self.digits(start, b'e')?;
        let plain = match (sign, digits) {
            (_, []) => return Err(BencodeError::Number { at: start }),
            (Some(b'-'), [b'0', ..]) | (Some(b'+'), _) | (_, [b'0', _, ..]) => false,
            _ => true,
        };
        self.unusual(plain, start)?;
        let number = written.split(|b| *b == b'e').next().unwrap_or_default();
        if self.rules.strict && Value::parse_int(number).is_none() {
            return Err(BencodeError::Number { at: start });
        }
        Ok(())
    }

    /// Reads digits, possibly none, and the byte `end` behind them.
    fn digits(&mut self, start: usize, end: u8) -> Result<&'a [u8], BencodeError> {
        let count = self.rest.iter().position(|b| !b.is_ascii_digit()).ok_or(self.truncated())?;
        let (digits, after) = self.rest.split_at(count);
        self.rest = after.strip_prefix(&[end]).ok_or(BencodeError::Number { at: start })?;
        Ok(digits)
    }

    /// A number in unusual form: strict rules refuse it, otherwise [`super::canonicalize`] rewrites it.
    fn unusual(&mut self, plain: bool, at: usize) -> Result<(), BencodeError> {
        if !plain && self.rules.strict {
            return Err(BencodeError::Number { at });
        }
        self.is_canonical &= plain;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANT: Rules = Rules { depth: 4, tokens: 100, strict: false };
    const STRICT: Rules = Rules { strict: true, ..TOLERANT };

    fn is_canonical(text: &str) -> bool {
        scan(text.as_bytes(), &TOLERANT).unwrap().is_canonical
    }

    #[test]
    fn finds_a_value_and_the_bytes_after_it() {
        for text in ["i0e", "i-7e", "0:", "3:abc", "le", "de", "d1:ai1e1:bl1:xee"] {
            let padded = format!("{text}\n");
            let got = scan(padded.as_bytes(), &STRICT).unwrap();
            assert!(got.is_canonical, "{text}");
            assert_eq!((got.value.raw(), got.rest), (text.as_bytes(), &b"\n"[..]));
        }
    }

    #[test]
    fn accepts_values_that_are_not_canonical_and_says_so() {
        for text in ["d1:bi1e1:ai1ee", "d1:ai1e1:ai2ee", "i007e", "i-0e", "i+5e", "05:hello"] {
            assert!(!is_canonical(text), "{text}");
        }
    }

    #[test]
    fn strict_rules_refuse_repeated_keys_and_unusual_numbers() {
        for text in ["d1:ai1e1:ai2ee", "i007e", "i-0e", "i+5e", "05:hello", "i9223372036854775808e"] {
            assert!(scan(text.as_bytes(), &STRICT).is_err(), "{text}");
        }
        assert!(scan(b"d1:bi1e1:ai1ee", &STRICT).is_ok(), "strict rules accept any order");
    }

    #[test]
    fn reports_the_position_of_an_error() {
        use BencodeError::*;
        for (text, error) in [
            ("", Empty),
            ("i12", Truncated { at: 3 }),
            ("l", Truncated { at: 1 }),
            ("x", Unexpected { byte: b'x', at: 0 }),
            ("e", Unexpected { byte: b'e', at: 0 }),
            ("5:abc", StringTooLong { at: 0 }),
            ("18446744073709551615:a", StringTooLong { at: 0 }),
            ("99999999999999999999999:a", StringTooLong { at: 0 }),
            ("ie", Number { at: 1 }),
            ("i-e", Number { at: 1 }),
            ("i1.5e", Number { at: 1 }),
            ("di1ei2ee", Key { at: 1 }),
            ("d1:ae", MissingValue { at: 4 }),
            ("lllllee", TooDeep { limit: 4, at: 4 }),
        ] {
            assert_eq!(scan(text.as_bytes(), &TOLERANT).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn limits_the_number_of_tokens() {
        let many = format!("l{}e", "i1e".repeat(99));
        assert_eq!(scan(many.as_bytes(), &TOLERANT).unwrap_err(), BencodeError::TooManyTokens { limit: 100 });
    }
}
