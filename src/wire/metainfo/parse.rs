//! Validates .torrent files and metadata from peers.
//!
//! Sums are checked 64-bit sums, counts are compared with limits before anything is stored, and no number
//! from the input sizes an allocation.

use super::dictionaries::{FileDictionary, InfoDictionary, NamedNode, TorrentFile};
use super::files::{FileAttributes, FileListOverflow, Files, FilesBuilder};
use super::{MetainfoData, MetainfoError, PieceHashes, Repairs, path};
use crate::units::{Geometry, InfoHash};
use crate::wire::bencode::{Bytes, Lenient, Rules, TypeMismatch, refuse_repeated_keys, scan};
use crate::wire::limits::{
    COMMENT_CHARS, HOST_BYTES, METAINFO_BYTES, METAINFO_DEPTH, METAINFO_FILES, METAINFO_PIECES,
    METAINFO_TOKENS, TORRENT_NODES, TRACKERS, WEB_SEEDS,
};
use crate::wire::text::printable;
use crate::wire::url::{RefusedTrackers, checked_tracker_url, host_and_port, web_seed_url};
use sha1::{Digest, Sha1};
use std::ops::Range;
use std::sync::Arc;

const FILE_RULES: Rules = Rules { depth: METAINFO_DEPTH, tokens: METAINFO_TOKENS, strict: false };
const INFO_RULES: Rules = Rules { strict: true, ..FILE_RULES };

pub(super) fn from_file(bytes: &[u8], info_bytes: usize) -> Result<MetainfoData, MetainfoError> {
    check_size(bytes)?;
    let scanned = scan(bytes, &FILE_RULES)
        .map_err(|e| if is_html(bytes) { MetainfoError::Html } else { MetainfoError::NotBencode(e) })?;
    let outer: TorrentFile = scanned.value.read().map_err(|TypeMismatch| MetainfoError::NotADictionary)?;
    let mut parts = read_info(outer.info.ok_or(MetainfoError::NoInfo)?.raw(), info_bytes)?;
    add_outer(&mut parts, &outer);
    parts.repairs.bytes_cut = scanned.rest.trim_ascii().len();
    Ok(parts)
}

pub(super) fn from_info(
    info: &[u8],
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
) -> Result<MetainfoData, MetainfoError> {
    check_size(info)?;
    let mut parts = read_info(info, usize::MAX)?;
    let tiers = trackers.iter().map(|tier| tier.iter().map(String::as_bytes));
    parts.trackers = clean_tiers(tiers, &mut parts.repairs, &mut parts.refused_trackers);
    parts.web_seeds = clean_web_seeds(web_seeds.iter().map(String::as_bytes), &mut parts.repairs);
    Ok(parts)
}

fn check_size(bytes: &[u8]) -> Result<(), MetainfoError> {
    match bytes.len() {
        0 => Err(MetainfoError::Empty),
        bytes if bytes > METAINFO_BYTES => Err(MetainfoError::TooBig { bytes, limit: METAINFO_BYTES }),
        _ => Ok(()),
    }
}

/// Returns whether a web server sent a page instead of the file.
fn is_html(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start().starts_with(b"<")
}

/// Validates an info dictionary, and keeps it if it has at most `info_bytes` bytes. The fields from outside
/// `info` stay empty.
fn read_info(raw: &[u8], info_bytes: usize) -> Result<MetainfoData, MetainfoError> {
    let scanned = scan(raw, &INFO_RULES).map_err(MetainfoError::BadInfo)?;
    if !scanned.rest.is_empty() {
        return Err(MetainfoError::BytesAfterInfo(scanned.rest.len()));
    }
    if !scanned.value.is_dict() {
        return Err(MetainfoError::NoInfo);
    }
    refuse_repeated_keys(&scanned).map_err(MetainfoError::BadInfo)?;
    let info: InfoDictionary = scanned.value.read().map_err(|TypeMismatch| MetainfoError::NoInfo)?;
    if info.pieces.0.is_none() && (info.file_tree.is_some() || info.meta_version.0 == Some(2)) {
        return Err(MetainfoError::V2Only);
    }
    let info_hash = InfoHash(Sha1::digest(raw).into());
    let name = best_name(&info).unwrap_or_else(|| info_hash.to_string());
    let files = read_files(&info, &name)?;
    files.iter().enumerate().try_for_each(|(at, file)| path::check_length(number(at), file))?;
    let (files, renamed) = path::rename_collisions(files);
    let geometry = read_geometry(&info, files.total())?;
    let at = pieces_range(raw, &info, geometry)?;
    let kept: Option<Arc<[u8]>> = (raw.len() <= info_bytes).then(|| raw.into());
    let hashes = match &kept {
        Some(info) => PieceHashes { bytes: info.clone(), at },
        None => PieceHashes::from(raw.get(at).unwrap_or_default().to_vec()),
    };
    Ok(MetainfoData {
        info_hash,
        info: kept,
        hashes,
        name,
        geometry,
        files,
        private: info.private.is_set(),
        trackers: Vec::new(),
        refused_trackers: RefusedTrackers::default(),
        web_seeds: Vec::new(),
        nodes: Vec::new(),
        comment: None,
        created_by: None,
        creation_date: None,
        repairs: Repairs { files_renamed: renamed, ..Repairs::default() },
    })
}

