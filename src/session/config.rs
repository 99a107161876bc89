//! The parameters of a session and of a torrent. Defaults are those of the command line.

use super::error::CommandError;
use super::memory::default_max_memory;
use crate::disk::{OpenTorrent, StorageMode};
use crate::engine::{Encryption, TorrentInfo};
use crate::net::{Egress, HttpOptions, Interface, IpFamily, PrivateHosts, Proxy, RootCertificates};
use crate::units::{Bitfield, Geometry, InfoHash, Transports};
use crate::wire::{Files, Magnet, Metainfo, is_plain_name};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The parameters of a session. Build one with `..Config::default()`: later versions add fields.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ports to try, in order, for TCP and UDP; `0..=0` is any free port. An empty range is an error.
    pub listen_ports: RangeInclusive<u16>,
    /// Addresses to listen on, at least one. Those that the machine lacks are left out as long as one works.
    pub listen_on: Vec<IpAddr>,
    /// The most connections of all torrents; 0 is none. Fewer if the process may not open as many descriptors.
    pub max_peers: usize,
    /// The most connections of one torrent; 0 is none.
    pub max_peers_per_torrent: usize,
    /// The limit of all downloads together, bytes a second; `None` is unlimited, 0 counts as 1.
    pub download_limit: Option<u64>,
    /// The limit of all uploads together, bytes a second; `None` is unlimited, 0 counts as 1.
    pub upload_limit: Option<u64>,
    /// How bytes reach the files.
    pub storage: StorageMode,
    /// The most bytes of private memory and windows together. It bounds buffers and windows; what a torrent
    /// itself needs (metadata, pieces) is allocated even beyond it.
    pub max_memory: usize,
    /// Threads that hash and access the disk; 0 chooses by the number of cores.
    pub workers: usize,
    /// The directory of resume records, metadata of magnet links and DHT nodes. With `None` nothing is kept,
    /// and existing content is hashed at every start.
    pub state_dir: Option<PathBuf>,
    /// The interval of [`Event::Progress`](super::Event::Progress) of each torrent, at least 10 ms.
    pub progress_every: Duration,
    /// Peer exchange (BEP 11); never used for a private torrent.
    pub pex: bool,
    /// Local service discovery (BEP 14); never used for a private torrent.
    pub lsd: bool,
    /// Ask the router to open the listening port to peers outside (PCP, NAT-PMP, UPnP). Nothing is sent
    /// without a default router, from a public IPv4 address, or if only loopback is listened on.
    pub port_mapping: bool,
    /// The transports of connections to peers. With both, an address is dialed over TCP first. Without TCP no TCP port
    /// is opened.
    pub transports: Transports,
    /// When connections to peers are encrypted (MSE).
    pub encryption: Encryption,
    /// The DHT (BEP 5), never used for a private torrent; `None` disables it.
    pub dht: Option<DhtConfig>,
    /// Private addresses that the trackers of a torrent may have with any path. Trackers in
    /// [`AddTorrent::trackers`] and those of [`Session::set_trackers`](super::Session::set_trackers) may have
    /// any address.
    pub private_hosts: PrivateHosts,
    /// The only address family of all traffic; `None` is both.
    pub ip_family: Option<IpFamily>,
    /// The interface or address that every socket is bound to. While it is gone, nothing is sent or received. Host
    /// names are still resolved by the system, over any interface. Binding to a name needs Linux 5.7 or
    /// `CAP_NET_RAW`.
    pub interface: Option<Interface>,
    /// The DSCP mark (RFC 2474) of traffic with peers, the DHT and UDP trackers: 0 to 63, larger values count as
    /// 63; `None` leaves it unmarked.
    pub dscp: Option<u8>,
    /// The SOCKS5 proxy that all traffic goes through. Nothing is sent beside it: no port is listened on, no router
    /// asked, local service discovery and proxies of the environment are not used, and names are resolved by the
    /// proxy, its own name excepted. UDP trackers, the DHT and uTP do not go through it and are not used.
    pub proxy: Option<Proxy>,
    /// The certificate authorities that vouch for HTTPS trackers.
    pub root_certificates: RootCertificates,
    /// The seed of random choices and of the peer id; `None` takes one from the system.
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
            port_mapping: true,
            transports: Transports::Both,
            encryption: Encryption::default(),
            dht: Some(DhtConfig::default()),
            private_hosts: PrivateHosts::default(),
            ip_family: None,
            interface: None,
            dscp: None,
            proxy: None,
            root_certificates: RootCertificates::default(),
            seed: None,
        }
    }
}

