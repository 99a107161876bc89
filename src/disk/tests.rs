//! The whole disk floor at work, in every storage mode.

use super::api::*;
use super::fault::{DiskFault, FaultKind};
use super::testing::{MODES, TestDisk, start};
use super::{Access, StorageMode};
use crate::engine::{Checkpoint, HashVerdict};
use crate::units::{Bitfield, InfoHash, Rng};
use sha1::Digest;

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
fn f9_a_longer_file_is_cut_once_its_pieces_are_verified() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000), ("d/empty", 0)]);
    std::fs::create_dir_all(disk.path("d")).unwrap();
    let longer = [&disk.bytes[..32_768], &[3; 17_232]].concat();
    std::fs::write(disk.path("d/x"), longer).unwrap();
    let opened = disk.open();
    assert_eq!(opened.have.ones(), 1);
    let note =
        "d/x: is longer than in the torrent; the last 10000 bytes are cut off once its pieces are verified";
    assert_eq!(opened.notes, [note]);
    assert_eq!(std::fs::metadata(disk.path("d/empty")).unwrap().len(), 0);
    disk.receive_piece(disk.piece(1));
    assert_eq!(std::fs::metadata(disk.path("d/x")).unwrap().len(), 50_000);
    disk.close(&Bitfield::full(2));
    disk.assert_content();
    assert_eq!(std::fs::metadata(disk.path("d/x")).unwrap().len(), 40_000);
    assert_eq!(disk.open().notes, [""; 0]);
}

#[test]
fn f13_a_file_of_another_origin_is_refused_and_stays_as_it_is() {
    let foreign: [&[u8]; 4] = [&[3; 40_000], &[3; 100], &[3; 50_000], &[0; 40_000]];
    for (content, check) in foreign.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/w", 30_000), ("d/x", 40_000)]);
        disk.torrent.check = check;
        std::fs::create_dir_all(disk.path("d")).unwrap();
        std::fs::write(disk.path("d/x"), content).unwrap();
        let fault = disk.try_open().unwrap_err();
        assert_eq!((fault.kind, fault.path), (FaultKind::NotOurs, disk.path("d/x")));
        assert_eq!(std::fs::read(disk.path("d/x")).unwrap(), content);
        assert!(!disk.path("d/w").exists(), "nothing is created");
        disk.restart();
        disk.torrent.allow_overwrite = true;
        disk.open();
        disk.receive_at_random(3, &mut Rng::new(1));
        disk.close(&Bitfield::full(3));
        disk.assert_content();
        assert_eq!(std::fs::metadata(disk.path("d/x")).unwrap().len(), 40_000);
    }
}

#[test]
fn f13_a_good_piece_a_record_or_an_empty_file_makes_files_the_torrents_own() {
    let shape: &[(&str, u64)] = &[("d/x", 40_000), ("d/y", 40_000)];
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, shape);
    std::fs::create_dir_all(disk.path("d")).unwrap();
    std::fs::write(disk.path("d/x"), "").unwrap();
    std::fs::File::create(disk.path("d/y")).unwrap().set_len(40_000).unwrap();
    disk.open(); // an empty file, and one that is a single hole
    disk.prepare(disk.piece(0));
    disk.receive_block(disk.geometry().block(disk.piece(0), 0));
    disk.restart(); // killed before the first piece is verified
    std::fs::write(disk.path("d/x"), [3; 40_000]).unwrap();
    assert_eq!(disk.open().have.ones(), 0, "the record was written before the first byte");

    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, shape);
    std::fs::create_dir_all(disk.path("d")).unwrap();
    std::fs::write(disk.path("d/x"), &disk.bytes[..40_000]).unwrap();
    std::fs::write(disk.path("d/y"), [3; 7]).unwrap();
    assert_eq!(disk.open().have.ones(), 1);
}

