//! Output of commands: files, devices, pipes and links as the output of `create`, output that cannot be
//! written.

use super::{World, run};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Command;
use std::time::Instant;

#[test]
fn r12_create_looks_at_its_output_before_it_hashes() {
    let w = World::new();
    fs::create_dir(w.at("big")).unwrap();
    File::create(w.at("big/hole")).unwrap().set_len(1 << 40).unwrap();
    fs::create_dir(w.at("dir")).unwrap();
    symlink("nothing", w.at("dangling")).unwrap();
    let begun = Instant::now();
    for (output, code) in
        [("nowhere/x.torrent", 16), ("t/a/x.torrent", 16), ("dir", 16), ("dangling", 16), ("t.torrent", 13)]
    {
        w.rill(["create", "big", "-o", output]).fails_with(code);
    }
    w.rill(["create", "big", "-o", "dangling", "--force"]).fails_with(16);
    assert!(begun.elapsed().as_secs() < 60, "a terabyte was hashed");
    let ended = run(w.command().env("SOURCE_DATE_EPOCH", "soon").args(["create", "big", "-o", "x"]));
    assert!(ended.fails_with(28).contains("SOURCE_DATE_EPOCH"));
}

#[test]
fn r12_create_never_replaces_a_pipe_a_device_or_a_link() {
    let w = World::new();
    let torrent = fs::read(w.at("t.torrent")).unwrap();
    let create = |output: &str| {
        w.rill([
            "create",
            "t",
            "-p",
            "16K",
            "-a",
            "http://127.0.0.1:1/announce",
            "--no-date",
            "--force",
            "-q",
            "-o",
            output,
        ])
    };
    assert!(Command::new("mkfifo").arg(w.at("pipe")).status().unwrap().success());
    assert!(create("pipe").fails_with(16).contains("no program reads this pipe"));
    let pipe = w.at("pipe");
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    create("pipe").expect(0);
    assert_eq!(reader.join().unwrap(), torrent);
    assert!(w.at("pipe").symlink_metadata().unwrap().file_type().is_fifo());

    fs::create_dir(w.at("real")).unwrap();
    fs::write(w.at("real/place.torrent"), "old").unwrap();
    symlink("real/place.torrent", w.at("link")).unwrap();
    w.rill(["create", "t", "-o", "link"]).fails_with(13);
    create("link").expect(0);
    assert!(w.at("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read(w.at("real/place.torrent")).unwrap(), torrent);

    let mut command = w.command();
    command.args(["create", "t", "-p", "16K", "-a", "http://127.0.0.1:1/announce", "--no-date", "-q"]);
    let ended = command.args(["-o", "/dev/stdout"]).output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), torrent));

    // A node like /dev/null, where the user may make one.
    let made = Command::new("mknod").arg(w.at("null")).args(["c", "1", "3"]).output().unwrap();
    if made.status.success() {
        let ended = create("null");
        // A mount may forbid the use of devices.
        assert!([0, 16].contains(&ended.code), "{}", ended.stderr);
        assert!(w.at("null").symlink_metadata().unwrap().file_type().is_char_device());
    }
}

#[test]
fn r12_output_that_cannot_be_written_fails_every_command() {
    let w = World::new();
    let get = ["get", "t.torrent", "--no-state", "--listen-port", "0"];
    for args in [
        &["show", "t.torrent"][..],
        &["show", "--json", "t.torrent"],
        &["verify", "t.torrent"],
        &["create", "t", "-o", "new.torrent"],
        &["create", "t", "-o", "-"],
        &["get", "t.torrent", "--metadata-only"],
        &get,
        &["--help"],
        &["--version"],
        &["sim", "--list"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = run(w.command().args(args).stdout(full)).expect(17);
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert_eq!(last, "rill: standard output: no space left on device", "{args:?}");
    }
}
