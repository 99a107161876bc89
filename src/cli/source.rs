//! Sources on the command line: a file, standard input, a URL, a magnet link, or an info hash.

use super::exit::{Exit, Failure};
use super::fetch::{self, Fetched};
use super::out;
use crate::net::HttpOptions;
use crate::units::InfoHash;
use crate::wire::{
    Magnet, Metainfo, checked_tracker_url, origin_without_secrets, printable, url_without_secrets,
};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most bytes of a local torrent file that are read: one more than the parser's limit, so that the parser
/// refuses a larger file.
const MAX_FILE_BYTES: u64 = (64 << 20) + 1;

/// A source as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceArg {
    File(PathBuf),
    Stdin,
    Url(String),
    Magnet(String),
}

impl SourceArg {
    /// Tells the kind of a source from its text.
    pub(crate) fn parse(text: &str) -> SourceArg {
        let scheme =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
        if text == "-" {
            SourceArg::Stdin
        } else if Magnet::looks_like(text) {
            SourceArg::Magnet(text.to_string())
        } else if is_info_hash(text) && Path::new(text).symlink_metadata().is_err() {
            // A file of that name is meant, if there is one.
            SourceArg::Magnet(format!("magnet:?xt=urn:btih:{text}"))
        } else if scheme("http://") || scheme("https://") {
            SourceArg::Url(text.to_string())
        } else {
            SourceArg::File(text.into())
        }
    }

    /// Returns whether the text is none of the other kinds.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, SourceArg::File(_))
    }
}

/// Returns whether the text is an info hash as magnet links have it: 40 hexadecimal digits, or 32 of base32.
pub(crate) fn is_info_hash(text: &str) -> bool {
    match text.len() {
        40 => text.bytes().all(|b| b.is_ascii_hexdigit()),
        32 => text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'2'..=b'7')),
        _ => false,
    }
}

/// A source that has been read.
#[derive(Debug)]
pub(crate) enum LoadedSource {
    Torrent(Metainfo),
    Magnet(Magnet),
}

impl LoadedSource {
    /// Returns the torrent's info hash.
    pub(crate) fn info_hash(&self) -> InfoHash {
        match self {
            LoadedSource::Torrent(metainfo) => metainfo.info_hash(),
            LoadedSource::Magnet(magnet) => magnet.info_hash,
        }
    }

    /// Returns the torrent's name without control characters, or the info hash of a link without a name.
    pub(crate) fn name(&self) -> String {
        match self {
            LoadedSource::Torrent(metainfo) => printable(metainfo.name(), 80),
            LoadedSource::Magnet(magnet) => {
                magnet.name.as_deref().map_or(magnet.info_hash.to_string(), |name| printable(name, 80))
            }
        }
    }

    /// Returns the metainfo, unless this is a magnet link.
    pub(crate) fn metainfo(&self) -> Option<&Metainfo> {
        if let LoadedSource::Torrent(metainfo) = self { Some(metainfo) } else { None }
    }
}

/// Sources that failed, of a command with one or several.
#[derive(Debug, Default)]
pub(crate) struct BadSources {
    /// With several sources a bad one does not end the command.
    several: bool,
    /// The first in the order of the command line, and its place there.
    first: Option<(usize, Failure)>,
}

impl BadSources {
    /// Returns the record of a command with so many sources.
    pub(crate) fn of(sources: usize) -> BadSources {
        BadSources { several: sources > 1, first: None }
    }

    /// Names a source that failed on stderr; its failure ends the command if it is the only source.
    pub(crate) fn add(&mut self, place: usize, failure: Failure) -> Result<(), Failure> {
        if !self.several {
            return Err(failure);
        }
        out::error(&failure.sentence);
        if self.first.as_ref().is_none_or(|(first, _)| place < *first) {
            self.first = Some((place, failure));
        }
        Ok(())
    }

    /// Returns the failure of the first bad source, if it comes before `place`.
    pub(crate) fn before(&self, place: usize) -> Option<&Failure> {
        self.first.as_ref().filter(|(first, _)| *first < place).map(|(_, failure)| failure)
    }
}

/// Reads a source.
pub(crate) fn open(source: &SourceArg, http: &HttpOptions) -> Result<LoadedSource, Failure> {
    read(source, usize::MAX, http).map(|(found, _)| found)
}

/// Reads a source and returns it together with the bytes of its torrent file. The metainfo does not keep an
/// info dictionary of more than `info_bytes`.
pub(crate) fn read(
    source: &SourceArg,
    info_bytes: usize,
    http: &HttpOptions,
) -> Result<(LoadedSource, Vec<u8>), Failure> {
    let (bytes, name) = match source {
        SourceArg::Magnet(link) => return magnet(link),
        SourceArg::File(path) => (read_file(path)?, shown(path)),
        SourceArg::Stdin => (read_stdin()?, "standard input".to_string()),
        SourceArg::Url(url) => match fetch::fetch(url, http)? {
            Fetched::File(bytes) => (bytes, url_without_secrets(url)),
            Fetched::Magnet(link) => return magnet(&link),
        },
    };
    let metainfo = Metainfo::parse_with_info_limit(&bytes, info_bytes).map_err(|e| {
        let exit = if e.is_not_bencode() { Exit::Bencode } else { Exit::Torrent };
        Failure::new(exit, format!("{name}: {e}"))
    })?;
    Ok((LoadedSource::Torrent(metainfo), bytes))
}

