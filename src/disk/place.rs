//! The place of a record's content: the file NAME.dir beside the record NAME.resume holds the canonical path of the
//! content's directory and the torrent's name, each followed by a zero byte.
//!
//! `rill state` prints it; nothing else depends on it.

use super::atomic_file::{read_state_file, write_state_file};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most bytes of the file: a path and a name.
pub(super) const PLACE_BYTES: u64 = 8 << 10;

/// Returns the name of the file beside this record.
pub(super) fn place_file(stem: &str) -> String {
    format!("{stem}.dir")
}

/// Writes in which directory the content of this record lies, and under which name.
pub(super) fn note_place(state_dir: &Path, stem: &str, dir: &Path, name: &str) {
    let bytes = [dir.as_os_str().as_bytes(), b"\0", name.as_bytes(), b"\0"].concat();
    let file = place_file(stem);
    if read_state_file(state_dir, &file, PLACE_BYTES).is_some_and(|there| there == bytes) {
        return;
    }
    // Without this file the record is listed without its place, which is no reason to fail.
    let _ = write_state_file(state_dir, &file, &bytes);
}
