//! From bytes to a torrent that can be believed: every check that a .torrent file or a peer's metadata must pass.
//!
//! Sums are checked 64-bit sums, counts are compared with limits before anything is kept, and no number that was
//! read here sizes an allocation.

use super::files::{Files, FilesBuilder, Marks, TooMuch};
use super::shape::{File, Info, NamedNode, Outer};
use super::{MetainfoError, Parts, PieceHashes, Repairs, path};
use crate::units::{Geometry, InfoHash};
use crate::wire::bencode::{Rules, Value, decode, scan, tidy};
use crate::wire::limits::{
    COMMENT_CHARS, HOST_BYTES, METAINFO_BYTES, METAINFO_DEPTH, METAINFO_FILES, METAINFO_PIECES, METAINFO_TOKENS, TORRENT_NODES,
    TRACKERS, WEB_SEEDS,
};
use crate::wire::text::printable;
use crate::wire::url::{host_and_port, tracker_url, web_seed_url};
use sha1::{Digest, Sha1};
use std::ops::Range;
use std::sync::Arc;

const FILE_RULES: Rules = Rules { depth: METAINFO_DEPTH, tokens: METAINFO_TOKENS, strict: false };
const INFO_RULES: Rules = Rules { strict: true, ..FILE_RULES };

pub(super) fn from_file(bytes: &[u8], info_bytes: usize) -> Result<Parts, MetainfoError> {
    check_size(bytes)?;
    let scanned =
        scan(bytes, &FILE_RULES).map_err(|e| if is_html(bytes) { MetainfoError::Html } else { MetainfoError::NotBencode(e) })?;
    if !scanned.value.is_dict() {
        return Err(MetainfoError::NotADictionary);
    }
    let info = scanned.value.get(b"info").ok_or(MetainfoError::NoInfo)?;
    let mut parts = read_info(info.raw(), info_bytes)?;
    let tidy = tidy(&scanned, &FILE_RULES).map_err(MetainfoError::NotBencode)?;
    let outer: Outer = decode(&tidy, METAINFO_DEPTH).map_err(|_| MetainfoError::NotADictionary)?;
    add_outer(&mut parts, &outer);
    parts.repairs.bytes_cut = scanned.rest.trim_ascii().len();
    Ok(parts)
}

pub(super) fn from_info(info: &[u8], trackers: Vec<Vec<String>>, web_seeds: Vec<String>) -> Result<Parts, MetainfoError> {
    check_size(info)?;
    let mut parts = read_info(info, usize::MAX)?;
    let tiers = trackers.iter().map(|tier| tier.iter().map(String::as_bytes));
    parts.trackers = clean_tiers(tiers, &mut parts.repairs);
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

/// A page that a web server sent instead of the file.
fn is_html(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start().starts_with(b"<")
}

/// All that the info dictionary says, and itself if it is not longer than `info_bytes`; the rest of the parts is empty.
fn read_info(raw: &[u8], info_bytes: usize) -> Result<Parts, MetainfoError> {
    let scanned = scan(raw, &INFO_RULES).map_err(MetainfoError::BadInfo)?;
    if !scanned.rest.is_empty() {
        return Err(MetainfoError::BytesAfterInfo(scanned.rest.len()));
    }
    if !scanned.value.is_dict() {
        return Err(MetainfoError::NoInfo);
    }
    let tidy = tidy(&scanned, &INFO_RULES).map_err(MetainfoError::BadInfo)?;
    let mut info: Info = decode(&tidy, METAINFO_DEPTH).map_err(|_| MetainfoError::NoInfo)?;
    if info.pieces.is_none() && (info.has_file_tree || info.meta_version == Some(2)) {
        return Err(MetainfoError::V2Only);
    }
    let info_hash = InfoHash(Sha1::digest(raw).into());
    let name = best_name(&info).unwrap_or_else(|| info_hash.to_string());
    let files = read_files(&mut info, &name)?;
    files.iter().enumerate().try_for_each(|(at, file)| path::check_length(number(at), file))?;
    let (files, renamed) = path::part_collisions(files);
    let geometry = read_geometry(&info, files.total())?;
    let at = pieces_range(scanned.value, geometry)?;
    let kept: Option<Arc<[u8]>> = (raw.len() <= info_bytes).then(|| raw.into());
    let hashes = match &kept {
        Some(info) => PieceHashes { bytes: info.clone(), at },
        None => PieceHashes::from(raw.get(at).unwrap_or_default().to_vec()),
    };
    Ok(Parts {
        info_hash,
        info: kept,
        hashes,
        name,
        geometry,
        files,
        private: info.private.is_some_and(|p| p != 0),
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        nodes: Vec::new(),
        comment: None,
        created_by: None,
        creation_date: None,
        repairs: Repairs { files_renamed: renamed, ..Repairs::default() },
    })
}

/// The `.utf-8` twin counts if it is what it says; otherwise the plain field, with what is not UTF-8 replaced.
fn best_name(info: &Info<'_>) -> Option<String> {
    let twin = info.name_utf8.filter(|n| std::str::from_utf8(n).is_ok()).and_then(path::component);
    twin.or_else(|| info.name.and_then(path::component))
}

/// The files as listed, one after the other.
fn read_files(info: &mut Info<'_>, name: &str) -> Result<Files, MetainfoError> {
    if !info.has_files {
        let length = info.length.ok_or(MetainfoError::Field("length"))?;
        let mut one = FilesBuilder::default();
        add(&mut one, [name].into_iter(), length, info.attr)?;
        return Ok(one.finish());
    }
    let listed = info.files.take().ok_or(MetainfoError::Field("files"))?;
    match (listed.count, listed.problem) {
        (0, _) => Err(MetainfoError::NoFiles),
        (files, _) if files > METAINFO_FILES => Err(MetainfoError::TooManyFiles { files, limit: METAINFO_FILES }),
        (_, Some(problem)) => Err(problem),
        (_, None) => Ok(listed.files.named(name).finish()),
    }
}

/// Files are counted from 1 when we speak of them.
fn number(at: usize) -> usize {
    at.saturating_add(1)
}

/// One more file behind the others.
fn add<'n>(
    files: &mut FilesBuilder,
    path: impl DoubleEndedIterator<Item = &'n str> + Clone,
    length: i64,
    attr: &[u8],
) -> Result<(), MetainfoError> {
    let length = u64::try_from(length).map_err(|_| MetainfoError::FileLength { file: number(files.count()), length })?;
    let has = |letter| attr.contains(&letter);
    let pad = has(b'p');
    let marks = Marks { pad, symlink: !pad && length == 0 && has(b'l'), executable: has(b'x') };
    files.push(path, length, marks).map_err(|TooMuch| MetainfoError::TotalLength)
}

