//! The whole disk floor at work, in every storage mode.

use super::api::*;
use super::fault::FaultKind;
use super::testing::{MODES, TestDisk, start};
use super::{Access, StorageMode};
use crate::engine::{Checkpoint, HashVerdict};
use crate::units::{Bitfield, InfoHash, Rng};

const SHAPES: [(u64, &[(&str, u64)]); 6] = [
    (1 << 20, &[("one", 5_000_001)]),
    (65_536, &[("a/b/c", 200_000), ("empty", 0), (".pad/1", 61_144 + 1000), ("a/d", 3), ("a/b/e", 700_000)]),
    (16_385, &[("x", 100_000), ("y", 1), ("z", 33_000)]),
    (999, &[("x", 10_000), (".pad/2", 5_000), ("y", 7)]),
    (16 << 20, &[("big", 20_000_000)]),
    (1, &[("x", 40)]),
];

#[test]
fn a_torrent_arrives_whole_whatever_its_shape_and_the_order_of_blocks() {
    for mode in MODES {
        for (n, (piece_len, files)) in SHAPES.iter().enumerate() {
            let mut disk = TestDisk::new(mode, *piece_len, files);
            // Only pieces that consist of padding are good from the start.
            disk.have = disk.open().have;
            assert!(disk.have.is_empty() || *piece_len == 999);
            disk.receive_at_random(40, &mut Rng::new(n as u64));
            disk.assert_content();
            let s = disk.store.stats();
            assert_eq!(s.panics, 0);
            assert_eq!(s.window_bytes, 0, "all windows are unmapped");
        }
    }
}

#[test]
fn more_peers_than_slots_never_stall_the_pool() {
    let mut disk = TestDisk::new(StorageMode::Plain, 262_144, &[("x", 3_000_000)]);
    disk.config.pool_bytes = 16 * 16_384;
    disk.restart();
    disk.open();
    disk.receive_at_random(150, &mut Rng::new(3));
    disk.assert_content();
    assert!(disk.store.stats().exhausted > 0);
    assert_eq!(disk.store.stats().slots, 16);
}

#[test]
fn a_corrupt_block_is_named_by_its_digest() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 200_000, &[("x", 500_000)]);
        disk.open();
        let g = disk.geometry();
        let p = disk.piece(1);
        disk.prepare(p);
        let bad = disk.geometry().block(p, 3);
        for b in (0..g.blocks(p)).rev() {
            let span = g.block(p, b);
            if span == bad {
                disk.receive_bytes(span, &[1; 16_384]);
            } else {
                disk.receive_block(span);
            }
        }
        let Ok(HashVerdict::Bad { digests: first }) = disk.verdict(p, false) else {
            panic!("the piece is not bad")
        };
        disk.prepare(p);
        disk.receive_blocks_of(p);
        let Ok(HashVerdict::Good { digests: Some(then) }) = disk.verdict(p, true) else {
            panic!("the piece is not good")
        };
        let differ: Vec<_> = (0..first.len()).filter(|&i| first[i] != then[i]).collect();
        assert_eq!(differ, [3]);
    }
}

#[test]
fn a_block_that_another_peer_begins_anew_holds_only_that_peers_bytes() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 1 << 19, &[("x", 1 << 19)]);
        disk.config.pool_bytes = 16 * 16_384;
        disk.restart();
        disk.open();
        let g = disk.geometry();
        let p = disk.piece(0);
        disk.prepare(p);
        // The first peers send wrong bytes, and disconnect after those were written because the pool was
        // exhausted.
        for b in 0..16 {
            assert!(disk.store.copy(disk.key, g.block(p, b), &[0x55; 500]));
        }
        assert!(!disk.store.copy(disk.key, g.block(p, 16), &[0x55; 500]));
        (0..16).for_each(|b| disk.store.abandon(disk.key, g.block(p, b)));
        disk.wait_for_buffer();
        disk.receive_blocks_of(p);
        disk.must_be_good(p);
        disk.assert_content();
        assert_eq!(disk.store.stats().window_bytes, 0);
    }
}

#[test]
fn t29_what_was_received_can_be_served_pads_included() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 65_536, SHAPES[1].1);
        disk.open();
        disk.receive_at_random(5, &mut Rng::new(1));
        let g = disk.geometry();
        g.all_pieces().for_each(|p| disk.assert_loads(g.whole(p)));
        let deferred = disk.store.stats().loads_deferred;
        assert!(
            deferred < 8 || disk.store.read_path.is_without_nowait(disk.key),
            "descriptors stay with the loop"
        );
    }
}

#[test]
fn f9_empty_files_are_made_and_larger_ones_left_alone() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000), ("d/empty", 0)]);
    std::fs::create_dir_all(disk.path("d")).unwrap();
    std::fs::write(disk.path("d/x"), vec![3; 50_000]).unwrap();
    let opened = disk.open();
    assert!(opened.have.is_empty());
    assert_eq!(std::fs::metadata(disk.path("d/empty")).unwrap().len(), 0);
    disk.receive_at_random(3, &mut Rng::new(1));
    let now = std::fs::read(disk.path("d/x")).unwrap();
    assert_eq!(now.len(), 50_000);
    assert!(now[..40_000] == disk.bytes[..] && now[40_000..] == [3; 10_000]);
}

