//! Parses and prints sizes, durations and shares, parses file selections and matches globs.
//!
//! Parsing is strict: a typo is an error, never another number. Printed numbers have few digits.

use std::collections::BTreeSet;
use std::time::Duration;

/// Parses bytes from `1048576`, `512K`, `1.5M`, `2G`, `1T`. Suffixes are powers of 1024; `KiB`, `KB` and `K`
/// mean the same.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("'{text}' is not a size like 512K, 1.5M or 2G")),
    };
    let bad = || format!("'{text}' is not a size like 512K, 1.5M or 2G");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"));
    }
    let value = number.parse::<f64>().map_err(|_| bad())?;
    let bytes = value * (1u64 << shift) as f64;
    if shift == 0 || !bytes.is_finite() || bytes >= u64::MAX as f64 { Err(bad()) } else { Ok(bytes as u64) }
}

/// Parses a time like `90s`, `5m`, `2h`, `1d` or `1h30m`. A bare number is in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_time(text, 1.0)
}

/// Parses a time like [`parse_duration`]. A bare number is in minutes.
pub(crate) fn parse_minutes(text: &str) -> Result<Duration, String> {
    parse_time(text, 60.0)
}

/// Units of times, from long to short, in seconds.
const TIME_UNITS: [(&str, f64); 5] = [("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];

/// Parses numbers with units, each unit shorter than the one before, or one number without a unit.
fn parse_time(text: &str, bare_unit_s: f64) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time like 90s, 5m, 2h, 1d or 1h30m");
    let plain = |number: &str| {
        let digits = number.bytes().any(|b| b.is_ascii_digit())
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        number.parse::<f64>().ok().filter(|_| digits).ok_or_else(bad)
    };
    let mut seconds = 0.0;
    let mut units = TIME_UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_s = if unit.is_empty() && rest.len() == text.len() {
            bare_unit_s
        } else {
            // A unit that was passed over does not come back.
            units.find(|(name, _)| *name == unit).ok_or_else(bad)?.1
        };
        seconds += plain(number)? * unit_s;
        rest = tail;
    }
    let found = Duration::try_from_secs_f64(seconds).ok().filter(|d| d.as_secs() < 1 << 40);
    found.ok_or_else(|| format!("'{text}' is too long a time"))
}

/// File numbers as in `1-3,7`: one-based as `rill show` prints them, both ends included; `5-` means up to the
/// last file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<(usize, usize)>);

impl Selection {
    /// Parses a selection.
    pub(crate) fn parse(text: &str) -> Result<Selection, String> {
        let bad = || format!("'{text}' is not a list of file numbers like 1-3,7");
        let number = |t: &str| t.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(bad);
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.trim().split_once('-') {
                None => (number(part.trim())?, number(part.trim())?),
                Some((first, "")) => (number(first)?, usize::MAX),
                Some((first, last)) => (number(first)?, number(last)?),
            };
            if last < first {
                return Err(bad());
            }
            ranges.push((first, last));
        }
        Ok(Selection(ranges))
    }

    /// Adds the zero-based indices of the selected files to `into`.
    ///
    /// # Errors
    ///
    /// A selected number is greater than `files`.
    pub(crate) fn pick(&self, files: usize, into: &mut BTreeSet<usize>) -> Result<(), String> {
        for &(first, last) in &self.0 {
            let last_named = if last == usize::MAX { first } else { last };
            if last_named > files {
                return Err(format!("--select names file {last_named}, but there are only {files}"));
            }
            into.extend(first - 1..last.min(files));
        }
        Ok(())
    }
}

/// Returns whether `text` matches the shell pattern: `*` matches any run, `?` any character, `[a-z]` and
/// `[!a-z]` a set. Needs linear memory and at most quadratic time for every pattern.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let mut p = 0;
    let mut t = 0;
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if let Some(next) = glob_one(&pattern, p, text[t]) {
            p = next;
            t += 1;
        } else if let Some((at, from)) = star {
            // Backtrack: the last star matches one character more.
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Returns the index after the pattern's element at `p` if that element matches `c`.
fn glob_one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => {
            let negated = matches!(pattern.get(p + 1), Some('!' | '^'));
            let first = p + 1 + usize::from(negated);
            let Some(len) = pattern.get(first + 1..).and_then(|rest| rest.iter().position(|c| *c == ']'))
            else {
                return (c == '[').then_some(p + 1);
            };
            let set = &pattern[first..first + 1 + len];
            let mut hit = false;
            let mut i = 0;
            while i < set.len() {
                if i + 2 < set.len() && set[i + 1] == '-' {
                    hit |= (set[i]..=set[i + 2]).contains(&c);
                    i += 3;
                } else {
                    hit |= set[i] == c;
                    i += 1;
                }
            }
            (hit != negated).then_some(first + len + 2)
        }
        literal => (literal == c).then_some(p + 1),
    }
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

