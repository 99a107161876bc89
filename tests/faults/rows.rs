//! Single faults in detail: the message, the exit code, and what still works.

use crate::mounts::{Mounted, can_mount, enter_mount_namespace};
use crate::stage::{End, Stage, Trouble, address, cpu_of, free_port};
use crate::sweep::assert_orderly_end;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Downloads with these rules in this storage mode.
fn fetch(stage: &Stage, from: std::net::SocketAddr, storage: &str, rules: &str) -> End {
    stage.clear();
    stage.get(from, Some(&Trouble::rules(rules)), &["--storage", storage, "--stall-timeout", "5"]).end()
}

/// A read into a window that the kernel cannot write fails with EFAULT; the message has the reason that the
/// file system gives.
pub fn the_message_has_the_reason_of_the_file() {
    // One piece, so that the second `fallocate` is the one that looks for the reason of the fault.
    let stage = Stage::with(&[("one", 128 << 10)], 128 << 10);
    let (_seeder, addr) = stage.seeder();
    for (errno, reason) in [("ENOSPC", "No space left"), ("EDQUOT", "quota"), ("EIO", "Input/output")] {
        stage.clear();
        let trouble = Trouble::rules(format!("window:1:EFAULT,fallocate:2+:{errno}"));
        let end =
            stage.get(addr, Some(&trouble), &["--storage", "mapped", "--stall-timeout", "2", "-v"]).end();
        assert_eq!(
            (end.counts.failed("window"), end.counts.failed("fallocate") > 0),
            (1, true),
            "{errno}: {end:?}"
        );
        // rill waits for a full disk to have space. This one has space, so the exit code depends on timing.
        let codes: &[i32] = if errno == "EIO" { &[17] } else { &[0, 2, 9] };
        assert!(end.code.is_some_and(|code| codes.contains(&code)), "{errno}: {end:?}");
        assert!(end.output.contains(reason) && end.output.contains("/it/one"), "{errno}: {end:?}");
        stage.must_hold(errno);
        stage.must_finish(addr, &[], errno);
    }
}

/// If the file has no fault, the block is received again into a buffer and written plainly.
pub fn blocks_of_a_bad_window_are_written_plainly() {
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    let end = fetch(&stage, addr, "mapped", "window:2+:EFAULT");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.counts.failed("window") > 1 && end.counts.of("pwrite") > 1, "{end:?}");
    stage.must_be_whole("all windows after the first were bad");
}

/// Bytes that a flush could not write are claimed neither now nor after a later flush that succeeds.
pub fn a_failed_flush_claims_nothing() {
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    for storage in ["mapped", "plain"] {
        let limit = ["--storage", storage, "--max-download-limit", "1M"];
        // The fifth flush belongs to a checkpoint in the middle of the download.
        stage.clear();
        let end = stage.get(addr, Some(&Trouble::rules("fdatasync:5:EIO")), &limit).end();
        assert_orderly_end(&end, &[17]);
        assert!(end.output.contains("Input/output"), "{end:?}");
        stage.must_hold("after a flush that failed");
        stage.must_finish(addr, &limit[..2], "after a flush that failed");
    }
}

/// A failed read ends the seeder's torrent with a message that names the file, and the downloader gets no
/// wrong byte.
pub fn a_read_error_names_the_file() {
    let stage = Stage::new();
    // Consecutive blocks are read from the page cache with one call. After a failure each block is read on
    // its own, so the second rule fails all later calls.
    for rules in ["pread:5:EIO", "preadv2:3+:EIO"] {
        stage.clear();
        let port = free_port();
        let mut seeder = stage.seed(port, Some(&Trouble::rules(rules)), &[]);
        if seeder.listens(port) {
            let get = stage.get(address(port), None, &["--stall-timeout", "1"]).end();
            assert_orderly_end(&get, &[2]);
            stage.must_hold("fetched from a seeder that could not read");
        }
        let end = seeder.end();
        assert_orderly_end(&end, &[17]);
        assert!(end.output.contains(".bin") && end.output.contains("Input/output"), "{rules}: {end:?}");
    }
}

/// Without `fallocate` the download still uses windows.
pub fn a_file_system_without_fallocate_works() {
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    for errno in ["EOPNOTSUPP", "EINVAL", "ENOSYS"] {
        let end = fetch(&stage, addr, "mapped", &format!("fallocate:1+:{errno}"));
        assert_eq!(end.code, Some(0), "{errno}: {end:?}");
        assert!(
            end.counts.failed("fallocate") > 1 && end.counts.of("window") > 0,
            "{errno}: there are windows without it, {end:?}"
        );
        stage.must_be_whole(errno);
    }
}

/// Without address space for a window, a piece is written plainly.
pub fn without_address_space_storage_is_plain() {
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    for (rules, windows) in
        [("mmap:1+:ENOMEM", false), ("mmap:2:ENOMEM,mmap:4:ENOMEM", true), ("mmap:1+:EACCES", false)]
    {
        let end = fetch(&stage, addr, "mapped", rules);
        assert_eq!(end.code, Some(0), "{rules}: {end:?}");
        assert!(end.counts.failed("mmap") > 1 && end.counts.of("pwrite") > 1, "{rules}: {end:?}");
        assert_eq!(end.counts.of("window") > 0, windows, "{rules}: {end:?}");
        stage.must_be_whole(rules);
    }
}

