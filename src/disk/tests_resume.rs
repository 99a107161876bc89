//! What survives: records, changed content, kills between two steps.

use super::tests::{TestDisk, WAYS};
use super::*;
use crate::units::{Bitfield, Rng};
use std::fs;
use std::time::Duration;

fn three_pieces(mode: StorageMode) -> TestDisk {
    TestDisk::new(mode, 65_536, &[("a", 65_536), ("d/b", 65_536), ("d/c", 60_000)])
}

fn save(w: &mut TestDisk, have: &Bitfield) {
    w.store.checkpoint(w.key, have);
    w.until(|d| if let DiskEvent::Saved { result, .. } = d { Some(result) } else { None }).unwrap();
}

/// A download of all three pieces that was closed in order.
fn complete(mode: StorageMode) -> TestDisk {
    let mut w = three_pieces(mode);
    w.open();
    w.receive_wildly(3, &mut Rng::new(5));
    let full = Bitfield::full(3);
    w.close(&full);
    w
}

#[test]
fn a_record_makes_a_second_open_believe_without_reading() {
    for mode in WAYS {
        let mut w = complete(mode);
        let o = w.open();
        assert!(o.have.is_full() && o.notes.is_empty(), "{:?}", o.notes);
        assert_eq!(w.store.stats().worker_cpu_us / 1_000_000, 0);
    }
}

#[test]
fn a_kill_after_a_checkpoint_loses_nothing_that_was_claimed() {
    for mode in WAYS {
        let mut w = three_pieces(mode);
        w.open();
        w.receive_piece(w.piece(1));
        let mut have = Bitfield::empty(3);
        have.set(w.piece(1));
        save(&mut w, &have);
        w.receive_piece(w.piece(2)); // not checkpointed
        w.restart();
        let o = w.open();
        assert_eq!(o.have, have, "{:?}", o.notes);
    }
}

#[test]
fn what_comes_through_a_window_after_its_file_was_synced_is_synced_again() {
    for (blocks, whole) in [(4, true), (1, false)] {
        let mut w = three_pieces(StorageMode::Mapped);
        w.open();
        w.prepare(w.piece(0));
        let mut have = Bitfield::empty(3);
        save(&mut w, &have);
        let stamp = |w: &TestDisk| Some(resume::FileStamp::of(&rustix::fs::stat(w.path("a")).unwrap()));
        let synced = stamp(&w);
        std::thread::sleep(Duration::from_millis(20)); // longer than a step of the clock that stamps files
        for block in 0..blocks {
            w.receive_block(w.geometry().block(w.piece(0), block));
        }
        if whole {
            assert!(matches!(w.verdict(w.piece(0), false), Verdict::Good { .. }));
            have.set(w.piece(0));
        }
        assert_ne!(stamp(&w), synced);
        w.close(&have);
        assert_eq!(w.record().unwrap().stamps.get(0), stamp(&w), "whole: {whole}");
        let o = w.open();
        assert_eq!((o.have, o.notes), (have, Vec::new()));
    }
}

#[test]
fn r3_every_corrupted_byte_of_a_record_rejects_it() {
    let mut w = complete(StorageMode::Plain);
    let name = w.state.path().join(format!("{}.resume", w.torrent.info_hash));
    let good = fs::read(&name).unwrap();
    let full = Bitfield::full(3);
    for (at, cut) in (0..good.len()).map(|i| (i, false)).chain([(10, true), (0, true)]) {
        let mut bad = good.clone();
        if cut {
            bad.truncate(at)
        } else {
            bad[at] ^= 1 << (at % 8)
        }
        fs::write(&name, bad).unwrap();
        assert!(w.record().is_none(), "byte {at}");
    }
    fs::write(&name, &good[1..]).unwrap();
    // Without a record everything is hashed, and found.
    assert_eq!(w.open().have, full);
}

#[test]
fn a_leftover_of_a_killed_save_is_no_record() {
    let mut w = complete(StorageMode::Plain);
    fs::write(w.state.path().join(format!("{}.resume.tmp", w.torrent.info_hash)), vec![1; 5000]).unwrap();
    assert!(w.open().have.is_full());
    w.close(&Bitfield::full(3));
    assert!(w.record().is_some());
}

