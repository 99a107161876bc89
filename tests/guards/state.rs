//! State directories written by rill 0.1.0 are read and used.
//!
//! ```text
//!   t.torrent              t/{a,empty,sub/b}, partly downloaded
//!   m.torrent              m, completely downloaded from a magnet link
//!   state/                 both records, the link's metadata, one DHT node; ended by SIGINT
//!   killed/                the record of t and its lock file; started again, ended by SIGKILL
//! ```
//! A record has the inode, length and modification time of each file. Content is not committed: the tests
//! create files of the same length and time with wrong bytes in every piece, and write the new inodes into
//! the record. So a piece that is hashed counts as missing.

use super::fixture;
use super::world::{World, end, end_by, lines, pattern};
use serde_json::Value;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Files of torrent `t` in order.
const FILES_OF_T: [&str; 3] = ["t/a", "t/empty", "t/sub/b"];

// ---- the format of 0.1.0 ----------------------------------------------------------------------------------------------

/// Bytes of a record before its bitfield: `rillrsm1`, a flag for a running process, a sequence number, the
/// info hash, content and piece length, the numbers of pieces and files.
const HEAD_LEN: usize = 8 + 1 + 8 + 20 + 8 + 4 + 4 + 4;
/// Bytes of a file's stamp: a flag for an existing file, inode, length, seconds and nanoseconds of its
/// modification time, little-endian.
const STAMP_LEN: usize = 1 + 8 + 8 + 8 + 4;
const SUM_LEN: usize = 20;

struct Record {
    bytes: Vec<u8>,
}

impl Record {
    fn read(path: &Path) -> Record {
        let bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..8], b"rillrsm1");
        assert_eq!(
            sha1(&bytes[..bytes.len() - SUM_LEN]),
            bytes[bytes.len() - SUM_LEN..],
            "the sum of {}",
            path.display()
        );
        Record { bytes }
    }

    fn word(&self, at: usize, len: usize) -> u64 {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&self.bytes[at..at + len]);
        u64::from_le_bytes(word)
    }

    fn was_running(&self) -> bool {
        self.bytes[8] == 1
    }

    fn pieces(&self) -> u64 {
        self.word(HEAD_LEN - 8, 4)
    }

    /// Returns the number of pieces that the record claims.
    fn claimed(&self) -> u64 {
        let bitfield = &self.bytes[HEAD_LEN..HEAD_LEN + self.pieces().div_ceil(8) as usize];
        bitfield.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    fn stamp_at(&self, file: usize) -> usize {
        HEAD_LEN + self.pieces().div_ceil(8) as usize + file * STAMP_LEN
    }

    /// Creates the record's files below `dir` with wrong bytes, and writes the record with their inodes
    /// to `path`.
    fn create_files(mut self, files: &[&str], dir: &Path, path: &Path) {
        assert_eq!(self.bytes.len(), self.stamp_at(files.len()) + SUM_LEN);
        for (number, name) in files.iter().enumerate() {
            let at = self.stamp_at(number);
            if self.bytes[at] == 0 {
                continue;
            }
            let len = self.word(at + 9, 8);
            let time = Duration::new(self.word(at + 17, 8), self.word(at + 25, 4) as u32);
            let file = dir.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, vec![0x55; len as usize]).unwrap();
            set_time(&file, time);
            self.bytes[at + 1..at + 9].copy_from_slice(&file.metadata().unwrap().ino().to_le_bytes());
        }
        let body = self.bytes.len() - SUM_LEN;
        let sum = sha1(&self.bytes[..body]);
        self.bytes[body..].copy_from_slice(&sum);
        fs::write(path, self.bytes).unwrap();
    }
}

fn sha1(bytes: &[u8]) -> [u8; SUM_LEN] {
    <sha1::Sha1 as sha1::Digest>::digest(bytes).into()
}

fn set_time(file: &Path, since_1970: Duration) {
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + since_1970)
        .unwrap();
}

// ---- today's program with the state of 0.1.0 --------------------------------------------------------------------------

/// A world with a copy of one of the state directories.
struct Old {
    w: World,
    hash_of_t: String,
    hash_of_m: String,
}