fn magnet(link: &str) -> Result<(LoadedSource, Vec<u8>), Failure> {
    let magnet = Magnet::parse(link).map_err(|e| Failure::new(Exit::Magnet, e.to_string()))?;
    Ok((LoadedSource::Magnet(magnet), Vec::new()))
}

/// Reads a source that must be a torrent, not a magnet link.
pub(crate) fn torrent(source: &SourceArg, http: &HttpOptions) -> Result<Metainfo, Failure> {
    match open(source, http)? {
        LoadedSource::Torrent(metainfo) => {
            report_repairs(&metainfo);
            Ok(metainfo)
        }
        LoadedSource::Magnet(_) => {
            let sentence = "a magnet link holds no hashes; give a .torrent file, or save one with: rill get --metadata-only LINK";
            Err(Failure::new(Exit::Option, sentence))
        }
    }
}

/// Prints on stderr what was repaired in the torrent.
pub(crate) fn report_repairs(metainfo: &Metainfo) {
    let repairs = metainfo.repairs();
    let name = printable(metainfo.name(), 80);
    if repairs.files_renamed > 0 {
        out::error(format_args!(
            "{name}: {} files renamed, their names collide with others",
            repairs.files_renamed
        ));
    }
    let others = repairs.urls_dropped.saturating_sub(metainfo.refused_trackers().count());
    if others > 0 {
        log::info!(
            "{name}: {others} trackers or web seeds left out, their addresses are unusable or too many"
        );
    }
    if repairs.bytes_cut > 0 {
        log::info!("{name}: {} bytes after the torrent's end ignored", repairs.bytes_cut);
    }
}

/// Prints on stderr which trackers of the source are left out, a few of them by name.
pub(crate) fn report_refused_trackers(source: &LoadedSource) {
    let refused = match source {
        LoadedSource::Torrent(metainfo) => metainfo.refused_trackers(),
        LoadedSource::Magnet(magnet) => &magnet.refused_trackers,
    };
    let name = source.name();
    for tracker in refused.first() {
        out::error(format_args!("{name}: tracker {} is left out: {}", tracker.url, tracker.error));
    }
    match refused.count() - refused.first().len() {
        0 => {}
        1 => out::error(format_args!("{name}: and 1 more tracker is left out")),
        more => out::error(format_args!("{name}: and {more} more trackers are left out")),
    }
}

/// Returns the URL if it is one of a tracker, or a failure.
pub(crate) fn usable_tracker(url: &str) -> Result<String, Failure> {
    checked_tracker_url(url.as_bytes()).map_err(|e| {
        let shown = origin_without_secrets(url.as_bytes());
        Failure::new(Exit::Option, format!("'{shown}' is not a tracker's URL: {e}"))
    })
}

/// Returns a path without control characters, for messages.
pub(crate) fn shown(path: &Path) -> String {
    out::clean(&path.to_string_lossy()).into_owned()
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = shown(path);
    let file = File::open(path).map_err(|e| Failure::os(Exit::Open, &name, &e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Failure::new(Exit::Open, format!("{name}: is a directory, not a torrent")));
    }
    read_all(file).map_err(|e| Failure::os(Exit::Io, &name, &e))
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    read_all(io::stdin().lock()).map_err(|e| Failure::os(Exit::Io, "standard input", &e))
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_source_shows_in_its_first_letters() {
        assert_eq!(SourceArg::parse("-"), SourceArg::Stdin);
        assert_eq!(SourceArg::parse("a.torrent"), SourceArg::File("a.torrent".into()));
        assert_eq!(SourceArg::parse("http"), SourceArg::File("http".into()));
        assert!(matches!(SourceArg::parse("HTTPS://a.example/t"), SourceArg::Url(_)));
        assert!(matches!(SourceArg::parse("Magnet:?xt=urn:btih:00"), SourceArg::Magnet(_)));
        assert!(matches!(SourceArg::parse("ftp://a.example/t"), SourceArg::File(_)));
        for hash in ["0123456789abcdefABCD0123456789abcdefABCD", "abcdefghijklmnopQRSTUVWXYZ234567"] {
            assert_eq!(SourceArg::parse(hash), SourceArg::Magnet(format!("magnet:?xt=urn:btih:{hash}")));
            for other in [&hash[1..], &format!("{hash}0"), &hash.replace('3', "!")] {
                assert_eq!(SourceArg::parse(other), SourceArg::File(other.into()));
            }
        }
    }
}
