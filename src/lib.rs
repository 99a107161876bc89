//! rill: a BitTorrent engine in which one thread does the talking.
//!
//! One loop thread multiplexes every socket with [`mio`](https://docs.rs/mio) and owns the [`engine`], which decides and never acts;
//! a few workers hash pieces and talk to the [`disk`]; payload goes from the socket to where it lives without passing through the
//! engine. Users hold a [`session::Session`] on their own thread: they send commands and receive events, and nothing is shared.
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
//! session.stop(Duration::from_secs(5)); // records written, trackers told
//! # Ok(())
//! # }
//! ```
//!
//! # Two sessions, one torrent, no network
//!
//! The same from end to end, small enough to run here: one session seeds a file over loopback, another fetches it.
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
//! Imports point down only; a test holds them to it.
//!
//! | floor | module | what it holds |
//! |---|---|---|
//! | 6 | [`cli`] | what a person types and sees |
//! | 5 | [`session`] | the loop thread, and the handle on the user's thread |
//! | 4 | [`net`] | sockets, readiness, tracker workers |
//! | 4 | [`sim`] | the virtual world: the same engines by the thousand, on virtual time |
//! | 3 | [`disk`] | files, windows, workers, resume records |
//! | 2 | [`engine`] | decisions: peers, pieces, choking, announcing |
//! | 1 | [`wire`] | shapes: bencode, torrent files, messages, tracker packets |
//! | 0 | [`units`] | words: moments, indices, spans, keys, digests |

#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "cli")]
#[doc(hidden)]
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
// Here stand the bytes of strangers: what could panic is not written, and each exception says why it cannot.
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
