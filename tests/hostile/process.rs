//! The process in hostile environments (signals, pipes without a reader, no home directory, no locale), and
//! peers with other versions of the protocol.

use crate::bystanders::Seed;
use crate::lab::{Lab, free_port};
use crate::rig::{Endless, Target, piece, rill};
use crate::web::{Server, silence, with_peers};
use crate::wire::{Line, connect, handshake};
use rill::wire::{HANDSHAKE_LEN, Message};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of a stop: the last announce has five seconds, the rest of the process half a second.
const STOP: Duration = Duration::from_millis(5_500);

// ---- R1 -----------------------------------------------------------------------------------------------------------------

/// Returns the signals that stop rill. Under `nohup`, HUP is ignored by the tests and by rill.
fn stopping() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let hup_ignored = u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1;
    ["TERM", "INT", "HUP"].into_iter().filter(|signal| *signal != "HUP" || !hup_ignored).collect()
}

#[test]
fn r1_every_signal_stops_with_a_record_a_last_word_to_the_tracker_and_code_7() {
    for signal in stopping() {
        let lab = Lab::on_loopback();
        let tracker = Server::answering(with_peers(1800, &[]));
        let torrent = Endless::new(&lab, 64, &[vec![tracker.url()]]);
        let seed = Seed::start(9, &torrent);
        let state = lab.new_dir("state");
        let out = lab.new_dir("out");
        let mut command = rill();
        command.env_remove("RILL_NO_STATE").env("RILL_STATE_DIR", &state);
        let target = Target::getting_to(&lab, command, &torrent, &out, &[seed.address]);
        lab.wait_for("rill has some pieces", || {
            target.json_objects().iter().any(|object| object["pieces_have"].as_u64() > Some(4))
        });
        let had =
            target.json_objects().iter().filter_map(|object| object["pieces_have"].as_u64()).max().unwrap();
        let signalled_at = Instant::now();
        target.kid.signal(signal);
        assert_eq!(target.kid.code(), 7, "{signal}: {}", lab.words());
        assert!(signalled_at.elapsed() < STOP, "{signal}: {:?}", signalled_at.elapsed());
        let events: Vec<String> = tracker.requests();
        assert!(
            events[0].contains("event=started") && events.last().unwrap().contains("event=stopped"),
            "{signal}: {events:?}"
        );
        // The next run takes the pieces from the resume record without hashing.
        let mut again = rill();
        again.env_remove("RILL_NO_STATE").env("RILL_STATE_DIR", &state).args([
            "get",
            "--json",
            "--listen-port",
            "0",
            "--timeout",
            "2s",
            "-d",
        ]);
        let again = again.arg(&out).arg(&torrent.file).output().unwrap();
        let printed = String::from_utf8(again.stdout).unwrap();
        // The last object counts: on a slow machine an object may be printed before the record is
        // read.
        let end: serde_json::Value =
            serde_json::from_str(printed.lines().last().unwrap_or_default()).unwrap();
        let has = end["torrents"][0]["pieces_have"].as_u64();
        assert!(has >= Some(had), "{signal}: {had} pieces were there, {has:?} are claimed\n{printed}");
    }
}

#[test]
fn r1_a_seed_ends_with_code_0() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 4, &[]);
    for signal in stopping() {
        let target = Target::seeding(&lab, rill(), &torrent);
        target.kid.signal(signal);
        assert_eq!(target.kid.code_within(STOP), 0, "{signal}: {}", lab.words());
    }
}

