//! Turns untrusted names into paths; all names of torrents and magnet links pass through here.
//!
//! A path is a list of components, each a plain name: not empty, not `.` or `..`, without `/`, NUL, control
//! or invisible characters, at most [`COMPONENT_BYTES`] long, and not one of rill's own file names. Joined to
//! a directory, the path stays below it. No two files of a torrent have the same path, and no file's path is
//! a directory of another's.
//!
//! `CON` and `a:b` are valid names on Linux file systems but not on FAT and Windows shares: [`for_fat`]
//! replaces them. The disk floor, which knows the file system, decides when; it also guards against symlinks
//! on disk by opening paths component by component.

use super::MetainfoError;
use super::files::{FileEntry, Files, FilesBuilder};
use crate::wire::limits::{COMPONENT_BYTES, PATH_BYTES};
use crate::wire::text::{is_invisible, lossy_chars};
use std::collections::{BTreeMap, BTreeSet};

/// Prefix of rill's own files in a download directory. No file of a torrent has it.
pub const OWN_PREFIX: &str = ".rill-";

/// Replaces a character or a name that is not allowed.
const REPLACEMENT: char = '_';

/// Turns a name into one path component; `None` if nothing is left of it. Idempotent.
pub fn component(written: &[u8]) -> Option<String> {
    let visible = lossy_chars(written).filter(|c| !is_invisible(*c));
    let relative = visible.skip_while(|c| matches!(c, '/' | '\\'));
    let replaced = |c: char| c == '/' || c == char::REPLACEMENT_CHARACTER || c.is_control();
    let mut name: String = relative.map(|c| if replaced(c) { REPLACEMENT } else { c }).collect();
    if name.chars().all(char::is_whitespace) || name == "." || name == ".." {
        return None;
    }
    if name.get(..OWN_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(OWN_PREFIX)) {
        name.replace_range(..1, "_");
    }
    Some(with_suffix(name, ""))
}

/// Turns names into the components of a path below the torrent's directory. Names of which nothing is left
/// are dropped.
pub fn components<'a>(written: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut path: Vec<String> = written.into_iter().filter_map(component).collect();
    if path.is_empty() {
        path.push(REPLACEMENT.into());
    }
    path
}

/// Inserts `suffix` before the extension. The result has at most [`COMPONENT_BYTES`] bytes: the end of the
/// stem is cut off, at a character boundary.
fn with_suffix(name: String, suffix: &str) -> String {
    if suffix.is_empty() && name.len() <= COMPONENT_BYTES {
        return name;
    }
    let (stem, extension) = split_extension(&name);
    let room = COMPONENT_BYTES.saturating_sub(extension.len()).saturating_sub(suffix.len());
    let cut = (0..=stem.len().min(room)).rev().find_map(|end| stem.get(..end)).unwrap_or_default();
    format!("{cut}{suffix}{extension}")
}

/// Returns the name of an unfinished file with this name, at most 255 bytes long: `NAME.part`, or
/// `NAME.N.part` with a counter above 0.
pub fn part_name(name: &str, counter: u32) -> String {
    let suffix = if counter == 0 { String::new() } else { format!(".{counter}") };
    with_suffix(format!("{name}.part"), &suffix)
}

/// Splits off the extension, including its dot. An extension has at most 16 bytes.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() <= dot.saturating_add(16) => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Refuses a path that is too long for system calls.
pub(super) fn check_length(file: usize, entry: FileEntry<'_>) -> Result<(), MetainfoError> {
    let bytes = entry.path().map(|name| name.len().saturating_add(1)).sum::<usize>();
    if bytes > PATH_BYTES { Err(MetainfoError::PathTooLong { file, bytes }) } else { Ok(()) }
}

/// Returns whether the name can be a path component as it is.
pub fn is_plain_name(name: &str) -> bool {
    component(name.as_bytes()).as_deref() == Some(name)
}

/// Returns a torrent's files below a directory of this plain name, or its single file under this name.
pub(super) fn with_top_level(files: &Files, name: &str) -> Files {
    let has_directory = files.iter().any(|file| file.path().count() > 1);
    let mut renamed = if has_directory { FilesBuilder::below(name) } else { FilesBuilder::default() };
    for file in files.iter() {
        let mut path: Vec<&str> = file.path().collect();
        if has_directory {
            path.remove(0);
        } else {
            path = vec![name];
        }
        if renamed.push(path.into_iter(), file.length, file.attributes).is_err() {
            break; // cannot happen: METAINFO_FILES keeps the list far below its capacity
        }
    }
    renamed.finish()
}

