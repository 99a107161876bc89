//! Sanitizes text from torrents, trackers and peers before it is shown on a terminal or in a log.
//!
//! The result has no control characters, no escape sequences, no invisible characters and no marks that
//! change the writing direction, and has a bounded length. It is for display only and is never used as a
//! path, a host name or a key.

/// Ends a text that was cut.
const CUT: char = '…';

/// Returns `text` without control and invisible characters, at most `max_chars` characters long.
///
/// Bytes that are not UTF-8 become U+FFFD, line breaks and tabs one space; other control characters are
/// removed.
pub fn printable(text: impl AsRef<[u8]>, max_chars: usize) -> String {
    let mut shown = String::new();
    let mut chars = 0usize;
    for c in lossy_chars(text.as_ref()) {
        let c = if matches!(c, '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if c.is_control() || is_invisible(c) || (c == ' ' && (shown.is_empty() || shown.ends_with(' '))) {
            continue;
        }
        if chars == max_chars {
            if shown.pop().is_some() {
                shown.push(CUT);
            }
            break;
        }
        shown.push(c);
        chars = chars.saturating_add(1);
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// Returns the characters of `bytes`, with U+FFFD for each run that is not UTF-8. Lazy, so that a long text
/// is read only as far as needed.
pub(super) fn lossy_chars(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    bytes.utf8_chunks().flat_map(|part| {
        let bad = (!part.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        part.valid().chars().chain(bad)
    })
}

/// Returns whether `c` has no width or changes the direction of the text around it: zero-width marks,
/// direction marks, soft hyphens, line separators, fillers, tags. Variation selectors do not count, because
/// emoji need them.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_escapes_and_invisible_marks() {
        assert_eq!(printable("\x1b[31mred\x07\u{9b}2J\u{202e}fdp.exe\u{200b}", 99), "[31mred2Jfdp.exe");
    }

    #[test]
    fn turns_line_breaks_into_one_space() {
        assert_eq!(printable("  a\r\n\tb\u{2028}c \n", 99), "a b c");
    }

    #[test]
    fn cuts_long_text_with_an_ellipsis() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde…");
        assert_eq!(printable("abc", 0), "");
    }

    #[test]
    fn replaces_bytes_that_are_not_utf8() {
        assert_eq!(printable(b"a\xffb\xc0\xaf", 99), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(printable(vec![0u8; 1 << 20], 99), "");
    }
}