#[test]
fn r1_a_silent_tracker_holds_the_end_up_for_five_seconds_and_a_second_signal_ends_it_at_once() {
    let lab = Lab::on_loopback();
    // The tracker answers the first announce of each run and never the last one.
    let tracker = Server::start(|stream, number| match number % 2 {
        0 => stream.write_all(&with_peers(1800, &[])),
        _ => silence(stream),
    });
    let torrent = Endless::new(&lab, 4, &[vec![tracker.url()]]);
    let start = || {
        let target = Target::getting(&lab, rill(), &torrent, &[]);
        let requests = tracker.requests().len();
        lab.wait_for("the tracker is asked", || tracker.requests().len() > requests);
        lab.wait_for("rill prints an object", || !target.json_objects().is_empty());
        target
    };
    let patient = start();
    let signalled_at = Instant::now();
    patient.kid.signal("TERM");
    assert_eq!(patient.kid.code(), 7);
    assert!(signalled_at.elapsed() < STOP, "{:?}", signalled_at.elapsed());
    let impatient = start();
    impatient.kid.signal("TERM");
    let requests = tracker.requests().len();
    lab.wait_for("rill sends the last announce", || {
        tracker.requests().len() >= requests && tracker.requests().last().unwrap().contains("stopped")
    });
    let signalled_at = Instant::now();
    impatient.kid.signal("INT");
    assert_eq!(impatient.kid.code(), 7);
    assert!(signalled_at.elapsed() < Duration::from_secs(1), "{:?}", signalled_at.elapsed());
}

// ---- R9, R10 --------------------------------------------------------------------------------------------------------------

/// Pieces of a download that takes a few seconds, long enough for several lines of output.
const SHORT: u32 = 64;

/// Reader of the program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// The reading end is closed.
    Gone,
    /// The reading end is open and never read, and the pipe is full.
    Asleep,
}

/// Returns the writing and the reading end of a full pipe.
fn full_pipe(lab: &Lab) -> (File, File) {
    let path = lab.new_dir("pipe").join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    // On Linux a FIFO can be opened for reading and writing, which does not block.
    let mut both = File::options()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(&path)
        .unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    while both.write(&[b' '; 4096]).is_ok() || both.write(b" ").is_ok() {}
    (writer, both)
}

#[test]
fn r9_a_download_ends_whether_its_words_are_read_or_not() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, SHORT, &[]);
    let seed = Seed::start(9, &torrent);
    for (words, reader) in
        [("--json", Reader::Gone), ("--json", Reader::Asleep), ("-v", Reader::Gone), ("-v", Reader::Asleep)]
    {
        let out = lab.new_dir("out");
        let mut command = rill();
        command
            .args(["get", words, "--listen-port", "0", "--peer", &seed.address.to_string(), "-d"])
            .arg(&out);
        let (writer, other) = full_pipe(&lab);
        let other = Some(other).filter(|_| reader == Reader::Asleep);
        command.arg(&torrent.file).stdin(Stdio::null()).stderr(writer.try_clone().unwrap()).stdout(writer);
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        drop(command);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                panic!("{words}, reader {reader:?}: rill waits for its reader");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{words}, reader {reader:?}");
        assert!(fs::read(out.join("endless")).unwrap() == piece().repeat(SHORT as usize));
        drop(other);
    }
}

#[test]
fn r10_without_locale_terminal_or_home_a_download_works() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 8, &[]);
    let seed = Seed::start(9, &torrent);
    let read_only = lab.new_dir("home");
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write to any directory, but no directory can be created below a file.
    let file = lab.at("file");
    fs::write(&file, "").unwrap();
    let homes = [
        None,
        Some(read_only.as_path()),
        Some(file.as_path()),
        Some(Path::new("/nowhere/at/all")),
        Some(Path::new("/proc")),
    ];
    for home in homes {
        let mut command = rill();
        command.env_remove("RILL_NO_STATE").env_remove("PATH").env("TERM", "dumb");
        if let Some(home) = home {
            command.env("HOME", home);
        }
        let out = lab.new_dir("out");
        command
            .args(["get", "--listen-port", "0", "--peer", &seed.address.to_string(), "-d"])
            .arg(&out)
            .arg(&torrent.file);
        let ended = command.output().unwrap();
        let printed = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert_eq!(ended.status.code(), Some(0), "home {home:?}: {printed}");
        assert!(printed.is_ascii() && !printed.contains('\x1b'), "home {home:?}: {printed}");
        assert!(fs::read(out.join("endless")).unwrap() == piece().repeat(8));
    }
}

// ---- other versions of the protocol ---------------------------------------------------------------------------------------

