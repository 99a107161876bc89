//! Content in various shapes with its torrent, and the comparison after a transfer.

use crate::bencode::Value;
use crate::lab::Lab;
use sha1::{Digest, Sha1};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One file of the content.
#[derive(Clone)]
pub struct Piece {
    pub path: String,
    pub len: u64,
    /// The file is a pad file, which exists in the torrent alone (BEP 47).
    pub pad: bool,
    /// The file is sparse.
    pub sparse: bool,
}

/// Files and piece length of the content.
#[derive(Clone)]
pub struct Shape {
    pub name: &'static str,
    pub files: Vec<Piece>,
    pub piece_len: u64,
}

impl Shape {
    /// Returns the shape of a single file.
    pub fn single(len: u64, piece_len: u64) -> Shape {
        Shape { name: "payload.bin", files: vec![file("", len)], piece_len }
    }

    /// Returns the shape of a directory of files.
    pub fn multi(files: Vec<Piece>, piece_len: u64) -> Shape {
        Shape { name: "payload", files, piece_len }
    }

    fn is_single(&self) -> bool {
        self.files.len() == 1 && self.files[0].path.is_empty()
    }

    /// Returns the number of bytes, pad files included.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }
}

/// Returns a regular file.
pub fn file(path: impl Into<String>, len: u64) -> Piece {
    Piece { path: path.into(), len, pad: false, sparse: false }
}

/// Returns a pad file.
pub fn pad(len: u64) -> Piece {
    Piece { path: format!(".pad/{len}"), len, pad: true, sparse: false }
}

/// Content in `dir`, and its torrent.
pub struct Torrent {
    pub dir: PathBuf,
    pub file: PathBuf,
    pub shape: Shape,
    pub info_hash: [u8; 20],
    pub hashes: Vec<u8>,
}

impl Torrent {
    /// Writes the content and the torrent with these tracker tiers.
    pub fn make(lab: &Lab, shape: Shape, tiers: &[&[&str]]) -> Torrent {
        let dir = lab.new_dir("content");
        let mut noise = Noise(shape.total() | 1);
        for piece in shape.files.iter().filter(|f| !f.pad) {
            let path = place(&dir, &shape, piece);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            noise.fill(&path, piece);
        }
        let hashes = hash(&dir, &shape);
        let info = info(&shape, &hashes);
        let info_hash = Sha1::digest(info.encode()).into();
        let mut outer = Vec::new();
        if let Some(first) = tiers.iter().copied().flatten().next() {
            let list = tiers.iter().map(|tier| Value::List(tier.iter().map(Value::text).collect()));
            outer.push(("announce", Value::text(first)));
            outer.push(("announce-list", Value::List(list.collect())));
        }
        outer.push(("info", info));
        let path = dir.with_extension("torrent");
        fs::write(&path, Value::Dict(outer).encode()).unwrap();
        Torrent { dir, file: path, shape, info_hash, hashes }
    }

