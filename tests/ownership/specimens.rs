//! Files that were there before: whose they are, and what becomes of them.

use crate::library::{PIECE, Shelf, Torrent};
use crate::support::{content, lies_at};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The end of a command.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    stderr: String,
}

impl End {
    /// Panics unless the command ended with this code and one sentence that has this text.
    fn refused(self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.lines().count() == 1 && self.stderr.contains(text), "{text}: {self:?}");
    }
}

/// A temporary directory and a seeder.
struct World {
    temp: tempfile::TempDir,
    shelf: Shelf,
}

impl World {
    fn new() -> World {
        World { temp: tempfile::tempdir().unwrap(), shelf: Shelf::new() }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(path)
    }

    /// Writes a file below the download directory.
    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at("down").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.at("down").join(path)).unwrap()
    }

    /// `rill get -d down` with these arguments and torrents.
    fn get(&self, more: &[&str], torrents: &[&Torrent]) -> End {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
        command.env_clear().args(["get", "-q", "--no-dht", "--no-lsd", "--listen-port", "0"]);
        if !more.contains(&"--timeout") {
            command.args(["--timeout", "30s"]);
        }
        command.arg("--state-dir").arg(self.at("state")).arg("-d").arg(self.at("down"));
        run(command.args(more).args(torrents.iter().map(|t| &t.file)))
    }

    /// The same with the seeder as a peer.
    fn fetch(&self, more: &[&str], torrents: &[&Torrent]) -> End {
        let peer = self.shelf.seeder().to_string();
        self.get(&[more, &["--peer", &peer]].concat(), torrents)
    }

    fn verify(&self, torrent: &Torrent) -> Option<i32> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
        run(command.args(["verify", "-q"]).arg(&torrent.file).arg("-d").arg(self.at("down"))).code
    }
}

