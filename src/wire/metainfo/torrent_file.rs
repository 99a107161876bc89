//! Writes .torrent files (BEP 3, 5, 12, 19), around an existing info dictionary, which is written unchanged
//! to keep its hash, or a new one.

use super::Metainfo;
use super::dictionaries::TorrentFile;
use crate::wire::bencode::{Bytes, Encoded, Lenient, write};

/// A .torrent file to write, with our own types for its lists.
pub(super) type WrittenFile<'a, I> = TorrentFile<'a, I, &'a [Vec<String>], &'a [(String, u16)], &'a [String]>;

/// Returns a .torrent file with this info dictionary, trackers in tiers, and web seeds.
pub(super) fn around<'a, I>(
    info: I,
    trackers: &'a [Vec<String>],
    web_seeds: &'a [String],
) -> WrittenFile<'a, I> {
    let mut urls = trackers.iter().flatten();
    let announce = urls.next().map(|url| Bytes(url.as_bytes()));
    TorrentFile {
        announce: Lenient(announce),
        announce_list: Lenient(urls.next().map(|_| trackers)),
        comment: Lenient(None),
        comment_utf8: Lenient(None),
        created_by: Lenient(None),
        creation_date: Lenient(None),
        info: Some(info),
        nodes: Lenient(None),
        url_list: Lenient(Some(web_seeds).filter(|list| !list.is_empty())),
    }
}

/// Returns the content of a .torrent file for `m`, whose info dictionary is `info`.
pub(super) fn file(m: &Metainfo, info: &[u8]) -> Vec<u8> {
    let nodes = Lenient(Some(m.nodes()).filter(|nodes| !nodes.is_empty()));
    let mut out = Vec::with_capacity(info.len().saturating_add(1024));
    write(&TorrentFile { nodes, ..around(Encoded(info), m.trackers(), m.web_seeds()) }, &mut out);
    out
}