impl Old {
    fn new(state: &str) -> Old {
        let w = World::new();
        for name in ["t.torrent", "m.torrent"] {
            fs::copy(fixture::path("state-0.1.0").join(name), w.at(name)).unwrap();
        }
        fs::create_dir(w.at("state")).unwrap();
        for entry in fs::read_dir(fixture::path("state-0.1.0").join(state)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), w.at("state").join(entry.file_name())).unwrap();
        }
        let hash = |name| {
            w.rill(["show", "--json", name]).expect(0).json()["info_hash"].as_str().unwrap().to_owned()
        };
        Old { hash_of_t: hash("t.torrent"), hash_of_m: hash("m.torrent"), w }
    }

    fn record_of_t(&self) -> PathBuf {
        self.w.at("state").join(format!("{}.resume", self.hash_of_t))
    }

    /// Runs `get` without peers. Returns the torrent's JSON object after the files were checked.
    fn get(&self, source: &str) -> Value {
        let mut get = self.w.command();
        get.args(["get", source, "-d", "out", "--state-dir", "state", "--listen-port", "0", "--json"]);
        // Files that no record claims hold none of the torrent's bytes here.
        get.arg("--allow-overwrite");
        let mut get = get.stdout(Stdio::piped()).spawn().unwrap();
        let object = |line: String| {
            let object: Value = serde_json::from_str(&line).unwrap();
            if object["event"] == "end" { object["torrents"][0].clone() } else { object }
        };
        let is_known = |torrent: &Value| {
            ["metadata", "downloading", "seeding", "done"].iter().any(|s| torrent["state"] == *s)
        };
        let found = lines(&mut get).map(object).find(is_known);
        let _ = get.kill();
        get.wait().unwrap();
        found.expect("a torrent that is open")
    }

    /// Returns the number of pieces of `t` that the program takes as complete.
    fn pieces_of_t(&self) -> u64 {
        self.get("t.torrent")["pieces_have"].as_u64().unwrap()
    }

    fn link(&self) -> String {
        format!("magnet:?xt=urn:btih:{}", self.hash_of_m)
    }
}

#[test]
fn pieces_that_a_record_claims_are_not_hashed() {
    for (state, running) in [("state", false), ("killed", true)] {
        let old = Old::new(state);
        let record = Record::read(&old.record_of_t());
        let claimed = record.claimed();
        let pieces = record.pieces();
        assert!(0 < claimed && claimed < pieces && record.was_running() == running, "{claimed} of {pieces}");
        record.create_files(&FILES_OF_T, &old.w.at("out"), &old.record_of_t());
        assert_eq!(old.pieces_of_t(), claimed, "{state}");
    }
}

/// Control for the test above: without a record the content is hashed, and no piece is good.
#[test]
fn pieces_that_no_record_claims_are_hashed() {
    let spoilers: [fn(&Old); 3] = [
        |old| fs::remove_file(old.record_of_t()).unwrap(),
        |old| {
            let mut bytes = fs::read(old.record_of_t()).unwrap();
            bytes[HEAD_LEN] ^= 1;
            fs::write(old.record_of_t(), bytes).unwrap();
        },
        |old| {
            ["t/a", "t/sub/b"]
                .iter()
                .for_each(|name| set_time(&old.w.at("out").join(name), Duration::from_secs(1)));
        },
    ];
    for spoil in spoilers {
        let old = Old::new("state");
        Record::read(&old.record_of_t()).create_files(&FILES_OF_T, &old.w.at("out"), &old.record_of_t());
        spoil(&old);
        assert_eq!(old.pieces_of_t(), 0);
    }
}

#[test]
fn saved_metadata_of_a_link_is_used_and_its_content_is_not_hashed() {
    let old = Old::new("state");
    let shown = old.w.rill(["show", "--json", "--state-dir", "state", &old.link()]).expect(0).json();
    assert_eq!((&shown["name"], &shown["files"][0]["bytes"]), (&"m".into(), &100_000.into()));
    let path = old.w.at("state").join(format!("{}.resume", old.hash_of_m));
    let record = Record::read(&path);
    assert_eq!(record.claimed(), record.pieces());
    record.create_files(&["m"], &old.w.at("out"), &path);
    let torrent = old.get(&old.link());
    assert_eq!((&torrent["pieces_have"], &torrent["downloaded_bytes"]), (&torrent["pieces"], &0.into()));
    fs::remove_file(old.w.at("state").join(format!("{}.torrent", old.hash_of_m))).unwrap();
    assert_eq!(old.get(&old.link())["state"], "metadata", "without the saved metadata the link has none");
}

