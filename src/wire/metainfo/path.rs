//! The one door through which names from outside become paths.
//!
//! What comes out is a list of components, each a plain name: not empty, not `.` or `..`, no `/`, no NUL, no control
//! or invisible character, at most [`COMPONENT_BYTES`] long, never one of rill's own names. Joined below a directory
//! they stay below it. No two files of a torrent have the same path, and none is a directory of another.
//!
//! Linux file systems keep `CON` and `a:b`; FAT and Windows shares do not. [`for_fat`] maps for those, and the floor
//! that knows the file system decides. Symlinks on the disk are that floor's business too: it opens component by component.

use super::MetainfoError;
use super::files::{FileEntry, Files, FilesBuilder};
use crate::wire::limits::{COMPONENT_BYTES, PATH_BYTES};
use crate::wire::text::{is_invisible, lossy_chars};
use std::collections::{BTreeMap, BTreeSet};

/// Names that start so are rill's own inside a download directory; a torrent's never do.
pub const OWN_PREFIX: &str = ".rill-";

/// Stands where something could not stay.
const STAND_IN: char = '_';

/// A name as one path component, or `None` if nothing of it may stay. A name that came out of here comes out the same.
pub fn component(written: &[u8]) -> Option<String> {
    let visible = lossy_chars(written).filter(|c| !is_invisible(*c));
    let relative = visible.skip_while(|c| matches!(c, '/' | '\\'));
    let replaced = |c: char| c == '/' || c == char::REPLACEMENT_CHARACTER || c.is_control();
    let mut name: String = relative.map(|c| if replaced(c) { STAND_IN } else { c }).collect();
    if name.chars().all(char::is_whitespace) || name == "." || name == ".." {
        return None;
    }
    if name.get(..OWN_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(OWN_PREFIX)) {
        name.replace_range(..1, "_");
    }
    Some(with_suffix(name, ""))
}

/// The components of a file's path below the torrent's own directory; what may not stay is left out.
pub fn components<'a>(written: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut path: Vec<String> = written.into_iter().filter_map(component).collect();
    if path.is_empty() {
        path.push(STAND_IN.into());
    }
    path
}

/// The name with `suffix` before its extension, at most [`COMPONENT_BYTES`] long: what is too long is cut out of the
/// middle, between two characters.
fn with_suffix(name: String, suffix: &str) -> String {
    if suffix.is_empty() && name.len() <= COMPONENT_BYTES {
        return name;
    }
    let (stem, extension) = split_extension(&name);
    let room = COMPONENT_BYTES.saturating_sub(extension.len()).saturating_sub(suffix.len());
    let cut = (0..=stem.len().min(room)).rev().find_map(|end| stem.get(..end)).unwrap_or_default();
    format!("{cut}{suffix}{extension}")
}

/// The name and its extension, dot included; no extension is longer than 16 bytes.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() <= dot.saturating_add(16) => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Refuses a path that no system call would take.
pub(super) fn check_length(file: usize, entry: FileEntry<'_>) -> Result<(), MetainfoError> {
    let bytes = entry.path().map(|name| name.len().saturating_add(1)).sum::<usize>();
    if bytes > PATH_BYTES { Err(MetainfoError::PathTooLong { file, bytes }) } else { Ok(()) }
}

/// Gives every file that lands on the disk a path of its own; returns how many had to be renamed.
///
/// Of two equal paths the later is renamed; where a path is both a file and a directory, the file is.
pub(super) fn rename_collisions(files: Files) -> (Files, usize) {
    if !collide(&files) {
        return (files, 0);
    }
    renamed(&files, str::to_owned, |path| path.join("/"))
}

