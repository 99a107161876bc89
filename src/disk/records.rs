//! The records of a state directory, as `rill state` lists, forgets and cleans them.
//!
//! A record does not hold the path of its content's directory, only a part of the path's digest; the path stands
//! with the torrent's name in a file beside it, see [`place`](super::place).

use super::atomic_file::{open_locked, read_state_file};
use super::dir::Dir;
use super::fault::DiskFault;
use super::place::{PLACE_BYTES, place_file};
use super::resume_record::{RecordHead, record_head};
use crate::wire::part_name;
use rustix::fs::AtFlags;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most bytes of a record that is read: of a torrent with two million pieces and a million files.
const RECORD_BYTES: u64 = 64 << 20;

/// Whether a record's content is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentState {
    /// A file or directory of its name is there.
    Present,
    /// The directory's device is there, and the content is not.
    Gone,
    /// The directory is on a device that is not there now.
    NotMounted,
    /// The record says nothing of its directory.
    Unknown,
}

/// One record.
#[derive(Clone, Debug)]
pub struct RecordSummary {
    /// Name of its files in the state directory, without an ending.
    pub stem: String,
    /// The torrent's info hash, in hexadecimal digits.
    pub info_hash: String,
    /// The directory of its content.
    pub dir: Option<PathBuf>,
    /// The torrent's name.
    pub name: Option<String>,
    /// Pieces, verified pieces and bytes of the torrent; `None` if the record cannot be read.
    pub size: Option<RecordSize>,
    /// Time of the last save.
    pub saved: Option<SystemTime>,
    /// Whether the content is there.
    pub content: ContentState,
}

/// How much of a torrent a record vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSize {
    /// All pieces.
    pub pieces: u32,
    /// Verified pieces.
    pub have: u32,
    /// Bytes of the torrent.
    pub bytes: u64,
}

/// Lists the records of a state directory by name; none if the directory does not exist.
///
/// # Errors
/// The directory cannot be read.
pub fn records(state_dir: &Path) -> io::Result<Vec<RecordSummary>> {
    let entries = match fs::read_dir(state_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let stem = name.split_once(".resume").filter(|(_, end)| matches!(*end, "" | ".0" | ".1"));
        let Some(stem) = stem.map(|(stem, _)| stem.to_owned()).filter(|stem| hash_of(stem).is_some()) else {
            continue;
        };
        files.entry(stem).or_default().push(name);
    }
    Ok(files.into_iter().map(|(stem, files)| summary(state_dir, stem, &files)).collect())
}

/// Returns the hash at the beginning of a record's name.
fn hash_of(stem: &str) -> Option<&str> {
    let (hash, digest) = stem.split_once('-').unwrap_or((stem, "00000000"));
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    (matches!(hash.len(), 40 | 64) && digest.len() == 8 && is_hex(hash) && is_hex(digest)).then_some(hash)
}

fn summary(state_dir: &Path, stem: String, files: &[String]) -> RecordSummary {
    let heads = files.iter().filter_map(|file| record_head(&read_state_file(state_dir, file, RECORD_BYTES)?));
    let head = heads.max_by_key(|head| head.sequence);
    let saved =
        files.iter().filter_map(|file| fs::metadata(state_dir.join(file)).ok()?.modified().ok()).max();
    let (dir, name) = place(state_dir, &stem).unzip();
    let content = match (&dir, &name, &head) {
        (Some(dir), Some(name), Some(head)) => content_state(dir, name, head),
        _ => ContentState::Unknown,
    };
    let size = head.map(|head| RecordSize { pieces: head.pieces, have: head.have, bytes: head.bytes });
    let info_hash = hash_of(&stem).unwrap_or_default().to_owned();
    RecordSummary { stem, info_hash, dir, name, size, saved, content }
}

fn content_state(dir: &Path, name: &str, head: &RecordHead) -> ContentState {
    let is_there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    if is_there(name) || is_there(&part_name(name, 0)) {
        return ContentState::Present;
    }
    // The directory may be gone with its content; then the nearest one above tells the device.
    let device = dir.ancestors().find_map(|above| Some(above.metadata().ok()?.dev()));
    match device {
        _ if head.device == 0 => ContentState::Unknown,
        Some(device) if device == head.device => ContentState::Gone,
        _ => ContentState::NotMounted,
    }
}

/// Returns the directory and name that stand beside a record.
fn place(state_dir: &Path, stem: &str) -> Option<(PathBuf, String)> {
    let bytes = read_state_file(state_dir, &place_file(stem), PLACE_BYTES)?;
    let mut parts = bytes.split(|b| *b == 0);
    let (dir, name, end) = (parts.next()?, parts.next()?, parts.next()?);
    let dir = PathBuf::from(OsStr::from_bytes(dir));
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('/'))?;
    (end.is_empty() && dir.is_absolute()).then(|| (dir, name.to_owned()))
}

/// Removes a record and what stands beside it.
///
/// # Errors
/// [`FaultKind::Locked`](super::FaultKind::Locked) if a process works on the torrent, or the fault of a removal.
pub fn forget_record(state_dir: &Path, stem: &str) -> Result<(), DiskFault> {
    let dir = Dir::open(state_dir, false)?;
    let lock = format!("{stem}.lock");
    let _held = open_locked(&dir, Path::new(&lock))?;
    for end in ["resume", "resume.0", "resume.1", "resume.tmp", "dir", "dir.tmp", "lock"] {
        // The files that do not exist are gone already.
        let _ = rustix::fs::unlinkat(dir.root(), format!("{stem}.{end}"), AtFlags::empty());
    }
    Ok(())
}

/// Removes the metadata of a magnet link.
pub fn forget_metadata(state_dir: &Path, info_hash: &str) {
    let _ = fs::remove_file(state_dir.join(format!("{info_hash}.torrent")));
}

#[cfg(test)]
mod tests {
    use super::super::place::note_place;
    use super::*;

    #[test]
    fn only_names_of_records_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let hash = "ab".repeat(20);
        let names = [
            format!("{hash}-01234567.resume"),
            format!("{hash}-01234567.lock"),
            format!("{hash}.resume.0"),
            format!("{hash}.resume.1"),
            format!("{hash}-0123.resume"),
            format!("{hash}.torrent"),
            "dht.nodes".to_owned(),
            "x.resume".to_owned(),
        ];
        names.iter().for_each(|name| fs::write(dir.path().join(name), "damaged").unwrap());
        let found = records(dir.path()).unwrap();
        let stems: Vec<&str> = found.iter().map(|record| record.stem.as_str()).collect();
        assert_eq!(stems, [&hash, format!("{hash}-01234567").as_str()]);
        assert!(
            found
                .iter()
                .all(|r| r.size.is_none() && r.content == ContentState::Unknown && r.info_hash == hash)
        );
        forget_record(dir.path(), &hash).unwrap();
        assert_eq!(records(dir.path()).unwrap().len(), 1);
        assert!(
            dir.path().join("x.resume").exists() && records(&dir.path().join("none")).unwrap().is_empty()
        );
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let content = Path::new("/a b/c\nd");
        note_place(dir.path(), "x", content, "name");
        assert_eq!(place(dir.path(), "x"), Some((content.to_path_buf(), "name".to_owned())));
        for bytes in ["", "/a", "/a\0b", "a\0b\0", "/a\0b/c\0", "/a\0\0", "/a\0b\0c"] {
            fs::write(dir.path().join("x.dir"), bytes).unwrap();
            assert_eq!(place(dir.path(), "x"), None, "{bytes:?}");
        }
    }
}
