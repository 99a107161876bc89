//! Torrent files as rill writes them (BEP 3, 5, 12, 19): around an info dictionary that is read to the letter, so that its hash stays,
//! or around one that is being made.

use super::Metainfo;
use super::dictionaries::TorrentFile;
use crate::wire::bencode::{Bytes, Encoded, Lenient, write};

/// A torrent file that is being written, with its lists as we keep them.
pub(super) type WrittenFile<'a, I> = TorrentFile<'a, I, &'a [Vec<String>], &'a [(String, u16)], &'a [String]>;

/// What belongs beside the info dictionary: trackers in tiers, and web seeds.
pub(super) fn around<'a, I>(info: I, trackers: &'a [Vec<String>], web_seeds: &'a [String]) -> WrittenFile<'a, I> {
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

/// The bytes of a file that says the same as `m`, whose info dictionary this is.
pub(super) fn file(m: &Metainfo, info: &[u8]) -> Vec<u8> {
    let nodes = Lenient(Some(m.nodes()).filter(|nodes| !nodes.is_empty()));
    let mut out = Vec::with_capacity(info.len().saturating_add(1024));
    write(&TorrentFile { nodes, ..around(Encoded(info), m.trackers(), m.web_seeds()) }, &mut out);
    out
}
