//! rill: a BitTorrent engine in which one thread serves every connection.
//!
//! One loop thread multiplexes every socket with [`mio`](https://docs.rs/mio) and owns the `engine`, which
//! decides and never acts; a few workers hash pieces and access the `disk`; payload goes from the socket to
//! its buffer or file without passing through the engine. Users hold a [`session::Session`] on their own
//! threads: they send commands, ask questions and receive events.
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
//! | floor | module | contents |
//! |---|---|---|
//! | 6 | `cli` | the command line |
//! | 5 | [`session`] | the loop thread, and the handle on the user's thread |
//! | 4 | `net` | sockets, readiness, blocking workers |
//! | 4 | `sim` | the virtual world: the same engines by the thousand, on virtual time |
//! | 3 | `disk` | files, mapped windows, workers, resume records |
//! | 2 | `engine` | decisions: peers, pieces, choking, announcing |
//! | 2 | `utp` | streams over UDP that give way to other traffic (BEP 29, LEDBAT) |
//! | 1 | [`wire`] | formats: bencode, torrent files, messages, packets of trackers and the DHT |
//! | 0 | [`units`] | instants, indices, spans, keys, digests |
//!
//! # Glossary
//!
//! | word | meaning here |
//! |---|---|
//! | action | one thing that the engine wants done: dial, write, hash, announce |
//! | announce | a request that tells a tracker of us and asks for peers (BEP 3, 15) |
//! | availability | the number of connected peers that have a piece |
//! | block | 16 KiB of a piece, the unit of a request; the last one of a piece may be shorter |
//! | bootstrap node | a DHT node that is queried while no other is known, and never inserted into the routing table |
//! | checkpoint | syncing verified pieces and writing them into the record |
//! | choke | to serve a peer no longer; its opposite is to unchoke |
//! | deferred message | a message about pieces that arrived before the metadata, kept unchecked |
//! | effect | what one connection's turn means for others, applied when the turn is over |
//! | endgame | when every wanted block is requested: quick peers take blocks over from slow ones |
//! | fingerprint | a digest of every event of a simulated run: equal fingerprints, equal runs |
//! | geometry | the sizes of a torrent: total, piece length, number of pieces; the one door from raw numbers to indices |
//! | half-open | of a connection: dialed and not yet established |
//! | lease | the right of one peer's connection to write one block; there is at most one a block |
//! | lookup | a walk through the DHT toward an id |
//! | loop | the one thread that owns the engine and all sockets |
//! | metadata | a torrent's info dictionary, fetched from peers for a magnet link (BEP 9) |
//! | oracle | the checks that end a simulated run at the first broken law |
//! | part name | the name of an unfinished file, `NAME.part`; the parts file `.rill-HASH.parts` is another thing |
//! | partial piece | a piece of which blocks are requested or have arrived |
//! | peer list | the known addresses of a torrent, and when each may be dialed |
//! | PEX | peer exchange: peers tell each other addresses (BEP 11) |
//! | piece | the unit that has a hash |
//! | plan | what to write next on a connection: messages and spans of blocks, in order |
//! | puppet | a scripted peer of the simulator |
//! | recheck | hashing existing content when a torrent is opened, as far as its record does not vouch for it |
//! | record | the file in the state directory that says which pieces are verified and durable |
//! | request queue | the blocks requested from one peer and not yet answered, and how many there may be |
//! | routing table | the DHT nodes that answered, by distance from our id |
//! | scrape | a question for the size of a swarm, which tells nothing of us (BEP 48, 33) |
//! | seed, leecher | a peer with every piece; a peer with missing pieces |
//! | segment | one part of a write plan, or the part of a span that lies in one file |
//! | smart ban | finding the sender of bad data by comparing digests of blocks |
//! | snub | to send no block for long although blocks are requested |
//! | source | what the picker, endgame and smart ban know of a peer; its counterpart is the wire |
//! | span | a range of bytes inside one piece |
//! | swarm | all peers of a torrent |
//! | tier | a group of trackers of equal rank (BEP 12) |
//! | token | proof that a DHT node asked us before it announces (BEP 5) |
//! | trial, scenario | a small simulated swarm with something that goes wrong; any simulated swarm |
//! | turn | one call into the engine, and the context that it hands down |
//! | upload-only | wanting no piece more, seed or not (BEP 21) |
//! | verify | to hash a piece and find it good |
//! | window | a part of a file mapped into memory, which the kernel fills from a socket |
//! | wire | the BitTorrent conversation with a peer; also the floor of formats |
//! | worker | a thread that hashes and writes, or one that waits for an HTTP tracker or a name server |

#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(not(feature = "internals"))]
mod disk;
#[cfg(feature = "internals")]
pub mod disk;
#[cfg(not(feature = "internals"))]
mod engine;
#[cfg(feature = "internals")]
pub mod engine;
mod net;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
pub mod units;
#[cfg(not(feature = "internals"))]
mod utp;
#[cfg(feature = "internals")]
pub mod utp;
pub mod wire;
