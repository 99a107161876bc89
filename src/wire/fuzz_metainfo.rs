//! The fuzz targets of bencode, .torrent files and magnet links; `fuzz/` and the test over its corpus call
//! them.
//!
//! Each takes arbitrary bytes and panics if this floor violates one of its guarantees. Not part of the public
//! API.

use super::bencode::{Rules, Value, canonicalize, scan};
use super::limits::{MAGNET_PEERS, METAINFO_DEPTH, TRACKERS, URL_BYTES, WEB_SEEDS};
use super::metainfo::{Builder, FileEntry, Files, OWN_PREFIX, for_fat};
use super::{Magnet, Metainfo, printable, url_parts};
use crate::units::PieceHash;
use bendy::decoding::{Decoder, Error as BendyError, Object};
use std::collections::BTreeSet;

/// Checks a .torrent file, or metadata from a peer.
pub fn metainfo(bytes: &[u8]) {
    Metainfo::from_info(bytes, Vec::new(), Vec::new()).iter().for_each(check_torrent);
    match Metainfo::parse(bytes) {
        Ok(info) => check_torrent(&info),
        Err(refused) => check_text(refused.to_string().trim_end()),
    }
}

/// Checks a magnet link.
pub fn magnet(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Magnet::parse(text) {
        Ok(magnet) => {
            assert!(
                magnet.trackers.len() <= TRACKERS
                    && magnet.web_seeds.len() <= WEB_SEEDS
                    && magnet.peers.len() <= MAGNET_PEERS
            );
            check_urls(magnet.trackers.iter().chain(&magnet.web_seeds));
            magnet.refused_trackers.first().iter().for_each(|refused| check_text(&refused.url));
            magnet.name.iter().for_each(|name| check_component(name));
            let link = magnet.to_string();
            assert!(link.bytes().all(|b| b.is_ascii_graphic()));
            // Refused trackers are not written.
            let written = Magnet { refused_trackers: Default::default(), ..magnet };
            assert_eq!(Magnet::parse(&link), Ok(written), "a written link reads back");
        }
        Err(refused) => check_text(refused.to_string().trim_end()),
    }
}

/// Checks any bencode. The canonical form of every value that scans is canonical again, and bendy, a strict
/// decoder, reads it as the same value. The scanner reads every value that bendy accepts as the same value.
pub fn bencode(bytes: &[u8]) {
    let rules = Rules { depth: METAINFO_DEPTH, tokens: 100_000, strict: false };
    let scanned = scan(bytes, &rules);
    if let Ok(theirs) = as_bendy_reads(bytes) {
        let ours = scanned.as_ref().expect("the scanner accepts what bendy accepts");
        assert!(ours.is_canonical, "bendy accepts canonical values only");
        assert_eq!(OwnedValue::of(ours.value), theirs);
    }
    let Ok(scanned) = scanned else { return };
    assert_eq!(scanned.value.raw().len() + scanned.rest.len(), bytes.len());
    let canonical = canonicalize(&scanned);
    let bytes_in_order = canonical.value().raw();
    let again = scan(bytes_in_order, &rules).expect("canonical bytes scan");
    assert!(again.is_canonical && again.rest.is_empty());
    assert_eq!(
        as_bendy_reads(bytes_in_order).expect("bendy accepts canonical values"),
        OwnedValue::of(again.value)
    );
    let strict = scan(bytes, &Rules { strict: true, ..rules });
    assert!(
        strict.is_err() || strict.is_ok_and(|s| s.value == scanned.value),
        "strict rules accept the same value or none"
    );
}

/// A value as an owned tree.
#[derive(Debug, PartialEq, Eq)]
enum OwnedValue {
    Integer(Vec<u8>),
    Text(Vec<u8>),
    List(Vec<OwnedValue>),
    Dictionary(Vec<(Vec<u8>, OwnedValue)>),
}

impl OwnedValue {
    fn of(value: Value<'_>) -> OwnedValue {
        if let Some(pairs) = value.pairs() {
            OwnedValue::Dictionary(pairs.map(|(key, value)| (key.to_vec(), OwnedValue::of(value))).collect())
        } else if let Some(items) = value.items() {
            OwnedValue::List(items.map(OwnedValue::of).collect())
        } else if let Some(text) = value.string() {
            OwnedValue::Text(text.to_vec())
        } else {
            let raw = value.raw();
            OwnedValue::Integer(raw[1..raw.len() - 1].to_vec())
        }
    }

    fn of_bendy(object: Object<'_, '_>) -> Result<OwnedValue, BendyError> {
        Ok(match object {
            Object::Integer(digits) => OwnedValue::Integer(digits.as_bytes().to_vec()),
            Object::Bytes(text) => OwnedValue::Text(text.to_vec()),
            Object::List(mut list) => {
                let mut items = Vec::new();
                while let Some(item) = list.next_object()? {
                    items.push(OwnedValue::of_bendy(item)?);
                }
                OwnedValue::List(items)
            }
            Object::Dict(mut dictionary) => {
                let mut pairs = Vec::new();
                while let Some((key, value)) = dictionary.next_pair()? {
                    pairs.push((key.to_vec(), OwnedValue::of_bendy(value)?));
                }
                OwnedValue::Dictionary(pairs)
            }
        })
    }
}

