//! Queries and commands of a session: states, files, peers, trackers and pieces of running torrents, settings
//! that change while running, and errors for unknown torrents.

mod support;

use rill::session::{
    AddTorrent, CommandError, Config, Event, FilePriority, Session, StartError, TorrentId, TorrentState,
    TorrentStatus,
};
use rill::wire::Magnet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, assert_same, multi, seeder, session, single, wait};

const MIB: usize = 1024 * 1024;

/// The handle can be shared by threads.
const _: fn() = || {
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<Session>();
};

fn status(s: &Session, id: TorrentId) -> TorrentStatus {
    s.torrents().unwrap().into_iter().find(|t| t.id == id).unwrap()
}

/// Polls until the torrent has the expected state.
fn wait_state(s: &Session, id: TorrentId, expected: impl Fn(&TorrentState) -> bool) -> TorrentStatus {
    let begun = Instant::now();
    loop {
        let status = status(s, id);
        if expected(&status.state) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", status.state);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_running_download_reports_status_files_pieces_and_peers() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = multi(from.path(), "t", &[("a", MIB), ("b/c", 2 * MIB), ("d", MIB)], 64 * 1024);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.2");
    let request = AddTorrent {
        peers: vec![addr],
        download_limit: Some(256 * 1024),
        ..AddTorrent::new(torrent.clone(), to.path())
    };
    let id = s.add(request).unwrap();
    let status = wait_state(&s, id, |state| matches!(state, TorrentState::Downloading));
    assert_eq!(
        (status.info_hash, status.name.as_deref(), status.dir.as_path()),
        (torrent.info_hash(), Some("t"), to.path())
    );
    assert_eq!(status.progress.wanted_bytes, 4 * MIB as u64);

    let begun = Instant::now();
    while s.files(id).unwrap().iter().all(|f| f.have_bytes == 0) {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let files = s.files(id).unwrap();
    let pieces = s.pieces(id).unwrap();
    let lengths: Vec<_> = files.iter().map(|f| (f.path.to_str().unwrap(), f.length, f.priority)).collect();
    let mib = MIB as u64;
    let normal = FilePriority::Normal;
    assert_eq!(lengths, [("t/a", mib, normal), ("t/b/c", 2 * mib, normal), ("t/d", mib, normal)]);
    assert!(pieces.have.ones() > 0 && pieces.piece_len == 64 * 1024);
    assert!(pieces.partial.iter().all(|p| p.blocks == 4 && p.arrived <= 4));
    let peers = s.peers(id).unwrap();
    assert_eq!((peers.len(), peers[0].addr, peers[0].progress), (1, addr, 1.0));
    assert_eq!(peers[0].client.as_deref(), Some(concat!("rill ", env!("CARGO_PKG_VERSION"))));

    s.set_torrent_limits(id, None, None).unwrap();
    let status = wait_state(&s, id, |state| matches!(state, TorrentState::Seeding));
    assert!(status.progress.complete);
    assert!(s.files(id).unwrap().iter().all(|f| f.have_bytes == f.length));
    // Only then do all files have their names.
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(from.path(), to.path());
}

#[test]
fn file_priorities_can_change_while_running() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = multi(from.path(), "t", &[("a", MIB), ("b", MIB), ("c", MIB)], 32 * 1024);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.2");
    let id = s.add(AddTorrent { wanted_files: Some(vec![]), ..AddTorrent::new(torrent, to.path()) }).unwrap();
    // Without a wanted file the torrent is complete at once.
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert!(matches!(status(&s, id).state, TorrentState::Seeding));
    let priorities = |s: &Session| s.files(id).unwrap().iter().map(|f| f.priority).collect::<Vec<_>>();
    assert_eq!(priorities(&s), [FilePriority::Skip; 3]);

    s.set_files(id, vec![FilePriority::Skip, FilePriority::High, FilePriority::Skip]).unwrap();
    assert_eq!(priorities(&s), [FilePriority::Skip, FilePriority::High, FilePriority::Skip]);
    s.add_peers(id, vec![addr]).unwrap();
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    let have = |s: &Session| s.files(id).unwrap().iter().map(|f| f.have_bytes).collect::<Vec<_>>();
    assert_eq!(have(&s), [0, MIB as u64, 0]);
    assert!(!to.path().join("t/a").exists());

    s.set_files(id, vec![FilePriority::Low, FilePriority::Normal, FilePriority::High]).unwrap();
    wait_state(&s, id, |state| matches!(state, TorrentState::Downloading | TorrentState::Seeding));
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(from.path(), to.path());
    let wrong = s.set_files(id, vec![FilePriority::Normal]);
    assert_eq!(wrong, Err(CommandError::FileCount { given: 1, files: 3 }));
}

