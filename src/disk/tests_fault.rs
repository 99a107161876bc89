//! Disks that fail: full, read-only, cut under us. A fault is told as what it is, and nobody else is blamed.

use super::tests::{TestDisk, WAYS};
use super::*;
use crate::units::{Bitfield, Rng};
use std::fs;
use std::path::{Path, PathBuf};

/// A small file system of its own; without the right to mount, the test says so and is over.
struct Small(PathBuf);

impl Small {
    fn new(at: &Path, size: &str) -> Option<Small> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(at).output();
        match mount {
            Ok(o) if o.status.success() => Some(Small(at.to_path_buf())),
            _ => {
                println!("skipped: a tmpfs cannot be mounted here");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Receives a piece as far as it goes; EFAULT of a window goes the way the loop goes.
fn try_piece(w: &mut TestDisk, raw: u32) -> Result<Verdict, DiskFault> {
    let (g, p) = (w.geometry(), w.piece(raw));
    w.store.prepare(w.key, p);
    w.until(|d| if let DiskEvent::Prepared { result, .. } = d { Some(result) } else { None })?;
    (0..g.blocks(p)).for_each(|b| w.receive_block(g.block(p, b)));
    Ok(w.verdict(p, false))
}

#[test]
fn f1_a_full_disk_is_named_and_later_room_is_used() {
    for mode in WAYS {
        let mut w = TestDisk::new(mode, 1 << 20, &[("x", 6 << 20)]);
        let Some(_small) = Small::new(&w.torrent.dir, "4m") else { return };
        fs::write(w.path("ballast"), vec![1; 1 << 20]).unwrap();
        w.open();
        let mut have = Bitfield::empty(6);
        let fault = loop {
            match try_piece(&mut w, have.ones()) {
                Ok(Verdict::Good { .. }) => have.set(w.piece(have.ones())),
                Ok(Verdict::Fault(f)) | Err(f) => break f,
                Ok(v) => panic!("{mode:?}: {v:?}"),
            };
        };
        assert_eq!((fault.kind, fault.exit_code()), (FaultKind::NoSpace, 9));
        assert!(fault.to_string().contains("/x"), "{fault}");
        assert!(have.ones() >= 2, "{}", have.ones());
        // What was good stays good and can be claimed; with room made, the same piece comes in without a restart.
        w.store.checkpoint(w.key, &have);
        w.until(|d| if let DiskEvent::Saved { result, .. } = d { Some(result) } else { None }).unwrap();
        fs::remove_file(w.path("ballast")).unwrap();
        let next = have.ones();
        assert!(matches!(try_piece(&mut w, next), Ok(Verdict::Good { .. })), "{mode:?}");
        assert_eq!(w.store.stats().slots_free, w.store.stats().slots, "no slot is lost on the way");
    }
}

#[test]
fn f4_a_file_cut_under_a_window_is_our_fault_and_no_signal() {
    let mut w = TestDisk::new(StorageMode::Mapped, 1 << 20, &[("x", 2 << 20)]);
    w.open();
    let (g, p) = (w.geometry(), w.piece(1));
    w.prepare(p);
    w.receive_block(g.block(p, 0));
    assert!(w.store.stats().mapped_bytes > 0);
    fs::OpenOptions::new().write(true).open(w.path("x")).unwrap().set_len(5000).unwrap();
    let span = g.block(p, 1);
    let room = w.store.target(w.key, span).unwrap();
    let e = super::window::read_socket_into(room, &[1; 100]).unwrap_err();
    assert_eq!(e.raw_os_error(), Some(14), "EFAULT");
    w.store.bad_window(w.key, p);
    let fault = w.until(|d| if let DiskEvent::Fault { fault, .. } = d { Some(fault) } else { None });
    assert_eq!(fault.kind, FaultKind::Changed);
    // The piece is judged a fault, not bad; then it comes anew.
    (1..g.blocks(p)).for_each(|b| w.receive_block(g.block(p, b)));
    assert!(matches!(w.verdict(p, false), Verdict::Fault(_)));
    w.receive_piece(p);
}

#[test]
fn a_window_that_fails_on_a_sound_disk_goes_on_plain_in_the_middle_of_a_block() {
    let mut w = TestDisk::new(StorageMode::Mapped, 1 << 20, &[("x", 1 << 20)]);
    w.open();
    let (g, p) = (w.geometry(), w.piece(0));
    w.prepare(p);
    let rest = w.receive(g.block(p, 0), 5000).unwrap();
    w.store.bad_window(w.key, p);
    assert!(w.receive(rest, u32::MAX).is_none());
    (1..g.blocks(p)).for_each(|b| w.receive_block(g.block(p, b)));
    assert!(matches!(w.verdict(p, false), Verdict::Good { .. }));
    assert_eq!(w.store.stats().window_bytes, 0);
    w.assert_content();
}

#[test]
fn f5_a_directory_that_may_not_be_written_is_refused_before_the_first_peer() {
    let mut w = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 65_536)]);
    let Some(small) = Small::new(&w.torrent.dir, "1m") else { return };
    fs::write(w.path("x"), &w.bytes).unwrap();
    let remount = |how: &str| {
        std::process::Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&small.0).status().unwrap();
    };
    remount("ro");
    // Complete content needs no writing, so it is no fault.
    assert!(w.open().have.is_full());
    w.restart();
    remount("rw");
    fs::remove_file(w.path("x")).unwrap();
    remount("ro");
    let f = w.try_open().unwrap_err();
    assert_eq!((f.kind, f.exit_code()), (FaultKind::CannotCreate, 16));
}