/// Sends these bytes to rill. Returns rill's bytes and the time until rill closes the connection.
fn answer_to(rill: SocketAddr, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let mut stream = connect(Ipv4Addr::LOCALHOST.into(), rill).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let begun = Instant::now();
    // rill may close the connection before the last of the bytes.
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(n) => received.extend_from_slice(&some[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                panic!("rill has not closed the connection after half a minute")
            }
            Err(_) => break,
        }
    }
    (received, begun.elapsed())
}

#[test]
fn p22_noise_in_place_of_a_handshake_is_answered_by_a_key_at_most_and_over_within_the_time_for_handshakes() {
    let lab = Lab::on_loopback();
    let noise = |len: usize, first: u8| [&[first][..], &crate::support::content(len - 1, 3)].concat();
    // A Diffie-Hellman key has 96 bytes and at most 512 bytes of padding. Other cases have 65,535 bytes,
    // or begin like a plain handshake.
    let cases = [
        noise(96, 0xd7),
        noise(96 + 512, 0),
        noise(96 + 65_535, 0xff),
        noise(1 << 20, 0x42),
        noise(68, 19),
        vec![0; 96],
    ];
    // Without encryption nothing is answered. With it a public key and its padding are, once 96 bytes have arrived.
    for (policy, most) in [("off", 0), ("allow", 96 + 512), ("require", 96 + 512)] {
        let mut rill = rill();
        rill.env("RILL_ENCRYPTION", policy);
        let target = Target::seeding(&lab, rill, &Endless::new(&lab, 4, &[]));
        let answers: Vec<_> = thread::scope(|scope| {
            let address = target.address();
            let calls = cases.each_ref().map(|bytes| scope.spawn(move || answer_to(address, bytes)));
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        for (i, (answer, took)) in answers.into_iter().enumerate() {
            assert!(answer.len() <= most, "case {i} was answered with {} bytes ({policy})", answer.len());
            assert!(took < Duration::from_secs(11), "case {i} was open for {took:?} ({policy})");
        }
        let plain = Line::dial(Ipv4Addr::LOCALHOST.into(), target.address(), target.info_hash);
        assert_eq!(plain.is_ok(), policy != "require", "a plain handshake is answered ({policy})");
    }
}

/// Starts a rill with the torrent's magnet link and without a peer that has its metadata.
fn following_a_link<'a>(lab: &'a Lab, torrent: &Endless) -> Target<'a> {
    let port = free_port();
    let out = lab.new_dir("out");
    let hash = torrent.metainfo.info_hash();
    let mut command = rill();
    command
        .args(["get", "--json", "--listen-port", &port.to_string(), "-d"])
        .arg(out)
        .arg(format!("magnet:?xt=urn:btih:{hash}"));
    Target::process(lab.start(&mut command), port, hash)
}

/// Returns a handshake with the bit for v2 torrents (BEP 52).
fn handshake_of_v2(target: Target<'_>) -> [u8; HANDSHAKE_LEN] {
    let mut bytes = handshake(target.info_hash);
    bytes[20 + 7] |= 0x10;
    bytes
}

#[test]
fn p21_the_v2_bit_and_hash_messages_on_a_v1_link_and_a_v1_torrent_are_passed_over() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 8, &[]);
    let seed = Seed::start(9, &torrent);
    seed.paused.store(true, Relaxed);
    let targets = [
        following_a_link(&lab, &torrent),
        Target::getting(&lab, rill(), &torrent, &[seed.address]),
        Target::seeding(&lab, rill(), &torrent),
    ];
    for target in targets {
        let open = ["metadata", "downloading", "seeding"];
        lab.wait_for("rill accepts peers", || open.iter().any(|state| target.has_been(state)));
        let mut stream = connect(Ipv4Addr::new(127, 0, 0, 8).into(), target.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&handshake_of_v2(target)).unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).unwrap();
        for id in [21, 22, 23] {
            // Root, base layer, index, length, proof layers: valid, far out of range, too short, and
            // with more hashes than exist.
            let numbers = |n: [u32; 4]| [&[7; 32][..], &n.map(u32::to_be_bytes).concat()].concat();
            for body in [
                numbers([0, 0, 2, 0]),
                numbers([u32::MAX; 4]),
                vec![1],
                [numbers([0, 0, 512, 9]), vec![9; 32 * 600]].concat(),
                Vec::new(),
            ] {
                stream
                    .write_all(&[&(body.len() as u32 + 1).to_be_bytes()[..], &[id], &body].concat())
                    .unwrap();
            }
        }
        // The connection must stay open: rill may answer `interested` with a choke, an unchoke or
        // nothing, but the stream does not end.
        let mut bytes = Vec::new();
        Message::Interested.write(&mut bytes);
        stream.write_all(&bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "rill closed the connection");
        assert_eq!(target.kid.ended(), None, "{}", lab.words());
    }
}

