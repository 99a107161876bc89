//! What a session and a torrent are told at their start. Defaults are those of the command line.

use crate::disk::{ContentFile, OpenTorrent, StorageMode};
use crate::units::Bitfield;
use crate::wire::{FileEntry, Metainfo};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// How a session is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ports to try, in order, for TCP and UDP alike; `0..=0` takes any free one.
    pub listen_ports: RangeInclusive<u16>,
    /// Addresses to listen on. A family that the machine does not have is done without.
    pub listen_on: Vec<IpAddr>,
    /// Connections in all.
    pub max_peers: usize,
    /// Connections a torrent.
    pub max_peers_per_torrent: usize,
    /// All downloads together, bytes a second.
    pub download_limit: Option<u64>,
    /// All uploads together, bytes a second.
    pub upload_limit: Option<u64>,
    /// How bytes reach the files.
    pub storage: StorageMode,
    /// Bytes for receive buffers and windows together; the rest of the program needs about 3 MiB.
    pub max_memory: usize,
    /// Threads that hash and talk to the disk; 0 chooses by the machine.
    pub workers: usize,
    /// Where resume records live; `None` keeps none, and existing content is hashed at every start.
    pub state_dir: Option<PathBuf>,
    /// How often [`Event::Progress`](super::Event::Progress) comes for each torrent.
    pub progress_every: Duration,
    /// What choices among equals come from; `None` takes it from the system.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen_ports: 6881..=6999,
            listen_on: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            max_peers: 200,
            max_peers_per_torrent: 55,
            download_limit: None,
            upload_limit: None,
            storage: StorageMode::Auto,
            max_memory: 10 * 1024 * 1024,
            workers: 0,
            state_dir: None,
            progress_every: Duration::from_secs(1),
            seed: None,
        }
    }
}

/// A torrent, where its content lives, and how it is to be treated.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What the torrent file said.
    pub metainfo: Metainfo,
    /// The directory that its files are under.
    pub dir: PathBuf,
    /// Indices of the wanted files; `None` for all.
    pub wanted_files: Option<Vec<usize>>,
    /// Peers known from elsewhere.
    pub peers: Vec<SocketAddr>,
    /// Trackers besides the torrent's own, each a tier.
    pub trackers: Vec<String>,
    /// Serve what is there; never write to the content.
    pub seed_only: bool,
    /// Hash what is there, whatever a record says.
    pub check: bool,
    /// Pieces in order rather than rarest first.
    pub sequential: bool,
    /// Bytes a second.
    pub download_limit: Option<u64>,
    /// Bytes a second.
    pub upload_limit: Option<u64>,
}

impl AddTorrent {
    /// All of the torrent, into `dir`, the usual way.
    pub fn new(metainfo: Metainfo, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent {
            metainfo,
            dir: dir.into(),
            wanted_files: None,
            peers: Vec::new(),
            trackers: Vec::new(),
            seed_only: false,
            check: false,
            sequential: false,
            download_limit: None,
            upload_limit: None,
        }
    }

    fn wants_file(&self, index: usize) -> bool {
        self.wanted_files.as_ref().is_none_or(|wanted| wanted.contains(&index))
    }

    /// The pieces that hold bytes of wanted files. Pads are wanted by nobody but fill up the pieces beside them.
    pub(super) fn wanted_pieces(&self) -> Bitfield {
        let geometry = self.metainfo.geometry();
        if self.seed_only {
            return Bitfield::empty(geometry.pieces());
        }
        if self.wanted_files.is_none() {
            return Bitfield::full(geometry.pieces());
        }
        let mut wanted = Bitfield::empty(geometry.pieces());
        let files = self.metainfo.files().iter().enumerate();
        for (_, file) in files.filter(|(i, f)| !f.pad && self.wants_file(*i)) {
            for piece in geometry.pieces_of(file.offset, file.offset + file.length) {
                wanted.set(piece);
            }
        }
        wanted
    }

    /// The same, in the disk's words.
    pub(super) fn to_open(&self) -> OpenTorrent {
        let files = self.metainfo.files();
        let content_file =
            |f: &FileEntry| ContentFile { path: f.path.iter().collect(), length: f.length, pad: !f.lands_on_disk() };
        OpenTorrent {
            info_hash: self.metainfo.info_hash(),
            geometry: self.metainfo.geometry(),
            files: files.iter().map(content_file).collect(),
            hashes: self.metainfo.piece_hashes().into(),
            dir: self.dir.clone(),
            wanted: self.wanted_files.as_ref().map(|_| (0..files.len()).map(|i| self.wants_file(i)).collect()),
            read_only: self.seed_only,
            check: self.check,
        }
    }
}