fn unit_of(bytes: u64) -> usize {
    let mut unit = 0;
    // 1023.95 would print as 1024.0: move up a unit before that.
    while unit + 1 < UNITS.len() && bytes as f64 >= 1023.95 * (1u64 << (10 * unit)) as f64 {
        unit += 1;
    }
    unit
}

fn in_unit(bytes: u64, unit: usize) -> String {
    if unit == 0 { format!("{bytes}") } else { format!("{:.1}", bytes as f64 / (1u64 << (10 * unit)) as f64) }
}

/// Formats bytes, as in `9.8 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let unit = unit_of(bytes);
    format!("{} {}", in_unit(bytes, unit), UNITS[unit])
}

/// Formats bytes without rounding: `1 MiB` or `16 KiB` if it divides evenly, else bytes.
pub(crate) fn exact(bytes: u64) -> String {
    match bytes {
        b if b > 0 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b > 0 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

/// Formats a part of a total, as in `1.2/9.8 GiB`, in the unit of the total.
pub(crate) fn size_of(have: u64, all: u64) -> String {
    let unit = unit_of(all);
    format!("{}/{} {}", in_unit(have, unit), in_unit(all, unit), UNITS[unit])
}

/// Formats a rate, as in `12.1 MiB/s`.
pub(crate) fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", size(bytes_per_s))
}

/// Formats a duration in at most two units: `42s`, `4m10s`, `3h05m`, `2d04h`.
pub(crate) fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ if s / 86400 < 1000 => format!("{}d{:02}h", s / 86400, s / 3600 % 24),
        _ => "years".to_string(),
    }
}

/// Formats the duration of a finished work: as [`duration`], with tenths below ten seconds.
pub(crate) fn took(d: Duration) -> String {
    if d < Duration::from_millis(9950) { format!("{:.1}s", d.as_secs_f64()) } else { duration(d) }
}

/// Formats a rate in at most eleven columns: the unit changes at 1000, not at 1024.
pub(crate) fn short_rate(bytes_per_s: u64) -> String {
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes_per_s as f64 >= 999.95 * (1u64 << (10 * unit)) as f64 {
        unit += 1;
    }
    format!("{} {}/s", in_unit(bytes_per_s, unit), UNITS[unit])
}

/// Formats a part of a total as [`size_of`] does, in the same number of columns for every part.
pub(crate) fn padded_size_of(have: u64, all: u64) -> String {
    let unit = unit_of(all);
    let all = in_unit(all, unit);
    format!("{:>columns$}/{all} {}", in_unit(have, unit), UNITS[unit], columns = all.len())
}

