//! Part names: which name a file has at each moment, kills between two steps, and names that are taken.

use super::api::{OpenTorrent, OpenedTorrent};
use super::fault::{DiskFault, FaultKind};
use super::open_files::OpenFiles;
use super::testing::{MODES, TestDisk};
use super::{DiskEvent, StorageMode, verify};
use crate::units::{Bitfield, InfoHash, Rng};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// `a` is one piece, `b` two.
fn two_files(mode: StorageMode) -> TestDisk {
    TestDisk::new(mode, 32_768, &[("d/a", 32_768), ("d/b", 65_536)])
}

fn one_file() -> TestDisk {
    TestDisk::new(StorageMode::Plain, 32_768, &[("x", 60_000)])
}

/// The names in the torrent's directory, or a directory of it.
fn names(disk: &TestDisk, rel: &str) -> Vec<String> {
    let entries = fs::read_dir(disk.name(rel)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn pieces(disk: &TestDisk, raw: &[u32]) -> Bitfield {
    let mut have = Bitfield::empty(disk.geometry().pieces());
    raw.iter().for_each(|raw| _ = have.set(disk.piece(*raw)));
    have
}

fn receive(disk: &mut TestDisk, raw: &[u32]) {
    raw.iter().for_each(|raw| disk.receive_piece(disk.piece(*raw)));
}

/// Opens this torrent under another hash.
fn open_second(disk: &mut TestDisk, second: OpenTorrent) -> Result<OpenedTorrent, DiskFault> {
    let other = disk.keys.insert(());
    disk.store.open(other, OpenTorrent { info_hashes: InfoHash([8; 20]).into(), ..second });
    disk.wait_for(|e| if let DiskEvent::Opened { result, .. } = e { Some(result) } else { None })
}

#[test]
fn f22_a_file_has_its_part_name_until_its_last_piece_is_saved() {
    for mode in MODES {
        let mut disk = two_files(mode);
        disk.open();
        receive(&mut disk, &[0, 1]);
        assert_eq!(names(&disk, "d"), ["a.part", "b.part"], "verified, and not yet synced");
        disk.try_save(&pieces(&disk, &[0, 1])).unwrap();
        assert_eq!(names(&disk, "d"), ["a", "b.part"], "{mode:?}");
        disk.assert_loads(disk.geometry().whole(disk.piece(0)));
        receive(&mut disk, &[2]);
        disk.try_save(&Bitfield::full(3)).unwrap();
        assert_eq!(names(&disk, "d"), ["a", "b"], "{mode:?}");
        disk.assert_content();
        disk.close(&Bitfield::full(3));
        let opened = disk.open();
        assert!(opened.have.is_full() && opened.notes.is_empty(), "{:?}", opened.notes);
    }
}

#[test]
fn f22_a_kill_between_two_steps_loses_no_piece_and_no_name() {
    // Killed before the checkpoint, after the rename, after the record, and with a rename that the file system
    // took back because its directory was not synced.
    for killed in ["verified", "renamed", "saved", "taken back"] {
        let mut disk = two_files(StorageMode::Plain);
        disk.open();
        receive(&mut disk, &[0, 1]);
        disk.try_save(&pieces(&disk, &[])).unwrap();
        let record = fs::read(disk.record_path()).unwrap();
        if killed != "verified" {
            disk.try_save(&pieces(&disk, &[0, 1])).unwrap();
            assert!(disk.name("d/a").exists());
        }
        disk.restart();
        match killed {
            "renamed" => fs::write(disk.record_path(), record).unwrap(),
            "taken back" => fs::rename(disk.name("d/a"), disk.name("d/a.part")).unwrap(),
            _ => {}
        }
        let opened = disk.open();
        assert_eq!((opened.have, opened.notes), (pieces(&disk, &[0, 1]), vec![]), "{killed}");
        assert_eq!(names(&disk, "d"), ["a", "b.part"], "{killed}");
        receive(&mut disk, &[2]);
        disk.close(&Bitfield::full(3));
        assert_eq!(names(&disk, "d"), ["a", "b"], "{killed}");
        disk.assert_content();
    }
}

#[test]
fn f22_a_file_without_a_record_is_continued_at_its_part_name() {
    let mut disk = two_files(StorageMode::Plain);
    disk.open();
    receive(&mut disk, &[1]);
    disk.close(&pieces(&disk, &[1]));
    fs::remove_file(disk.record_path()).unwrap();
    assert_eq!(disk.open().have, pieces(&disk, &[1]));
    receive(&mut disk, &[0, 2]);
    disk.close(&Bitfield::full(3));
    assert_eq!(names(&disk, "d"), ["a", "b"]);
    disk.assert_content();
}

/// One worker writes, closes and syncs files, another renames them: the first one never opens or compares an old
/// path.
#[test]
fn f22_a_rename_beside_another_worker_is_no_change_by_another_program() {
    const FILES: usize = 400;
    let shape: Vec<String> = (0..FILES).map(|i| format!("f{i}")).collect();
    let shape: Vec<_> = shape.iter().map(|name| (name.as_str(), 8192)).collect();
    let disk = TestDisk::new(StorageMode::Plain, 4096, &shape);
    let torrent = Arc::new(disk.torrent_files());
    (0..FILES).for_each(|file| torrent.names.set_part(file, true));
    let write_half = |files: &mut OpenFiles, file: usize, at: usize| {
        let at = file * 8192 + at;
        files.write(&torrent, at as u64, &[&disk.bytes[at..at + 4096]]).err()
    };
    let mut files = OpenFiles::new(1, true);
    let mut faults: Vec<DiskFault> = (0..FILES).filter_map(|file| write_half(&mut files, file, 0)).collect();
    let both = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for file in 0..FILES {
                both.wait();
                torrent.finish_name(file).unwrap();
            }
        });
        for file in 0..FILES {
            both.wait();
            // Opens this file again, and closes another one, which compares that one's path.
            faults.extend(write_half(&mut files, file, 4096));
            if file % 50 == 0 {
                faults.extend(files.sync(&torrent).err());
            }
        }
    });
    faults.extend(files.sync(&torrent).err());
    assert_eq!(faults, []);
    assert_eq!(names(&disk, "").len(), FILES, "no part file was created again");
    disk.assert_content();
}