impl Config {
    /// Returns the configuration without what cannot go through its proxy.
    pub(super) fn behind_proxy(self) -> Config {
        if self.proxy.is_none() {
            return self;
        }
        Config { lsd: false, port_mapping: false, dht: None, transports: Transports::Tcp, ..self }
    }

    /// Returns where sockets leave the machine.
    pub(super) fn egress(&self) -> Egress {
        Egress {
            family: self.ip_family,
            interface: self.interface.clone(),
            dscp: self.dscp.map(|dscp| dscp.min(63)),
            proxy: self.proxy.clone(),
        }
    }

    /// Returns how HTTP servers are reached.
    pub(crate) fn http_options(&self) -> HttpOptions {
        HttpOptions { roots: self.root_certificates.clone(), egress: self.egress() }
    }
}

/// The parameters of the DHT.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    /// The UDP port, which is also the source port of requests to UDP trackers; `None` is the listening port.
    pub port: Option<u16>,
    /// Host and port of nodes to start from. They are queried if no node of an earlier run answers.
    pub bootstrap: Vec<(String, u16)>,
    /// Host and port of bootstrap nodes: queried like [`bootstrap`](DhtConfig::bootstrap), never inserted
    /// into the routing table.
    pub routers: Vec<(String, u16)>,
    /// Send queries and answer none (BEP 43).
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

/// A torrent file or a magnet link.
#[derive(Clone, Debug)]
pub enum TorrentSource {
    /// A torrent file, or metadata with trackers.
    Metainfo(Metainfo),
    /// A magnet link: the metadata is fetched from peers (BEP 9).
    Magnet(Magnet),
}

/// A torrent to add, and its parameters.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// The torrent file or magnet link.
    pub source: TorrentSource,
    /// The directory of its files; created if missing, unless `seed_only`.
    pub dir: PathBuf,
    /// Name of the content in the directory: of its file, or of the directory of its files; `None` for the
    /// torrent's name. One plain path component of at most 255 bytes.
    pub name: Option<String>,
    /// Indices of the wanted files; `None` for all, or those that the magnet link selects (BEP 53). Indices that
    /// the torrent of a magnet link lacks are ignored; use `choose_later` to be told of them.
    pub wanted_files: Option<Vec<usize>>,
    /// After [`Event::Metadata`](super::Event::Metadata) of a magnet link, wait for
    /// [`Session::choose`](super::Session::choose) before any file is touched.
    pub choose_later: bool,
    /// Start paused: content is checked, and no tracker or peer is contacted until
    /// [`Session::resume`](super::Session::resume).
    pub paused: bool,
    /// Addresses of peers to dial.
    pub peers: Vec<SocketAddr>,
    /// Announce URLs besides the torrent's own, each a tier (BEP 12).
    pub trackers: Vec<String>,
    /// Serve existing content; never write to it.
    pub seed_only: bool,
    /// Hash existing content and ignore the resume record.
    pub check: bool,
    /// Write to existing files even if nothing shows that they are this torrent's. Without it such a torrent
    /// fails and the files stay as they are.
    pub allow_overwrite: bool,
    /// Name unfinished files NAME.part until they are complete; on by default. A program that reads a file while
    /// it is downloaded may need its name.
    pub part_names: bool,
    /// Download the content again even if its directory lies on another device than at the last run and holds
    /// none of it: without it such a torrent fails, because its disk may not be mounted.
    pub refetch: bool,
    /// Refuse to write content whose top-level name begins with a dot, as names of settings in a home directory
    /// do.
    pub refuse_hidden: bool,
    /// Reserve the blocks of the wanted files before the download, where the file system can. A disk without
    /// enough room counts as full at once.
    pub preallocate: bool,
    /// Request pieces in order rather than rarest first.
    pub sequential: bool,
    /// Request the first and the last piece of each wanted file before all others, as players need them.
    pub first_last: bool,
    /// The download limit, bytes a second; `None` is unlimited, 0 counts as 1.
    pub download_limit: Option<u64>,
    /// The upload limit, bytes a second; `None` is unlimited, 0 counts as 1.
    pub upload_limit: Option<u64>,
}

impl AddTorrent {
    /// Returns parameters to download all files into `dir`.
    pub fn new(metainfo: Metainfo, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent::of(TorrentSource::Metainfo(metainfo), dir)
    }

    /// Returns parameters to fetch the metadata of a magnet link, which
    /// [`Event::Metadata`](super::Event::Metadata) reports, and to download the files that it selects into
    /// `dir`.
    pub fn magnet(magnet: Magnet, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent::of(TorrentSource::Magnet(magnet), dir)
    }