#[test]
fn f5_a_seed_on_a_read_only_disk_serves() {
    let mut w = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000)]);
    let Some(small) = Small::new(&w.torrent.dir, "1m") else { return };
    fs::write(w.path("x"), &w.bytes).unwrap();
    std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&small.0).status().unwrap();
    w.torrent.read_only = true;
    assert!(w.open().have.is_full());
    let span = w.geometry().span(1, 100, 40_000).unwrap();
    assert!(w.load(span) == w.bytes[65_636..105_636]);
    w.close(&Bitfield::full(4));
    assert!(w.open().notes.is_empty());
}

#[test]
fn f4_a_file_that_vanished_while_being_served_is_a_fault_and_the_store_lives_on() {
    let mut w = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 200_000), ("y", 200_000)]);
    w.open();
    w.receive_wildly(4, &mut Rng::new(1));
    w.close(&Bitfield::full(7));
    w.open();
    fs::remove_file(w.path("x")).unwrap();
    let g = w.geometry();
    let span = g.block(w.piece(0), 0);
    let mut into = vec![0; 16_384];
    assert_eq!(w.store.load(w.key, span, &mut into), Load::Later);
    let r = w.until(|d| if let DiskEvent::Loaded { result, .. } = d { Some(result) } else { None });
    assert_eq!(r.unwrap_err().kind, FaultKind::Missing);
    let other = g.block(w.piece(6), 0);
    assert_eq!(w.load(other).len() as u32, other.len());
}

#[test]
fn r8_a_worker_that_panics_loses_the_job_and_neither_its_thread_nor_what_was_safe() {
    for mode in WAYS {
        let mut w = TestDisk::new(mode, 65_536, &[("x", 200_000)]);
        w.open();
        w.receive_piece(w.piece(0));
        let mut have = Bitfield::empty(w.geometry().pieces());
        have.set(w.piece(0));
        let workers = w.store.workers.len();
        (0..workers).for_each(|hand| w.store.queue_urgent(hand, job::WorkerJob::Panic(w.key)));
        while w.store.stats().panics < workers as u64 {
            let fault = w.until(|d| if let DiskEvent::Fault { fault, .. } = d { Some(fault) } else { None });
            assert_eq!(fault.kind, FaultKind::Internal);
        }
        w.close(&have);
        assert_eq!(w.open().have, have);
        (1..w.geometry().pieces()).for_each(|raw| w.receive_piece(w.piece(raw)));
        w.assert_content();
    }
}
