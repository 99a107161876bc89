//! Lists of sources, `--input-file`: one source a line.
//!
//! Blanks around a source, empty lines, lines that begin with `#`, a byte order mark and the line ends of
//! Windows are ignored. Size, line length and number of sources are bounded.

use super::exit::{Exit, Failure};
use super::source::{SourceArg, shown};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest list, in bytes.
const MAX_LIST_BYTES: usize = 16 << 20;
/// Longest line, in bytes. Magnet links with many trackers have a few thousand.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Most sources of a list.
const MAX_SOURCES: usize = 100_000;

/// A source of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSource {
    /// The source.
    pub(crate) source: SourceArg,
    /// Where it was read, as in `list.txt, line 3`.
    pub(crate) origin: String,
}

/// Reads a list; `-` is standard input.
///
/// # Errors
/// The file cannot be read or is too large; a line is too long, not UTF-8, or `-`; there is no source.
pub(crate) fn read(path: &Path) -> Result<Vec<ListedSource>, Failure> {
    if path == Path::new("-") {
        let name = "standard input";
        return parse(name, &read_all(name, io::stdin().lock())?);
    }
    let name = shown(path);
    let file = File::open(path).map_err(|e| Failure::os(Exit::Open, &name, &e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Failure::new(Exit::Open, format!("{name}: is a directory, not a list of sources")));
    }
    parse(&name, &read_all(&name, file)?)
}

fn read_all(name: &str, from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_LIST_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| Failure::os(Exit::Io, name, &e))?;
    if bytes.len() > MAX_LIST_BYTES {
        return Err(bad(format!("{name}: larger than {} MiB", MAX_LIST_BYTES >> 20)));
    }
    Ok(bytes)
}

fn parse(name: &str, list: &[u8]) -> Result<Vec<ListedSource>, Failure> {
    let list = list.strip_prefix(b"\xef\xbb\xbf").unwrap_or(list);
    let mut sources = Vec::new();
    for (line, number) in list.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let origin = format!("{name}, line {number}");
        if line.len() > MAX_LINE_BYTES {
            return Err(bad(format!("{origin}: longer than {} KiB", MAX_LINE_BYTES >> 10)));
        }
        let text = std::str::from_utf8(line).map_err(|_| bad(format!("{origin}: not UTF-8")))?;
        let source = SourceArg::parse(text);
        if source == SourceArg::Stdin {
            return Err(bad(format!("{origin}: standard input cannot be a source of a list")));
        }
        if sources.len() == MAX_SOURCES {
            return Err(bad(format!("{origin}: more than {MAX_SOURCES} sources")));
        }
        sources.push(ListedSource { source, origin });
    }
    if sources.is_empty() { Err(bad(format!("{name}: no source in the list"))) } else { Ok(sources) }
}

fn bad(sentence: String) -> Failure {
    Failure::new(Exit::Option, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s17_a_list_of_sources_is_read_with_comments_empty_lines_and_foreign_line_ends() {
        let list =
            b"\xef\xbb\xbf# a comment\r\nb.torrent\r\n\r\n  magnet:?xt=urn:btih:00 \n#\n \nc d.torrent";
        let found = parse("list", list).unwrap();
        let found: Vec<_> = found.into_iter().map(|listed| (listed.source, listed.origin)).collect();
        let file = |name: &str| SourceArg::File(name.into());
        let magnet = SourceArg::Magnet("magnet:?xt=urn:btih:00".into());
        let expected = [(file("b.torrent"), 2), (magnet, 4), (file("c d.torrent"), 7)];
        assert_eq!(found, expected.map(|(source, line)| (source, format!("list, line {line}"))));
    }

    #[test]
    fn s17_a_bad_list_of_sources_is_refused_with_its_line() {
        let long = [b"a\n".as_slice(), &vec![b'x'; MAX_LINE_BYTES + 1]].concat();
        let many = b"a\n".repeat(MAX_SOURCES + 1);
        for (list, sentence) in [
            (&b"a\n\xff\n"[..], "list, line 2: not UTF-8".to_string()),
            (b"#\na\n-\n", "list, line 3: standard input cannot be a source of a list".into()),
            (&long, "list, line 2: longer than 64 KiB".into()),
            (&many, format!("list, line {}: more than {MAX_SOURCES} sources", MAX_SOURCES + 1)),
            (b"# nothing\n\n", "list: no source in the list".into()),
        ] {
            assert_eq!(parse("list", list), Err(bad(sentence)));
        }
        let endless = read_all("list", io::repeat(b'\n'));
        assert_eq!(endless, Err(bad("list: larger than 16 MiB".into())));
        assert_eq!(parse("list", &[b'x'; MAX_LINE_BYTES]).unwrap().len(), 1);
    }
}
