//! Writes JSON objects and arrays, each on one line.
//!
//! Control characters in strings are escaped as `\u00XX`, so that a string cannot break the line. A JSON
//! crate would add 47 KB to the binary; rill prints a few flat objects.

use std::fmt::Write;

/// One JSON object under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    text: String,
}

impl Object {
    /// Returns an empty object.
    pub(crate) fn new() -> Object {
        Object::default()
    }

    fn key(&mut self, key: &str) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        push_string(&mut self.text, key);
        self.text.push(':');
    }

    /// Adds a string.
    pub(crate) fn str(mut self, key: &str, value: &str) -> Object {
        self.key(key);
        push_string(&mut self.text, value);
        self
    }

    /// Adds a whole number.
    pub(crate) fn num(mut self, key: &str, value: u64) -> Object {
        self.key(key);
        let _ = write!(self.text, "{value}");
        self
    }

    /// Adds a whole number, or `null`.
    pub(crate) fn opt(self, key: &str, value: Option<u64>) -> Object {
        match value {
            Some(value) => self.num(key, value),
            None => self.raw(key, "null"),
        }
    }

    /// Adds a number with three decimals.
    pub(crate) fn dec(mut self, key: &str, value: f64) -> Object {
        self.key(key);
        let value = if value.is_finite() { value } else { 0.0 };
        let _ = write!(self.text, "{value:.3}");
        self
    }

    /// Adds a boolean.
    pub(crate) fn bool(self, key: &str, value: bool) -> Object {
        self.raw(key, if value { "true" } else { "false" })
    }

    /// Adds a value that is JSON already.
    pub(crate) fn raw(mut self, key: &str, value: &str) -> Object {
        self.key(key);
        self.text.push_str(value);
        self
    }

    /// Adds an array of values that are JSON already.
    pub(crate) fn list(self, key: &str, values: impl IntoIterator<Item = String>) -> Object {
        self.raw(key, &array(values))
    }

    /// Returns the object as one line without a newline.
    pub(crate) fn end(mut self) -> String {
        if self.text.is_empty() {
            self.text.push('{');
        }
        self.text.push('}');
        self.text
    }
}

/// Returns an array of values that are JSON already.
pub(crate) fn array(values: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", values.into_iter().collect::<Vec<_>>().join(","))
}

/// Returns a string as JSON.
pub(crate) fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    push_string(&mut text, value);
    text
}

fn push_string(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            // Control characters, and two Unicode line separators at which some readers split
            // lines.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_line_whatever_its_strings_hold() {
        let line = Object::new()
            .str("name", "a\"\\\n\r\u{1b}[2J\u{9b}é")
            .num("n", u64::MAX)
            .opt("eta", None)
            .bool("ok", true)
            .end();
        assert_eq!(
            line,
            r#"{"name":"a\"\\\n\u000d\u001b[2J\u009bé","n":18446744073709551615,"eta":null,"ok":true}"#
        );
        assert!(!line.chars().any(char::is_control));
    }

    #[test]
    fn numbers_and_lists_are_valid_json() {
        let line = Object::new()
            .dec("x", f64::NAN)
            .dec("y", 1.0 / 3.0)
            .list("l", ["1".to_string(), string("two")])
            .end();
        assert_eq!(line, r#"{"x":0.000,"y":0.333,"l":[1,"two"]}"#);
        assert_eq!(Object::new().end(), "{}");
    }
}
