//! One pass over bytes that claim to be bencode: is there a whole value, how long is it, is it in order?
//!
//! Invariants: no recursion, no allocation, time linear in the input; a string's length is compared with what is
//! there and never allocated. Never interprets: meaning is the business of [`super::Shape`]s.

use super::Value;
use crate::wire::text::printable;
use thiserror::Error;

/// Why bytes are not taken as bencode. Positions count from the start of what was scanned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BencodeError {
    /// No byte at all.
    #[error("there is nothing in it")]
    Empty,
    /// The end came inside a value.
    #[error("it ends in the middle of a value, at byte {at}")]
    Truncated {
        /// Length of the input.
        at: usize,
    },
    /// A byte that starts no token.
    #[error("byte {byte:#04x} at {at} does not belong there")]
    Unexpected {
        /// The byte.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// A string that claims more bytes than there are.
    #[error("the string at byte {at} claims to be longer than everything that follows")]
    StringTooLong {
        /// Where the string starts.
        at: usize,
    },
    /// A number that is none, or that strict rules refuse.
    #[error("the number at byte {at} is not written as a number must be")]
    Number {
        /// Where the number starts.
        at: usize,
    },
    /// A dictionary key that is not a string.
    #[error("the dictionary key at byte {at} is not a string")]
    Key {
        /// Where the key starts.
        at: usize,
    },
    /// A dictionary that ends after a key.
    #[error("the dictionary that ends at byte {at} lacks its last value")]
    MissingValue {
        /// Where the dictionary ends.
        at: usize,
    },
    /// A key twice where that is refused.
    #[error("the key `{key}` stands there twice")]
    DuplicateKey {
        /// The key, fit for showing.
        key: String,
    },
    /// More nesting than the rules allow.
    #[error("it is nested more than {limit} deep, at byte {at}")]
    TooDeep {
        /// What is allowed.
        limit: usize,
        /// Where it went too far.
        at: usize,
    },
    /// More tokens than the rules allow.
    #[error("it has more than {limit} parts")]
    TooManyTokens {
        /// What is allowed.
        limit: usize,
    },
}

impl BencodeError {
    pub(super) fn duplicate(key: &[u8]) -> BencodeError {
        BencodeError::DuplicateKey { key: printable(key, 40) }
    }
}

/// How much is taken, and how strictly.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Levels of nesting, at most [`Rules::MAX_DEPTH`].
    pub depth: usize,
    /// Keys, values and ends, all counted.
    pub tokens: usize,
    /// Whether repeated keys and unusual numbers are refused.
    pub strict: bool,
}

impl Rules {
    /// The deepest that the scanner's fixed stack goes.
    pub const MAX_DEPTH: usize = 32;
}

/// A whole value and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Scanned<'a> {
    /// The value.
    pub value: Value<'a>,
    /// Bytes behind it.
    pub rest: &'a [u8],
    /// Whether bendy would take it as it stands: keys ascending, numbers plain.
    pub tidy: bool,
}

/// What the scanner stands in.
#[derive(Clone, Copy)]
enum Frame<'a> {
    List,
    /// A dictionary before a key; the key before that one.
    Key(Option<&'a [u8]>),
    /// A dictionary before the value of this key.
    Value(&'a [u8]),
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    tidy: bool,
    rules: Rules,
    stack: [Frame<'a>; Rules::MAX_DEPTH],
    depth: usize,
}

/// Finds the one value that `bytes` start with and checks all of it against `rules`.
pub fn scan<'a>(bytes: &'a [u8], rules: &Rules) -> Result<Scanned<'a>, BencodeError> {
    if bytes.is_empty() {
        return Err(BencodeError::Empty);
    }
    debug_assert!(rules.depth <= Rules::MAX_DEPTH);
    let mut s = Scanner { bytes, at: 0, tidy: true, rules: *rules, stack: [Frame::List; Rules::MAX_DEPTH], depth: 0 };
    for _ in 0..rules.tokens {
        s.token()?;
        if s.depth == 0 {
            let (value, rest) = bytes.split_at(s.at);
            return Ok(Scanned { value: Value::checked(value), rest, tidy: s.tidy });
        }
    }
    Err(BencodeError::TooManyTokens { limit: rules.tokens })
}

impl<'a> Scanner<'a> {
    fn token(&mut self) -> Result<(), BencodeError> {
        let at = self.at;
        match self.peek()? {
            b'e' if self.depth > 0 => self.end(),
            b'0'..=b'9' => self.string(),
            byte @ (b'i' | b'l' | b'd') => {
                self.begin_value()?;
                self.at += 1;
                match byte {
                    b'i' => self.integer(),
                    b'l' => self.push(Frame::List),
                    _ => self.push(Frame::Key(None)),
                }
            }
            byte => Err(BencodeError::Unexpected { byte, at }),
        }
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.bytes.get(self.at).copied().ok_or(BencodeError::Truncated { at: self.bytes.len() })
    }