/// Formats a share, as in `12.3%`; rounds down, so that 100% means complete.
pub(crate) fn percent(have: u64, all: u64) -> String {
    if have >= all {
        return "100%".to_string();
    }
    let tenths = (u128::from(have) * 1000 / u128::from(all)) as u64;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_suffixes_that_people_type() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("512K", 512 << 10), ("512k", 512 << 10), ("1.5M", 3 << 19)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, bytes) in
            [("2G", 2 << 30), ("1T", 1 << 40), ("4MiB", 4 << 20), ("4 MB", 4 << 20), ("7b", 7)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_mistyped_size_is_an_error_and_not_another_number() {
        for text in [
            "",
            "K",
            "-1",
            "+1",
            "1.5",
            "1,5M",
            "1X",
            "1e3",
            "99999999999999999999",
            "20000000T",
            "1.2.3M",
            ".K",
            "1K2",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn s11_times_take_units_and_a_bare_number_keeps_its_meaning() {
        for (text, s) in [
            ("90", 90.0),
            ("90s", 90.0),
            ("15m", 900.0),
            ("2h", 7200.0),
            ("1d", 86400.0),
            ("1h30m", 5400.0),
            ("1d2h3m4s5ms", 93784.005),
            ("1.5h", 5400.0),
            ("0.5", 0.5),
            ("0", 0.0),
            ("20ms", 0.02),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(s)), "{text}");
        }
        for (text, s) in [("90", 5400), ("0.5", 30), ("90s", 90), ("2h", 7200), ("1h30m", 5400)] {
            assert_eq!(parse_minutes(text), Ok(Duration::from_secs(s)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "+1",
            "1w",
            "inf",
            "nan",
            "1e9",
            "5 m",
            "é",
            "ms",
            "5sm",
            "30m1h",
            "1h1h",
            "1h30",
            ".",
            "1.2.3",
            "1hm",
            "99999999999999999999d",
            "99999999999999999999",
            "0x10",
            "1,5h",
            "1H",
        ] {
            assert!(parse_duration(text).is_err() && parse_minutes(text).is_err(), "{text}");
        }
        assert!(parse_duration(&"9".repeat(100_000)).is_err());
    }

    #[test]
    fn selections_count_from_one_and_include_both_ends() {
        let pick = |text: &str, files| {
            let mut set = BTreeSet::new();
            Selection::parse(text)
                .and_then(|s| s.pick(files, &mut set))
                .map(|()| set.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(pick("1-3,7", 7), Ok(vec![0, 1, 2, 6]));
        assert_eq!(pick("5-", 6), Ok(vec![4, 5]));
        assert_eq!(pick("2,2,1-2", 2), Ok(vec![0, 1]));
        for (text, files) in
            [("8", 7), ("1-8", 7), ("9-", 7), ("0", 7), ("3-1", 7), ("", 7), ("a", 7), ("1,,2", 7), ("-3", 7)]
        {
            assert!(pick(text, files).is_err(), "{text}");
        }
        assert!(pick("1-4294967295", 7).is_err());
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text) in [
            ("*.mkv", "a.mkv"),
            ("?b*", "abc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("a*b*c", "axxbyyc"),
            ("[", "["),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("*.mkv", "a.mkv.txt"), ("?", ""), ("[a-c]x", "dx"), ("a*b", "acbd"), ("", "a"), ("[!a]", "a")]
        {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        assert!(glob("[]]", "]") && glob("*", ""));
    }

    #[test]
    fn a_glob_with_many_stars_ends_in_quadratic_time() {
        assert!(!glob(
            &"*a".repeat(50),
            &"a".repeat(5000).replace("aaaaaaaaaa", "aaaaaaaaab")[..].replace('a', "c")
        ));
        assert!(!glob(&format!("{}b", "a*".repeat(200)), &"a".repeat(4000)));
    }

    #[test]
    fn sizes_rates_durations_and_shares_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(size_of(1 << 20, 10 << 30), "0.0/10.0 GiB");
        assert_eq!(rate(12_687_769), "12.1 MiB/s");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
        assert_eq!(duration(Duration::from_secs(250)), "4m10s");
        assert_eq!(duration(Duration::from_secs(u64::MAX)), "years");
        assert_eq!(percent(999_999, 1_000_000), "99.9%");
        assert_eq!(percent(0, 0), "100%");
        assert_eq!(percent(u64::MAX - 1, u64::MAX), "99.9%");
    }

    #[test]
    fn rates_of_the_live_display_keep_their_columns() {
        for (rate, text) in [(0, "0 B/s"), (999, "999 B/s"), (1000, "1.0 KiB/s"), (1_023_999, "1.0 MiB/s")] {
            assert_eq!(short_rate(rate), text);
        }
        assert!((0..4000).all(|n| short_rate(n * 77_777).len() <= 11));
        assert_eq!(padded_size_of(1 << 20, 100 << 20), "  1.0/100.0 MiB");
        assert_eq!(took(Duration::from_millis(640)), "0.6s");
        assert_eq!(took(Duration::from_secs(250)), "4m10s");
    }

    #[test]
    fn piece_lengths_are_not_rounded() {
        assert_eq!(exact(1 << 20), "1 MiB");
        assert_eq!(exact(16 << 10), "16 KiB");
        assert_eq!(exact(1_000_000), "1000000 bytes");
    }
}
