//! Restarts: records, changed content, and kills between two steps.

use super::StorageMode;
use super::fault::FaultKind;
use super::stamp::FileStamp;
use super::testing::{MODES, TestDisk};
use crate::units::{Bitfield, Rng};
use sha1::{Digest, Sha1};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

fn three_pieces(mode: StorageMode) -> TestDisk {
    TestDisk::new(mode, 65_536, &[("a", 65_536), ("d/b", 65_536), ("d/c", 60_000)])
}

/// A finished download of all three pieces, closed and restarted.
fn complete(mode: StorageMode) -> TestDisk {
    let mut disk = three_pieces(mode);
    disk.open();
    disk.receive_at_random(3, &mut Rng::new(5));
    disk.close(&Bitfield::full(3));
    disk
}

fn indices(have: &Bitfield) -> Vec<u32> {
    have.iter().map(|piece| piece.get()).collect()
}

fn set_len(disk: &TestDisk, path: &str, len: u64) {
    fs::OpenOptions::new().write(true).open(disk.path(path)).unwrap().set_len(len).unwrap();
}

#[test]
fn with_a_record_a_second_open_reads_no_content() {
    for mode in MODES {
        let mut disk = complete(mode);
        let o = disk.open();
        assert!(o.have.is_full() && o.notes.is_empty(), "{:?}", o.notes);
        assert_eq!(disk.store.stats().worker_cpu_us / 1_000_000, 0);
    }
}

#[test]
fn a_kill_after_a_checkpoint_loses_nothing_that_was_claimed() {
    for mode in MODES {
        let mut disk = three_pieces(mode);
        disk.open();
        disk.receive_piece(disk.piece(1));
        let mut have = Bitfield::empty(3);
        have.set(disk.piece(1));
        disk.try_save(&have).unwrap();
        disk.receive_piece(disk.piece(2)); // without a checkpoint
        disk.restart();
        let o = disk.open();
        assert_eq!(o.have, have, "{:?}", o.notes);
    }
}

#[test]
fn bytes_received_through_a_window_after_a_sync_are_synced_again() {
    for (blocks, whole) in [(4, true), (1, false)] {
        let mut disk = three_pieces(StorageMode::Mapped);
        disk.open();
        disk.prepare(disk.piece(0));
        let mut have = Bitfield::empty(3);
        disk.try_save(&have).unwrap();
        let stamp = |disk: &TestDisk| Some(FileStamp::of(&rustix::fs::stat(disk.path("a")).unwrap()));
        let synced = stamp(&disk);
        std::thread::sleep(Duration::from_millis(20)); // longer than a step of the clock for modification times
        for block in 0..blocks {
            disk.receive_block(disk.geometry().block(disk.piece(0), block));
        }
        if whole {
            disk.must_be_good(disk.piece(0));
            have.set(disk.piece(0));
        }
        assert_ne!(stamp(&disk), synced);
        disk.close(&have);
        assert_eq!(disk.record().unwrap().stamps.get(0), stamp(&disk), "whole: {whole}");
        let o = disk.open();
        assert_eq!((o.have, o.notes), (have, Vec::new()));
    }
}

#[test]
fn r3_every_corrupted_byte_of_a_record_rejects_it() {
    let mut disk = complete(StorageMode::Plain);
    let name = disk.record_path();
    let good = fs::read(&name).unwrap();
    for (at, cut) in (0..good.len()).map(|i| (i, false)).chain([(10, true), (0, true)]) {
        let mut bad = good.clone();
        if cut {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 << (at % 8);
        }
        fs::write(&name, bad).unwrap();
        assert!(disk.record().is_none(), "byte {at}");
    }
    fs::write(&name, &good[1..]).unwrap();
    // Without a record all content is hashed, and found good.
    assert!(disk.open().have.is_full());
}

#[test]
fn a_leftover_of_a_killed_save_is_no_record() {
    let mut disk = complete(StorageMode::Plain);
    fs::write(disk.record_path().with_extension("resume.tmp"), vec![1; 5000]).unwrap();
    assert!(disk.open().have.is_full());
    disk.close(&Bitfield::full(3));
    assert!(disk.record().is_some());
}

#[test]
fn changed_content_is_hashed_again_and_noted() {
    let mut disk = complete(StorageMode::Plain);
    let mut b = fs::read(disk.path("d/b")).unwrap();
    b[70] ^= 1;
    fs::write(disk.path("d/b"), b).unwrap();
    let o = disk.open();
    assert_eq!(indices(&o.have), [0, 2]);
    assert_eq!(o.notes, ["d/b: content changed, 1 pieces checked again"]);
}

