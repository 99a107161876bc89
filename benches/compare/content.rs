//! What is exchanged: noise in one file or in many, its torrent, and the comparison at the end.

use crate::fault::{Fault, Result, go_on};
use crate::tracker::Tracker;
use rill::wire::Metainfo;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the file or of the directory of files.
const NAME: &str = "payload";
/// Bytes that are made or compared at once.
const PART: usize = 1 << 20;

/// What the content is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    pub piece_bytes: u64,
}

/// Content below a directory of its own, and its torrent beside it.
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
    /// Makes both in `at`, which must be empty; the torrent is made by `rill create`.
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
            // The first file takes what does not divide evenly.
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
            .map_err(|e| Fault::Wrong(format!("rill create made nonsense: {e}")))?
            .info_hash()
            .0;
        Ok(Content { shape, dir, torrent, info_hash, files })
    }

    /// Whether the same bytes lie below `dir`; the inner failure says what differs.
    pub fn compare(&self, dir: &Path) -> Result<std::result::Result<(), String>> {
        for file in &self.files {
            // rqbit leaves the torrent's own directory out.
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

/// Whether two files hold the same.
fn same(ours: &Path, theirs: &Path) -> Result<std::result::Result<(), String>> {
    let mut a = Parts::open(ours)?;
    let mut b = Parts::open(theirs)?;
    let mut at = 0;
    loop {
        go_on()?;
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

/// A file, part by part.
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

    /// The next part; empty at the end.
    fn next(&mut self) -> Result<&[u8]> {
        self.buffer.clear();
        let mut part = Read::by_ref(&mut self.file).take(PART as u64);
        part.read_to_end(&mut self.buffer).map_err(Fault::at(self.path.display()))?;
        Ok(&self.buffer)
    }
}

/// Bytes in which no client finds anything to spare; the same for the same seed (xorshift64).
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
            go_on()?;
            part.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&self.next()));
            let len = left.min(PART as u64);
            file.write_all(&part[..len as usize]).map_err(Fault::at(path.display()))?;
            left -= len;
        }
        Ok(())
    }
}
