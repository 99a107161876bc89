//! A thousand torrents that need no disk space: each has one sparse file, which reads as zeros.

use crate::fault::{Fault, Result, check_signals};
use crate::tracker::Tracker;
use rill::units::PieceHash;
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use sha1::{Digest, Sha1};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Number of torrents.
pub const TORRENTS: usize = 1000;
/// Bytes of each file.
const BYTES: u64 = 1 << 30;
/// Bytes of each piece.
const PIECE_BYTES: u64 = 1 << 20;

/// One torrent.
#[derive(Debug)]
pub struct SparseTorrent {
    pub name: String,
    pub torrent: PathBuf,
    pub info_hash: [u8; 20],
}

impl SparseTorrent {
    /// Returns the info hash in hexadecimal; clients name their records after it.
    pub fn hex(&self) -> String {
        self.info_hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All torrents.
#[derive(Debug)]
pub struct SparseTorrents {
    /// Directory of the files.
    pub dir: PathBuf,
    /// Directory of the torrents, which has no other files.
    pub torrents: PathBuf,
    pub list: Vec<SparseTorrent>,
}

impl SparseTorrents {
    /// Creates the torrents in `at`, an empty directory.
    pub fn make(at: &Path) -> Result<SparseTorrents> {
        let sparse_torrents =
            SparseTorrents { dir: at.join("content"), torrents: at.join("torrents"), list: Vec::new() };
        for dir in [&sparse_torrents.dir, &sparse_torrents.torrents] {
            fs::create_dir(dir).map_err(Fault::at(dir.display()))?;
        }
        let zeros = PieceHash(Sha1::digest(vec![0; PIECE_BYTES as usize]).into());
        let hashes = vec![zeros; SparseTorrents::pieces()];
        let list = (0..TORRENTS).map(|number| sparse_torrents.one(number, &hashes)).collect::<Result<_>>()?;
        Ok(SparseTorrents { list, ..sparse_torrents })
    }

    /// Returns the number of pieces of a torrent.
    pub fn pieces() -> usize {
        (BYTES / PIECE_BYTES) as usize
    }

    /// Returns all info hashes.
    pub fn hashes(&self) -> Vec<[u8; 20]> {
        self.list.iter().map(|sparse| sparse.info_hash).collect()
    }

    fn one(&self, number: usize, hashes: &[PieceHash]) -> Result<SparseTorrent> {
        check_signals()?;
        let name = format!("hole{number:04}");
        let file = self.dir.join(&name);
        File::create_new(&file).and_then(|file| file.set_len(BYTES)).map_err(Fault::at(file.display()))?;
        // rtorrent refuses a torrent without a tracker.
        let trackers = vec![vec![Tracker::url()]];
        let builder = Builder { piece_len: PIECE_BYTES as u32, trackers, ..Builder::single(&name, BYTES) };
        let bytes =
            builder.finish(hashes).map_err(|e| Fault::Wrong(format!("cannot create a torrent: {e}")))?;
        let info_hash = Metainfo::parse(&bytes)
            .map_err(|e| Fault::Wrong(format!("created an invalid torrent: {e}")))?
            .info_hash()
            .0;
        let torrent = self.torrents.join(format!("{name}.torrent"));
        fs::write(&torrent, bytes).map_err(Fault::at(torrent.display()))?;
        Ok(SparseTorrent { name, torrent, info_hash })
    }
}