#[test]
fn changed_content_is_hashed_again_and_said_so() {
    let mut w = complete(StorageMode::Plain);
    let mut b = fs::read(w.path("d/b")).unwrap();
    b[70] ^= 1;
    fs::write(w.path("d/b"), b).unwrap();
    let o = w.open();
    assert_eq!(o.have.iter().map(|p| p.get()).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(o.notes, ["d/b: content changed, 1 pieces checked again"]);
}

#[test]
fn missing_short_and_long_files_cost_their_own_pieces_only() {
    let mut w = complete(StorageMode::Plain);
    fs::remove_file(w.path("a")).unwrap();
    fs::OpenOptions::new().write(true).open(w.path("d/b")).unwrap().set_len(5).unwrap();
    let mut c = fs::read(w.path("d/c")).unwrap();
    c.push(1);
    fs::write(w.path("d/c"), c).unwrap();
    let o = w.open();
    assert_eq!(o.have.iter().map(|p| p.get()).collect::<Vec<_>>(), [2]);
    assert!(o.notes.iter().any(|n| n.starts_with("a: is gone")), "{:?}", o.notes);
    assert!(o.notes.iter().any(|n| n.starts_with("d/c: is longer")), "{:?}", o.notes);
    w.receive_piece(w.piece(0));
    w.receive_piece(w.piece(1));
    assert_eq!(fs::metadata(w.path("d/c")).unwrap().len(), 60_001);
}

#[test]
fn f4_what_was_cut_off_before_the_last_record_is_not_claimed_by_it() {
    for cut in [70_000, 5] {
        let mut w = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000)]);
        w.open();
        (0..2).for_each(|raw| w.receive_piece(w.piece(raw)));
        let mut have = Bitfield::empty(4);
        for raw in 0..2 {
            have.set(w.piece(raw));
        }
        fs::OpenOptions::new().write(true).open(w.path("x")).unwrap().set_len(cut).unwrap();
        w.store.checkpoint(w.key, &have);
        let saved = w.until(|d| if let DiskEvent::Saved { result, .. } = d { Some(result) } else { None });
        assert_eq!(saved.unwrap_err().kind, FaultKind::Changed);
        w.restart();
        let o = w.open();
        assert_eq!(o.have.ones(), u32::from(cut > 65_536), "{:?}", o.notes);
    }
}

#[test]
fn of_very_many_missing_files_a_hundred_are_named() {
    let names: Vec<String> = (0..150).map(|i| format!("f{i}")).collect();
    let small = names.iter().map(|name| (name.as_str(), 1000));
    let mut w = TestDisk::new(StorageMode::Plain, 65_536, &[("large", 200_000)].into_iter().chain(small).collect::<Vec<_>>());
    fs::create_dir_all(&w.torrent.dir).unwrap();
    fs::write(w.path("large"), &w.bytes[..200_000]).unwrap();
    w.torrent.read_only = true;
    let o = w.open();
    assert_eq!(o.have.ones(), 3);
    assert_eq!((o.notes.len(), o.notes.last().unwrap().as_str()), (101, "and 50 more like these"));
}

#[test]
fn after_a_kill_a_record_that_lies_is_found_out_by_sampling() {
    let mut w = three_pieces(StorageMode::Plain);
    w.open();
    w.receive_piece(w.piece(0));
    w.receive_piece(w.piece(1));
    let mut have = Bitfield::empty(3);
    have.set(w.piece(0));
    have.set(w.piece(1));
    save(&mut w, &have);
    w.restart();
    let mut b = fs::read(w.path("d/b")).unwrap();
    b[9] ^= 4;
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(w.path("d/b")).unwrap().write_all_at(&b, 0).unwrap();
    let o = w.open();
    assert_eq!(o.have.iter().map(|p| p.get()).collect::<Vec<_>>(), [0]);
}

#[test]
fn content_without_a_record_is_hashed_and_holes_are_not_pieces() {
    for check in [false, true] {
        let mut w = three_pieces(StorageMode::Plain);
        fs::create_dir_all(w.path("d")).unwrap();
        fs::write(w.path("d/b"), &w.bytes[65_536..131_072]).unwrap();
        fs::File::create(w.path("a")).unwrap().set_len(65_536).unwrap();
        w.torrent.check = check;
        let o = w.open();
        assert_eq!(o.have.iter().map(|p| p.get()).collect::<Vec<_>>(), [1]);
    }
}

#[test]
fn a_hole_where_zeros_belong_is_a_good_piece() {
    let mut w = three_pieces(StorageMode::Plain);
    fs::create_dir_all(w.path("d")).unwrap();
    let zeros: [u8; 20] = sha1::Digest::finalize(sha1::Digest::chain_update(sha1::Sha1::default(), vec![0; 65_536])).into();
    let mut hashes = w.torrent.hashes.to_vec();
    hashes[..20].copy_from_slice(&zeros);
    w.torrent.hashes = hashes.into();
    fs::File::create(w.path("a")).unwrap().set_len(65_536).unwrap();
    assert_eq!(w.open().have.iter().map(|p| p.get()).collect::<Vec<_>>(), [0]);
}

#[test]
fn f4_a_file_replaced_under_us_is_never_claimed() {
    for mode in WAYS {
        let mut w = three_pieces(mode);
        w.open();
        w.receive_piece(w.piece(0));
        fs::remove_file(w.path("a")).unwrap();
        let mut have = Bitfield::empty(3);
        have.set(w.piece(0));
        w.store.checkpoint(w.key, &have);
        let r = w.until(|d| if let DiskEvent::Saved { result, .. } = d { Some(result) } else { None });
        assert_eq!(r.unwrap_err().kind, FaultKind::Changed);
        w.restart();
        assert!(w.open().have.is_empty());
    }
}

#[test]
fn a_seed_reads_only_and_says_what_is_missing() {
    let mut w = complete(StorageMode::Plain);
    w.torrent.read_only = true;
    assert!(w.open().have.is_full());
    w.restart();
    fs::remove_file(w.path("d/c")).unwrap();
    let o = w.open();
    assert_eq!(o.have.ones(), 2);
    assert!(o.notes.iter().any(|n| n == "d/c: is not there"));
    w.restart();
    fs::remove_dir_all(w.path("")).unwrap();
    let f = w.try_open().unwrap_err();
    assert_eq!((f.kind, f.exit_code()), (FaultKind::Missing, 15));
    assert!(!w.path("").exists(), "a seed makes nothing");
}
