//! Bad data and bad disks: which peers are banned, and that none is for a fault of our disk.

use crate::engine::testing::{Job, TestWorld, block};
use crate::engine::{Action, HashVerdict};
use crate::units::{Bitfield, PeerKey};
use crate::wire::{Message, RawSpan};

/// One wanted piece of four blocks.
fn one_piece() -> TestWorld {
    TestWorld::built(|s| {
        s.spec.torrent_info.as_mut().unwrap().wanted = Bitfield::from_wire(&[0x80], 4).unwrap()
    })
}

/// Peers with one piece each, so that no peer becomes a seed.
fn holder(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.peer(host);
    w.say(p, &[Message::Bitfield { bytes: &[0x80] }, Message::Unchoke]);
    p
}

fn answer(w: &mut TestWorld, p: PeerKey, s: RawSpan, lie: bool) {
    assert!(w.requests(p).contains(&s), "{s:?} was not asked of it");
    w.puppets.get_mut(&p).unwrap().requests.retain(|r| *r != s);
    if lie { w.send_lie(p, s) } else { w.send_block(p, s) }
}

#[test]
fn a_lone_liar_is_banned_at_once_and_kept_out() {
    let mut w = one_piece();
    let liar = holder(&mut w, 9);
    for n in 0..4 {
        answer(&mut w, liar, block(0, n), n == 2);
    }
    assert_eq!(w.banned(), [9]);
    assert!(!w.is_open(liar));
    let again = w.greeted(9);
    assert!(!w.is_open(again) && w.puppets[&again].from_engine.is_empty());
    let honest = holder(&mut w, 1);
    w.serve_all(honest);
    assert_eq!(w.have(), [0]);
}

#[test]
fn among_three_the_one_that_lied_is_banned_when_the_piece_is_good() {
    let mut w = one_piece();
    let peers: Vec<_> = [1, 2, 3].map(|h| holder(&mut w, h)).to_vec();
    // In endgame each owes every block, so each can send its own.
    answer(&mut w, peers[0], block(0, 0), false);
    answer(&mut w, peers[1], block(0, 1), true);
    answer(&mut w, peers[2], block(0, 2), false);
    answer(&mut w, peers[2], block(0, 3), false);
    assert_eq!((w.banned(), w.have()), (vec![], vec![]), "three are suspect, nobody is convicted");
    for round in 0..2 {
        let asked: Vec<_> =
            peers.iter().copied().filter(|p| w.is_open(*p) && !w.requests(*p).is_empty()).collect();
        if round == 0 {
            assert_eq!(asked.len(), 1, "a piece that failed is asked of one peer alone");
        }
        asked.iter().for_each(|p| w.serve_all(*p));
    }
    assert_eq!((w.have(), w.banned()), (vec![0], vec![2]));
    assert!(w.is_open(peers[0]) && w.is_open(peers[2]));
}

#[test]
fn a_piece_that_is_kept_for_one_peer_is_freed_when_that_peer_chokes_us() {
    let mut w = one_piece();
    let (p, q) = (holder(&mut w, 1), holder(&mut w, 2));
    answer(&mut w, p, block(0, 0), true);
    answer(&mut w, q, block(0, 1), false);
    answer(&mut w, p, block(0, 2), false);
    answer(&mut w, p, block(0, 3), false);
    let (chosen, other) = if w.requests(p).is_empty() { (q, p) } else { (p, q) };
    assert!(w.requests(other).is_empty());
    w.say(chosen, &[Message::Choke]);
    w.serve_all(other);
    assert_eq!(w.have(), [0], "the one that chokes us does not hold it back");
}

#[test]
fn a_disk_that_cannot_read_bans_nobody_and_pauses() {
    let mut w = TestWorld::built(|s| {
        s.slow_disk = true;
        s.spec.torrent_info.as_mut().unwrap().wanted = Bitfield::from_wire(&[0x80], 4).unwrap();
    });
    let p = holder(&mut w, 1);
    w.answer_all();
    for n in 0..4 {
        answer(&mut w, p, block(0, n), false);
    }
    assert_eq!(w.jobs.pop_front(), Some(Job::Hash(w.piece(0), false)));
    w.hashed(w.piece(0), &HashVerdict::Unreadable);
    assert!(w.banned().is_empty() && !w.is_open(p));
    assert!(!w.engine.stats(w.now, w.torrent).unwrap().running);
    w.slow_disk = false;
    w.engine.resume(w.now, w.torrent);
    let q = holder(&mut w, 1);
    w.serve_all(q);
    assert_eq!(w.have(), [0], "the same host is welcome, the piece is fetched anew");
}

#[test]
fn a_disk_that_cannot_prepare_pauses_and_bans_nobody() {
    let mut w = TestWorld::built(|s| s.slow_disk = true);
    let p = w.server(1);
    w.engine.on_prepared(w.now, w.torrent, w.piece(0), false, &mut w.out);
    w.turn();
    assert!(!w.is_open(p) && w.banned().is_empty());
    assert!(!w.engine.stats(w.now, w.torrent).unwrap().running);
}

#[test]
fn completion_saves_and_tells() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    w.serve_all(p);
    assert!(w.log.iter().any(|a| matches!(a, Action::Save { .. })));
    assert!(w.log.iter().any(|a| matches!(a, Action::Notice(crate::engine::Notice::Complete { .. }))));
}

#[test]
fn a_checkpoint_comes_by_itself_while_pieces_come_in() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.say(p, &[Message::Have { piece: 1 }, Message::Unchoke]);
    w.serve_all(p);
    assert!(!w.log.iter().any(|a| matches!(a, Action::Save { .. })));
    w.pass(46.0);
    assert_eq!(w.log.iter().filter(|a| matches!(a, Action::Save { .. })).count(), 1);
    w.pass(100.0);
    assert_eq!(
        w.log.iter().filter(|a| matches!(a, Action::Save { .. })).count(),
        1,
        "nothing new, nothing to save"
    );
}

#[test]
fn pause_lets_go_and_saves_and_resume_goes_on() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    for _ in 0..6 {
        w.serve_one(p);
    }
    let s = w.requests(p)[0];
    let bytes = w.block_bytes(s);
    w.send(p, &bytes[..100]);
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.turn();
    assert!(!w.is_open(p) && w.log.iter().any(|a| matches!(a, Action::Save { .. })));
    w.engine.resume(w.now, w.torrent);
    let q = w.server(2);
    w.serve_all(q);
    assert!(w.is_complete());
}