#[test]
fn a_directory_or_link_in_the_way_is_a_fault_and_stays_as_it_is() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 32_768, &[("d/x", 40_000)]);
        std::fs::create_dir_all(disk.path("d/x")).unwrap();
        assert_eq!(disk.try_open().unwrap_err().kind, FaultKind::Exists);
        disk.restart();
        std::fs::remove_dir(disk.path("d/x")).unwrap();
        std::fs::remove_dir(disk.path("d")).unwrap();
        std::os::unix::fs::symlink(disk.state.path(), disk.path("d")).unwrap();
        disk.open();
        let p = disk.piece(0);
        // A mapped piece fails when it is prepared, a plain one when it is written.
        let fault = match disk.try_prepare(p) {
            Err(fault) => fault,
            Ok(()) => {
                disk.receive_blocks_of(p);
                disk.verdict(p, false).expect_err("the link was not followed")
            }
        };
        assert_eq!(fault.kind, FaultKind::Exists);
        assert!(!disk.state.path().join("x").exists());
    }
}

#[test]
fn f12_a_second_process_on_the_same_torrent_is_kept_away() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("x", 40_000)]);
    disk.open();
    let (mut second, mut woken) = start(&disk.config);
    std::mem::swap(&mut disk.store, &mut second);
    std::mem::swap(&mut disk.woken, &mut woken);
    let fault = disk.try_open().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Locked);
    disk.store = second;
    disk.woken = woken;
    let have = Bitfield::empty(2);
    disk.close(&have);
    disk.open();
}

#[test]
fn without_rwf_nowait_the_worker_sends_the_bytes() {
    let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000)]);
    disk.open();
    disk.receive_at_random(5, &mut Rng::new(1));
    disk.store.read_path.set_without_nowait(disk.key);
    let g = disk.geometry();
    g.all_pieces().for_each(|p| disk.assert_loads(g.whole(p)));
    assert_eq!(disk.store.stats().loads_deferred, 4);
}

#[test]
fn load_cached_reads_as_far_as_the_cache_goes_and_queues_no_job() {
    let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 100_000), ("y", 31_072)]);
    disk.open();
    disk.receive_at_random(5, &mut Rng::new(1));
    let g = disk.geometry();
    let span = g.whole(disk.piece(1));
    let mut into = vec![9; span.len() as usize];
    assert_eq!(disk.store.load_cached(disk.key, span, &mut into), 0, "the loop has no descriptor yet");
    assert!(
        disk.load(g.block(disk.piece(1), 0)) == disk.bytes[65_536..81_920],
        "this brings the descriptor of the first file"
    );
    assert_eq!(disk.store.load_cached(disk.key, span, &mut into), 100_000 - 65_536);
    assert!(into[..34_464] == disk.bytes[65_536..100_000] && into[34_464..].iter().all(|b| *b == 9));
    assert_eq!(disk.store.stats().loads_deferred, 1);
}

#[test]
fn closing_one_torrent_does_not_disturb_another() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 65_536, &[("x", 400_000)]);
        disk.open();
        let second = OpenTorrent {
            info_hashes: InfoHash([8; 20]).into(),
            dir: disk.torrent.dir.join("second"),
            ..disk.torrent.clone()
        };
        let key = disk.key;
        let other = disk.keys.insert(());
        disk.store.open(other, second);
        disk.wait_for(|e| matches!(e, DiskEvent::Opened { .. }).then_some(()));
        let g = disk.geometry();
        for k in [key, other] {
            disk.key = k;
            g.all_pieces().for_each(|p| disk.prepare(p));
        }
        for p in g.all_pieces() {
            for k in [key, other] {
                disk.key = k;
                (0..g.blocks(p)).for_each(|b| disk.receive_block(g.block(p, b)));
            }
        }
        disk.key = other;
        disk.receive(g.block(disk.piece(0), 0), 100);
        disk.store.close(other, Checkpoint::of(Bitfield::empty(g.pieces())));
        // Calls for it have no effect and no event from here on.
        disk.store.received(other, g.block(disk.piece(0), 0));
        disk.store.hash(other, disk.piece(0), false);
        assert!(disk.store.target(other, g.block(disk.piece(0), 0), Access::Kernel).is_none());
        disk.wait_for(|e| matches!(e, DiskEvent::Closed { .. }).then_some(()));
        disk.key = key;
        g.all_pieces().for_each(|p| disk.must_be_good(p));
        disk.assert_content();
        let s = disk.store.stats();
        assert_eq!((s.slots_free, s.window_bytes), (s.slots, 0), "{mode:?}");
    }
}