#[test]
fn f22_a_foreign_part_file_is_refused_and_stays_as_it_is() {
    let mut disk = two_files(StorageMode::Plain);
    fs::create_dir_all(disk.name("d")).unwrap();
    fs::write(disk.name("d/b.part"), [3; 100]).unwrap();
    let fault = disk.try_open().unwrap_err();
    assert_eq!((fault.kind, fault.path), (FaultKind::NotOurs, disk.name("d/b.part")));
    assert_eq!(names(&disk, "d"), ["b.part"]);
    // Without part names it is not in the way.
    disk.restart();
    disk.torrent.part_names = false;
    disk.open();
    receive(&mut disk, &[0, 1, 2]);
    disk.close(&Bitfield::full(3));
    assert_eq!(names(&disk, "d"), ["a", "b", "b.part"]);
    assert_eq!(fs::read(disk.name("d/b.part")).unwrap(), [3; 100]);
    disk.assert_content();
    // A link or a directory at the part name is in the way, too.
    for link in [true, false] {
        let mut disk = two_files(StorageMode::Plain);
        fs::create_dir_all(disk.name("d")).unwrap();
        if link {
            std::os::unix::fs::symlink("elsewhere", disk.name("d/b.part")).unwrap();
        } else {
            fs::create_dir(disk.name("d/b.part")).unwrap();
        }
        assert_eq!(disk.try_open().unwrap_err().kind, FaultKind::Exists);
    }
}

#[test]
fn f22_after_a_clean_end_a_part_file_that_was_not_there_is_of_another_origin() {
    let mut disk = one_file();
    disk.open();
    receive(&mut disk, &[0, 1]);
    disk.close(&Bitfield::full(2));
    // While the first file exists, so that it gets another inode.
    fs::write(disk.name("x.part"), [3; 60_000]).unwrap();
    fs::remove_file(disk.name("x")).unwrap();
    let fault = disk.try_open().unwrap_err();
    assert_eq!((fault.kind, fault.path), (FaultKind::NotOurs, disk.name("x.part")));
    assert_eq!(fs::read(disk.name("x.part")).unwrap(), [3; 60_000]);
}