    fn of(source: TorrentSource, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent {
            source,
            dir: dir.into(),
            name: None,
            wanted_files: None,
            choose_later: false,
            paused: false,
            peers: Vec::new(),
            trackers: Vec::new(),
            seed_only: false,
            check: false,
            allow_overwrite: false,
            part_names: true,
            refetch: false,
            refuse_hidden: false,
            preallocate: false,
            sequential: false,
            first_last: false,
            download_limit: None,
            upload_limit: None,
        }
    }

    /// Returns an error for a name that cannot be one, a wanted file that the torrent lacks, and an added tracker
    /// that is none.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        if let Some(name) = self.name.as_ref().filter(|name| !is_plain_name(name)) {
            return Err(CommandError::NotAName(name.clone()));
        }
        if let (TorrentSource::Metainfo(metainfo), Some(wanted)) = (&self.source, &self.wanted_files) {
            let files = metainfo.files().len();
            if let Some(index) = wanted.iter().copied().find(|index| *index >= files) {
                return Err(CommandError::NoSuchFile { index, files });
            }
        }
        match self.trackers.iter().find(|url| crate::wire::tracker_url(url.as_bytes()).is_none()) {
            Some(url) => Err(CommandError::NotATracker(url.clone())),
            None => Ok(()),
        }
    }

    /// Returns the info hash (BEP 3).
    pub fn info_hash(&self) -> InfoHash {
        match &self.source {
            TorrentSource::Metainfo(metainfo) => metainfo.info_hash(),
            TorrentSource::Magnet(magnet) => magnet.info_hash,
        }
    }

    /// Returns all trackers in tiers: the torrent's own, then the added ones.
    pub(super) fn all_trackers(&self) -> Vec<Vec<String>> {
        let mut tiers = match &self.source {
            TorrentSource::Metainfo(metainfo) => metainfo.trackers().to_vec(),
            TorrentSource::Magnet(magnet) => magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
        };
        tiers.extend(self.trackers.iter().map(|url| vec![url.clone()]));
        tiers
    }

    /// Returns the peers of the magnet link and the added ones.
    pub(super) fn all_peers(&self) -> Vec<SocketAddr> {
        let named =
            if let TorrentSource::Magnet(magnet) = &self.source { magnet.peers.as_slice() } else { &[] };
        named.iter().chain(&self.peers).copied().collect()
    }

    /// Returns the metadata with the name that the content gets.
    pub(super) fn named(&self, metainfo: Metainfo) -> Metainfo {
        self.name.as_deref().and_then(|name| metainfo.renamed(name)).unwrap_or(metainfo)
    }

    /// Returns the engine's description of the torrent.
    pub(super) fn torrent_info(&self, metainfo: &Metainfo) -> TorrentInfo {
        TorrentInfo {
            geometry: metainfo.geometry(),
            wanted: self.wanted_pieces(metainfo),
            private: metainfo.private(),
            info: metainfo.info(),
        }
    }

    /// Returns whether each file is wanted; `None` if all are. `wanted_files` overrides the link's selection,
    /// and a selection without any existing file is ignored (M6).
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

    /// Returns the pieces that hold bytes of wanted files, none if the torrent is only seeded.
    pub(super) fn wanted_pieces(&self, metainfo: &Metainfo) -> Bitfield {
        let geometry = metainfo.geometry();
        if self.seed_only {
            return Bitfield::empty(geometry.pieces());
        }
        let Some(chosen) = self.chosen(metainfo) else { return Bitfield::full(geometry.pieces()) };
        chosen_pieces(&geometry, metainfo.files(), &chosen)
    }

    /// Returns the disk's parameters for opening the content.
    pub(super) fn to_open(&self, metainfo: &Metainfo) -> OpenTorrent {
        let (files, hashes) = (metainfo.files().clone(), metainfo.hashes());
        OpenTorrent {
            wanted: self.chosen(metainfo),
            read_only: self.seed_only,
            check: self.check,
            allow_overwrite: self.allow_overwrite,
            part_names: self.part_names,
            refetch: self.refetch,
            refuse_hidden: self.refuse_hidden,
            preallocate: self.preallocate,
            ..OpenTorrent::new(metainfo.info_hash().into(), metainfo.geometry(), files, hashes, &self.dir)
        }
    }
}

/// Returns the pieces that hold bytes of chosen files. Pad files are never chosen: they are part of the
/// pieces that they share with other files (BEP 47).
pub(super) fn chosen_pieces(geometry: &Geometry, files: &Files, chosen: &[bool]) -> Bitfield {
    let mut wanted = Bitfield::empty(geometry.pieces());
    for (file, _) in files.iter().zip(chosen).filter(|(file, chosen)| !file.attributes.pad && **chosen) {
        for piece in geometry.pieces_of(file.offset, file.offset + file.length) {
            wanted.set(piece);
        }
    }
    wanted
}