#[test]
fn f13_after_a_clean_end_a_file_without_a_stamp_is_of_another_origin() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000), ("d/y", 40_000)]);
    disk.open();
    let piece = disk.piece(0);
    disk.prepare(piece);
    for block in 0..2 {
        let span = disk.geometry().block(piece, block);
        disk.receive_bytes(span, &[3; 16_384]);
    }
    assert!(matches!(disk.verdict(piece, false), Ok(HashVerdict::Bad { .. })));
    disk.close(&Bitfield::empty(3));
    assert!(disk.path("d/x").exists() && !disk.path("d/y").exists());
    disk.open(); // its own file, of which no piece is good
    disk.close(&Bitfield::empty(3));
    std::fs::write(disk.path("d/y"), [3; 40_000]).unwrap();
    let fault = disk.try_open().unwrap_err();
    assert_eq!((fault.kind, fault.path), (FaultKind::NotOurs, disk.path("d/y")));
}

#[test]
fn f13_a_good_piece_of_zeros_shows_nothing() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("x", 40_000)]);
    let zeros = [0; 32_768];
    let mut hashes = disk.torrent.piece_hashes.to_vec();
    hashes[..20].copy_from_slice(&<[u8; 20]>::from(sha1::Sha1::digest(zeros)));
    disk.torrent.piece_hashes = hashes.into();
    std::fs::create_dir_all(&disk.torrent.dir).unwrap();
    let foreign = [&zeros[..], &[3; 7_232]].concat();
    std::fs::write(disk.path("x"), &foreign).unwrap();
    assert_eq!(disk.try_open().unwrap_err().kind, FaultKind::NotOurs);
    assert_eq!(std::fs::read(disk.path("x")).unwrap(), foreign);
}

#[test]
fn f13_a_file_that_appears_after_the_check_is_not_written_to() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000)]);
    disk.open();
    std::fs::write(disk.name("d/x.part"), [3; 50]).unwrap();
    let p = disk.piece(0);
    disk.prepare(p);
    disk.receive_blocks_of(p);
    assert_eq!(disk.verdict(p, false).unwrap_err().kind, FaultKind::NotOurs);
    assert_eq!(std::fs::read(disk.name("d/x.part")).unwrap(), [3; 50]);
}

/// Opens another torrent with the same files in this directory.
fn open_second(
    disk: &mut TestDisk,
    dir: std::path::PathBuf,
    second: OpenTorrent,
) -> Result<OpenedTorrent, DiskFault> {
    let other = disk.keys.insert(());
    disk.store.open(other, OpenTorrent { info_hashes: InfoHash([8; 20]).into(), dir, ..second });
    disk.wait_for(|e| if let DiskEvent::Opened { result, .. } = e { Some(result) } else { None })
}

#[test]
fn f14_two_torrents_never_write_one_file() {
    for shape in [&[("x", 40_000)][..], &[("d/x", 40_000), ("d/y", 7)]] {
        let mut disk = TestDisk::new(StorageMode::Plain, 32_768, shape);
        disk.open();
        let linked = disk.state.path().join("linked");
        std::os::unix::fs::symlink(&disk.torrent.dir, &linked).unwrap();
        for dir in [disk.torrent.dir.clone(), linked] {
            let second = disk.torrent.clone();
            assert_eq!(open_second(&mut disk, dir, second).unwrap_err().kind, FaultKind::Held);
        }
        disk.receive_at_random(2, &mut Rng::new(1));
        disk.close(&Bitfield::full(2));
        let (second, dir) = (disk.torrent.clone(), disk.torrent.dir.clone());
        open_second(&mut disk, dir, second).unwrap();
    }
}

#[test]
fn f14_a_hard_link_is_the_same_file() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000)]);
    std::fs::create_dir_all(disk.path("d")).unwrap();
    std::fs::write(disk.path("d/x"), &disk.bytes[..32_768]).unwrap();
    let dir = disk.state.path().join("other");
    std::fs::create_dir_all(dir.join("d")).unwrap();
    std::fs::hard_link(disk.path("d/x"), dir.join("d/x")).unwrap();
    assert_eq!(disk.open().have.ones(), 1);
    let second = disk.torrent.clone();
    assert_eq!(open_second(&mut disk, dir, second).unwrap_err().kind, FaultKind::Held);
}

