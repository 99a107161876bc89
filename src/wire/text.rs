//! Other people's text, made fit for a terminal, a log and a person's eye.
//!
//! What comes out holds no control byte, no escape, nothing invisible and nothing that turns the direction of
//! writing, and is never longer than asked. It is for showing: nothing is looked up or opened by it.

/// The mark that says "there was more".
const CUT: char = '…';

/// `text` without anything that a terminal would obey or an eye would miss, at most `max_chars` characters long.
///
/// Bytes that are not UTF-8 show as U+FFFD; line breaks and tabs become one space; other control characters go.
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

/// The characters of `bytes`, with U+FFFD for every run that is not UTF-8. Lazy: reads no further than it is asked to.
pub(super) fn lossy_chars(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    bytes.utf8_chunks().flat_map(|part| {
        let bad = (!part.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        part.valid().chars().chain(bad)
    })
}

/// Whether `c` takes no room on the screen or turns the text around it: zero-width attributes, direction attributes,
/// soft hyphens, line separators, fillers, tags. Variation selectors stay, since emoji need them.
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
    fn escapes_and_marks_never_reach_the_terminal() {
        assert_eq!(printable("\x1b[31mred\x07\u{9b}2J\u{202e}fdp.exe\u{200b}", 99), "[31mred2Jfdp.exe");
    }

    #[test]
    fn line_breaks_become_one_space() {
        assert_eq!(printable("  a\r\n\tb\u{2028}c \n", 99), "a b c");
    }

    #[test]
    fn long_text_is_cut_with_a_mark() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde…");
        assert_eq!(printable("abc", 0), "");
    }

    #[test]
    fn bytes_that_are_not_text_are_shown_as_such() {
        assert_eq!(printable(b"a\xffb\xc0\xaf", 99), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(printable(vec![0u8; 1 << 20], 99), "");
    }
}
