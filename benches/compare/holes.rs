//! A thousand torrents that take no room: each of one sparse file, which reads as zeros.

use crate::fault::{Fault, Result, go_on};
use crate::tracker::Tracker;
use rill::units::PieceHash;
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use sha1::{Digest, Sha1};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How many there are.
pub const TORRENTS: usize = 1000;
/// Bytes of each file.
const BYTES: u64 = 1 << 30;
/// Bytes of each piece.
const PIECE_BYTES: u64 = 1 << 20;

/// One torrent.
#[derive(Debug)]
pub struct Hole {
    pub name: String,
    pub torrent: PathBuf,
    pub info_hash: [u8; 20],
}

impl Hole {
    /// The name of a record: clients name theirs after it.
    pub fn hex(&self) -> String {
        self.info_hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Holes {
    /// Where the files are.
    pub dir: PathBuf,
    /// Where the torrents are, and nothing else.
    pub torrents: PathBuf,
    pub list: Vec<Hole>,
}

impl Holes {
    /// Makes them in `at`, which must be empty.
    pub fn make(at: &Path) -> Result<Holes> {
        let holes = Holes { dir: at.join("content"), torrents: at.join("torrents"), list: Vec::new() };
        for dir in [&holes.dir, &holes.torrents] {
            fs::create_dir(dir).map_err(Fault::at(dir.display()))?;
        }
        let zeros = PieceHash(Sha1::digest(vec![0; PIECE_BYTES as usize]).into());
        let hashes = vec![zeros; Holes::pieces()];
        let list = (0..TORRENTS).map(|number| holes.one(number, &hashes)).collect::<Result<_>>()?;
        Ok(Holes { list, ..holes })
    }

    /// Pieces of each.
    pub fn pieces() -> usize {
        (BYTES / PIECE_BYTES) as usize
    }

    /// What each is asked for by.
    pub fn hashes(&self) -> Vec<[u8; 20]> {
        self.list.iter().map(|hole| hole.info_hash).collect()
    }

    fn one(&self, number: usize, hashes: &[PieceHash]) -> Result<Hole> {
        go_on()?;
        let name = format!("hole{number:04}");
        let file = self.dir.join(&name);
        File::create_new(&file).and_then(|file| file.set_len(BYTES)).map_err(Fault::at(file.display()))?;
        // rtorrent refuses a torrent without one.
        let trackers = vec![vec![Tracker::url()]];
        let builder = Builder { piece_len: PIECE_BYTES as u32, trackers, ..Builder::single(&name, BYTES) };
        let bytes =
            builder.finish(hashes).map_err(|e| Fault::Wrong(format!("cannot make a torrent: {e}")))?;
        let info_hash = Metainfo::parse(&bytes)
            .map_err(|e| Fault::Wrong(format!("made a wrong torrent: {e}")))?
            .info_hash()
            .0;
        let torrent = self.torrents.join(format!("{name}.torrent"));
        fs::write(&torrent, bytes).map_err(Fault::at(torrent.display()))?;
        Ok(Hole { name, torrent, info_hash })
    }
}