#[test]
fn saved_dht_nodes_are_queried() {
    let old = Old::new("state");
    let file = old.w.at("state/dht.nodes");
    let mut bytes = fs::read(&file).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(super::world::PATIENCE)).unwrap();
    // The port of the only saved node is replaced by that of this test's node.
    let at = bytes.windows(4).position(|window| window == [127, 0, 0, 1]).expect("a node on loopback") + 4;
    bytes[at..at + 2].copy_from_slice(&socket.local_addr().unwrap().port().to_be_bytes());
    fs::write(&file, bytes).unwrap();
    let mut get = old.w.command();
    get.env_remove("RILL_NO_DHT").args([
        "get",
        &format!("magnet:?xt=urn:btih:{}", "ab".repeat(20)),
        "-d",
        "out",
    ]);
    get.args(["--state-dir", "state", "--listen-port", "0", "--dht-bootstrap", "127.0.0.1:1", "-q"]);
    let mut get = get.spawn().unwrap();
    let mut packet = [0; 2048];
    let query = socket.recv(&mut packet);
    get.kill().unwrap();
    get.wait().unwrap();
    let packet = &packet[..query.expect("no query came")];
    assert!(packet.starts_with(b"d1:ad") && packet.ends_with(b"1:y1:qe"), "{}", packet.escape_ascii());
}

// ---- how the fixture was made -----------------------------------------------------------------------------------------

/// Starts a DHT node that answers every query with its id. Returns its port.
fn node() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut packet) {
            let packet = &packet[..n];
            let Some(at) = packet.windows(3).rposition(|window| window == b"1:t") else { continue };
            let Some(len) = packet[at + 3..].iter().position(|byte| *byte == b':') else { continue };
            let digits = String::from_utf8_lossy(&packet[at + 3..at + 3 + len]).parse::<usize>();
            let transaction = &packet[at..at + 3 + len + 1 + digits.unwrap()];
            let answer = [b"d1:rd2:id20:a node of this worlde", transaction, b"1:y1:re"].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    port
}

#[test]
#[ignore = "writes the state of rill 0.1.0, and only with RILL_WRITE_GUARDS=state-0.1.0 and that version of the program"]
fn write_the_state_of_0_1_0() {
    if std::env::var("RILL_WRITE_GUARDS").as_deref() != Ok("state-0.1.0") {
        return;
    }
    let w = World::with_content();
    assert_eq!(w.rill(["--version"]).stdout.trim(), "rill 0.1.0");
    fs::write(w.at("m"), pattern(100_000)).unwrap();
    w.rill(["create", "m", "-p", "16K", "-q", "--no-date"]).expect(0);
    let place = fixture::path("state-0.1.0");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    for name in ["t.torrent", "m.torrent"] {
        fs::copy(w.at(name), place.join(name)).unwrap();
    }
    let hash = w.rill(["show", "--json", "m.torrent"]).json()["info_hash"].as_str().unwrap().to_owned();
    let of_m = w.seed("m.torrent", "0");
    let link = format!("magnet:?xt=urn:btih:{hash}");
    let bootstrap = format!("127.0.0.1:{}", node());
    let mut get = w.command();
    get.env_remove("RILL_NO_DHT").args([
        "get",
        &link,
        "-d",
        "out",
        "--state-dir",
        "state",
        "--peer",
        &of_m.addr(),
        "--json",
    ]);
    get.args(["--listen-port", "0", "--seed-time", "0.05", "--dht-bootstrap", &bootstrap]);
    let objects = end(&mut get).expect(0).objects();
    assert!(objects.iter().any(|object| object["dht_nodes"] == 1), "{objects:?}");
    // Download some pieces of t, then send a signal.
    let of_t = w.seed("t.torrent", "100K");
    let begun = || {
        let mut get: Command = w.command();
        get.args(["get", "t.torrent", "-d", "out", "--state-dir", "state", "--peer", &of_t.addr(), "--json"]);
        let mut get = get.args(["--listen-port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = lines(&mut get);
        let pieces = |line: String| serde_json::from_str::<Value>(&line).unwrap()["pieces_have"].as_u64();
        output.find_map(|line| pieces(line).filter(|have| *have > 4)).unwrap();
        (get, output)
    };
    let (mut get, _said) = begun();
    assert_eq!(end_by(&mut get, "INT"), 7);
    copy_all(&w.at("state"), &place.join("state"));
    let (mut get, _said) = begun();
    get.kill().unwrap();
    get.wait().unwrap();
    copy_all(&w.at("state"), &place.join("killed"));
    for name in ["dht.nodes".to_owned(), format!("{hash}.resume"), format!("{hash}.torrent")] {
        fs::remove_file(place.join("killed").join(name)).unwrap();
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