#[test]
fn files_of_high_priority_are_downloaded_first() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = multi(from.path(), "t", &[("a", 2 * MIB), ("b", MIB), ("c", 2 * MIB)], 32 * 1024);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.2");
    let id =
        s.add(AddTorrent { download_limit: Some(2 << 20), ..AddTorrent::new(torrent, to.path()) }).unwrap();
    wait_state(&s, id, |state| matches!(state, TorrentState::Downloading));
    s.set_files(id, vec![FilePriority::Low, FilePriority::Normal, FilePriority::High]).unwrap();
    s.add_peers(id, vec![addr]).unwrap();
    let begun = Instant::now();
    let have = loop {
        let have: Vec<u64> = s.files(id).unwrap().iter().map(|f| f.have_bytes).collect();
        if have[2] == 2 * MIB as u64 {
            break have;
        }
        assert!(begun.elapsed() < PATIENCE, "{have:?}");
        std::thread::sleep(Duration::from_millis(2));
    };
    // At most ten allowed fast pieces (BEP 6) arrive while the seed still chokes us, then the urgent
    // file. Pieces of the next file are requested while the last ones of the urgent file are in flight.
    let allowed_fast = 10 * 32 * 1024;
    assert!(have[0] <= allowed_fast && have[1] < MIB as u64, "{have:?}");
}

#[test]
fn s17_the_first_and_last_pieces_of_each_wanted_file_are_downloaded_first() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let piece = 32 * 1024_usize;
    let torrent = multi(from.path(), "t", &[("a", 2 * MIB), ("b", MIB), ("c", 2 * MIB)], piece as u32);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.2");
    let request = AddTorrent {
        first_last: true,
        sequential: true,
        wanted_files: Some(vec![0, 2]),
        peers: vec![addr],
        download_limit: Some(1 << 20),
        ..AddTorrent::new(torrent, to.path())
    };
    let id = s.add(request).unwrap();
    let urgent = [0, 2 * MIB - 1, 3 * MIB, 5 * MIB - 1].map(|at| at / piece);
    let begun = Instant::now();
    let have = loop {
        let pieces = s.pieces(id).unwrap();
        let have: Vec<usize> = pieces.have.iter().map(|piece| piece.as_usize()).collect();
        if urgent.iter().all(|piece| have.contains(piece)) {
            break have;
        }
        assert!(begun.elapsed() < PATIENCE, "{have:?}");
        std::thread::sleep(Duration::from_millis(2));
    };
    // At most ten allowed fast pieces (BEP 6), and a few that are requested beside the last urgent ones.
    assert!(have.len() < 40, "{have:?}");
}

#[test]
fn a_paused_torrent_is_reported_as_paused_and_a_recheck_finds_a_bad_piece() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one", MIB, 64 * 1024);
    std::fs::copy(from.path().join("one"), to.path().join("one")).unwrap();
    let s = session("127.0.0.2");
    let id = s.add(AddTorrent::new(torrent, to.path())).unwrap();
    wait_state(&s, id, |state| matches!(state, TorrentState::Seeding));
    s.pause(id).unwrap();
    wait_state(&s, id, |state| matches!(state, TorrentState::Paused));
    s.resume(id).unwrap();
    wait_state(&s, id, |state| matches!(state, TorrentState::Seeding));

    let mut bytes = std::fs::read(to.path().join("one")).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(to.path().join("one"), bytes).unwrap();
    s.recheck(id).unwrap();
    let found = |e: &Event| matches!(e, Event::Opened { have: 15, pieces: 16, .. });
    wait(&s, found);
    wait_state(&s, id, |state| matches!(state, TorrentState::Downloading));
}

