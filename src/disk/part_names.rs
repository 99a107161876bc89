//! The names of unfinished files: a file lies at NAME.part until its last piece is verified and synced, then it
//! is renamed to NAME.
//!
//! ```text
//!   NAME exists                ──► the file is NAME
//!   else NAME.part exists      ──► the file is NAME.part
//!   else, to be written        ──► NAME.part is created, or NAME without part names
//! ```
//!
//! Only one bit a file is kept. It changes while the torrent is opened and when the file is renamed; a thread
//! that opens or looks at a file by its path holds [`PartNames::keep`] meanwhile, so the path is never the old
//! one. Descriptors stay valid over the rename.
//!
//! NAME.part is cut like any other name that is too long, and has a counter if another entry of the torrent has
//! that name (`a.part` beside `a`). The counter depends on the torrent's names alone, so each start finds the
//! same name. Empty files are never named so.

use super::aliases::fold;
use super::hasher::block_digest;
use super::torrent_files::FileBits;
use crate::wire::{FileEntry, Files, part_name};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bytes of a name from which on its part name is cut.
const LONG_NAME: usize = 250;

/// Which files of a torrent lie at their part names, and those names.
#[derive(Debug)]
pub(super) struct PartNames {
    /// New files are created at their part names.
    pub enabled: bool,
    /// The files that lie, or will be created, at their part names.
    at_part: FileBits,
    /// The counters above 0 in part names, by file.
    counters: BTreeMap<usize, u32>,
    renaming: RwLock<()>,
}

impl PartNames {
    /// The part names of these files, none of which is in use yet.
    pub fn new(enabled: bool, files: &Files) -> PartNames {
        PartNames {
            enabled,
            at_part: FileBits::none(files.len()),
            counters: counters(files),
            renaming: RwLock::new(()),
        }
    }

    /// Whether the file lies, or will be created, at its part name.
    pub fn is_part(&self, file: usize) -> bool {
        self.at_part.has(file)
    }

    /// Sets whether the file lies at its part name.
    pub fn set_part(&self, file: usize, is_part: bool) {
        if is_part {
            self.at_part.set(file);
        } else {
            self.at_part.clear(file);
        }
    }

    /// The part name's path below the torrent's directory.
    pub fn path(&self, file: usize, entry: FileEntry<'_>) -> PathBuf {
        part_path(entry, self.counters.get(&file).copied().unwrap_or(0)).into()
    }

    /// Keeps every file at its path until the guard is dropped.
    pub fn keep(&self) -> RwLockReadGuard<'_, ()> {
        self.renaming.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no thread relies on a path.
    pub fn change(&self) -> RwLockWriteGuard<'_, ()> {
        self.renaming.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn part_path(entry: FileEntry<'_>, counter: u32) -> String {
    let mut path: Vec<&str> = entry.path().collect();
    let name = part_name(path.pop().unwrap_or_default(), counter);
    path.push(&name);
    path.join("/")
}

/// The counters of the part names that would be another entry's name or part name. Names that a file system may
/// take for one count as equal.
fn counters(files: &Files) -> BTreeMap<usize, u32> {
    let on_disk = || files.iter().enumerate().filter(|(_, f)| f.lands_on_disk());
    let ends_with_part = |name: &str| {
        name.len()
            .checked_sub(5)
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(".part"))
    };
    let is_odd = |f: &FileEntry<'_>| f.path().any(|name| name.len() > LONG_NAME || ends_with_part(name));
    let mut counters = BTreeMap::new();
    if !on_disk().any(|(_, f)| is_odd(&f)) {
        return counters;
    }
    // Digests, since a torrent may have very many files.
    let mut taken = BTreeSet::new();
    for (_, f) in on_disk() {
        let path = f.path_text();
        let directories = path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default());
        taken.extend(directories.map(key_of));
        taken.insert(key_of(&path));
    }
    // The next counter of each name: many equal names must not be counted from the start each time.
    let mut next: BTreeMap<u64, u32> = BTreeMap::new();
    for (file, f) in on_disk().filter(|(_, f)| f.length > 0) {
        let counter = next.entry(key_of(&part_path(f, 0))).or_default();
        while !taken.insert(key_of(&part_path(f, *counter))) {
            *counter += 1;
        }
        if *counter > 0 {
            counters.insert(file, *counter);
        }
    }
    counters
}

/// Equal for paths that a file system may take for one.
fn key_of(path: &str) -> u64 {
    let names: Vec<Vec<u8>> = path.split('/').map(fold).collect();
    block_digest(&names.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part_paths(names: &[&str]) -> Vec<String> {
        let files = Files::from_iter(names.iter().map(|name| (*name, 1)));
        let parts = PartNames::new(true, &files);
        files.iter().enumerate().map(|(i, f)| parts.path(i, f).to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn f22_a_part_name_is_no_name_of_another_entry() {
        assert_eq!(part_paths(&["t/a", "t/b.mkv"]), ["t/a.part", "t/b.mkv.part"]);
        assert_eq!(part_paths(&["t/a", "t/a.part"]), ["t/a.1.part", "t/a.part.part"]);
        assert_eq!(part_paths(&["t/a", "t/A.PART"]), ["t/a.1.part", "t/A.PART.part"]);
        assert_eq!(part_paths(&["t/a", "t/a.part/x"]), ["t/a.1.part", "t/a.part/x.part"]);
        assert_eq!(part_paths(&["a", "a.part", "a.1.part"])[0], "a.2.part");
        assert_eq!(part_paths(&["caf\u{e9}", "cafe\u{301}.part"])[0], "caf\u{e9}.1.part");
    }

    #[test]
    fn f22_a_long_part_name_is_cut_and_stays_the_only_one() {
        let (a, b) = ("x".repeat(255), "x".repeat(254) + "y");
        let paths = part_paths(&[&a, &b, "short"]);
        assert_eq!(paths[0], "x".repeat(250) + ".part");
        assert_eq!(paths[1], "x".repeat(248) + ".1.part");
        assert_eq!(paths[2], "short.part");
    }

    #[test]
    fn f22_many_equal_part_names_are_told_apart_in_little_time() {
        let names: Vec<String> = (0..20_000).map(|i| format!("{}{i:05}", "x".repeat(250))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = std::time::Instant::now();
        let paths: BTreeSet<String> = part_paths(&names).into_iter().collect();
        assert_eq!(paths.len(), 20_000);
        assert!(before.elapsed() < std::time::Duration::from_secs(10));
    }
}
