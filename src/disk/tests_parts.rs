//! Unselected files: their bytes in shared pieces go to the parts file, never to a file of the user.

use super::api::*;
use super::testing::{MODES, TestDisk};
use super::{Access, StorageMode, verify};
use crate::engine::Checkpoint;
use crate::units::Bitfield;
use std::fs;
use std::path::PathBuf;

/// Three files in pieces of 32,768 bytes; `b` shares its first piece with `a` and its last one with `c`.
const SHAPE: &[(&str, u64)] = &[("d/a", 40_000), ("d/b", 90_000), ("d/c", 10_000)];

/// The same of which `b` is not selected.
fn without_b(mode: StorageMode) -> TestDisk {
    let mut disk = TestDisk::new(mode, 32_768, SHAPE);
    disk.torrent.wanted = Some(vec![true, false, true]);
    disk
}

fn parts_path(disk: &TestDisk) -> PathBuf {
    disk.path(&format!(".rill-{}.parts", disk.torrent.info_hashes))
}

/// Downloads the pieces of `a` and `c`, and closes the torrent.
fn download(disk: &mut TestDisk) -> Bitfield {
    let mut have = disk.open().have;
    for piece in [0, 1, 3, 4].map(|n| disk.piece(n)) {
        if !have.has(piece) {
            disk.receive_piece(piece);
            have.set(piece);
        }
    }
    disk.close(&have);
    have
}

fn content_of(disk: &TestDisk, name: &str) -> Vec<u8> {
    let mut at = 0;
    for (file, length) in SHAPE {
        if *file == name {
            return disk.bytes[at..at + *length as usize].to_vec();
        }
        at += *length as usize;
    }
    unreachable!("{name}")
}

#[test]
fn f15_bytes_of_an_unselected_file_go_to_the_parts_file() {
    for mode in MODES {
        let mut disk = without_b(mode);
        let have = download(&mut disk);
        assert!(!disk.path("d/b").exists(), "{mode:?}");
        for name in ["d/a", "d/c"] {
            assert!(fs::read(disk.path(name)).unwrap() == content_of(&disk, name), "{mode:?} {name}");
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(parts_path(&disk)).unwrap().permissions().mode() & 0o777, 0o600);
        // Pieces with bytes there are served, also after a restart.
        let opened = disk.open();
        assert_eq!((opened.have, opened.notes), (have.clone(), vec![]));
        for span in [disk.geometry().block(disk.piece(1), 1), disk.geometry().block(disk.piece(3), 1)] {
            let at = disk.geometry().offset(span) as usize;
            assert!(disk.load(span) == disk.bytes[at..at + span.len() as usize], "{mode:?}");
        }
        disk.close(&have);
        let report = verify(disk.torrent.clone(), &mut |_, _| ()).unwrap();
        assert_eq!(report.have, have);
        assert_eq!(report.files.iter().map(|f| f.bad).collect::<Vec<_>>(), [0, 3, 0]);
        // Without the record, too.
        disk.torrent.check = true;
        assert_eq!(disk.open().have, have);
    }
}

#[test]
fn f15_an_unselected_file_of_the_user_is_never_written_to() {
    for content in [vec![3; 90_000], vec![3; 100_000], vec![3; 40_000], vec![3; 1]] {
        for mode in MODES {
            let mut disk = without_b(mode);
            fs::create_dir_all(disk.path("d")).unwrap();
            fs::write(disk.path("d/b"), &content).unwrap();
            let have = download(&mut disk);
            for check in [false, true] {
                disk.torrent.check = check;
                assert_eq!(disk.open().have, have);
                disk.close(&have);
            }
            assert_eq!(fs::read(disk.path("d/b")).unwrap(), content);
            let report = verify(disk.torrent.clone(), &mut |_, _| ()).unwrap();
            assert_eq!(report.have, have);
            assert_eq!(
                report.files.iter().map(|f| f.bad).collect::<Vec<_>>(),
                [0, 3, 0],
                "b is not the torrent's"
            );
        }
    }
}

#[test]
fn f15_a_file_that_is_selected_later_gets_its_bytes_from_the_parts_file() {
    for mode in MODES {
        let mut disk = without_b(mode);
        let mut have = download(&mut disk);
        disk.torrent.wanted = None;
        let opened = disk.open();
        assert_eq!(opened.have, have, "no byte is downloaded twice");
        disk.receive_piece(disk.piece(2));
        have.set(disk.piece(2));
        disk.close(&have);
        disk.assert_content();
        assert!(!parts_path(&disk).exists(), "nothing is left to keep");
        let opened = disk.open();
        assert_eq!((opened.have, opened.notes), (have, vec![]));
    }
}