#[test]
fn trackers_can_be_replaced_and_their_failures_are_reported() {
    let to = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one", MIB, 64 * 1024);
    let s = session("127.0.0.2");
    let id = s.add(AddTorrent::new(torrent, to.path())).unwrap();
    assert_eq!(s.trackers(id).unwrap(), []);
    let url = format!("http://{closed}/announce");
    s.set_trackers(id, vec![vec![url.clone()]]).unwrap();
    let begun = Instant::now();
    let failed = loop {
        let trackers = s.trackers(id).unwrap();
        assert_eq!((trackers.len(), &*trackers[0].url, trackers[0].tier), (1, url.as_str(), 0));
        if trackers[0].last.is_some() {
            break trackers;
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(
        failed[0].last.as_ref().unwrap().is_err() && failed[0].next.is_some_and(|next| next > Duration::ZERO)
    );
    wait(&s, |e| matches!(e, Event::TrackerFailed { .. }));
    let begun = Instant::now();
    s.reannounce(id).unwrap();
    wait(&s, |e| matches!(e, Event::TrackerFailed { .. }));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "without the command the next announce is due after 17 s"
    );
    let bad = s.set_trackers(id, vec![vec!["ftp://x.example/".into()]]);
    assert_eq!(bad, Err(CommandError::NotATracker("ftp://x.example/".into())));
}

#[test]
fn commands_for_unknown_torrents_and_missing_metadata_are_errors() {
    let s = session("127.0.0.2");
    let link = Magnet::new(rill::units::InfoHash([7; 20]));
    let id = s.add(AddTorrent { choose_later: true, ..AddTorrent::magnet(link, "/nonexistent") }).unwrap();
    assert!(matches!(status(&s, id).state, TorrentState::Metadata));
    assert_eq!(s.files(id), Err(CommandError::NoMetadata));
    assert_eq!(s.choose(id, None), Err(CommandError::NoMetadata));
    assert_eq!(s.set_files(id, vec![]), Err(CommandError::NoMetadata));
    assert_eq!(s.peers(id), Ok(vec![]));
    s.remove(id).unwrap();
    wait(&s, |e| matches!(e, Event::Removed { .. }));
    for result in
        [s.pause(id), s.resume(id), s.remove(id), s.scrape(id), s.recheck(id), s.set_sequential(id, true)]
    {
        assert_eq!(result, Err(CommandError::UnknownTorrent));
    }
    assert!(s.torrents().unwrap().is_empty());

    let other = s.clone();
    // A command that arrives while the session stops is refused: the torrent is not opened again.
    let again = s.clone();
    let resuming = std::thread::spawn(move || while again.resume(id) != Err(CommandError::Gone) {});
    assert!(s.stop(Duration::from_secs(5)).clean);
    resuming.join().unwrap();
    assert_eq!(other.pause(id), Err(CommandError::Gone));
    assert!(other.add(AddTorrent::magnet(Magnet::new(rill::units::InfoHash([8; 20])), "")).is_err());
    assert!(other.next_event(PATIENCE).is_none(), "the queue is closed, so the call returns at once");
}

#[test]
fn s16_a_torrent_that_cannot_be_added_is_an_error_of_the_call() {
    let from = tempfile::tempdir().unwrap();
    let torrent = multi(from.path(), "t", &[("a", MIB), ("b", MIB)], 64 * 1024);
    let s = session("127.0.0.2");
    let add = |change: &dyn Fn(&mut AddTorrent)| {
        let mut request = AddTorrent::new(torrent.clone(), from.path());
        change(&mut request);
        s.add(request)
    };
    assert_eq!(
        add(&|r| r.wanted_files = Some(vec![0, 2])),
        Err(CommandError::NoSuchFile { index: 2, files: 2 })
    );
    for url in ["ftp://x.example/", "nonsense", ""] {
        let refused = add(&|r| r.trackers = vec!["http://127.0.0.1:1/announce".into(), url.into()]);
        assert_eq!(refused, Err(CommandError::NotATracker(url.into())));
    }
    assert!(s.torrents().unwrap().is_empty(), "nothing is left of a torrent that was refused");
    let id = add(&|_| {}).unwrap();
    assert_eq!(add(&|r| r.dir = "/elsewhere".into()), Err(CommandError::Duplicate { torrent: id }));
    let link = Magnet::new(torrent.info_hash());
    assert_eq!(s.add(AddTorrent::magnet(link, "")), Err(CommandError::Duplicate { torrent: id }));
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    s.remove(id).unwrap();
    wait(&s, |e| matches!(e, Event::Removed { .. }));
    assert_ne!(add(&|_| {}).unwrap(), id, "an id is never used again");
}

#[test]
fn s16_every_method_answers_for_an_unknown_torrent() {
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one", MIB, 64 * 1024);
    let s = session("127.0.0.2");
    let id = s.add(AddTorrent::new(torrent, from.path())).unwrap();
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_eq!(s.choose(id, None), Err(CommandError::NothingToChoose));
    s.remove(id).unwrap();
    wait(&s, |e| matches!(e, Event::Removed { .. }));
    let answers = [
        s.choose(id, None),
        s.remove(id),
        s.pause(id),
        s.resume(id),
        s.scrape(id),
        s.set_torrent_limits(id, Some(1), None),
        s.set_files(id, vec![]),
        s.set_sequential(id, true),
        s.set_trackers(id, vec![]),
        s.add_peers(id, vec![]),
        s.recheck(id),
        s.reannounce(id),
        s.files(id).map(|_| ()),
        s.peers(id).map(|_| ()),
        s.trackers(id).map(|_| ()),
        s.pieces(id).map(|_| ()),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, Err(CommandError::UnknownTorrent), "answer {n}");
    }
}

