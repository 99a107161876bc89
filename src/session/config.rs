//! What a session and a torrent are told at their start. Defaults are those of the command line.

use super::memory::default_max_memory;
use crate::disk::{OpenTorrent, StorageMode};
use crate::engine::TorrentInfo;
use crate::units::{Bitfield, Geometry, InfoHash};
use crate::wire::{Files, Magnet, Metainfo};
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
    /// Bytes that private memory and windows may take together. A torrent that needs more than that for
    /// itself gets it, and the rest of the session then makes do with next to nothing.
    pub max_memory: usize,
    /// Threads that hash and talk to the disk; 0 chooses by the machine.
    pub workers: usize,
    /// Where resume records live; `None` keeps none, and existing content is hashed at every start.
    pub state_dir: Option<PathBuf>,
    /// How often [`Event::Progress`](super::Event::Progress) comes for each torrent.
    pub progress_every: Duration,
    /// Peers tell each other of peers (BEP 11); never those of a private torrent.
    pub pex: bool,
    /// Peers of the local network are called and answered (BEP 14); never those of a private torrent.
    pub lsd: bool,
    /// Peers are found in the DHT (BEP 5), never those of a private torrent; `None` stays out of it.
    pub dht: Option<DhtConfig>,
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
            max_memory: default_max_memory(),
            workers: 0,
            state_dir: None,
            progress_every: Duration::from_secs(1),
            pex: true,
            lsd: true,
            dht: Some(DhtConfig::default()),
            seed: None,
        }
    }
}

/// How a session takes part in the DHT.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    /// The UDP port; `None` is the listening port. UDP trackers are asked from it, too.
    pub port: Option<u16>,
    /// Host and port of nodes to start from. Like [`routers`](DhtConfig::routers), they are asked if no node
    /// of an earlier run answers.
    pub bootstrap: Vec<(String, u16)>,
    /// Host and port of nodes that live for newcomers alone.
    pub routers: Vec<(String, u16)>,
    /// Ask, and never answer (BEP 43).
    pub read_only: bool,
}

impl Default for DhtConfig {
    fn default() -> DhtConfig {
        let routers = [
            ("dht.libtorrent.org", 25_401),
            ("dht.transmissionbt.com", 6881),
            ("router.bittorrent.com", 6881),
        ];
        DhtConfig {
            port: None,
            bootstrap: Vec::new(),
            routers: routers.into_iter().map(|(host, port)| (host.to_owned(), port)).collect(),
            read_only: false,
        }
    }
}

/// What names a torrent.
#[derive(Clone, Debug)]
pub enum TorrentSource {
    /// A torrent file, or the metadata that it would hold.
    Metainfo(Metainfo),
    /// A link: what is in the torrent is asked of peers (BEP 9).
    Magnet(Magnet),
}