    fn top(&mut self) -> Option<&mut Frame<'a>> {
        self.stack[..self.depth].last_mut()
    }

    fn push(&mut self, frame: Frame<'a>) -> Result<(), BencodeError> {
        let limit = self.rules.depth;
        if self.depth == limit {
            return Err(BencodeError::TooDeep { limit, at: self.at - 1 });
        }
        self.stack[self.depth] = frame;
        self.depth += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), BencodeError> {
        if let Some(Frame::Value(_)) = self.top() {
            return Err(BencodeError::MissingValue { at: self.at });
        }
        self.depth -= 1;
        self.at += 1;
        Ok(())
    }

    /// A value that is not a string starts here; a dictionary must have named it.
    fn begin_value(&mut self) -> Result<(), BencodeError> {
        let at = self.at;
        match self.top() {
            Some(Frame::Key(_)) => return Err(BencodeError::Key { at }),
            Some(frame @ Frame::Value(_)) => {
                let Frame::Value(key) = *frame else { unreachable!("matched above") };
                *frame = Frame::Key(Some(key));
            }
            Some(Frame::List) | None => {}
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), BencodeError> {
        let start = self.at;
        let mut len = 0u64;
        while self.peek()? != b':' {
            let digit = self.digit(start)?;
            let too_long = BencodeError::StringTooLong { at: start };
            len = len.checked_mul(10).and_then(|l| l.checked_add(digit)).ok_or(too_long)?;
        }
        let plain = self.bytes[start] != b'0' || self.at - start == 1;
        self.unusual(plain, start)?;
        let body = &self.bytes[self.at + 1..];
        let text = usize::try_from(len).ok().and_then(|len| body.get(..len)).ok_or(BencodeError::StringTooLong { at: start })?;
        self.at += 1 + text.len();
        self.name_or_value(text)
    }

    /// A string is a key or a value, by where it stands.
    fn name_or_value(&mut self, text: &'a [u8]) -> Result<(), BencodeError> {
        let strict = self.rules.strict;
        let mut in_order = true;
        match self.top() {
            Some(frame @ Frame::Key(_)) => {
                let Frame::Key(previous) = *frame else { unreachable!("matched above") };
                *frame = Frame::Value(text);
                if strict && previous == Some(text) {
                    return Err(BencodeError::duplicate(text));
                }
                in_order = previous.is_none_or(|p| p < text);
            }
            Some(frame @ Frame::Value(_)) => {
                let Frame::Value(key) = *frame else { unreachable!("matched above") };
                *frame = Frame::Key(Some(key));
            }
            Some(Frame::List) | None => {}
        }
        self.tidy &= in_order;
        Ok(())
    }

    fn integer(&mut self) -> Result<(), BencodeError> {
        let start = self.at;
        if matches!(self.peek()?, b'+' | b'-') {
            self.at += 1;
        }
        let digits = self.at;
        while self.peek()? != b'e' {
            self.digit(start)?;
        }
        let number = &self.bytes[start..self.at];
        if self.at == digits {
            return Err(BencodeError::Number { at: start });
        }
        let leading_zero = self.bytes[digits] == b'0' && (number[0] == b'-' || self.at - digits > 1);
        self.unusual(!leading_zero && number[0] != b'+', start)?;
        if self.rules.strict && Value::parse_int(number).is_none() {
            return Err(BencodeError::Number { at: start });
        }
        self.at += 1;
        Ok(())
    }

    fn digit(&mut self, start: usize) -> Result<u64, BencodeError> {
        let byte = self.peek()?;
        if !byte.is_ascii_digit() {
            return Err(BencodeError::Number { at: start });
        }
        self.at += 1;
        Ok(u64::from(byte - b'0'))
    }

    /// A number that is not written plainly: refused by strict rules, otherwise written anew by [`super::tidy`].
    fn unusual(&mut self, plain: bool, at: usize) -> Result<(), BencodeError> {
        if !plain && self.rules.strict {
            return Err(BencodeError::Number { at });
        }
        self.tidy &= plain;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOSE: Rules = Rules { depth: 4, tokens: 100, strict: false };
    const STRICT: Rules = Rules { strict: true, ..LOOSE };

    fn is_tidy(text: &str) -> bool {
        scan(text.as_bytes(), &LOOSE).unwrap().tidy
    }

    #[test]
    fn plain_values_are_found_with_what_follows_them() {
        for text in ["i0e", "i-7e", "0:", "3:abc", "le", "de", "d1:ai1e1:bl1:xee"] {
            let padded = format!("{text}\n");
            let got = scan(padded.as_bytes(), &STRICT).unwrap();
            assert!(got.tidy, "{text}");
            assert_eq!((got.value.raw(), got.rest), (text.as_bytes(), &b"\n"[..]));
        }
    }

    #[test]
    fn what_bendy_would_refuse_is_taken_and_marked() {
        for text in ["d1:bi1e1:ai1ee", "d1:ai1e1:ai2ee", "i007e", "i-0e", "i+5e", "05:hello"] {
            assert!(!is_tidy(text), "{text}");
        }
    }

    #[test]
    fn strict_rules_refuse_repeated_keys_and_unusual_numbers() {
        for text in ["d1:ai1e1:ai2ee", "i007e", "i-0e", "i+5e", "05:hello", "i9223372036854775808e"] {
            assert!(scan(text.as_bytes(), &STRICT).is_err(), "{text}");
        }
        assert!(scan(b"d1:bi1e1:ai1ee", &STRICT).is_ok(), "order is free even there");
    }

    #[test]
    fn broken_values_are_named_with_their_place() {
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
            assert_eq!(scan(text.as_bytes(), &LOOSE).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn tokens_are_counted() {
        let many = format!("l{}e", "i1e".repeat(99));
        assert_eq!(scan(many.as_bytes(), &LOOSE).unwrap_err(), BencodeError::TooManyTokens { limit: 100 });
    }
}
