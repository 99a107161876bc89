//! Disks that fail: full, read-only, truncated by another program. A fault is reported as what it is, and no
//! peer is blamed.

use super::api::DiskEvent;
use super::fault::{DiskFault, FaultKind};
use super::job::WorkerJob;
use super::testing::{MODES, TestDisk, receive_into};
use super::{Access, Load, StorageMode};
use crate::engine::HashVerdict;
use crate::units::{Bitfield, Rng};
use std::fs;
use std::path::{Path, PathBuf};

/// A mounted tmpfs. Without the right to mount, the test says so and passes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: &Path, size: &str) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(at)
            .output();
        match mount {
            Ok(o) if o.status.success() => Some(SmallDisk(at.to_path_buf())),
            _ => {
                println!("skipped: a tmpfs cannot be mounted here");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Receives a piece as far as the disk allows.
fn try_piece(disk: &mut TestDisk, raw: u32) -> Result<HashVerdict, DiskFault> {
    let piece = disk.piece(raw);
    disk.try_prepare(piece)?;
    disk.receive_blocks_of(piece);
    disk.verdict(piece, false)
}

#[test]
fn f1_a_full_disk_is_named_and_later_room_is_used() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 1 << 20, &[("x", 6 << 20)]);
        let Some(_small) = SmallDisk::new(&disk.torrent.dir, "4m") else { return };
        fs::write(disk.path("ballast"), vec![1; 1 << 20]).unwrap();
        disk.open();
        let mut have = Bitfield::empty(6);
        let fault = loop {
            match try_piece(&mut disk, have.ones()) {
                Ok(HashVerdict::Good { .. }) => have.set(disk.piece(have.ones())),
                Ok(verdict) => panic!("{mode:?}: {verdict:?}"),
                Err(fault) => break fault,
            };
        };
        assert_eq!(fault.kind, FaultKind::NoSpace);
        assert!(fault.to_string().contains("/x"), "{fault}");
        assert!(have.ones() >= 2, "{}", have.ones());
        // Good pieces stay good and can be claimed; with free space, the same piece is received without a
        // restart.
        disk.try_save(&have).unwrap();
        fs::remove_file(disk.path("ballast")).unwrap();
        let next = have.ones();
        assert!(matches!(try_piece(&mut disk, next), Ok(HashVerdict::Good { .. })), "{mode:?}");
        assert_eq!(disk.store.stats().slots_free, disk.store.stats().slots, "no slot is lost on the way");
    }
}

#[test]
fn f4_a_file_cut_under_a_window_is_our_fault_and_no_signal() {
    let mut disk = TestDisk::new(StorageMode::Mapped, 1 << 20, &[("x", 2 << 20)]);
    disk.open();
    let g = disk.geometry();
    let p = disk.piece(1);
    disk.prepare(p);
    disk.receive_block(g.block(p, 0));
    assert!(disk.store.stats().mapped_bytes > 0);
    fs::OpenOptions::new().write(true).open(disk.path("x")).unwrap().set_len(5000).unwrap();
    let span = g.block(p, 1);
    let target = disk.store.target(disk.key, span, Access::Kernel).unwrap();
    assert_eq!(receive_into(target, &[1; 100]).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    disk.store.bad_window(disk.key, p);
    let fault = disk.wait_for(|e| if let DiskEvent::Fault { fault, .. } = e { Some(fault) } else { None });
    assert_eq!(fault.kind, FaultKind::Changed);
    // The verdict is a fault and not a bad piece; then the piece is received anew.
    (1..g.blocks(p)).for_each(|b| disk.receive_block(g.block(p, b)));
    assert!(disk.verdict(p, false).is_err());
    disk.receive_piece(p);
}

#[test]
fn a_window_that_fails_on_a_sound_disk_goes_on_plain_in_the_middle_of_a_block() {
    let mut disk = TestDisk::new(StorageMode::Mapped, 1 << 20, &[("x", 1 << 20)]);
    disk.open();
    let g = disk.geometry();
    let p = disk.piece(0);
    disk.prepare(p);
    let rest = disk.receive(g.block(p, 0), 5000).unwrap();
    disk.store.bad_window(disk.key, p);
    assert!(disk.receive(rest, u32::MAX).is_none());
    (1..g.blocks(p)).for_each(|b| disk.receive_block(g.block(p, b)));
    disk.must_be_good(p);
    assert_eq!(disk.store.stats().window_bytes, 0);
    disk.assert_content();
}

#[test]
fn f5_a_directory_that_may_not_be_written_is_refused_before_the_first_peer() {
    let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 65_536)]);
    let Some(small) = SmallDisk::new(&disk.torrent.dir, "1m") else { return };
    fs::write(disk.path("x"), &disk.bytes).unwrap();
    let remount = |how: &str| {
        std::process::Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&small.0)
            .status()
            .unwrap();
    };
    remount("ro");
    // Complete content needs no write, so there is no fault.
    assert!(disk.open().have.is_full());
    disk.restart();
    remount("rw");
    fs::remove_file(disk.path("x")).unwrap();
    remount("ro");
    let fault = disk.try_open().unwrap_err();
    assert_eq!(fault.kind, FaultKind::CannotCreate);
}

#[test]
fn f5_a_seed_on_a_read_only_disk_serves() {
    let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000)]);
    let Some(small) = SmallDisk::new(&disk.torrent.dir, "1m") else { return };
    fs::write(disk.path("x"), &disk.bytes).unwrap();
    std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&small.0).status().unwrap();
    disk.torrent.read_only = true;
    assert!(disk.open().have.is_full());
    let span = disk.geometry().span(1, 100, 40_000).unwrap();
    disk.assert_loads(span);
    disk.close(&Bitfield::full(4));
    assert!(disk.open().notes.is_empty());
}

#[test]
fn f4_a_file_that_vanished_while_being_served_is_a_fault_and_the_store_lives_on() {
    let mut disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000), ("y", 200_000)]);
    disk.open();
    disk.receive_at_random(4, &mut Rng::new(1));
    disk.close(&Bitfield::full(7));
    disk.open();
    fs::remove_file(disk.path("x")).unwrap();
    let g = disk.geometry();
    let span = g.block(disk.piece(0), 0);
    let mut into = vec![0; 16_384];
    assert_eq!(disk.store.load(disk.key, span, &mut into), Load::Later);
    let result =
        disk.wait_for(|e| if let DiskEvent::Loaded { result, .. } = e { Some(result) } else { None });
    assert_eq!(result.unwrap_err().kind, FaultKind::Missing);
    disk.assert_loads(g.block(disk.piece(6), 0));
}

#[test]
fn r8_a_worker_that_panics_loses_the_job_and_neither_its_thread_nor_what_was_safe() {
    for mode in MODES {
        let mut disk = TestDisk::new(mode, 65_536, &[("x", 200_000)]);
        disk.open();
        disk.receive_piece(disk.piece(0));
        let mut have = Bitfield::empty(disk.geometry().pieces());
        have.set(disk.piece(0));
        let workers = disk.store.workers.count();
        disk.store.workers.queue_for_all(|| WorkerJob::Panic(disk.key));
        while disk.store.stats().panics < workers as u64 {
            let fault =
                disk.wait_for(|e| if let DiskEvent::Fault { fault, .. } = e { Some(fault) } else { None });
            assert_eq!(fault.kind, FaultKind::Internal);
        }
        disk.close(&have);
        assert_eq!(disk.open().have, have);
        (1..disk.geometry().pieces()).for_each(|raw| disk.receive_piece(disk.piece(raw)));
        disk.assert_content();
    }
}