#[test]
fn missing_short_and_long_files_cost_their_own_pieces_only() {
    let mut disk = complete(StorageMode::Plain);
    fs::remove_file(disk.path("a")).unwrap();
    set_len(&disk, "d/b", 5);
    let mut c = fs::read(disk.path("d/c")).unwrap();
    c.push(1);
    fs::write(disk.path("d/c"), c).unwrap();
    let o = disk.open();
    assert_eq!(indices(&o.have), [2]);
    assert!(o.notes.iter().any(|n| n.starts_with("a: is gone")), "{:?}", o.notes);
    assert!(o.notes.iter().any(|n| n.starts_with("d/c: is longer")), "{:?}", o.notes);
    disk.receive_piece(disk.piece(0));
    disk.receive_piece(disk.piece(1));
    assert_eq!(fs::metadata(disk.path("d/c")).unwrap().len(), 60_000, "its piece is good");
}

#[test]
fn f4_what_was_cut_off_before_the_last_record_is_not_claimed_by_it() {
    for cut in [70_000, 5] {
        let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000)]);
        disk.open();
        (0..2).for_each(|raw| disk.receive_piece(disk.piece(raw)));
        let mut have = Bitfield::empty(4);
        for raw in 0..2 {
            have.set(disk.piece(raw));
        }
        set_len(&disk, "x", cut);
        assert_eq!(disk.try_save(&have).unwrap_err().kind, FaultKind::Changed);
        disk.restart();
        let o = disk.open();
        assert_eq!(o.have.ones(), u32::from(cut > 65_536), "{:?}", o.notes);
    }
}

#[test]
fn of_very_many_missing_files_a_hundred_are_named() {
    let names: Vec<String> = (0..150).map(|i| format!("f{i}")).collect();
    let small = names.iter().map(|name| (name.as_str(), 1000));
    let files: Vec<_> = [("large", 200_000)].into_iter().chain(small).collect();
    let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &files);
    fs::create_dir_all(&disk.torrent.dir).unwrap();
    fs::write(disk.path("large"), &disk.bytes[..200_000]).unwrap();
    disk.torrent.read_only = true;
    let o = disk.open();
    assert_eq!(o.have.ones(), 3);
    assert_eq!((o.notes.len(), o.notes.last().unwrap().as_str()), (101, "and 50 more like these"));
}

#[test]
fn after_a_kill_sampling_finds_a_wrong_record() {
    let mut disk = three_pieces(StorageMode::Plain);
    disk.open();
    disk.receive_piece(disk.piece(0));
    disk.receive_piece(disk.piece(1));
    let mut have = Bitfield::empty(3);
    have.set(disk.piece(0));
    have.set(disk.piece(1));
    disk.try_save(&have).unwrap();
    disk.restart();
    let mut b = fs::read(disk.path("d/b")).unwrap();
    b[9] ^= 4;
    fs::OpenOptions::new().write(true).open(disk.path("d/b")).unwrap().write_all_at(&b, 0).unwrap();
    let o = disk.open();
    assert_eq!(indices(&o.have), [0]);
}

#[test]
fn content_without_a_record_is_hashed_and_holes_are_not_pieces() {
    for check in [false, true] {
        let mut disk = three_pieces(StorageMode::Plain);
        fs::create_dir_all(disk.path("d")).unwrap();
        fs::write(disk.path("d/b"), &disk.bytes[65_536..131_072]).unwrap();
        fs::File::create(disk.path("a")).unwrap().set_len(65_536).unwrap();
        disk.torrent.check = check;
        let o = disk.open();
        assert_eq!(indices(&o.have), [1]);
    }
}

#[test]
fn a_hole_where_zeros_belong_is_a_good_piece() {
    let mut disk = three_pieces(StorageMode::Plain);
    fs::create_dir_all(disk.path("d")).unwrap();
    let mut hashes = disk.torrent.piece_hashes.to_vec();
    hashes[..20].copy_from_slice(&Sha1::digest(vec![0; 65_536]));
    disk.torrent.piece_hashes = hashes.into();
    fs::File::create(disk.path("a")).unwrap().set_len(65_536).unwrap();
    assert_eq!(indices(&disk.open().have), [0]);
}

#[test]
fn f4_a_file_replaced_under_us_is_never_claimed() {
    for mode in MODES {
        let mut disk = three_pieces(mode);
        disk.open();
        disk.receive_piece(disk.piece(0));
        fs::remove_file(disk.path("a")).unwrap();
        let mut have = Bitfield::empty(3);
        have.set(disk.piece(0));
        assert_eq!(disk.try_save(&have).unwrap_err().kind, FaultKind::Changed);
        disk.restart();
        assert!(disk.open().have.is_empty());
    }
}

#[test]
fn a_seed_creates_nothing_and_notes_missing_files() {
    let mut disk = complete(StorageMode::Plain);
    disk.torrent.read_only = true;
    assert!(disk.open().have.is_full());
    disk.restart();
    fs::remove_file(disk.path("d/c")).unwrap();
    let o = disk.open();
    assert_eq!(o.have.ones(), 2);
    assert!(o.notes.iter().any(|n| n == "d/c: does not exist"));
    disk.restart();
    fs::remove_dir_all(disk.path("")).unwrap();
    let fault = disk.try_open().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Missing);
    assert!(!disk.path("").exists(), "a seed creates no directory");
}
