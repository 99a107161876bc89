//! A session behind a SOCKS5 proxy: everything goes through it, names too, and nothing goes beside it. The torrents
//! are private.

#[path = "proxy/puppet.rs"]
mod puppet;
mod support;

use puppet::{HttpServer, Manner, PuppetProxy, WAY_OUT};
use rill::session::{AddTorrent, Event, Proxy, Session};
use rill::units::PieceHash;
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use sha1::{Digest, Sha1};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{content, session_with, wait};

const LEN: usize = 1_000_000;
const PIECE: usize = 32_768;

/// Writes one file and returns its private torrent with this tracker.
fn torrent(dir: &Path, tracker: &str) -> Metainfo {
    let bytes = content(LEN, 5);
    std::fs::write(dir.join("x"), &bytes).unwrap();
    let trackers = vec![vec![tracker.to_owned()]];
    let builder =
        Builder { piece_len: PIECE as u32, private: true, trackers, ..Builder::single("x", LEN as u64) };
    let hashes: Vec<_> = bytes.chunks(PIECE).map(|piece| PieceHash(Sha1::digest(piece).into())).collect();
    Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap()
}

/// A seed at an upload limit, so that its peers can be looked at. It announces nowhere.
fn seed(torrent: &Metainfo, dir: &Path) -> (Session, SocketAddr) {
    let seed = session_with("127.0.0.1", |config| config.upload_limit = Some(LEN as u64));
    let id = seed.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), dir) }).unwrap();
    seed.set_trackers(id, Vec::new()).unwrap();
    wait(&seed, |e| matches!(e, Event::Opened { .. }));
    let addr = SocketAddr::from(([127, 0, 0, 1], seed.local_port()));
    (seed, addr)
}

fn behind(proxy: SocketAddr) -> Session {
    session_with("127.0.0.1", |config| {
        config.proxy = Some(Proxy::parse(&format!("socks5://user:secret@{proxy}")).unwrap());
        // None of them goes through the proxy.
        (config.lsd, config.dht) = (true, Some(rill::session::DhtConfig::default()));
    })
}

fn incoming(seed: &Session) -> u64 {
    seed.stats().unwrap().connections.incoming.tried
}

#[test]
fn n3_a_private_torrent_is_downloaded_through_the_proxy_alone() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tracker = HttpServer::start();
    let proxy = PuppetProxy::start(Manner::Honest);
    proxy.knows("tracker.example", tracker.addr);
    let url = "http://tracker.example:7070/announce";
    let torrent = torrent(from.path(), url);
    let (seed, addr) = seed(&torrent, from.path());
    tracker.answers_with_peer(addr);
    let session = behind(proxy.addr);
    assert_eq!(session.local_port(), 0, "a port is listened on");
    session.add(AddTorrent::new(torrent.clone(), to.path())).unwrap();
    let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
    wait(&session, |event| {
        let id = seed.torrents().unwrap()[0].id;
        seen.extend(seed.peers(id).unwrap().iter().map(|peer| peer.addr.ip()));
        matches!(event, Event::Completed { .. })
    });
    support::assert_same(&from.path().join("x"), &to.path().join("x"));
    assert_eq!(seen, BTreeSet::from([WAY_OUT]), "the seed was reached beside the proxy");
    let asked = proxy.asked();
    assert!(asked.contains(&"tracker.example:7070".to_owned()), "the name went to the proxy: {asked:?}");
    assert!(asked.contains(&addr.to_string()), "{asked:?}");
    assert_eq!(tracker.callers(), BTreeSet::from([WAY_OUT]), "the tracker was reached beside the proxy");
    assert!(
        tracker.requests().iter().all(|request| request.contains("&port=1&")),
        "{:?}",
        tracker.requests()
    );
}

#[test]
fn n3_while_the_proxy_is_gone_nothing_goes_out_and_then_the_download_goes_on() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tracker = HttpServer::start();
    let torrent = torrent(from.path(), &format!("http://{}/announce", tracker.addr));
    let (seed, addr) = seed(&torrent, from.path());
    tracker.answers_with_peer(addr);
    let place = puppet::free_address();
    let session = behind(place);
    session.add(AddTorrent { peers: vec![addr], ..AddTorrent::new(torrent, to.path()) }).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((incoming(&seed), tracker.requests().len()), (0, 0), "something went out beside the proxy");
    let _proxy = PuppetProxy::start_at(place, Manner::Honest);
    wait(&session, |event| matches!(event, Event::Completed { .. }));
}