#[test]
fn f15_a_file_that_becomes_selected_while_the_torrent_is_open_needs_another_open() {
    let mut disk = without_b(StorageMode::Plain);
    disk.open();
    assert!(!disk.store.set_wanted(disk.key, vec![true, false, false]) || !disk.path("d/c").exists());
    assert!(disk.store.set_wanted(disk.key, vec![true, true, true]), "the bytes of b lie elsewhere");
    disk.receive_piece(disk.piece(0));
    assert!(
        !disk.store.set_wanted(disk.key, vec![false, false, true]),
        "a exists and is written to as before"
    );
}

#[test]
fn f15_a_damaged_parts_file_claims_nothing() {
    let mut disk = without_b(StorageMode::Plain);
    let have = download(&mut disk);
    let mut bytes = fs::read(parts_path(&disk)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(parts_path(&disk), &bytes).unwrap();
    assert_eq!(disk.open().have.ones(), have.ones() - 1);
    disk.store.close(disk.key, Checkpoint::of(have.clone()));
    disk.restart();
    fs::remove_file(parts_path(&disk)).unwrap();
    let opened = disk.open();
    assert_eq!(
        opened.have.ones(),
        have.ones() - 2,
        "the pieces that b shares are missing: {:?}",
        opened.notes
    );
    for piece in [1, 3].map(|n| disk.piece(n)) {
        disk.receive_piece(piece);
    }
    disk.close(&have);
    assert_eq!(disk.open().have, have);
}

#[test]
fn f15_an_unselected_file_that_is_the_torrents_own_is_continued_in_place() {
    let mut disk = TestDisk::new(StorageMode::Plain, 32_768, SHAPE);
    let mut have = disk.open().have;
    disk.receive_piece(disk.piece(2));
    have.set(disk.piece(2));
    disk.close(&have);
    disk.torrent.wanted = Some(vec![true, false, true]);
    download(&mut disk);
    assert!(fs::read(disk.path("d/b")).unwrap() == content_of(&disk, "d/b"));
    assert!(!parts_path(&disk).exists());
}

#[test]
fn f15_a_seed_reads_the_parts_file_and_leaves_it_alone() {
    let mut disk = without_b(StorageMode::Plain);
    let have = download(&mut disk);
    let before = fs::read(parts_path(&disk)).unwrap();
    disk.torrent = OpenTorrent { read_only: true, wanted: None, ..disk.torrent.clone() };
    assert_eq!(disk.open().have, have);
    let span = disk.geometry().block(disk.piece(1), 1);
    let at = disk.geometry().offset(span) as usize;
    assert!(disk.load(span) == disk.bytes[at..at + span.len() as usize]);
    assert!(disk.store.target(disk.key, span, Access::Kernel).is_some());
    disk.close(&have);
    assert!(fs::read(parts_path(&disk)).unwrap() == before);
}

#[test]
fn f15_a_slot_that_two_files_share_gives_each_file_its_own_bytes_once() {
    let mut disk =
        TestDisk::new(StorageMode::Plain, 32_768, &[("d/a", 30_000), ("d/b", 1000), ("d/c", 40_000)]);
    disk.torrent.wanted = Some(vec![true, false, false]);
    let mut have = disk.open().have;
    disk.receive_piece(disk.piece(0));
    have.set(disk.piece(0));
    disk.close(&have);
    disk.torrent.wanted = Some(vec![true, true, false]);
    assert_eq!(disk.open().have, have);
    assert!(fs::read(disk.path("d/b")).unwrap() == disk.bytes[30_000..31_000]);
    disk.close(&have);
    // Another program damages the file; the slot does not bring its bytes back, nor those of `a`.
    fs::write(disk.path("d/b"), [3; 1000]).unwrap();
    assert!(disk.open().have.is_empty());
    assert_eq!(fs::read(disk.path("d/b")).unwrap(), [3; 1000]);
    disk.receive_piece(disk.piece(0));
    disk.close(&have);
    disk.torrent.wanted = None;
    assert_eq!(disk.open().have, have);
    for piece in [1, 2].map(|n| disk.piece(n)) {
        disk.receive_piece(piece);
    }
    disk.close(&Bitfield::full(3));
    disk.assert_content();
    assert!(!parts_path(&disk).exists());
}
