//! `--metadata-only`: saves a torrent's metadata as a torrent file named after the torrent. An existing file
//! is never overwritten: one with the same bytes counts as saved, any other is an error.

use super::exit::{Exit, Failure};
use super::json::Object;
use super::plan::Style;
use super::source::shown;
use crate::wire::Metainfo;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Most bytes of the torrent's name in the file name: with `.torrent` they stay below 255, the limit of most
/// file systems.
const NAME_BYTES: usize = 240;

/// Writes `bytes` as `NAME.torrent` into `dir`. Returns the text to print about it.
pub(crate) fn save(dir: &Path, metainfo: &Metainfo, bytes: &[u8], style: Style) -> Result<String, Failure> {
    let path = dir.join(format!("{}.torrent", shortened(metainfo.name())));
    let name = shown(&path);
    fs::create_dir_all(dir).map_err(|e| Failure::os(Exit::Create, shown(dir), &e))?;
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => write(file, bytes).map_err(|e| {
            // An incomplete torrent file is worse than none.
            let _ = fs::remove_file(&path);
            Failure::os(Exit::Io, &name, &e)
        })?,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if !holds(&path, bytes) {
                return Err(Failure::new(
                    Exit::Exists,
                    format!("{name}: a different file of that name exists"),
                ));
            }
        }
        Err(e) => return Err(Failure::os(Exit::Create, &name, &e)),
    }
    Ok(match style {
        Style { json: true, .. } => {
            let o = Object::new().str("event", "saved").str("info_hash", &metainfo.info_hash().to_string());
            o.str("name", metainfo.name()).str("path", &path.to_string_lossy()).end() + "\n"
        }
        Style { quiet: true, .. } => String::new(),
        Style { .. } => name + "\n",
    })
}

/// Returns whether `path` is a regular file with exactly these bytes. A file of another length is not read.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let same_length = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == bytes.len() as u64);
    same_length && fs::read(path).is_ok_and(|there| there == bytes)
}

fn write(mut file: File, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

fn shortened(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"é".repeat(200)).to_string();
        assert!(long.len() <= NAME_BYTES && long.len() > NAME_BYTES - 3);
    }
}