fn run(command: &mut Command) -> End {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    End { code: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
}

#[test]
fn f18_two_torrents_of_one_command_never_share_a_file() {
    let mut w = World::new();
    let [a, b] = [w.shelf.single("same.bin", 300_000), w.shelf.single("same.bin", 300_000)];
    w.shelf.wait();
    let end = w.fetch(&[], &[&a, &b]);
    assert_eq!(end.code, Some(11), "{end:?}");
    assert!(end.stderr.contains("same.bin.part is in use by another torrent"), "{end:?}");
    let complete = [&a, &b].map(|t| t.is_exact(&w.at("down")));
    assert!(complete[0] != complete[1], "one of them is complete: {complete:?}");
    assert_eq!([&a, &b].map(|t| w.verify(t) == Some(0)), complete);
    // Without a peer only the records speak.
    let again = w.get(&[], &[&a, &b]);
    assert!(matches!(again.code, Some(11 | 13)), "{again:?}");
    assert_eq!([&a, &b].map(|t| t.is_exact(&w.at("down"))), complete);
}

#[test]
fn f19_a_file_of_which_no_piece_is_good_is_left_alone() {
    let mut w = World::new();
    let [key, shell] = [w.shelf.multi(".ssh", &["authorized_keys"], 5_000), w.shelf.single(".bashrc", 4_000)];
    let plain = w.shelf.single("it.bin", 300_000);
    w.shelf.wait();
    w.write(".ssh/authorized_keys", b"ssh-ed25519 AAAA\n");
    w.write(".bashrc", b"# mine\n");
    w.fetch(&[], &[&key]).refused(13, "authorized_keys");
    w.fetch(&["--no-state"], &[&shell]).refused(13, ".bashrc");
    assert_eq!(w.read(".ssh/authorized_keys"), b"ssh-ed25519 AAAA\n");
    assert_eq!(w.read(".bashrc"), b"# mine\n");
    for len in [1, 299_999, 300_000, 300_001, 900_000] {
        let bytes = content(len, 7);
        w.write("it.bin", &bytes);
        for more in [&[][..], &["--no-state"], &["--check"]] {
            w.fetch(more, &[&plain]).refused(13, "it.bin");
            assert!(w.read("it.bin") == bytes, "{len} {more:?}");
        }
    }
    let end = w.fetch(&["--allow-overwrite"], &[&plain]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(plain.is_exact(&w.at("down")));
}

#[test]
fn f19_the_given_torrent_file_is_not_overwritten_by_its_content() {
    let mut w = World::new();
    let torrent = w.shelf.single("it.torrent", 200_000);
    w.shelf.wait();
    let bytes = fs::read(&torrent.file).unwrap();
    w.write("it.torrent", &bytes);
    let given = Torrent { file: w.at("down/it.torrent"), ..torrent };
    w.fetch(&[], &[&given]).refused(13, "it.torrent");
    assert_eq!(w.read("it.torrent"), bytes);
}

#[test]
fn f20_a_longer_file_is_cut_once_its_pieces_are_verified() {
    let mut w = World::new();
    let torrent = w.shelf.single("it.bin", 300_000);
    w.shelf.wait();
    // An older edition, which begins in the same way.
    let older = [&torrent.bytes[..PIECE as usize], &content(400_000, 7)].concat();
    w.write("it.bin", &older);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command.env_clear().args([
        "get",
        "--no-dht",
        "--no-lsd",
        "--listen-port",
        "0",
        "--no-state",
        "--timeout",
    ]);
    command.args(["30s", "--peer", &w.shelf.seeder().to_string(), "-d"]).arg(w.at("down"));
    let end = run(command.arg(&torrent.file));
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stderr.contains("it.bin: is longer than in the torrent"), "{end:?}");
    assert!(torrent.is_exact(&w.at("down")));
    assert_eq!(w.verify(&torrent), Some(0));
}

#[test]
fn f21_a_file_beside_the_selected_ones_is_never_written() {
    let mut w = World::new();
    // The first piece of the second file holds the end of the first.
    let torrent = w.shelf.multi("it", &["a", "b", "c"], 50_000);
    w.shelf.wait();
    w.write("it/a", b"precious, and not selected\n");
    let end = w.fetch(&["--select", "2"], &[&torrent]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(w.read("it/a"), b"precious, and not selected\n");
    assert!(w.read("it/b") == torrent.bytes[50_000..100_000]);
    assert!(!w.at("down/it/c").exists());
}

#[test]
fn f21_a_file_beside_the_selected_ones_is_not_made() {
    let mut w = World::new();
    let torrent = w.shelf.multi("it", &["a", "b", "c"], 50_000);
    w.shelf.wait();
    let end = w.fetch(&["--select", "2"], &[&torrent]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(w.read("it/b") == torrent.bytes[50_000..100_000]);
    assert!(!w.at("down/it/a").exists() && !w.at("down/it/c").exists());
    // The rest comes later, and each byte of it is right.
    let end = w.fetch(&[], &[&torrent]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(torrent.is_exact(&w.at("down")));
}

#[test]
fn f22_an_unfinished_file_has_its_part_name_and_gets_its_name_when_it_is_complete() {
    let mut w = World::new();
    let torrent = w.shelf.multi("it", &["a", "b"], 300_000);
    let single = w.shelf.single("it.bin", 300_000);
    w.shelf.wait();
    let stopped = w.fetch(&["--max-download-limit", "100K", "--timeout", "3s"], &[&torrent, &single]);
    assert_eq!(stopped.code, Some(2), "{stopped:?}");
    let down = w.at("down");
    let is_part = |name: &&str| lies_at(&down, Path::new(name)) != down.join(name);
    let parts = || ["it/a", "it/b", "it.bin"].iter().filter(|name| is_part(name)).count();
    assert!(parts() > 0, "{:?}", fs::read_dir(w.at("down")).unwrap().collect::<Vec<_>>());
    // A program that runs at the end finds the names.
    let script = w.at("hook");
    fs::write(&script, format!("#!/bin/sh\nfind \"$1\" -type f >> {}\n", w.at("seen").display())).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let end = w.fetch(&["--on-complete", script.to_str().unwrap()], &[&torrent, &single]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(torrent.is_exact(&w.at("down")) && single.is_exact(&w.at("down")));
    assert_eq!(parts(), 0);
    let seen = fs::read_to_string(w.at("seen")).unwrap();
    assert!(!seen.contains(".part") && seen.lines().count() == 3, "{seen}");
}

#[test]
fn f22_part_files_are_verified_and_names_of_another_origin_stay() {
    let mut w = World::new();
    let torrent = w.shelf.single("it.bin", 300_000);
    w.shelf.wait();
    w.write("it.bin.part", &torrent.bytes);
    assert_eq!(w.verify(&torrent), Some(0));
    w.write("it.bin", b"theirs");
    assert_ne!(w.verify(&torrent), Some(0));
    w.fetch(&[], &[&torrent]).refused(13, "it.bin exists");
    assert_eq!(w.read("it.bin"), b"theirs");
    fs::remove_file(w.at("down/it.bin")).unwrap();
    let end = w.get(&[], &[&torrent]);
    assert_eq!(end.code, Some(0), "without a peer: {end:?}");
    assert!(torrent.is_exact(&w.at("down")) && !w.at("down/it.bin.part").exists());
    // Of another origin is a part file, too, unless it is not looked for.
    fs::remove_file(w.at("down/it.bin")).unwrap();
    w.write("it.bin.part", b"theirs");
    w.fetch(&["--no-state"], &[&torrent]).refused(13, "it.bin.part exists");
    let end = w.fetch(&["--no-state", "--no-part"], &[&torrent]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(w.read("it.bin.part"), b"theirs");
    assert!(torrent.is_exact(&w.at("down")));
}