/// On a file system without shared maps all pieces are written plainly.
pub fn a_file_system_without_shared_maps_uses_plain_storage() {
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    for errno in ["ENODEV", "EINVAL"] {
        let end = fetch(&stage, addr, "mapped", &format!("mmap:1+:{errno}"));
        assert_eq!(end.code, Some(0), "{errno}: {end:?}");
        assert!(
            end.counts.failed("mmap") > 1 && end.counts.of("pwrite") > 1 && end.counts.of("window") == 0,
            "{errno}: {end:?}"
        );
        stage.must_be_whole(errno);
    }
}

/// A seeder gets more connections than it has descriptors; once they are closed, it serves again.
pub fn a_seeder_without_descriptors_does_not_busy_wait() {
    let stage = Stage::new();
    let port = free_port();
    let mut command = stage.seed_command(port, None, &["--no-state"]);
    command.arg("-d").arg(stage.in_box("content"));
    let limit = rustix::process::Rlimit { current: Some(40), maximum: Some(40) };
    // SAFETY: between fork and exec the closure makes one system call and nothing else.
    unsafe {
        command.pre_exec(move || Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?));
    }
    let mut seeder = stage.start(command);
    assert!(seeder.listens(port), "{}", seeder.output());
    stage.must_finish(address(port), &[], "before the connections");
    let connections: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address(port)).unwrap()).collect();
    let before = cpu_of(seeder.pid());
    assert!(!seeder.ends_within(Duration::from_secs(2)), "{}", seeder.output());
    let spent = cpu_of(seeder.pid()) - before;
    assert!(spent < Duration::from_millis(200), "{spent:?} of CPU time in two seconds without descriptors");
    drop(connections);
    stage.clear();
    let end = stage.get(address(port), None, &["--stall-timeout", "10"]).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    stage.must_be_whole("from a seeder that was out of descriptors");
    seeder.send_sigterm();
    assert_orderly_end(&seeder.end(), &[0]);
}

/// Without a descriptor for a file or a socket a download ends with one sentence.
pub fn without_descriptors_a_download_ends() {
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    for (rules, codes) in
        [("open:5+:EMFILE", &[15, 16][..]), ("socket:5+:EMFILE", &[2]), ("socket:1+:EMFILE", &[6])]
    {
        stage.clear();
        let end = stage.get(addr, Some(&Trouble::rules(rules)), &["--stall-timeout", "2"]).end();
        assert_orderly_end(&end, codes);
        stage.must_hold(rules);
        stage.must_finish(addr, &[], rules);
    }
}

/// A file system without a free inode counts as full, and the message names the file that could not be
/// created.
pub fn without_inodes_the_disk_is_full() {
    if !can_mount(&["mount", "umount"]) {
        return;
    }
    let names: Vec<String> = (0..40).map(|i| format!("d{}/f{i}", i % 4)).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 5000)).collect();
    let stage = Stage::with(&files, 64 << 10);
    let (_seeder, addr) = stage.seeder();
    enter_mount_namespace();
    for storage in ["mapped", "plain"] {
        let disk = Mounted::memory(stage.at(storage), "size=4m,nr_inodes=30");
        let get =
            || stage.get_in(disk.path(), addr, None, &["--storage", storage, "--stall-timeout", "2"]).end();
        let end = get();
        assert_orderly_end(&end, &[9]);
        assert!(end.output.contains("space") && end.output.contains("/it/d"), "{end:?}");
        stage.truth.must_hold(&disk.path().join("down"), &disk.path().join("state"), "out of inodes");
        disk.remount("nr_inodes=100");
        assert_eq!(get().code, Some(0));
        stage.must_be_whole_in(&disk.path().join("down"), "with inodes again");
    }
}

/// A read-only disk ends a download before the first connection; seeding from it works.
pub fn a_read_only_disk_is_reported_before_the_first_connection() {
    if !can_mount(&["mount", "umount"]) {
        return;
    }
    let stage = Stage::new();
    let (_seeder, addr) = stage.seeder();
    enter_mount_namespace();
    let disk = Mounted::memory(stage.in_box("read-only"), "size=8m");
    for name in ["down", "state", "content"] {
        std::fs::create_dir(disk.path().join(name)).unwrap();
    }
    crate::mounts::run(
        Command::new("cp").arg("-r").arg(stage.in_box("content/it")).arg(disk.path().join("content")),
    );
    disk.remount("ro");
    let end = stage.get_in(disk.path(), addr, Some(&Trouble::default()), &[]).end();
    assert_orderly_end(&end, &[15, 16]);
    assert!(end.output.contains("Read-only"), "{end:?}");
    assert_eq!(end.counts.of("connect"), 0, "{end:?}");
    let port = free_port();
    let mut command = stage.seed_command(port, None, &[]);
    command.arg("--no-state").arg("-d").arg(disk.path().join("content"));
    let mut seeder = stage.start(command);
    assert!(seeder.listens(port), "{}", seeder.output());
    stage.must_finish(address(port), &[], "from a read-only disk");
}
