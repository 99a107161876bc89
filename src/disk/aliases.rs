//! Entries of one torrent that are one file: by hard links, or on a file system that takes two names for one
//! (`A` and `a`, or two Unicode forms of one letter).
//!
//! A torrent with such entries is refused before its first write: each piece would be right when it is
//! hashed, and overwritten by another one later. Which names are one is a question to the file system, not to
//! a table: the files are created, and the directory is listed.

use super::dir::FsKind;
use super::fault::{DiskFault, FaultKind};
use super::hasher::block_digest;
use super::open_files::OpenFiles;
use super::torrent_files::TorrentFiles;
use rustix::fs::{AtFlags, Dir as Entries, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fails if two of these files, which exist and have these inodes, are one file: through hard links, or one of
/// them is mounted over the other.
pub(super) fn check_inodes(
    torrent: &TorrentFiles,
    inodes: impl Iterator<Item = (u64, usize)>,
) -> Result<(), DiskFault> {
    let mut inodes: Vec<(u64, usize)> = inodes.collect();
    inodes.sort_unstable();
    // The number of an inode says nothing without its device.
    for same in inodes.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        let mut devices = BTreeSet::new();
        for (_, file) in same {
            let stat = torrent.dir.stat(&torrent.path(*file))?;
            if stat.is_some_and(|stat| !devices.insert((stat.st_dev, stat.st_ino))) {
                return Err(torrent.fault_without_errno(FaultKind::SameFile, *file));
            }
        }
    }
    Ok(())
}

/// Fails if two directories of these files are one directory, as bind mounts make them.
pub(super) fn check_dirs(
    torrent: &TorrentFiles,
    files: impl Iterator<Item = usize>,
) -> Result<(), DiskFault> {
    // Digests of paths, since a torrent may have very many directories.
    let mut paths = BTreeSet::new();
    let mut inodes = BTreeSet::new();
    for file in files {
        let path = torrent.layout.path(file);
        for dir in path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
            if !paths.insert(block_digest(dir.as_os_str().as_encoded_bytes())) {
                break;
            }
            let stat = torrent.dir.stat(dir)?;
            if stat.is_some_and(|stat| !inodes.insert((stat.st_dev, stat.st_ino))) {
                return Err(torrent.fault_without_errno(FaultKind::SameFile, file));
            }
        }
    }
    Ok(())
}

/// Fails if two of these files have names that are one name on this file system. Creates the files whose names
/// come into question.
pub(super) fn check_names(
    torrent: &Arc<TorrentFiles>,
    open_files: &mut OpenFiles,
    files: impl Iterator<Item = usize>,
) -> Result<(), DiskFault> {
    if !may_fold(torrent) {
        return Ok(());
    }
    let similar = similar_names(files.map(|file| (file, torrent.layout.file(file).path_text())));
    let mut created = Vec::new();
    let result = check_similar(torrent, open_files, &similar, &mut created);
    if result.is_err() {
        for path in created {
            let empty = torrent.dir.stat(&path).is_ok_and(|stat| stat.is_some_and(|stat| stat.st_size == 0));
            if empty {
                let _ = rustix::fs::unlinkat(torrent.dir.root(), &path, AtFlags::empty());
            }
        }
    }
    result
}

/// Whether the file system may take two names for one. FAT is known to, and has names of its own in
/// [`TorrentFiles`].
fn may_fold(torrent: &TorrentFiles) -> bool {
    let folds = |fd: &std::os::fd::OwnedFd| {
        rustix::fs::ioctl_getflags(fd).is_ok_and(|flags| flags.bits() & CASEFOLD != 0)
    };
    let top_folds = || {
        let top = torrent.layout.on_disk().next()?.1.to_path();
        let first = top.components().next()?.as_os_str().to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(torrent.dir.root(), first, flags, Mode::empty()).ok()?;
        Some(folds(&dir))
    };
    match torrent.fs {
        FsKind::Remote => true,
        FsKind::Fat { .. } => false,
        FsKind::Native | FsKind::Memory => folds(torrent.dir.root()) || top_folds().unwrap_or(false),
    }
}