/// A torrent, where its content lives, and how it is to be treated.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What names it.
    pub source: TorrentSource,
    /// The directory that its files are under.
    pub dir: PathBuf,
    /// Indices of the wanted files; `None` for all.
    pub wanted_files: Option<Vec<usize>>,
    /// A link's files are chosen once it is known which there are: after
    /// [`Event::Metadata`](super::Event::Metadata) nothing happens until
    /// [`Session::choose`](super::Session::choose).
    pub choose_later: bool,
    /// It rests until [`Session::resume`](super::Session::resume): content is checked, and no tracker or peer
    /// learns of us.
    pub paused: bool,
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
        AddTorrent::of(TorrentSource::Metainfo(metainfo), dir)
    }

    /// The files that the link wants, into `dir`. Peers and trackers that it names are asked, and what is in
    /// the torrent comes as
    /// [`Event::Metadata`](super::Event::Metadata).
    pub fn magnet(magnet: Magnet, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent::of(TorrentSource::Magnet(magnet), dir)
    }

    fn of(source: TorrentSource, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent {
            source,
            dir: dir.into(),
            wanted_files: None,
            choose_later: false,
            paused: false,
            peers: Vec::new(),
            trackers: Vec::new(),
            seed_only: false,
            check: false,
            sequential: false,
            download_limit: None,
            upload_limit: None,
        }
    }

    /// The torrent's name in the swarm.
    pub fn info_hash(&self) -> InfoHash {
        match &self.source {
            TorrentSource::Metainfo(metainfo) => metainfo.info_hash(),
            TorrentSource::Magnet(magnet) => magnet.info_hash,
        }
    }

    /// Trackers in tiers, those that were added last.
    pub(super) fn all_trackers(&self) -> Vec<Vec<String>> {
        let mut tiers = match &self.source {
            TorrentSource::Metainfo(metainfo) => metainfo.trackers().to_vec(),
            TorrentSource::Magnet(magnet) => magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
        };
        tiers.extend(self.trackers.iter().map(|url| vec![url.clone()]));
        tiers
    }

    /// Peers that it names and those that were added.
    pub(super) fn all_peers(&self) -> Vec<SocketAddr> {
        let named =
            if let TorrentSource::Magnet(magnet) = &self.source { magnet.peers.as_slice() } else { &[] };
        named.iter().chain(&self.peers).copied().collect()
    }

    /// What is wanted of it, in the engine's words.
    pub(super) fn shape(&self, metainfo: &Metainfo) -> TorrentInfo {
        TorrentInfo {
            geometry: metainfo.geometry(),
            wanted: self.wanted_pieces(metainfo),
            private: metainfo.private(),
            info: metainfo.info(),
        }
    }

    /// Whether each file is wanted; `None` if all are. What was chosen here counts for more than what a link
    /// chose, and a link that chooses no file that there is has chosen nothing (M6).
    fn chosen(&self, metainfo: &Metainfo) -> Option<Vec<bool>> {
        let mut chosen = vec![false; metainfo.files().len()];
        match (&self.wanted_files, &self.source) {
            (Some(wanted), _) => {
                wanted
                    .iter()
                    .for_each(|index| chosen.get_mut(*index).into_iter().for_each(|file| *file = true));
                Some(chosen)
            }
            (None, TorrentSource::Magnet(magnet)) => {
                for range in &magnet.select_only {
                    let end = (*range.end() as usize).saturating_add(1).min(chosen.len());
                    chosen
                        .get_mut(*range.start() as usize..end)
                        .into_iter()
                        .for_each(|files| files.fill(true));
                }
                chosen.contains(&true).then_some(chosen)
            }
            (None, TorrentSource::Metainfo(_)) => None,
        }
    }

    /// The pieces that hold bytes of wanted files. Padding files are never wanted, but fill up the pieces
    /// beside them.
    pub(super) fn wanted_pieces(&self, metainfo: &Metainfo) -> Bitfield {
        let geometry = metainfo.geometry();
        if self.seed_only {
            return Bitfield::empty(geometry.pieces());
        }
        let Some(chosen) = self.chosen(metainfo) else { return Bitfield::full(geometry.pieces()) };
        chosen_pieces(&geometry, metainfo.files(), &chosen)
    }

    /// The same, in the disk's words.
    pub(super) fn to_open(&self, metainfo: &Metainfo) -> OpenTorrent {
        OpenTorrent {
            info_hashes: metainfo.info_hash().into(),
            geometry: metainfo.geometry(),
            files: metainfo.files().clone(),
            piece_hashes: metainfo.hashes(),
            dir: self.dir.clone(),
            wanted: self.chosen(metainfo),
            read_only: self.seed_only,
            check: self.check,
        }
    }
}

/// The pieces that hold bytes of chosen files; padding files count only as part of the pieces that they share
/// (BEP 47).
pub(super) fn chosen_pieces(geometry: &Geometry, files: &Files, chosen: &[bool]) -> Bitfield {
    let mut wanted = Bitfield::empty(geometry.pieces());
    for (file, _) in files.iter().zip(chosen).filter(|(file, chosen)| !file.attributes.pad && **chosen) {
        for piece in geometry.pieces_of(file.offset, file.offset + file.length) {
            wanted.set(piece);
        }
    }
    wanted
}
