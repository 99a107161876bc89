//! The bench's work directory: on a disk if possible, with enough free space, removed when it is dropped.

use super::super::exit::{Exit, Failure};
use super::super::format;
use super::super::source::shown;
use crate::units::PieceHash;
use crate::wire::metainfo::Builder;
use rustix::fs::statfs;
use sha1::{Digest, Sha1};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A new directory with `seed`, `get` and the bench's torrent.
#[derive(Debug)]
pub(super) struct WorkDir {
    parent: PathBuf,
    dir: PathBuf,
}

impl WorkDir {
    /// Creates the directory below `wanted`, or below the best parent directory found, with free space
    /// for `size` bytes twice and 64 MiB.
    pub(super) fn make(wanted: Option<&Path>, size: u64) -> Result<WorkDir, Failure> {
        let need = size.saturating_mul(2).saturating_add(64 << 20);
        let parent = match wanted {
            Some(dir) => dir.to_path_buf(),
            None => best_parent(need).ok_or_else(|| no_room(Path::new("/var/tmp, /tmp and here"), need))?,
        };
        if free_bytes(&parent).is_some_and(|free| free < need) {
            return Err(no_room(&parent, need));
        }
        let dir = parent.join(format!("rill-bench-{}", std::process::id()));
        let failed = |e: io::Error| Failure::os(Exit::Create, shown(&dir), &e);
        fs::create_dir(&dir).map_err(failed)?;
        let place = WorkDir { parent, dir: dir.clone() };
        fs::create_dir(dir.join("seed")).and_then(|()| fs::create_dir(dir.join("get"))).map_err(failed)?;
        Ok(place)
    }

    /// Fills `seed/payload` with random bytes and writes its torrent. `on_progress` is called with the
    /// bytes written and returns false to stop.
    pub(super) fn fill(
        &self,
        size: u64,
        piece_bytes: u64,
        mut on_progress: impl FnMut(u64) -> bool,
    ) -> Result<String, Failure> {
        let path = self.dir.join("seed/payload");
        let failed = |e: io::Error| Failure::os(Exit::Create, shown(&path), &e);
        let mut file = File::create_new(&path).map_err(failed)?;
        let mut noise = fastrand::Rng::with_seed(7);
        let mut piece = vec![0; piece_bytes as usize];
        let mut hashes = Vec::new();
        let mut done = 0;
        while done < size {
            let part = &mut piece[..(size - done).min(piece_bytes) as usize];
            noise.fill(part);
            hashes.push(PieceHash(Sha1::digest(&*part).into()));
            file.write_all(part).map_err(failed)?;
            done += part.len() as u64;
            if !on_progress(done) {
                return Err(Failure::new(Exit::Stopped, "stopped"));
            }
        }
        // Without it the kernel would write the content back during the measurement.
        file.sync_data().map_err(failed)?;
        let builder = Builder { piece_len: piece_bytes as u32, ..Builder::single("payload", size) };
        let bytes = builder.finish(&hashes).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
        fs::write(self.dir.join("bench.torrent"), bytes).map_err(failed)?;
        Ok(self.path("bench.torrent"))
    }

    /// Returns a path in the directory, as a word for a command line.
    pub(super) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Fails unless both files hold the same bytes.
    pub(super) fn compare(&self, one: &str, other: &str) -> Result<(), Failure> {
        let open =
            |name: &str| File::open(self.dir.join(name)).map_err(|e| Failure::os(Exit::Open, name, &e));
        match same(open(one)?, open(other)?) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(
                Exit::Mismatch,
                "the downloaded content differs from the seeded content; this is a bug in rill",
            )),
            Err(e) => Err(Failure::os(Exit::Io, "comparing", &e)),
        }
    }

    /// Removes a file, or the content of a directory.
    pub(super) fn remove(&self, name: &str) {
        let path = self.dir.join(name);
        // Errors are ignored: the whole directory is removed at the end.
        if path.is_dir() {
            let _ = fs::remove_dir_all(&path).and_then(|()| fs::create_dir(&path));
        } else {
            let _ = fs::remove_file(&path);
        }
    }

    /// Returns the parent directory.
    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    /// Returns the type of the file system.
    pub(super) fn filesystem(&self) -> &'static str {
        statfs(&self.dir).map_or("unknown file system", |s| name_of(s.f_type as u64))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn no_room(place: &Path, need: u64) -> Failure {
    let sentence = format!(
        "{}: the bench needs {} of free space; --dir or --size help",
        shown(place),
        format::size(need)
    );
    Failure::new(Exit::NoSpace, sentence)
}

/// Returns the first writable directory with enough free space; one on a disk is preferred to one in memory.
fn best_parent(need: u64) -> Option<PathBuf> {
    let temporary = std::env::var_os("TMPDIR").map(PathBuf::from);
    let places = temporary.into_iter().chain(["/var/tmp", "/tmp", "."].map(PathBuf::from));
    let usable = |place: &PathBuf| free_bytes(place).is_some_and(|free| free >= need) && is_writable(place);
    let (disk, memory): (Vec<PathBuf>, Vec<PathBuf>) =
        places.filter(usable).partition(|place| !in_memory(place));
    disk.into_iter().chain(memory).next()
}

fn is_writable(place: &Path) -> bool {
    rustix::fs::access(place, rustix::fs::Access::WRITE_OK).is_ok()
}

fn in_memory(place: &Path) -> bool {
    statfs(place).is_ok_and(|s| matches!(name_of(s.f_type as u64), "tmpfs" | "ramfs"))
}

fn free_bytes(place: &Path) -> Option<u64> {
    let s = statfs(place).ok()?;
    (s.f_bavail as u64).checked_mul(s.f_bsize as u64)
}

/// Returns the name of a `statfs` magic number.
fn name_of(magic: u64) -> &'static str {
    match magic & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xf2f5_2010 => "f2fs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlayfs",
        0x4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x2fc1_2fc1 => "zfs",
        0x2405_1905 => "ubifs",
        _ => "unknown file system",
    }
}

fn same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let mut a = vec![0; 1 << 20];
    let mut b = vec![0; 1 << 20];
    loop {
        let n = fill(&mut one, &mut a)?;
        let m = fill(&mut other, &mut b)?;
        if a[..n] != b[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the input ends. Returns the bytes read.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match from.read(&mut buffer[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_work_directory_removes_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = WorkDir::make(Some(dir.path()), 1 << 20).unwrap();
        place.fill((1 << 20) + 1, 1 << 18, |_| true).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(place);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_single_different_byte_is_found() {
        let long = vec![7u8; (1 << 20) + 5];
        let mut other = long.clone();
        assert!(same(&long[..], &other[..]).unwrap());
        other[1 << 20] ^= 1;
        assert!(!same(&long[..], &other[..]).unwrap());
        assert!(!same(&long[..], &long[..1 << 20]).unwrap());
        assert!(!same(&long[..1 << 20], &long[..]).unwrap());
    }

    #[test]
    fn a_bench_larger_than_the_free_space_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(WorkDir::make(Some(dir.path()), u64::MAX / 4).unwrap_err().exit, Exit::NoSpace);
        assert_eq!(WorkDir::make(Some(&dir.path().join("no")), 1).unwrap_err().exit, Exit::Create);
    }
}