#[test]
fn f22_a_name_that_is_taken_during_the_download_is_left_alone() {
    for content in [&[3; 60_000][..], &[3; 5], &[]] {
        let mut disk = one_file();
        disk.open();
        receive(&mut disk, &[0]);
        fs::write(disk.name("x"), content).unwrap();
        disk.try_save(&pieces(&disk, &[0])).unwrap();
        receive(&mut disk, &[1]);
        let fault = disk.try_save(&Bitfield::full(2)).unwrap_err();
        assert_eq!((fault.kind, fault.path), (FaultKind::NameTaken, disk.name("x.part")));
        disk.restart();
        for (opened_before, check) in [(false, false), (true, false), (false, true), (true, true)] {
            disk.torrent = OpenTorrent { opened_before, check, ..disk.torrent.clone() };
            let fault = disk.try_open().unwrap_err();
            assert_eq!((fault.kind, fault.path), (FaultKind::NotOurs, disk.name("x")));
            disk.restart();
        }
        assert_eq!(fs::read(disk.name("x")).unwrap(), content);
        assert!(fs::read(disk.name("x.part")).unwrap() == disk.bytes);
        fs::rename(disk.name("x"), disk.name("theirs")).unwrap();
        assert!(disk.open().have.is_full(), "no byte is downloaded twice");
        assert_eq!(names(&disk, ""), ["theirs", "x"]);
        disk.assert_content();
    }
}

#[test]
fn f22_a_name_beside_its_part_file_is_used_only_with_a_good_piece() {
    for (good, killed) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut disk = one_file();
        disk.open();
        receive(&mut disk, &[0]);
        disk.try_save(&pieces(&disk, &[0])).unwrap();
        if killed {
            disk.restart();
        } else {
            disk.close(&pieces(&disk, &[0]));
        }
        let content = if good { disk.bytes.clone() } else { vec![3; 60_000] };
        fs::write(disk.name("x"), &content).unwrap();
        let part = fs::read(disk.name("x.part")).unwrap();
        let result = disk.try_open().map_err(|fault| (fault.kind, fault.path));
        if good {
            let opened = result.unwrap();
            assert!(opened.have.is_full());
            assert!(opened.notes.contains(&"x.part: is not used".to_owned()), "{:?}", opened.notes);
        } else {
            assert_eq!(result.unwrap_err(), (FaultKind::NotOurs, disk.name("x")));
        }
        assert!(
            fs::read(disk.name("x")).unwrap() == content && fs::read(disk.name("x.part")).unwrap() == part
        );
    }
}

#[test]
fn f22_a_seed_and_verify_read_part_files_and_leave_their_names() {
    let mut disk = two_files(StorageMode::Plain);
    disk.open();
    receive(&mut disk, &[0, 1]);
    disk.close(&pieces(&disk, &[1]));
    assert_eq!(names(&disk, "d"), ["a.part", "b.part"]);
    let report = verify(disk.torrent.clone(), &mut |_, _| ()).unwrap();
    assert_eq!(report.have, pieces(&disk, &[0, 1]));
    disk.torrent.read_only = true;
    disk.torrent.check = true;
    assert_eq!(disk.open().have, pieces(&disk, &[0, 1]));
    disk.assert_loads(disk.geometry().whole(disk.piece(0)));
    disk.close(&pieces(&disk, &[0, 1]));
    assert_eq!(names(&disk, "d"), ["a.part", "b.part"]);
}

#[test]
fn f22_without_part_names_an_unfinished_file_gets_its_name_at_once() {
    let mut disk = two_files(StorageMode::Plain);
    disk.torrent.part_names = false;
    disk.open();
    receive(&mut disk, &[1]);
    assert_eq!(names(&disk, "d"), ["b"]);
    disk.close(&pieces(&disk, &[1]));
    let mut disk = two_files(StorageMode::Plain);
    disk.open();
    receive(&mut disk, &[1]);
    disk.close(&pieces(&disk, &[1]));
    assert_eq!(names(&disk, "d"), ["b.part"]);
    disk.torrent.part_names = false;
    let opened = disk.open();
    assert_eq!((opened.have, opened.notes), (pieces(&disk, &[1]), vec![]));
    assert_eq!(names(&disk, "d"), ["b"]);
    receive(&mut disk, &[2]);
    disk.close(&pieces(&disk, &[1, 2]));
    // With part names an unfinished file that has its name keeps it.
    disk.torrent.part_names = true;
    disk.open();
    receive(&mut disk, &[0]);
    assert_eq!(names(&disk, "d"), ["a.part", "b"]);
    disk.close(&Bitfield::full(3));
    disk.assert_content();
}