/// Renames files that land on the disk until their paths differ; returns how many were renamed.
///
/// Of two equal paths the later is renamed; if a path is both a file and a directory, the file is renamed.
pub(super) fn rename_collisions(files: Files) -> (Files, usize) {
    if !collide(&files) {
        return (files, 0);
    }
    renamed(&files, str::to_owned, |path| path.join("/"))
}

/// Applies `name` to every component, then renames files whose paths have the same `key`; returns how many
/// were renamed.
fn renamed(
    files: &Files,
    name: impl Fn(&str) -> String,
    key: impl Fn(&[String]) -> String,
) -> (Files, usize) {
    let mut paths: Vec<Vec<String>> = files.iter().map(|file| file.path().map(&name).collect()).collect();
    let mut on_disk: Vec<_> =
        paths.iter_mut().zip(files.iter()).filter(|(_, f)| f.lands_on_disk()).map(|(p, _)| p).collect();
    let count = make_unique(&mut on_disk, key);
    let mut renamed = FilesBuilder::default();
    for (path, file) in paths.iter().zip(files.iter()) {
        if renamed.push(path.iter().map(String::as_str), file.length, file.attributes).is_err() {
            break; // cannot happen: METAINFO_FILES keeps the list far below its capacity
        }
    }
    (renamed.finish(), count)
}

/// Returns whether two files that land on the disk have equal paths, or the path of one is a directory of
/// another's. Such pairs are adjacent in sorted order.
fn collide(files: &Files) -> bool {
    let mut order: Vec<u32> =
        (0..).zip(files.iter()).filter(|(_, file)| file.lands_on_disk()).map(|(at, _)| at).collect();
    let path = |at: &u32| files.get(*at as usize).into_iter().flat_map(|file| file.path());
    order.sort_unstable_by(|a, b| path(a).cmp(path(b)));
    order.iter().zip(order.iter().skip(1)).any(|(a, b)| {
        let mut longer = path(b);
        path(a).all(|name| longer.next() == Some(name))
    })
}

/// Returns the files with names that FAT, exFAT and Windows shares accept: no reserved names or characters,
/// no dot or blank at the end, and no two paths that differ only in case. Order, lengths and attributes are
/// unchanged.
pub fn for_fat(files: &Files) -> Files {
    renamed(files, fat_component, |path| path.join("/").to_lowercase()).0
}

/// Turns a plain name into one that FAT accepts.
fn fat_component(name: &str) -> String {
    let mapped: String =
        name.chars().map(|c| if r#"<>:"\|?*"#.contains(c) { REPLACEMENT } else { c }).collect();
    let kept = mapped.trim_end_matches(['.', ' ']);
    let mut mapped = if kept.is_empty() { REPLACEMENT.to_string() } else { kept.to_owned() };
    if is_reserved(&mapped) {
        mapped.insert(0, REPLACEMENT);
    }
    with_suffix(mapped, "")
}

/// Returns whether Windows reserves the name for a device, with any extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|n| {
            matches!(n, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
        })
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CLOCK$" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

/// Renames until no two paths have the same key and no path is a directory of another. Cheap without
/// collisions.
fn make_unique(paths: &mut [&mut Vec<String>], key: impl Fn(&[String]) -> String) -> usize {
    if !any_collision(paths, &key) {
        return 0;
    }
    let directories: BTreeSet<String> =
        paths.iter().flat_map(|p| (1..p.len()).filter_map(|n| Some(key(p.get(..n)?)))).collect();
    // A new name must differ from all original names, including those of later files.
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

/// Returns whether two paths are equal or one is a directory of another. Such pairs are adjacent in sorted
/// order.
fn any_collision(paths: &[&mut Vec<String>], key: &impl Fn(&[String]) -> String) -> bool {
    // With '/' mapped below every character of a component, a directory sorts directly before its content.
    let mut keys: Vec<String> = paths.iter().map(|p| key(p).replace('/', "\0")).collect();
    keys.sort_unstable();
    keys.iter().zip(keys.iter().skip(1)).any(|(a, b)| {
        b.strip_prefix(a.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0'))
    })
}