#[test]
fn s16_content_that_cannot_be_opened_is_a_failure_of_the_torrent() {
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one", MIB, 64 * 1024);
    let s = session("127.0.0.2");
    for (dir, seed_only) in [("/nonexistent", true), ("/proc/none", false), ("/dev/null/x", false)] {
        let id = s.add(AddTorrent { seed_only, ..AddTorrent::new(torrent.clone(), dir) }).unwrap();
        let begun = Instant::now();
        let failed = |e: Option<Event>| matches!(e, Some(Event::Failed { torrent, .. }) if torrent == id);
        while !failed(s.next_event(Duration::from_millis(100))) {
            assert!(begun.elapsed() < PATIENCE, "{dir}");
        }
        assert!(matches!(status(&s, id).state, TorrentState::Failed { .. }), "{dir}");
        s.remove(id).unwrap();
        wait(&s, |e| matches!(e, Event::Removed { .. }));
    }
}

#[test]
fn s16_a_configuration_without_room_is_an_error_or_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let usual = || Config {
        listen_ports: 0..=0,
        listen_on: vec!["127.0.0.2".parse().unwrap()],
        lsd: false,
        dht: None,
        ..Config::default()
    };
    #[allow(clippy::reversed_empty_ranges)]
    let no_port = Session::start(Config { listen_ports: 9..=8, ..usual() });
    assert!(matches!(no_port, Err(StartError::Listen { .. })), "{no_port:?}");
    let no_address = Session::start(Config { listen_on: Vec::new(), ..usual() });
    assert!(matches!(no_address, Err(StartError::Listen { .. })), "{no_address:?}");

    let torrent = single(dir.path(), "one", MIB, 64 * 1024);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, dir.path());
    let none = [
        Config { max_peers: 0, ..usual() },
        Config { max_peers_per_torrent: 0, ..usual() },
        Config { download_limit: Some(0), ..usual() },
    ];
    for (n, config) in none.into_iter().enumerate() {
        let limited = config.download_limit.is_some();
        let to = tempfile::tempdir().unwrap();
        let s = Session::start(config).unwrap();
        let id =
            s.add(AddTorrent { peers: vec![addr], ..AddTorrent::new(torrent.clone(), to.path()) }).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            let progress = status(&s, id).progress;
            assert!(limited || progress.peers == 0, "configuration {n}");
            assert!(progress.downloaded < MIB as u64 / 4, "configuration {n}: {}", progress.downloaded);
            std::thread::sleep(Duration::from_millis(20));
        }
        s.set_limits(None, None).unwrap();
        if limited {
            wait(&s, |e| matches!(e, Event::Completed { .. }));
        }
    }
}

#[test]
fn every_subscriber_gets_every_event_and_its_callback_is_called() {
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one", MIB, 64 * 1024);
    let s = session("127.0.0.2");
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let events = s.subscribe(Some(Box::new(move || _ = counter.fetch_add(1, Ordering::Relaxed))));
    let id = s.add(AddTorrent::new(torrent, from.path())).unwrap();
    let completed = |next: &dyn Fn() -> Option<Event>| {
        let begun = Instant::now();
        while !matches!(next(), Some(Event::Completed { torrent }) if torrent == id) {
            assert!(begun.elapsed() < PATIENCE);
        }
    };
    completed(&|| s.next_event(Duration::from_millis(100)));
    completed(&|| events.next(Duration::from_millis(100)));
    assert!(calls.load(Ordering::Relaxed) > 0);
}
