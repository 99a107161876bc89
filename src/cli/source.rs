//! A SOURCE of the command line: a file, standard input, a URL, or a magnet link; and the torrent behind it.

use super::exit::{Exit, Failure};
use super::{fetch, out};
use crate::units::InfoHash;
use crate::wire::{Magnet, Metainfo, printable, tracker_url};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a local torrent file that are read: more than the parser takes, so that it is the one to say no.
const MAX_FILE_BYTES: u64 = (64 << 20) + 1;

/// What kind of thing was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceArg {
    File(PathBuf),
    Stdin,
    Url(String),
    Magnet(String),
}

impl SourceArg {
    /// The kind that the text means.
    pub(crate) fn parse(text: &str) -> SourceArg {
        let scheme =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
        if text == "-" {
            SourceArg::Stdin
        } else if Magnet::looks_like(text) {
            SourceArg::Magnet(text.to_string())
        } else if scheme("http://") || scheme("https://") {
            SourceArg::Url(text.to_string())
        } else {
            SourceArg::File(text.into())
        }
    }
}

/// What a source turned out to be.
#[derive(Debug)]
pub(crate) enum LoadedSource {
    Torrent(Metainfo),
    Magnet(Magnet),
}

impl LoadedSource {
    /// The torrent's name in the swarm.
    pub(crate) fn info_hash(&self) -> InfoHash {
        match self {
            LoadedSource::Torrent(metainfo) => metainfo.info_hash(),
            LoadedSource::Magnet(magnet) => magnet.info_hash,
        }
    }

    /// What people call it, as far as is known.
    pub(crate) fn name(&self) -> String {
        match self {
            LoadedSource::Torrent(metainfo) => printable(metainfo.name(), 80),
            LoadedSource::Magnet(magnet) => {
                magnet.name.as_deref().map_or(magnet.info_hash.to_string(), |name| printable(name, 80))
            }
        }
    }

    /// What is in it, if that is known.
    pub(crate) fn metainfo(&self) -> Option<&Metainfo> {
        if let LoadedSource::Torrent(metainfo) = self { Some(metainfo) } else { None }
    }
}

/// What is behind the source.
pub(crate) fn open(source: &SourceArg) -> Result<LoadedSource, Failure> {
    read(source, usize::MAX).map(|(found, _)| found)
}

/// The same, with the bytes of a torrent file as they came. An info dictionary of more than `info_bytes` is
/// not kept.
pub(crate) fn read(source: &SourceArg, info_bytes: usize) -> Result<(LoadedSource, Vec<u8>), Failure> {
    let (bytes, name) = match source {
        SourceArg::Magnet(link) => {
            let magnet = Magnet::parse(link).map_err(|e| Failure::new(Exit::Magnet, e.to_string()))?;
            return Ok((LoadedSource::Magnet(magnet), Vec::new()));
        }
        SourceArg::File(path) => (read_file(path)?, shown(path)),
        SourceArg::Stdin => (read_stdin()?, "standard input".to_string()),
        SourceArg::Url(url) => (fetch::fetch(url)?, printable(url, 200)),
    };
    let metainfo = Metainfo::parse_with_info_limit(&bytes, info_bytes).map_err(|e| {
        let exit = if e.is_not_bencode() { Exit::Bencode } else { Exit::Torrent };
        Failure::new(exit, format!("{name}: {e}"))
    })?;
    Ok((LoadedSource::Torrent(metainfo), bytes))
}

/// Reads a source that must hold a whole torrent.
pub(crate) fn torrent(source: &SourceArg) -> Result<Metainfo, Failure> {
    match open(source)? {
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

/// Says on stderr what had to be changed for the torrent to be usable.
pub(crate) fn report_repairs(metainfo: &Metainfo) {
    let repairs = metainfo.repairs();
    let name = printable(metainfo.name(), 80);
    if repairs.files_renamed > 0 {
        out::error(format_args!(
            "{name}: {} files renamed, their names collide with others",
            repairs.files_renamed
        ));
    }
    if repairs.urls_dropped > 0 {
        log::info!(
            "{name}: {} trackers or web seeds left out, their addresses are unusable",
            repairs.urls_dropped
        );
    }
    if repairs.bytes_cut > 0 {
        log::info!("{name}: {} bytes after the torrent's end ignored", repairs.bytes_cut);
    }
}

/// The URL, if a tracker can be asked by it.
pub(crate) fn usable_tracker(url: &str) -> Result<String, Failure> {
    tracker_url(url.as_bytes()).ok_or_else(|| {
        Failure::new(Exit::Option, format!("'{url}' is not a tracker's URL; http, https and udp are known"))
    })
}

/// A path for people.
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
    fn a_source_is_known_by_its_first_letters() {
        assert_eq!(SourceArg::parse("-"), SourceArg::Stdin);
        assert_eq!(SourceArg::parse("a.torrent"), SourceArg::File("a.torrent".into()));
        assert_eq!(SourceArg::parse("http"), SourceArg::File("http".into()));
        assert!(matches!(SourceArg::parse("HTTPS://a.example/t"), SourceArg::Url(_)));
        assert!(matches!(SourceArg::parse("Magnet:?xt=urn:btih:00"), SourceArg::Magnet(_)));
        assert!(matches!(SourceArg::parse("ftp://a.example/t"), SourceArg::File(_)));
    }
}