fn as_bendy_reads(bytes: &[u8]) -> Result<OwnedValue, BendyError> {
    let mut decoder = Decoder::new(bytes).with_max_depth(METAINFO_DEPTH);
    let object = decoder.next_object()?.ok_or(BendyError::missing_field("value"))?;
    OwnedValue::of_bendy(object)
}

fn check_torrent(info: &Metainfo) {
    let geometry = info.geometry();
    check_component(info.name());
    let end = info.files().iter().fold(0, |offset, file| {
        assert_eq!(file.offset, offset, "the files are contiguous");
        file.path().for_each(check_component);
        offset + file.length
    });
    assert_eq!(end, geometry.total());
    let last = geometry.all_pieces().next_back().expect("a torrent has a piece");
    info.piece_hash(last);
    check_apart(info.files().iter().map(|f| f.path_text()), info.files());
    let for_fat = for_fat(info.files());
    assert!(
        for_fat
            .iter()
            .map(|f| (f.length, f.attributes))
            .eq(info.files().iter().map(|f| (f.length, f.attributes)))
    );
    check_apart(for_fat.iter().map(|f| f.path_text().to_lowercase()), info.files());
    check_urls(info.trackers().iter().flatten().chain(info.web_seeds()));
    info.comment().into_iter().chain(info.created_by()).for_each(check_text);
    let magnet = Magnet::parse(&info.magnet().to_string()).expect("our own links read back");
    assert_eq!(magnet.info_hash, info.info_hash());
    let bytes = info.info().expect("the info dictionary is kept");
    let from_peer =
        Metainfo::from_info(&bytes, Vec::new(), Vec::new()).expect("files and metadata pass the same checks");
    assert_eq!((from_peer.info_hash(), from_peer.files()), (info.info_hash(), info.files()));
    check_rewritten(info);
}

/// Checks that a torrent that the builder writes with the same names and lengths has the same files.
fn check_rewritten(info: &Metainfo) {
    let skip = usize::from(!info.is_single_file());
    let builder = Builder {
        name: info.name().to_owned(),
        files: info
            .files()
            .iter()
            .map(|f| (f.path().skip(1).map(str::to_owned).collect(), f.length))
            .collect(),
        piece_len: info.geometry().nominal_piece_len(),
        ..Builder::default()
    };
    let hashes: Vec<PieceHash> = info.geometry().all_pieces().map(|p| info.piece_hash(p)).collect();
    let written = builder.finish(&hashes).expect("safe names can be written");
    let read = Metainfo::parse(&written).expect("the builder writes valid torrents");
    assert_eq!(read.geometry(), info.geometry());
    // Pad files and symlinks are written as ordinary files, so their names may collide with others.
    if info.files().iter().all(|file| file.lands_on_disk()) {
        assert!(
            read.files().iter().zip(info.files().iter()).all(|(a, b)| a
                .path()
                .skip(skip)
                .eq(b.path().skip(skip))
                && a.length == b.length)
        );
    }
}

/// Checks that no two files that land on the disk have the same path, and no file's path is a directory of
/// another's.
fn check_apart(paths: impl Iterator<Item = String>, files: &Files) {
    let paths: Vec<String> = paths
        .zip(files.iter())
        .filter(|(_, f): &(String, FileEntry<'_>)| f.lands_on_disk())
        .map(|(p, _)| p)
        .collect();
    let distinct: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), paths.len(), "two files with one path");
    for path in &paths {
        let mut directories = path.match_indices('/').map(|(at, _)| &path[..at]);
        assert!(!directories.any(|d| distinct.contains(d)), "{path:?} lies inside a file");
    }
}

/// Checks that a plain name is safe to join to a directory and to show.
fn check_component(name: &str) {
    assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= 255, "{name:?}");
    assert!(!name.contains(['/', '\0']) && !name.chars().any(char::is_control), "{name:?}");
    assert!(!name.to_ascii_lowercase().starts_with(OWN_PREFIX), "{name:?}");
}

pub(super) fn check_text(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert_eq!(printable(text, usize::MAX), text, "sanitizing is idempotent");
}

fn check_urls<'a>(urls: impl Iterator<Item = &'a String>) {
    for url in urls {
        assert!(url.len() <= URL_BYTES && url.bytes().all(|b| b.is_ascii_graphic()), "{url:?}");
        assert!(url_parts(url).is_some(), "{url:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::SampleTorrent;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn paths_stay_below_the_directory_and_differ_for_any_names(
            paths in proptest::collection::vec(proptest::collection::vec(r"[aA.]{0,2}[/\\\x00:a. \u{200b}]{0,3}", 0..4), 1..8),
        ) {
            let paths: Vec<Vec<&str>> = paths.iter().map(|p| p.iter().map(String::as_str).collect()).collect();
            let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
            let torrent = SampleTorrent::with_paths(&paths);
            prop_assert!(Metainfo::parse(&torrent.bytes()).is_ok());
            metainfo(&torrent.bytes());
        }

        #[test]
        fn any_text_is_sanitized_for_display(bytes: Vec<u8>, chars in 0usize..40) {
            let shown = printable(&bytes, chars);
            check_text(&shown);
            prop_assert!(shown.chars().count() <= chars);
        }
    }
}
