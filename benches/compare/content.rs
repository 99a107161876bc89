//! Content: random bytes in one file or in many, its torrent, and the comparison after a transfer.

use crate::fault::{Fault, Result, check_signals};
use crate::tracker::Tracker;
use rill::wire::Metainfo;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the file or of the directory of files.
const NAME: &str = "payload";
/// Bytes written or compared at once.
const PART: usize = 1 << 20;

/// Size of the content.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    pub piece_bytes: u64,
}

/// Content in its own directory, and its torrent.
#[derive(Debug)]
pub struct Content {
    pub shape: Shape,
    pub dir: PathBuf,
    pub torrent: PathBuf,
    pub info_hash: [u8; 20],
    /// Paths below `dir`.
    files: Vec<PathBuf>,
}

impl Content {
    /// Writes the content below `at`, an empty directory, and creates the torrent with `rill create`.
    pub fn make(at: &Path, shape: Shape, rill: &Path) -> Result<Content> {
        let dir = at.join("content");
        let torrent = at.join("payload.torrent");
        let files: Vec<PathBuf> = match shape.files {
            1 => vec![NAME.into()],
            n => (0..n).map(|i| Path::new(NAME).join(format!("{i:04}.bin"))).collect(),
        };
        fs::create_dir_all(dir.join(if shape.files == 1 { "" } else { NAME }))
            .map_err(Fault::at(dir.display()))?;
        let mut noise = Noise(shape.bytes | 1);
        for (i, file) in files.iter().enumerate() {
            // The first file takes the remainder.
            let rest = if i == 0 { shape.bytes % shape.files } else { 0 };
            noise.fill(&dir.join(file), shape.bytes / shape.files + rest)?;
        }
        let mut create = Command::new(rill);
        create.args([
            "create",
            "-q",
            "--no-date",
            "-a",
            &Tracker::url(),
            "-p",
            &shape.piece_bytes.to_string(),
            "-o",
        ]);
        let output = create.arg(&torrent).arg(dir.join(NAME)).output().map_err(Fault::at(rill.display()))?;
        if !output.status.success() {
            return Err(Fault::Wrong(format!(
                "rill create failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let bytes = fs::read(&torrent).map_err(Fault::at(torrent.display()))?;
        let info_hash = Metainfo::parse(&bytes)
            .map_err(|e| Fault::Wrong(format!("rill create wrote an invalid torrent: {e}")))?
            .info_hash()
            .0;
        Ok(Content { shape, dir, torrent, info_hash, files })
    }

    /// Compares the content with that below `dir`. The inner error describes the difference.
    pub fn compare(&self, dir: &Path) -> Result<std::result::Result<(), String>> {
        for file in &self.files {
            // rqbit omits the directory with the torrent's name.
            let there = [dir.join(file), dir.join(file.strip_prefix(NAME).unwrap_or(file))]
                .into_iter()
                .find(|path| path.is_file());
            let Some(there) = there else { return Ok(Err(format!("{} is missing", file.display()))) };
            if let Err(difference) = same(&self.dir.join(file), &there)? {
                return Ok(Err(format!("{} {difference}", file.display())));
            }
        }
        Ok(Ok(()))
    }
}

/// Compares two files. The inner error describes the first difference.
fn same(ours: &Path, theirs: &Path) -> Result<std::result::Result<(), String>> {
    let mut a = Parts::open(ours)?;
    let mut b = Parts::open(theirs)?;
    let mut at = 0;
    loop {
        check_signals()?;
        let x = a.next()?;
        let y = b.next()?;
        if x != y {
            let offset = x.iter().zip(y).take_while(|(x, y)| x == y).count();
            return Ok(Err(format!("differs from byte {} on", at + offset)));
        }
        if x.is_empty() {
            return Ok(Ok(()));
        }
        at += x.len();
    }
}

/// Reads a file part by part.
struct Parts<'a> {
    path: &'a Path,
    file: File,
    buffer: Vec<u8>,
}

impl Parts<'_> {
    fn open(path: &Path) -> Result<Parts<'_>> {
        let file = File::open(path).map_err(Fault::at(path.display()))?;
        Ok(Parts { path, file, buffer: Vec::new() })
    }

    /// Returns the next part; empty at the end.
    fn next(&mut self) -> Result<&[u8]> {
        self.buffer.clear();
        let mut part = Read::by_ref(&mut self.file).take(PART as u64);
        part.read_to_end(&mut self.buffer).map_err(Fault::at(self.path.display()))?;
        Ok(&self.buffer)
    }
}

/// Pseudorandom bytes, which cannot be compressed; the same for the same seed (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> [u8; 8] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()
    }

    fn fill(&mut self, path: &Path, mut left: u64) -> Result<()> {
        let mut file = File::create_new(path).map_err(Fault::at(path.display()))?;
        let mut part = vec![0; PART];
        while left > 0 {
            check_signals()?;
            part.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&self.next()));
            let len = left.min(PART as u64);
            file.write_all(&part[..len as usize]).map_err(Fault::at(path.display()))?;
            left -= len;
        }
        Ok(())
    }
}