/// `FS_CASEFOLD_FL` of the kernel: names in this directory are compared without regard to case.
const CASEFOLD: u32 = 0x4000_0000;

/// The files whose names differ at most in what a file system might fold.
fn similar_names(names: impl Iterator<Item = (usize, String)>) -> Vec<usize> {
    let mut keys: Vec<(u64, usize)> = names.map(|(file, name)| (block_digest(&fold(&name)), file)).collect();
    keys.sort_unstable();
    let mut similar: Vec<usize> = keys
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|group| group.len() > 1)
        .flatten()
        .map(|(_, file)| *file)
        .collect();
    similar.sort_unstable();
    similar
}

/// What no file system changes of a name. Unicode forms mix letters of ASCII with others, so of a name that is
/// not all ASCII only the rest of ASCII is left.
pub(super) fn fold(name: &str) -> Vec<u8> {
    if name.is_ascii() {
        name.to_ascii_lowercase().into_bytes()
    } else {
        name.bytes().filter(|byte| byte.is_ascii() && !byte.is_ascii_alphabetic()).collect()
    }
}

fn check_similar(
    torrent: &Arc<TorrentFiles>,
    open_files: &mut OpenFiles,
    similar: &[usize],
    created: &mut Vec<PathBuf>,
) -> Result<(), DiskFault> {
    let mut inodes = BTreeSet::new();
    // The names that each directory must list.
    let mut names: BTreeMap<PathBuf, BTreeMap<OsString, usize>> = BTreeMap::new();
    for &file in similar {
        if !torrent.dir.stat(&torrent.part_path(file)).is_ok_and(|stat| stat.is_some()) {
            // If two names are one, the names themselves must meet, not their part names.
            torrent.names.set_part(file, false);
        }
        let path = torrent.path(file);
        if open_files.create_empty(torrent, file)? {
            torrent.own.set(file);
            created.push(path.clone());
        }
        let stat = torrent.dir.stat(&path)?;
        if stat.is_none_or(|stat| !inodes.insert((stat.st_dev, stat.st_ino))) {
            return Err(torrent.fault_without_errno(FaultKind::SameFile, file));
        }
        let mut at = path.as_path();
        while let (Some(parent), Some(name)) = (at.parent(), at.file_name()) {
            names.entry(parent.to_path_buf()).or_default().entry(name.to_owned()).or_insert(file);
            at = parent;
        }
    }
    for (dir, mut expected) in names {
        list(torrent, &dir, |name| {
            expected.remove(name);
        })?;
        if let Some(file) = expected.values().next() {
            return Err(torrent.fault_without_errno(FaultKind::SameFile, *file));
        }
    }
    Ok(())
}

/// Calls `f` with each name in a directory.
fn list(torrent: &TorrentFiles, dir: &Path, mut f: impl FnMut(&OsString)) -> Result<(), DiskFault> {
    let fd = torrent.dir.open_dir(dir)?;
    let fault = |e| torrent.dir.fault_of(dir, e);
    for entry in Entries::read_from(&fd).map_err(fault)? {
        f(&OsString::from_vec(entry.map_err(fault)?.file_name().to_bytes().to_vec()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_similar_if_a_file_system_might_take_them_for_one() {
        let similar = |names: &[&str]| similar_names(names.iter().map(|n| n.to_string()).enumerate());
        assert_eq!(similar(&["d/A", "d/b", "D/a", "d/c"]), [0, 2]);
        assert_eq!(similar(&["caf\u{e9}.x", "cafe\u{301}.x", "cafe.x"]), [0, 1]);
        assert_eq!(similar(&["01 \u{304c}", "01 \u{304b}\u{3099}", "02 \u{304c}"]), [0, 1]);
        assert_eq!(similar(&["a1", "a2", "b1"]), [0; 0]);
    }
}