/// The last block of the last piece is shorter than 16 KiB. A peer first sends it too long, with 16 KiB or
/// with one byte too many, then as requested; the file must not become longer.
#[test]
fn p9_a_last_block_that_is_too_long_does_not_extend_the_file() {
    const LEN: usize = 100_001;
    let lab = Lab::on_loopback();
    let from = lab.new_dir("content");
    let out = lab.new_dir("out");
    let torrent = crate::support::single(&from, "odd", LEN, 32 << 10);
    let content = fs::read(from.join("odd")).unwrap();
    let file = lab.at("odd.torrent");
    fs::write(&file, torrent.to_file().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.9:0").unwrap();
    let peer = listener.local_addr().unwrap();
    let hash = torrent.info_hash();
    let liar = std::thread::spawn(move || -> std::io::Result<u32> {
        let mut line = Line::answer(listener.accept()?.0, hash)?;
        line.send(&[Message::HaveAll, Message::Unchoke])?;
        let mut lies = 0;
        // The connection ends when rill is complete and closes it.
        while let Ok((id, body)) = line.receive() {
            if id != 6 {
                continue;
            }
            let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
            let at = number(0) * (32 << 10) + number(4);
            let len = number(8);
            let block = |bytes: &[u8]| {
                [&(9 + bytes.len() as u32).to_be_bytes()[..], &[7], &body[..8], bytes].concat()
            };
            if at + len == LEN {
                line.raw(&block(&[&content[at..], &[0xee; 1]].concat()))?;
                line.raw(&block(&[0xee; 16 << 10]))?;
                lies += 2;
            }
            line.raw(&block(&content[at..at + len]))?;
        }
        Ok(lies)
    });
    let mut command = rill();
    command
        .args(["get", "--listen-port", "0", "--timeout", "40", "--peer", &peer.to_string(), "-d"])
        .arg(&out)
        .arg(&file);
    let kid = lab.start(&mut command);
    assert_eq!(kid.code(), 0, "{}", lab.words());
    assert!(liar.join().unwrap().unwrap() >= 2);
    assert!(fs::read(out.join("odd")).unwrap() == fs::read(from.join("odd")).unwrap());
}

/// rill keeps no "last seen complete": its output counts connected peers only. A seed that uploads nothing
/// counts as a seed while it is connected and not afterwards.
#[test]
fn p20_a_seed_in_name_alone_is_nothing_that_is_remembered() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 8, &[]);
    let target = Target::getting(&lab, rill(), &torrent, &[]);
    lab.wait_for("it downloads", || target.has_been("downloading"));
    let mut liar =
        Line::dial(Ipv4Addr::new(127, 0, 0, 8).into(), target.address(), target.info_hash).unwrap();
    liar.send(&[Message::HaveAll]).unwrap();
    let last = || target.json_objects().pop().unwrap_or_default();
    lab.wait_for("rill counts the seed", || last()["seeds"] == 1);
    drop(liar);
    lab.wait_for("rill no longer counts the seed", || last()["seeds"] == 0);
    let last = last();
    assert_eq!((&last["pieces_have"], &last["downloaded_bytes"]), (&0.into(), &0.into()));
    let words = last.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert!(!words.contains("seen") && !words.contains("availab"), "{words}");
}
