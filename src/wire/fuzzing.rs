//! What must hold for any bytes at all: the bodies of the fuzz targets in `fuzz/`, and of the test over their corpus.
//!
//! Each takes bytes from a stranger and panics if a promise of this floor is broken. They promise nothing to users
//! of the library.

use super::bencode::{Rules, scan, tidy};
use super::limits::{LSD_HASHES, MAGNET_PEERS, METAINFO_DEPTH, PEERS, REQQ, TRACKER_ID_BYTES, TRACKERS, URL_BYTES, WEB_SEEDS};
use super::metainfo::{Builder, FileEntry, Files, OWN_PREFIX, fat_paths};
use super::udp_tracker::{parse_announce, parse_connect, parse_scrape, transaction_of};
use super::{AnnounceError, ExtendedHandshake, Magnet, Metainfo, lsd, parse_counts, parse_reply, printable, url_parts};
use crate::units::{InfoHash, PieceHash};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// A .torrent file, or metadata from a peer.
pub fn metainfo(bytes: &[u8]) {
    bencode(bytes);
    Metainfo::from_info(bytes, Vec::new(), Vec::new()).iter().for_each(check_torrent);
    match Metainfo::parse(bytes) {
        Ok(info) => check_torrent(&info),
        Err(refused) => check_text(refused.to_string().trim_end()),
    }
}

/// A tracker's reply over HTTP or UDP, a neighbour's call, or a peer's extension handshake.
pub fn tracker_reply(bytes: &[u8]) {
    match parse_reply(bytes) {
        Ok(reply) => {
            check_peers(&reply.peers);
            assert!(reply.tracker_id.is_none_or(|id| id.len() <= TRACKER_ID_BYTES));
            reply.warning.iter().for_each(|text| check_text(text));
        }
        Err(AnnounceError::Failure { reason, .. }) => check_text(&reason),
        Err(_) => {}
    }
    let hash = bytes.first_chunk().map_or(InfoHash([0; 20]), |hash| InfoHash(*hash));
    if let Err(refused) = parse_counts(bytes, &hash) {
        check_text(refused.to_string().trim_end());
    }
    if let Some(call) = lsd::parse_call(bytes) {
        assert!(call.port != 0 && (1..=LSD_HASHES).contains(&call.hashes.len()));
    }
    let transaction = transaction_of(bytes).unwrap_or_default();
    parse_scrape(bytes, transaction).ok();
    parse_connect(bytes, transaction).ok();
    for over_v6 in [false, true] {
        match parse_announce(bytes, transaction, over_v6) {
            Ok(reply) => check_peers(&reply.peers),
            Err(refused) => check_text(refused.to_string().trim_end()),
        }
    }
    if let Ok(theirs) = ExtendedHandshake::parse(bytes) {
        assert!(theirs.reqq.is_none_or(|n| (1..=REQQ).contains(&n)));
        assert_ne!(theirs.port, Some(0));
        theirs.client.iter().for_each(|text| check_text(text));
        assert_eq!(ExtendedHandshake::parse(&theirs.encode()), Ok(theirs), "what is written is what is read");
    }
}

/// A magnet link.
pub fn magnet(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Magnet::parse(text) {
        Ok(magnet) => {
            assert!(
                magnet.trackers.len() <= TRACKERS && magnet.web_seeds.len() <= WEB_SEEDS && magnet.peers.len() <= MAGNET_PEERS
            );
            check_urls(magnet.trackers.iter().chain(&magnet.web_seeds));
            magnet.name.iter().for_each(|name| check_component(name));
            let link = magnet.to_string();
            assert!(link.bytes().all(|b| b.is_ascii_graphic()));
            assert_eq!(Magnet::parse(&link), Ok(magnet), "what is written is what is read");
        }
        Err(refused) => check_text(refused.to_string().trim_end()),
    }
}

/// The scanner finds a value, tidying gives one that is in order and stays as it is when tidied again.
fn bencode(bytes: &[u8]) {
    let rules = Rules { depth: METAINFO_DEPTH, tokens: 100_000, strict: false };
    let Ok(scanned) = scan(bytes, &rules) else { return };
    assert_eq!(scanned.value.raw().len() + scanned.rest.len(), bytes.len());
    let tidied = tidy(&scanned, &rules).expect("loose rules refuse nothing that scans");
    let again = scan(&tidied, &rules).expect("tidy bytes scan");
    assert!(again.tidy && again.rest.is_empty());
}

