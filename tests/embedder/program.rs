//! A program outside the repository that uses the library without feature `cli`: one session seeds, another
//! downloads over loopback. It prints one line for each step; `tests/embedder.rs` builds and runs it.

use rill::session::{AddTorrent, Config, Event, Session, TorrentState};
use rill::units::PieceHash;
use rill::wire::{Metainfo, metainfo::Builder};
use sha1::{Digest, Sha1};
use std::error::Error;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

const PIECE_LEN: u32 = 32 * 1024;

fn config(ip: &str) -> Config {
    Config { listen_ports: 0..=0, listen_on: vec![ip.parse().unwrap()], dht: None, lsd: false, ..Config::default() }
}

fn torrent(dir: &Path) -> Result<Metainfo, Box<dyn Error>> {
    let files = [("a", 1 << 20), ("b", 2 << 20)];
    let mut all: Vec<u8> = Vec::new();
    std::fs::create_dir(dir.join("t"))?;
    for (name, len) in files {
        let content: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(dir.join("t").join(name), &content)?;
        all.extend(content);
    }
    let entries = files.iter().map(|(name, len)| (vec![name.to_string()], u64::from(*len))).collect();
    let builder = Builder { piece_len: PIECE_LEN, ..Builder::multi("t", entries) };
    let hashes: Vec<_> = all.chunks(PIECE_LEN as usize).map(|piece| PieceHash(Sha1::digest(piece).into())).collect();
    Ok(Metainfo::parse(&builder.finish(&hashes)?)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("no directory")?;
    let from = Path::new(&dir).join("from");
    let to = Path::new(&dir).join("to");
    std::fs::create_dir(&from)?;
    std::fs::create_dir(&to)?;
    let torrent = torrent(&from)?;
    let seeder = Session::start(config("127.0.0.1"))?;
    seeder.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), &from) })?;
    let addr = ([127, 0, 0, 1], seeder.local_port()).into();

    let session = Session::start(config("127.0.0.2"))?;
        // A program with an event loop of its own would write to a descriptor in this callback and poll it.
    let (wake, woken) = channel();
    let events = session.subscribe(Some(Box::new(move || wake.send(()).unwrap_or_default())));
    let id = session.add(AddTorrent { peers: vec![addr], download_limit: Some(1 << 20), ..AddTorrent::new(torrent, &to) })?;
    println!("added {}", session.torrents()?.len());
    let mut limited = false;
    loop {
        woken.recv_timeout(Duration::from_secs(60))?;
        while let Some(event) = events.next(Duration::ZERO) {
            match event {
                Event::Completed { .. } => {
                    let status = &session.torrents()?[0];
                    println!("complete {}", matches!(status.state, TorrentState::Seeding));
                    let have: Vec<u64> = session.files(id)?.iter().map(|file| file.have_bytes).collect();
                    println!("files {have:?}");
                    session.pause(id)?;
                    println!("paused {}", matches!(session.torrents()?[0].state, TorrentState::Paused));
                    session.remove(id)?;
                }
                Event::Progress(_) if !limited && session.files(id)?.iter().any(|file| file.have_bytes > 0) => {
                    limited = true;
                    println!("peers {}", session.peers(id)?.len());
                    session.set_torrent_limits(id, None, None)?;
                }
                Event::Removed { .. } => {
                    println!("removed, {} left", session.torrents()?.len());
                    println!("stopped {}", session.stop(Duration::from_secs(5)).clean);
                    return Ok(());
                }
                Event::Failed { fault, .. } => return Err(fault.into()),
                _ => {}
            }
        }
    }
}