/// `name.utf-8` counts if it is UTF-8; otherwise `name`, with invalid UTF-8 replaced.
fn best_name(info: &InfoDictionary<'_>) -> Option<String> {
    let twin = info.name_utf8.0.and_then(|name| path::component(name.as_bytes()));
    twin.or_else(|| info.name.bytes().and_then(path::component))
}

/// Reads the list of files, or the single file.
fn read_files(info: &InfoDictionary<'_>, name: &str) -> Result<Files, MetainfoError> {
    let Some(listed) = &info.files else {
        let length = info.length.0.ok_or(MetainfoError::Field("length"))?;
        let mut one = FilesBuilder::default();
        add(&mut one, [name].into_iter(), length, info.attr)?;
        return Ok(one.finish());
    };
    let listed = listed.0.as_ref().ok_or(MetainfoError::Field("files"))?;
    let mut files = FilesBuilder::below(name);
    let mut count = 0usize;
    let mut problem = None;
    for file in listed.iter() {
        let file = file.map_err(|TypeMismatch| MetainfoError::Field("files"))?;
        count = count.saturating_add(1);
        if problem.is_none() && count <= METAINFO_FILES {
            problem = file.add_to(&mut files).err();
        }
    }
    match problem {
        _ if count == 0 => Err(MetainfoError::NoFiles),
        _ if count > METAINFO_FILES => {
            Err(MetainfoError::TooManyFiles { files: count, limit: METAINFO_FILES })
        }
        Some(problem) => Err(problem),
        None => Ok(files.finish()),
    }
}

/// Returns the number of a file in error messages, counted from 1.
fn number(at: usize) -> usize {
    at.saturating_add(1)
}

/// Appends a file.
fn add<'n>(
    files: &mut FilesBuilder,
    path: impl DoubleEndedIterator<Item = &'n str> + Clone,
    length: i64,
    attr: Lenient<Bytes<'_>>,
) -> Result<(), MetainfoError> {
    let length = u64::try_from(length)
        .map_err(|_| MetainfoError::FileLength { file: number(files.count()), length })?;
    let has = |letter| has_attr(attr, letter);
    let pad = has(b'p');
    let attributes = FileAttributes { pad, symlink: !pad && length == 0 && has(b'l'), executable: has(b'x') };
    files.push(path, length, attributes).map_err(|FileListOverflow| MetainfoError::TotalLength)
}

fn has_attr(attr: Lenient<Bytes<'_>>, letter: u8) -> bool {
    attr.bytes().is_some_and(|attr| attr.contains(&letter))
}

impl FileDictionary<'_> {
    /// Appends this entry, with a safe path.
    fn add_to(&self, files: &mut FilesBuilder) -> Result<(), MetainfoError> {
        let at = files.count();
        let length = self.length.0.ok_or(MetainfoError::FileField { file: number(at), field: "length" })?;
        let path = self.names(at).ok_or(MetainfoError::FileField { file: number(at), field: "path" })?;
        add(files, path.iter().map(String::as_str), length, self.attr)
    }

    /// Returns the components of its path: `path.utf-8` if it is UTF-8, otherwise `path`. A list with an item
    /// of the wrong type counts as absent.
    fn names(&self, at: usize) -> Option<Vec<String>> {
        let twin = self
            .path_utf8
            .0
            .filter(|path| path.iter().next().is_some() && path.iter().all(|name| name.is_ok()));
        if let Some(twin) = twin {
            return Some(path::components(twin.iter().flatten().map(str::as_bytes)));
        }
        match self.path.0.filter(|path| path.iter().all(|name| name.is_ok())) {
            Some(written) => Some(path::components(written.iter().flatten().map(|Bytes(name)| name))),
            // A pad file needs no path (BEP 47).
            None => has_attr(self.attr, b'p').then(|| vec![".pad".to_owned(), at.to_string()]),
        }
    }
}