#[test]
fn n4_a_proxy_that_lies_costs_no_peer() {
    let from = tempfile::tempdir().unwrap();
    let torrent = torrent(from.path(), "http://127.0.0.1:1/announce");
    let (seed, addr) = seed(&torrent, from.path());
    seed.set_limits(None, None).unwrap();
    std::thread::scope(|scope| {
        for manner in Manner::LIES {
            let torrent = torrent.clone();
            scope.spawn(move || {
                let to = tempfile::tempdir().unwrap();
                let proxy = PuppetProxy::start(manner);
                let session = behind(proxy.addr);
                session.add(AddTorrent { peers: vec![addr], ..AddTorrent::new(torrent, to.path()) }).unwrap();
                wait(&session, |event| matches!(event, Event::Completed { .. }));
                let tried = session.stats().unwrap().connections.dialed;
                println!("{manner:?}: {tried:?}, {} connections to the proxy", proxy.asked().len());
            });
        }
    });
}

#[test]
fn n5_a_bound_address_that_is_a_name_and_replies_byte_by_byte_are_read() {
    let from = tempfile::tempdir().unwrap();
    let torrent = torrent(from.path(), "http://127.0.0.1:1/announce");
    let (_seed, addr) = seed(&torrent, from.path());
    for manner in [Manner::ByteByByte, Manner::LongName, Manner::NoLogin] {
        let to = tempfile::tempdir().unwrap();
        let proxy = PuppetProxy::start(manner);
        let session = behind(proxy.addr);
        session.add(AddTorrent { peers: vec![addr], ..AddTorrent::new(torrent.clone(), to.path()) }).unwrap();
        wait(&session, |event| matches!(event, Event::Completed { .. }));
        assert_eq!(
            session.stats().unwrap().connections.dialed.connected,
            1,
            "{manner:?}: at the first attempt"
        );
    }
}

fn rill(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command.current_dir(dir).args(words);
    // What the system's own proxy would be.
    command.env("http_proxy", format!("http://{}", puppet::free_address()));
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn n3_the_name_in_a_url_is_given_to_the_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let torrent = torrent(dir.path(), "http://127.0.0.1:1/announce");
    let server = HttpServer::start();
    server.answers(torrent.to_file().unwrap());
    let proxy = PuppetProxy::start(Manner::Honest);
    proxy.knows("files.example", server.addr);
    std::fs::write(dir.path().join("proxy"), format!("socks5://user:secret@{}\n", proxy.addr)).unwrap();
    let url = "http://files.example/x.torrent";
    for command in ["show", "verify"] {
        let (code, said) = rill(dir.path(), &[command, "--proxy", "file:proxy", url]);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(proxy.asked(), ["files.example:80"; 2]);
    assert_eq!(server.callers(), BTreeSet::from([WAY_OUT]));
}

#[test]
fn n3_a_proxy_that_cannot_be_used_is_named_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let url = "http://files.example/x.torrent";
    let gone = puppet::free_address();
    let refusing = PuppetProxy::start(Manner::RefusesLogin).addr;
    for (proxy, code, words) in [
        ("socks4://user:secret@a.example:1".to_owned(), 28, "its scheme is not socks5"),
        ("user:secret@a.example:1".to_owned(), 28, "it must begin with socks5://"),
        ("socks5://user:secret@a.example".to_owned(), 28, "no host and port"),
        ("file:none".to_owned(), 15, "none: "),
        (format!("socks5://user:secret@{gone}"), 6, "connection refused"),
        (format!("socks5://user:secret@{refusing}"), 6, "refuses the user name and password"),
    ] {
        let (exit, said) = rill(dir.path(), &["show", "--proxy", &proxy, url]);
        assert!(exit == Some(code) && said.contains(words), "{proxy}: {exit:?} {said}");
        assert!(!said.contains("secret") && !said.contains("os error"), "{said}");
    }
}
