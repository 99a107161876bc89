//! Output of commands: files, devices, pipes and links as the output of `create`, output that cannot be
//! written, and files that `verify` cannot read.

use super::{World, pattern, run};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
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

#[test]
fn r13_a_file_that_cannot_be_opened_is_named_with_the_reason() {
    let w = World::new();
    fs::set_permissions(w.at("t/a"), PermissionsExt::from_mode(0o000)).unwrap();
    // Root may open every file, so the command runs as another user then.
    let root = File::open(w.at("t/a")).is_ok();
    fs::set_permissions(w.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let rill = |args: &[&str]| {
        let mut command = w.command();
        if root {
            command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
            command.arg(env!("CARGO_BIN_EXE_rill")).current_dir(w.dir.path());
        }
        run(command.args(args))
    };
    let ended = rill(&["verify", "t.torrent"]).expect(15);
    let line = ended.stdout.lines().find(|line| line.starts_with("unread ")).unwrap();
    assert!(line.ends_with(" 97.7 KiB t/a (cannot open: permission denied)"), "{line}");
    let object = rill(&["verify", "--json", "t.torrent"]).expect(15).json();
    let file = object["files"].as_array().unwrap().iter().find(|f| f["path"] == "t/a").unwrap().clone();
    assert_eq!(
        (file["state"].as_str(), file["reason"].as_str()),
        (Some("unread"), Some("cannot open: permission denied"))
    );
    fs::remove_file(w.at("t/empty")).unwrap();
    rill(&["verify", "t.torrent"]).expect(32);
}

#[test]
fn t12_content_behind_links_is_verified_and_served_and_never_written() {
    let w = World::new();
    fs::create_dir_all(w.at("one")).unwrap();
    fs::create_dir_all(w.at("two/t")).unwrap();
    symlink(w.at("t"), w.at("one/t")).unwrap();
    symlink(w.at("t/a"), w.at("two/t/a")).unwrap();
    symlink(w.at("t/sub"), w.at("two/t/sub")).unwrap();
    fs::write(w.at("two/t/empty"), "").unwrap();
    for dir in ["one", "two"] {
        w.rill(["verify", "t.torrent", "-d", dir]).expect(0);
        let seed =
            ["seed", "t.torrent", "--no-state", "--listen-port", "0", "--seed-time", "0.001", "-d", dir];
        w.rill(seed).expect(0);
        let get =
            w.rill(["get", "t.torrent", "--no-state", "--listen-port", "0", "--timeout", "5s", "-d", dir]);
        assert!(get.expect(13).stderr.contains("is a symbolic link"));
    }
    fs::write(w.at("t/a"), pattern(10)).unwrap();
    w.rill(["verify", "t.torrent", "-d", "two"]).expect(32);
}