#[test]
fn f22_entries_named_like_part_files_and_long_names_get_names_of_their_own() {
    let long = "x".repeat(255);
    let shape = [("d/a", 40_000), ("d/a.part", 30_000), (&format!("d/{long}"), 20_000), ("d/empty", 0)];
    let mut disk = TestDisk::new(StorageMode::Plain, 16_384, &shape);
    disk.open();
    disk.receive_at_random(3, &mut Rng::new(1));
    let cut = "x".repeat(250) + ".part";
    assert_eq!(names(&disk, "d"), ["a.1.part", "a.part.part", "empty", &cut]);
    disk.restart();
    assert!(disk.open().have.is_full());
    assert_eq!(names(&disk, "d"), ["a", "a.part", "empty", &long]);
    disk.assert_content();
}

#[test]
fn f22_an_unselected_file_has_no_part_file() {
    let mut disk = two_files(StorageMode::Plain);
    disk.torrent.wanted = Some(vec![true, false]);
    disk.open();
    receive(&mut disk, &[0]);
    disk.close(&pieces(&disk, &[0]));
    assert_eq!(names(&disk, "d"), ["a"]);
}

#[test]
fn f22_two_torrents_with_one_name_meet_whichever_of_both_names_each_uses() {
    for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut disk = one_file();
        disk.torrent.part_names = first;
        disk.open();
        receive(&mut disk, &[0]);
        let other = OpenTorrent { part_names: second, ..disk.torrent.clone() };
        let fault = open_second(&mut disk, other.clone()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Held, "{first} {second}");
        receive(&mut disk, &[1]);
        disk.try_save(&Bitfield::full(2)).unwrap();
        assert!(open_second(&mut disk, other).unwrap().have.is_full(), "{first} {second}");
        assert_eq!(names(&disk, ""), ["x"]);
    }
}

#[test]
fn f22_a_torrent_whose_file_has_the_part_name_of_another_meets_it() {
    let mut disk = one_file();
    disk.open();
    let files = crate::wire::Files::from_iter([("x.part", 60_000)]);
    let other = OpenTorrent { files, ..disk.torrent.clone() };
    assert_eq!(open_second(&mut disk, other).unwrap_err().kind, FaultKind::Held);
}

#[test]
fn f22_complete_part_files_are_not_renamed_under_a_seed() {
    let mut disk = one_file();
    fs::create_dir_all(&disk.torrent.dir).unwrap();
    fs::write(disk.name("x.part"), &disk.bytes).unwrap();
    let seed = OpenTorrent { read_only: true, ..disk.torrent.clone() };
    assert!(open_second(&mut disk, seed).unwrap().have.is_full());
    let opened = disk.open();
    assert!(opened.have.is_full());
    assert_eq!(opened.notes, ["another torrent uses the content, so complete files are not renamed yet"]);
    disk.close(&Bitfield::full(2));
    // The restart has closed the seed.
    assert_eq!(names(&disk, ""), ["x.part"]);
    assert_eq!(disk.open().notes, [""; 0]);
    assert_eq!(names(&disk, ""), ["x"]);
}

#[test]
fn f22_a_name_too_long_for_the_file_system_is_an_error_number_that_find_file_knows() {
    let disk = one_file();
    let torrent = disk.torrent_files();
    let too_long = rustix::io::Errno::NAMETOOLONG;
    let mut stat =
        |path: &Path| if path.ends_with("x") { Ok(None) } else { Err(torrent.dir.fault_of(path, too_long)) };
    assert!(torrent.find_file(0, &mut stat).unwrap().is_none());
    assert_eq!(torrent.path(0), Path::new("x"), "it is created at its name");
}