    /// Returns the info hash in hexadecimal.
    pub fn hex(&self) -> String {
        self.info_hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Compares the content with that below `dir`. The error describes the difference.
    pub fn compare(&self, dir: &Path) -> Result<(), String> {
        for piece in self.shape.files.iter().filter(|f| !f.pad) {
            let ours = place(&self.dir, &self.shape, piece);
            let theirs = place(dir, &self.shape, piece);
            same(&ours, &theirs).map_err(|e| format!("{}: {e}", theirs.display()))?;
        }
        Ok(())
    }

    /// Asserts that the same content is below `dir`.
    pub fn must_be_in(&self, dir: &Path, lab: &Lab) {
        if let Err(difference) = self.compare(dir) {
            panic!("{difference}\n{}", lab.words());
        }
    }

    /// Returns the path of a file below `dir`.
    pub fn path(&self, dir: &Path, file: usize) -> PathBuf {
        place(dir, &self.shape, &self.shape.files[file])
    }

    /// Returns where a file below `dir` lies now: at its part name if only that exists.
    pub fn path_now(&self, dir: &Path, file: usize) -> PathBuf {
        let name = self.path(dir, file);
        let mut part = name.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        if !name.exists() && part.exists() { part } else { name }
    }
}

fn place(dir: &Path, shape: &Shape, piece: &Piece) -> PathBuf {
    if shape.is_single() { dir.join(shape.name) } else { dir.join(shape.name).join(&piece.path) }
}

fn info(shape: &Shape, hashes: &[u8]) -> Value {
    let name = ("name", Value::text(shape.name));
    let rest = [("piece length", Value::Int(shape.piece_len as i64)), ("pieces", Value::text(hashes))];
    let files = shape.files.iter().map(|f| {
        let mut entry = vec![
            ("length", Value::Int(f.len as i64)),
            ("path", Value::List(f.path.split('/').map(Value::text).collect())),
        ];
        if f.pad {
            entry.insert(0, ("attr", Value::text("p")));
        }
        Value::Dict(entry)
    });
    let first = if shape.is_single() {
        ("length", Value::Int(shape.total() as i64))
    } else {
        ("files", Value::List(files.collect()))
    };
    Value::Dict([first, name].into_iter().chain(rest).collect())
}

/// Returns the SHA-1 of every piece, read from the files.
fn hash(dir: &Path, shape: &Shape) -> Vec<u8> {
    let mut hashes = Vec::new();
    let mut piece = Sha1::new();
    let mut missing = shape.piece_len;
    let mut buffer = vec![0; 1 << 16];
    for file in &shape.files {
        let mut left: Box<dyn Read> = if file.pad {
            Box::new(std::io::repeat(0).take(file.len))
        } else {
            Box::new(File::open(place(dir, shape, file)).unwrap())
        };
        loop {
            let room = missing.min(buffer.len() as u64) as usize;
            let n = left.read(&mut buffer[..room]).unwrap();
            if n == 0 {
                break;
            }
            piece.update(&buffer[..n]);
            missing -= n as u64;
            if missing == 0 {
                hashes.extend_from_slice(&piece.finalize_reset());
                missing = shape.piece_len;
            }
        }
    }
    if missing < shape.piece_len {
        hashes.extend_from_slice(&piece.finalize());
    }
    hashes
}

/// Pseudorandom bytes, which cannot be compressed; the same for the same seed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> [u8; 8] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next()).collect();
        bytes.truncate(len as usize);
        bytes
    }

    fn fill(&mut self, path: &Path, piece: &Piece) {
        let mut file = File::create(path).unwrap();
        if piece.sparse {
            file.set_len(piece.len).unwrap();
            for at in (0..piece.len).step_by(1 << 29) {
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&self.bytes((piece.len - at).min(100_000))).unwrap();
            }
            return;
        }
        let mut left = piece.len;
        while left > 0 {
            let part = left.min(1 << 20);
            file.write_all(&self.bytes(part)).unwrap();
            left -= part;
        }
    }
}

/// Compares two files. The error describes the first difference.
pub fn same(one: &Path, other: &Path) -> Result<(), String> {
    let open = |path: &Path| File::open(path).map_err(|e| format!("cannot open: {e}"));
    let mut a = open(one)?;
    let mut b = open(other)?;
    let len_a = a.metadata().unwrap().len();
    let len_b = b.metadata().unwrap().len();
    if len_a != len_b {
        return Err(format!("{len_b} bytes instead of {len_a}"));
    }
    let mut x = vec![0; 1 << 20];
    let mut y = vec![0; 1 << 20];
    let mut at = 0;
    while at < len_a {
        let part = (len_a - at).min(1 << 20) as usize;
        a.read_exact(&mut x[..part])
            .and_then(|()| b.read_exact(&mut y[..part]))
            .map_err(|e| e.to_string())?;
        if let Some(i) = (0..part).find(|i| x[*i] != y[*i]) {
            return Err(format!("differs at byte {}", at + i as u64));
        }
        at += part as u64;
    }
    Ok(())
}