impl File<'_> {
    /// Puts this entry behind the others, its names made plain.
    pub(super) fn add_to(&self, files: &mut FilesBuilder) -> Result<(), MetainfoError> {
        let at = files.count();
        let length = self.length.ok_or(MetainfoError::FileField { file: number(at), field: "length" })?;
        let twin = self.path_utf8.as_ref().filter(|p| !p.is_empty() && p.iter().all(|c| std::str::from_utf8(c).is_ok()));
        let path = match twin.or(self.path.as_ref()) {
            Some(written) => path::components(written.iter().copied()),
            // A pad needs no name (BEP 47).
            None if self.attr.contains(&b'p') => vec![".pad".to_owned(), at.to_string()],
            None => return Err(MetainfoError::FileField { file: number(at), field: "path" }),
        };
        add(files, path.iter().map(String::as_str), length, self.attr)
    }
}

fn read_geometry(info: &Info<'_>, total: u64) -> Result<Geometry, MetainfoError> {
    let written = info.piece_length.ok_or(MetainfoError::Field("piece length"))?;
    let piece_len = u64::try_from(written).map_err(|_| MetainfoError::PieceLength(written))?;
    let geometry = Geometry::new(total, piece_len)?;
    match geometry.pieces() {
        pieces if pieces > METAINFO_PIECES => Err(MetainfoError::TooManyPieces { pieces, limit: METAINFO_PIECES }),
        _ => Ok(geometry),
    }
}

/// Where the piece hashes lie inside the raw info dictionary.
fn pieces_range(info: Value<'_>, geometry: Geometry) -> Result<Range<usize>, MetainfoError> {
    let value = info.get(b"pieces").ok_or(MetainfoError::Field("pieces"))?;
    let hashes = value.string().ok_or(MetainfoError::Field("pieces"))?;
    let (got, expected) = (hashes.len(), (geometry.pieces() as usize).saturating_mul(20));
    if got != expected {
        return Err(MetainfoError::Pieces { got, expected });
    }
    // The hashes lie inside the dictionary's bytes.
    let start = (hashes.as_ptr() as usize).saturating_sub(info.raw().as_ptr() as usize);
    Ok(start..start.saturating_add(got))
}

fn add_outer(parts: &mut Parts, outer: &Outer<'_>) {
    let shown = |text: &[u8]| Some(printable(text, COMMENT_CHARS)).filter(|t| !t.is_empty());
    parts.comment = outer.comment_utf8.or(outer.comment).and_then(shown);
    parts.created_by = outer.created_by.and_then(shown);
    parts.creation_date = outer.creation_date;
    let listed = outer.announce_list.0.iter().map(|tier| tier.0.iter().copied());
    parts.trackers = clean_tiers(listed, &mut parts.repairs);
    // BEP 12: `announce` counts only where no list is.
    if parts.trackers.is_empty() {
        parts.trackers = clean_tiers(outer.announce.iter().map(|url| [*url].into_iter()), &mut parts.repairs);
    }
    parts.web_seeds = clean_web_seeds(outer.url_list.0.iter().copied(), &mut parts.repairs);
    parts.nodes = outer.nodes.0.iter().filter_map(named_node).take(TORRENT_NODES).collect();
}

/// A node that can be looked up.
fn named_node(node: &NamedNode<'_>) -> Option<(String, u16)> {
    let host = std::str::from_utf8(node.host).ok().filter(|host| host.len() <= HOST_BYTES)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    host_and_port(&format!("{host}:{}", node.port))
}

/// Tiers without bad URLs, repeated URLs and empty tiers, [`TRACKERS`] in all.
fn clean_tiers<'a>(tiers: impl Iterator<Item = impl Iterator<Item = &'a [u8]>>, repairs: &mut Repairs) -> Vec<Vec<String>> {
    let mut kept: Vec<Vec<String>> = Vec::new();
    let mut count = 0usize;
    for tier in tiers {
        let mut urls: Vec<String> = Vec::new();
        for written in tier.filter(|w| !w.trim_ascii().is_empty()) {
            match tracker_url(written).filter(|_| count < TRACKERS) {
                Some(url) if kept.iter().flatten().chain(&urls).any(|u| *u == url) => {}
                Some(url) => {
                    urls.push(url);
                    count = count.saturating_add(1);
                }
                None => repairs.urls_dropped = repairs.urls_dropped.saturating_add(1),
            }
        }
        if !urls.is_empty() {
            kept.push(urls);
        }
    }
    kept
}

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