/// The same files with another name for each component, and then paths of their own where two had the same key; how many got those.
fn renamed(files: &Files, name: impl Fn(&str) -> String, key: impl Fn(&[String]) -> String) -> (Files, usize) {
    let mut paths: Vec<Vec<String>> = files.iter().map(|file| file.path().map(&name).collect()).collect();
    let mut on_disk: Vec<_> = paths.iter_mut().zip(files.iter()).filter(|(_, f)| f.lands_on_disk()).map(|(p, _)| p).collect();
    let parted = part(&mut on_disk, key);
    let mut renamed = FilesBuilder::default();
    for (path, file) in paths.iter().zip(files.iter()) {
        if renamed.push(path.iter().map(String::as_str), file.length, file.attributes).is_err() {
            break; // names that are a little longer still fit, because the list of files has a limit far below
        }
    }
    (renamed.finish(), parted)
}

/// Whether two files that land on the disk have equal paths, or one's path is a directory of another's: ordered by their
/// names such a pair stands side by side.
fn collide(files: &Files) -> bool {
    let mut order: Vec<u32> = (0..).zip(files.iter()).filter(|(_, file)| file.lands_on_disk()).map(|(at, _)| at).collect();
    let path = |at: &u32| files.get(*at as usize).into_iter().flat_map(|file| file.path());
    order.sort_unstable_by(|a, b| path(a).cmp(path(b)));
    order.iter().zip(order.iter().skip(1)).any(|(a, b)| {
        let mut longer = path(b);
        path(a).all(|name| longer.next() == Some(name))
    })
}

/// The files under names that FAT, exFAT and Windows shares can hold: no reserved name or character, no dot or blank at the end, and no
/// two paths that differ in case alone. Same order, same lengths, same attributes; entries that do not land on the disk too.
pub fn for_fat(files: &Files) -> Files {
    renamed(files, fat_component, |path| path.join("/").to_lowercase()).0
}

/// A safe component as FAT can hold it.
fn fat_component(name: &str) -> String {
    let mapped: String = name.chars().map(|c| if r#"<>:"\|?*"#.contains(c) { STAND_IN } else { c }).collect();
    let kept = mapped.trim_end_matches(['.', ' ']);
    let mut mapped = if kept.is_empty() { STAND_IN.to_string() } else { kept.to_owned() };
    if is_reserved(&mapped) {
        mapped.insert(0, STAND_IN);
    }
    with_suffix(mapped, "")
}

/// Whether Windows takes the name for a device, whatever its extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device)
            .is_some_and(|n| matches!(n, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"))
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CLOCK$" | "CONIN$" | "CONOUT$") || numbered("COM") || numbered("LPT")
}

/// Renames until no two paths have the same key and no path is a directory of another. Cheap when nothing collides.
fn part(paths: &mut [&mut Vec<String>], key: impl Fn(&[String]) -> String) -> usize {
    if !any_collision(paths, &key) {
        return 0;
    }
    let directories: BTreeSet<String> = paths.iter().flat_map(|p| (1..p.len()).filter_map(|n| Some(key(p.get(..n)?)))).collect();
    // A new name must be free of every name of old, also of those that come later.
    let mut taken: BTreeSet<String> = paths.iter().map(|p| key(p)).collect();
    let mut seen = BTreeSet::new();
    let mut counters: BTreeMap<String, u32> = BTreeMap::new();
    let mut renamed = 0usize;
    for path in paths {
        let old = key(path);
        if !directories.contains(&old) && seen.insert(old.clone()) {
            continue;
        }
        let counter = counters.entry(old).or_default();
        let Some(name) = path.pop() else { continue };
        loop {
            *counter = counter.saturating_add(1);
            path.push(with_suffix(name.clone(), &format!(".{counter}")));
            let new = key(path);
            if !directories.contains(&new) && taken.insert(new) {
                break;
            }
            path.pop();
        }
        renamed = renamed.saturating_add(1);
    }
    renamed
}

/// Whether two paths are equal or one is a directory of another: in sorted order such a pair stands side by side.
fn any_collision(paths: &[&mut Vec<String>], key: &impl Fn(&[String]) -> String) -> bool {
    // '/' sorts like the end of a component when it is mapped below every character that a component can hold.
    let mut keys: Vec<String> = paths.iter().map(|p| key(p).replace('/', "\0")).collect();
    keys.sort_unstable();
    keys.iter()
        .zip(keys.iter().skip(1))
        .any(|(a, b)| b.strip_prefix(a.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0')))
}
