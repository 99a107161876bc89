//! Smart ban and disk errors: liars are banned, peers are not banned for errors of our disk.

use crate::engine::testing::{Job, TestWorld, block};
use crate::engine::{Action, HashVerdict};
use crate::units::{Bitfield, PeerKey};
use crate::wire::{Message, RawSpan};

/// Creates a leech that wants one piece of four blocks.
fn one_piece() -> TestWorld {
    TestWorld::with_setup(|s| {
        s.spec.torrent_info.as_mut().unwrap().wanted = Bitfield::from_wire(&[0x80], 4).unwrap();
    })
}

/// Connects a peer with piece 0 only, so that it is no seed.
fn peer_with_piece_0(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.peer(host);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0x80] }, Message::Unchoke]);
    p
}

fn serve(w: &mut TestWorld, p: PeerKey, s: RawSpan, wrong: bool) {
    assert!(w.requests(p).contains(&s), "{s:?} is not requested from this peer");
    w.puppets.get_mut(&p).unwrap().requests.retain(|r| *r != s);
    if wrong { w.send_wrong_block(p, s) } else { w.send_block(p, s) }
}

#[test]
fn the_only_sender_of_a_bad_piece_is_banned_at_once() {
    let mut w = one_piece();
    let liar = peer_with_piece_0(&mut w, 9);
    for n in 0..4 {
        serve(&mut w, liar, block(0, n), n == 2);
    }
    assert_eq!(w.banned(), [9]);
    assert!(!w.is_open(liar));
    let again = w.connect_with_handshake(9);
    assert!(!w.is_open(again) && w.puppets[&again].from_engine.is_empty());
    let honest = peer_with_piece_0(&mut w, 1);
    w.serve_all(honest);
    assert_eq!(w.have(), [0]);
}

#[test]
fn the_liar_among_three_senders_is_banned_when_the_piece_is_good() {
    let mut w = one_piece();
    let peers: Vec<_> = [1, 2, 3].map(|h| peer_with_piece_0(&mut w, h)).to_vec();
    // In endgame each peer is asked for every block, so each can send its own.
    serve(&mut w, peers[0], block(0, 0), false);
    serve(&mut w, peers[1], block(0, 1), true);
    serve(&mut w, peers[2], block(0, 2), false);
    serve(&mut w, peers[2], block(0, 3), false);
    assert_eq!((w.banned(), w.have()), (vec![], vec![]), "the liar is unknown among three senders");
    for round in 0..2 {
        let requested: Vec<_> =
            peers.iter().copied().filter(|p| w.is_open(*p) && !w.requests(*p).is_empty()).collect();
        if round == 0 {
            assert_eq!(requested.len(), 1, "a bad piece is requested from a single peer");
        }
        requested.iter().for_each(|p| w.serve_all(*p));
    }
    assert_eq!((w.have(), w.banned()), (vec![0], vec![2]));
    assert!(w.is_open(peers[0]) && w.is_open(peers[2]));
}

#[test]
fn a_piece_reserved_for_one_peer_is_released_when_it_chokes_us() {
    let mut w = one_piece();
    let p = peer_with_piece_0(&mut w, 1);
    let q = peer_with_piece_0(&mut w, 2);
    serve(&mut w, p, block(0, 0), true);
    serve(&mut w, q, block(0, 1), false);
    serve(&mut w, p, block(0, 2), false);
    serve(&mut w, p, block(0, 3), false);
    let (chosen, other) = if w.requests(p).is_empty() { (q, p) } else { (p, q) };
    assert!(w.requests(other).is_empty());
    w.send_messages(chosen, &[Message::Choke]);
    w.serve_all(other);
    assert_eq!(w.have(), [0], "the choking peer does not block the piece");
}

#[test]
fn a_read_error_of_the_disk_pauses_the_torrent_and_bans_no_peer() {
    let mut w = TestWorld::with_setup(|s| {
        s.slow_disk = true;
        s.spec.torrent_info.as_mut().unwrap().wanted = Bitfield::from_wire(&[0x80], 4).unwrap();
    });
    let p = peer_with_piece_0(&mut w, 1);
    w.finish_disk_jobs();
    for n in 0..4 {
        serve(&mut w, p, block(0, n), false);
    }
    assert_eq!(w.jobs.pop_front(), Some(Job::Hash(w.piece(0), false)));
    w.hashed(w.piece(0), &HashVerdict::Unreadable);
    assert!(w.banned().is_empty() && !w.is_open(p));
    assert!(!w.engine.stats(w.now, w.torrent).unwrap().running);
    w.slow_disk = false;
    w.engine.resume(w.now, w.torrent);
    let q = peer_with_piece_0(&mut w, 1);
    w.serve_all(q);
    assert_eq!(w.have(), [0], "the same host may connect, and the piece is downloaded again");
}

#[test]
fn a_failed_prepare_pauses_the_torrent_and_bans_no_peer() {
    let mut w = TestWorld::with_setup(|s| s.slow_disk = true);
    let p = w.unchoking_seed(1);
    w.engine.on_prepared(w.now, w.torrent, w.piece(0), false, &mut w.out);
    w.run_actions();
    assert!(!w.is_open(p) && w.banned().is_empty());
    assert!(!w.engine.stats(w.now, w.torrent).unwrap().running);
}

#[test]
fn completion_saves_the_record_and_sends_a_notice() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    w.serve_all(p);
    assert!(w.log.iter().any(|a| matches!(a, Action::Save { .. })));
    assert!(w.log.iter().any(|a| matches!(a, Action::Notice(crate::engine::Notice::Complete { .. }))));
}

#[test]
fn a_record_is_saved_at_intervals_only_after_new_pieces() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send_messages(p, &[Message::Have { piece: 1 }, Message::Unchoke]);
    w.serve_all(p);
    assert!(!w.log.iter().any(|a| matches!(a, Action::Save { .. })));
    w.advance(46.0);
    assert_eq!(w.log.iter().filter(|a| matches!(a, Action::Save { .. })).count(), 1);
    w.advance(100.0);
    assert_eq!(
        w.log.iter().filter(|a| matches!(a, Action::Save { .. })).count(),
        1,
        "no save without a new piece"
    );
}

#[test]
fn pause_disconnects_and_saves_and_resume_continues() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    for _ in 0..6 {
        w.serve_one(p);
    }
    let s = w.requests(p)[0];
    let bytes = w.block_bytes(s);
    w.send(p, &bytes[..100]);
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.run_actions();
    assert!(!w.is_open(p) && w.log.iter().any(|a| matches!(a, Action::Save { .. })));
    w.engine.resume(w.now, w.torrent);
    let q = w.unchoking_seed(2);
    w.serve_all(q);
    assert!(w.is_complete());
}