fn read_geometry(info: &InfoDictionary<'_>, total: u64) -> Result<Geometry, MetainfoError> {
    let written = info.piece_length.0.ok_or(MetainfoError::Field("piece length"))?;
    let piece_len = u64::try_from(written).map_err(|_| MetainfoError::PieceLength(written))?;
    let geometry = Geometry::new(total, piece_len)?;
    match geometry.pieces() {
        pieces if pieces > METAINFO_PIECES => {
            Err(MetainfoError::TooManyPieces { pieces, limit: METAINFO_PIECES })
        }
        _ => Ok(geometry),
    }
}

/// Returns the range of the piece hashes inside the raw info dictionary.
fn pieces_range(
    raw: &[u8],
    info: &InfoDictionary<'_>,
    geometry: Geometry,
) -> Result<Range<usize>, MetainfoError> {
    let hashes = info.pieces.bytes().ok_or(MetainfoError::Field("pieces"))?;
    let got = hashes.len();
    let expected = (geometry.pieces() as usize).saturating_mul(20);
    if got != expected {
        return Err(MetainfoError::Pieces { got, expected });
    }
    // `hashes` is a slice of `raw`.
    let start = (hashes.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
    Ok(start..start.saturating_add(got))
}

fn add_outer(parts: &mut MetainfoData, outer: &TorrentFile<'_>) {
    let shown = |text: &[u8]| Some(printable(text, COMMENT_CHARS)).filter(|t| !t.is_empty());
    parts.comment = outer.comment_utf8.bytes().or(outer.comment.bytes()).and_then(shown);
    parts.created_by = outer.created_by.bytes().and_then(shown);
    parts.creation_date = outer.creation_date.0;
    let listed =
        outer.announce_list.good_items().map(|tier| Lenient(Some(tier)).good_items().map(|Bytes(url)| url));
    parts.trackers = clean_tiers(listed, &mut parts.repairs, &mut parts.refused_trackers);
    // BEP 12: `announce` is ignored if there is a usable `announce-list`.
    if parts.trackers.is_empty() {
        let announce = outer.announce.bytes();
        let tier = announce.iter().map(|url| [*url].into_iter());
        parts.trackers = clean_tiers(tier, &mut parts.repairs, &mut parts.refused_trackers);
    }
    parts.web_seeds = clean_web_seeds(outer.url_list.good_items().map(|Bytes(url)| url), &mut parts.repairs);
    parts.nodes = outer.nodes.good_items().filter_map(named_node).take(TORRENT_NODES).collect();
}

/// Returns a DHT node with a valid host and port.
fn named_node(NamedNode(Bytes(host), port): NamedNode<'_>) -> Option<(String, u16)> {
    let host = std::str::from_utf8(host).ok().filter(|host| host.len() <= HOST_BYTES)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    host_and_port(&format!("{host}:{port}"))
}

/// Removes refused and repeated URLs and empty tiers; keeps at most [`TRACKERS`] URLs.
fn clean_tiers<'a>(
    tiers: impl Iterator<Item = impl Iterator<Item = &'a [u8]>>,
    repairs: &mut Repairs,
    refused: &mut RefusedTrackers,
) -> Vec<Vec<String>> {
    let mut kept: Vec<Vec<String>> = Vec::new();
    let mut count = 0usize;
    for tier in tiers {
        let mut urls: Vec<String> = Vec::new();
        for written in tier.filter(|w| !w.trim_ascii().is_empty()) {
            match checked_tracker_url(written) {
                Ok(url) if count < TRACKERS => {
                    if !kept.iter().flatten().chain(&urls).any(|u| *u == url) {
                        urls.push(url);
                        count = count.saturating_add(1);
                    }
                }
                Ok(_) => repairs.urls_dropped = repairs.urls_dropped.saturating_add(1),
                Err(error) => {
                    repairs.urls_dropped = repairs.urls_dropped.saturating_add(1);
                    refused.push(written, error);
                }
            }
        }
        if !urls.is_empty() {
            kept.push(urls);
        }
    }
    kept
}

/// Removes refused URLs; keeps at most [`WEB_SEEDS`].
fn clean_web_seeds<'a>(written: impl Iterator<Item = &'a [u8]>, repairs: &mut Repairs) -> Vec<String> {
    let mut kept = Vec::new();
    for written in written.filter(|w| !w.trim_ascii().is_empty()) {
        match web_seed_url(written).filter(|_| kept.len() < WEB_SEEDS) {
            Some(url) => kept.push(url),
            None => repairs.urls_dropped = repairs.urls_dropped.saturating_add(1),
        }
    }
    kept
}