fn check_torrent(info: &Metainfo) {
    let geometry = info.geometry();
    check_component(info.name());
    let end = info.files().iter().fold(0, |offset, file| {
        assert_eq!(file.offset, offset, "files follow each other without a gap");
        file.path().for_each(check_component);
        offset + file.length
    });
    assert_eq!(end, geometry.total());
    let last = geometry.all_pieces().next_back().expect("a torrent has a piece");
    info.piece_hash(last);
    check_apart(info.files().iter().map(|f| f.path_text()), info.files());
    check_apart(fat_paths(info.files()).iter().map(|p| p.join("/").to_lowercase()), info.files());
    check_urls(info.trackers().iter().flatten().chain(info.web_seeds()));
    info.comment().into_iter().chain(info.created_by()).for_each(check_text);
    let magnet = Magnet::parse(&info.magnet().to_string()).expect("our own links read back");
    assert_eq!(magnet.info_hash, info.info_hash());
    let bytes = info.info().expect("all of it is kept");
    let from_peer = Metainfo::from_info(&bytes, Vec::new(), Vec::new()).expect("both ways in have the same checks");
    assert_eq!((from_peer.info_hash(), from_peer.files()), (info.info_hash(), info.files()));
    check_rewritten(info);
}

/// A torrent of the same names and lengths, written by us, reads back as the same files.
fn check_rewritten(info: &Metainfo) {
    let skip = usize::from(!info.is_single_file());
    let builder = Builder {
        name: info.name().to_owned(),
        files: info.files().iter().map(|f| (f.path().skip(1).map(str::to_owned).collect(), f.length)).collect(),
        piece_len: info.geometry().nominal_piece_len(),
        ..Builder::default()
    };
    let hashes: Vec<PieceHash> = info.geometry().all_pieces().map(|p| info.piece_hash(p)).collect();
    let written = builder.finish(&hashes).expect("safe names can be written");
    let read = Metainfo::parse(&written).expect("what we write is a torrent");
    assert_eq!(read.geometry(), info.geometry());
    // Pads and links are written as files, so their names may make others give way.
    if info.files().iter().all(|file| file.lands_on_disk()) {
        assert!(
            read.files()
                .iter()
                .zip(info.files().iter())
                .all(|(a, b)| a.path().skip(skip).eq(b.path().skip(skip)) && a.length == b.length)
        );
    }
}

/// No two files that land on the disk have the same path, and none is another's directory.
fn check_apart(paths: impl Iterator<Item = String>, files: &Files) {
    let paths: Vec<String> =
        paths.zip(files.iter()).filter(|(_, f): &(String, FileEntry<'_>)| f.lands_on_disk()).map(|(p, _)| p).collect();
    let distinct: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), paths.len(), "two files with one path");
    for path in &paths {
        let mut directories = path.match_indices('/').map(|(at, _)| &path[..at]);
        assert!(!directories.any(|d| distinct.contains(d)), "{path:?} lies inside a file");
    }
}

/// A plain name: joined below a directory it stays there, and shown it does no harm.
fn check_component(name: &str) {
    assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= 255, "{name:?}");
    assert!(!name.contains(['/', '\0']) && !name.chars().any(char::is_control), "{name:?}");
    assert!(!name.to_ascii_lowercase().starts_with(OWN_PREFIX), "{name:?}");
}

fn check_text(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert_eq!(printable(text, usize::MAX), text, "clean text stays as it is");
}

fn check_urls<'a>(urls: impl Iterator<Item = &'a String>) {
    for url in urls {
        assert!(url.len() <= URL_BYTES && url.bytes().all(|b| b.is_ascii_graphic()), "{url:?}");
        assert!(url_parts(url).is_some(), "{url:?}");
    }
}

fn check_peers(peers: &[SocketAddr]) {
    assert!(peers.len() <= PEERS);
    assert!(peers.iter().all(|peer| peer.port() != 0 && !peer.ip().is_unspecified() && !peer.ip().is_multicast()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::Torrent;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_a_torrent_names_its_files_they_stay_inside_and_apart(
            paths in proptest::collection::vec(proptest::collection::vec(r"[aA.]{0,2}[/\\\x00:a. \u{200b}]{0,3}", 0..4), 1..8),
        ) {
            let paths: Vec<Vec<&str>> = paths.iter().map(|p| p.iter().map(String::as_str).collect()).collect();
            let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
            let torrent = Torrent::with_paths(&paths);
            prop_assert!(Metainfo::parse(&torrent.bytes()).is_ok());
            metainfo(&torrent.bytes());
        }

        #[test]
        fn whatever_text_comes_it_is_shown_harmlessly(bytes: Vec<u8>, chars in 0usize..40) {
            let shown = printable(&bytes, chars);
            check_text(&shown);
            prop_assert!(shown.chars().count() <= chars);
        }
    }
}