#[test]
fn f14_two_entries_of_one_torrent_never_share_a_file() {
    for content in [&[][..], &[3; 40_000]] {
        let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000), ("d/y", 40_000)]);
        std::fs::create_dir_all(disk.path("d")).unwrap();
        std::fs::write(disk.path("d/x"), content).unwrap();
        std::fs::hard_link(disk.path("d/x"), disk.path("d/y")).unwrap();
        disk.torrent.allow_overwrite = true;
        let fault = disk.try_open().unwrap_err();
        assert_eq!((fault.kind, fault.path), (FaultKind::SameFile, disk.path("d/y")));
        assert_eq!(std::fs::read(disk.path("d/x")).unwrap(), content);
    }
}

#[test]
fn f13_hidden_files_of_the_home_directory_are_not_written() {
    for (name, refuse, result) in [
        (".ssh/authorized_keys", true, Some(FaultKind::Hidden)),
        (".profile", true, Some(FaultKind::Hidden)),
        (".profile", false, None),
        ("d/.x", true, None),
    ] {
        let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[(name, 40_000)]);
        disk.torrent.refuse_hidden = refuse;
        assert_eq!(disk.try_open().err().map(|fault| fault.kind), result, "{name}");
    }
}

#[test]
fn f16_content_of_a_disk_that_is_not_mounted_is_not_fetched_again() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000), ("d/y", 7)]);
    disk.open();
    disk.receive_at_random(2, &mut Rng::new(1));
    disk.close(&Bitfield::full(2));
    std::fs::remove_dir_all(disk.path("d")).unwrap();
    let mut record = std::fs::read(disk.record_path()).unwrap();
    // The device stands before one byte of pieces, two stamps and the SHA-1 of all before.
    let sum_at = record.len() - 20;
    record[sum_at - 2 * 29 - 1 - 8] ^= 1;
    let sum: [u8; 20] = sha1::Sha1::digest(&record[..sum_at]).into();
    record[sum_at..].copy_from_slice(&sum);
    std::fs::write(disk.record_path(), record).unwrap();
    assert_eq!(disk.try_open().unwrap_err().kind, FaultKind::NotMounted);
    assert!(!disk.path("d").exists());
    disk.restart();
    disk.torrent.refetch = true;
    assert!(disk.open().have.is_empty(), "the user says so");
    disk.close(&Bitfield::empty(2));
    disk.torrent.refetch = false;
    disk.open();
}

#[test]
fn f14_torrents_that_only_read_share_one_content() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("d/x", 40_000)]);
    disk.open();
    disk.receive_at_random(2, &mut Rng::new(1));
    disk.try_save(&Bitfield::full(2)).unwrap();
    let (second, dir) = (disk.torrent.clone(), disk.torrent.dir.clone());
    assert!(open_second(&mut disk, dir.clone(), second.clone()).unwrap().have.is_full());
    let seed = OpenTorrent { read_only: true, info_hashes: InfoHash([9; 20]).into(), ..second };
    let third = disk.keys.insert(());
    disk.store.open(third, seed);
    let result =
        disk.wait_for(|e| if let DiskEvent::Opened { result, .. } = e { Some(result) } else { None });
    assert!(result.unwrap().have.is_full());
}

#[test]
fn f14_a_torrent_without_a_byte_leaves_nothing_behind() {
    for shape in [&[("x", 40_000)][..], &[("d/x", 40_000)]] {
        let mut disk = TestDisk::new(StorageMode::Plain, 32_768, shape);
        disk.open();
        disk.close(&Bitfield::empty(2));
        assert_eq!(std::fs::read_dir(&disk.torrent.dir).unwrap().count(), 0);
    }
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
        let fault = disk.try_open().expect_err("the link was not followed");
        assert_eq!(fault.kind, FaultKind::Exists);
        assert!(!disk.state.path().join("x").exists());
    }
}

#[test]
fn f12_a_second_process_on_the_same_torrent_is_kept_away() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, &[("x", 40_000)]);
    disk.open();
    // With the same state directory, and without one.
    for state_dir in [disk.config.state_dir.clone(), None] {
        let (mut second, mut woken) = start(&StoreConfig { state_dir, ..disk.config.clone() });
        std::mem::swap(&mut disk.store, &mut second);
        std::mem::swap(&mut disk.woken, &mut woken);
        let fault = disk.try_open().unwrap_err();
        assert_eq!((fault.kind, &fault.path), (FaultKind::Locked, &disk.torrent.dir));
        disk.store = second;
        disk.woken = woken;
    }
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
