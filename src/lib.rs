//! rill: a BitTorrent engine in which one thread owns every socket.
//!
//! One loop thread multiplexes every socket with [`mio`](https://docs.rs/mio) and owns the [`engine`], which makes decisions and does no I/O;
//! a few workers hash pieces and access the [`disk`]; payload goes from the socket to the file or its map without passing through the
//! engine. The user's thread holds a [`session::Session`], which sends commands to the loop thread and receives events from it.
//!
//! # Download a torrent
//!
//! ```no_run
//! use rill::session::{AddTorrent, Config, Event, Session};
//! use rill::wire::Metainfo;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let torrent = Metainfo::parse(&std::fs::read("debian.torrent")?)?;
//! let session = Session::start(Config::default())?;
//! session.add(AddTorrent::new(torrent, "/srv/downloads"))?;
//! loop {
//!     match session.next_event(Duration::from_secs(1)) {
//!         Some(Event::Progress(p)) => println!("{} of {} bytes, {} peers", p.have_bytes, p.wanted_bytes, p.peers),
//!         Some(Event::Completed { .. }) => break,
//!         Some(Event::Failed { fault, .. }) => return Err(fault.into()),
//!         _ => {}
//!     }
//! }
//! session.stop(Duration::from_secs(5)); // writes the records and announces the stop to trackers
//! # Ok(())
//! # }
//! ```
//!
//! # Two sessions, one torrent, no network
//!
//! A complete transfer: one session seeds a file over loopback, another fetches it.
//!
//! ```
//! use rill::session::{AddTorrent, Config, Event, Session};
//! use rill::units::PieceHash;
//! use rill::wire::{Metainfo, metainfo::Builder};
//! use sha1::{Digest, Sha1};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let content = b"what one has, another gets".repeat(4000);
//! std::fs::write(from.path().join("words.txt"), &content)?;
//!
//! let builder = Builder { piece_len: 16 * 1024, ..Builder::single("words.txt", content.len() as u64) };
//! let hashes: Vec<_> = content.chunks(16 * 1024).map(|piece| PieceHash(Sha1::digest(piece).into())).collect();
//! let torrent = Metainfo::parse(&builder.finish(&hashes)?)?;
//!
//! let on_loopback = || Config {
//!     listen_ports: 0..=0,
//!     listen_on: vec!["127.0.0.1".parse().unwrap()],
//!     dht: None,
//!     lsd: false,
//!     ..Config::default()
//! };
//! let seeder = Session::start(on_loopback())?;
//! seeder.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), from.path()) })?;
//!
//! let fetcher = Session::start(on_loopback())?;
//! let peer = ([127, 0, 0, 1], seeder.local_port()).into();
//! fetcher.add(AddTorrent { peers: vec![peer], ..AddTorrent::new(torrent, to.path()) })?;
//! while !matches!(fetcher.next_event(Duration::from_secs(30)), Some(Event::Completed { .. })) {}
//!
//! assert_eq!(std::fs::read(to.path().join("words.txt"))?, content);
//! # Ok(())
//! # }
//! ```
//!
//! # The floors
//!
//! Imports point down only; `tests/architecture.rs` checks it.
//!
//! | floor | module | what it holds |
//! |---|---|---|
//! | 6 | [`cli`] | the commands and their output |
//! | 5 | [`session`] | the loop thread, and the handle on the user's thread |
//! | 4 | [`net`] | sockets, readiness, tracker workers |
//! | 4 | [`sim`] | the simulator: swarms of thousands of engines in virtual time |
//! | 3 | [`disk`] | files, windows, workers, resume records |
//! | 2 | [`engine`] | decisions: peers, pieces, choking, announcing |
//! | 1 | [`wire`] | formats: bencode, torrent files, messages, tracker packets |
//! | 0 | [`units`] | value types: instants, indices, spans, keys, digests |
//!
//! # Glossary
//!
//! | word | meaning in rill |
//! |---|---|
//! | action | An instruction of the engine that the session carries out at the end of a turn: dial, close, announce, open storage. |
//! | announce | A request that tells a tracker or the DHT about this peer and returns addresses of other peers. |
//! | availability | The number of connected peers that have a piece; the picker requests rare pieces first. |
//! | block | The unit of a request: 16 KiB of a piece, less at the piece's end. |
//! | candidate | An input of a choice: a known address to dial, or a peer that may be unchoked. |
//! | checkpoint | The write of a resume record after the data that it claims has been synced. |
//! | choke | To refuse a peer's requests; *unchoke* allows them. Choking rounds decide which peers are served. |
//! | effect | A consequence of one connection's message for other connections or for the torrent. |
//! | DHT node | A participant of the distributed hash table over UDP (BEP 5); it need not be a peer of any torrent here. |
//! | endgame | The last phase of a download, in which a missing block may be requested from more than one peer. |
//! | fault | An error of the disk or the network that is injected by a test, or that pauses a torrent. |
//! | fingerprint | A hash over all events of a simulated run; equal fingerprints mean equal runs. |
//! | info hash | The SHA-1 of a torrent's `info` dictionary; it identifies the swarm. |
//! | leecher | A peer that lacks pieces. |
//! | lease | The assignment of a block to the peer that it is requested from. |
//! | lookup | An iterative search of the DHT for the nodes closest to an identifier. |
//! | LSD | Local Service Discovery: peers on the local network announce themselves by multicast (BEP 14). |
//! | magnet link | A URI with an info hash and no metadata; the metadata is fetched from peers (BEP 9). |
//! | metadata | The `info` dictionary: names and lengths of files, the piece length, the piece hashes. |
//! | oracle | The checks of the simulator that every engine must pass in every run. |
//! | peer | A client that takes part in a torrent's swarm. |
//! | PEX | Peer exchange: connected peers send each other addresses of the swarm (BEP 11). |
//! | piece | The unit of verification: a range of the content with one SHA-1 in the metadata. |
//! | puppet | A simulated peer with a scripted behaviour in place of an engine, such as a liar or a free rider. |
//! | record | A resume record: the file in the state directory that names the verified pieces and the state of the files. |
//! | recheck | The hashing of existing content, at the start without a usable record or when the user asks for it. |
//! | request queue | The blocks requested from one peer and not yet received; its length follows the peer's rate and delay. |
//! | routing table | The DHT nodes that this node knows, in buckets by distance from its identifier. |
//! | scenario | The full input of a simulated run: peers, links, content, puppets and the seed of the random numbers. |
//! | scrape | A request for the numbers of seeds, leechers and completed downloads (BEP 48, BEP 33). |
//! | seed | A peer that has every piece; also the start value of a random number generator. |
//! | segment | A contiguous run of bytes in a write plan: encoded messages, or the payload of a block. |
//! | snub | A peer is snubbed when it has unchoked this client and sends no requested block for a time limit. |
//! | source | A peer as a supplier of blocks: the part of its state that the picker, endgame and smart ban read. |
//! | span | A non-empty range of bytes inside one piece. |
//! | swarm | All peers of one torrent. |
//! | tier | A group of trackers in a torrent; the next tier is used if every tracker of the group fails (BEP 12). |
//! | token | A value that a DHT node returns to `get_peers` and requires in `announce_peer`; it proves the sender's address. |
//! | torrent | A set of files with its metadata and swarm, and its state in the session. |
//! | tracker | A server that returns addresses of a torrent's peers, over HTTP or UDP (BEP 3, BEP 15). |
//! | trial | A named experiment or preset of `rill sim`: one scenario for each arm, run with several random seeds. |
//! | turn | One pass of the loop: poll, handle ready sockets, timers, replies and commands, then carry out the actions. |
//! | upload-only | A peer that requests no more pieces, whether or not it has all of them (BEP 21). |
//! | verify | To hash a piece and compare the result with the metadata. |
//! | window | A mapped range of a file: payload is received into it, and only the kernel accesses its bytes. |
//! | wire | The formats of files and network messages, and the module that parses and encodes them. |
//! | worker | A thread of the disk pool, which does file I/O and hashing so that the loop thread never waits. |

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cli;
pub mod disk;
pub mod engine;
pub mod net;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
pub mod units;
// `wire` parses input from the network: operations that can panic are denied, and each exception states why it cannot panic.
#[cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
pub mod wire;
