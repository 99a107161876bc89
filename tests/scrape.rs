//! Scrapes of scripted trackers over loopback, by a session and by `rill show --scrape`.

mod support;

use rill::session::{AddTorrent, Event, SwarmCounts};
use rill::units::InfoHash;
use rill::wire::Magnet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{session, single, wait};

const HASH: InfoHash = InfoHash([b'a'; 20]);
const COUNTS: SwarmCounts = SwarmCounts { seeds: Some(3), peers: Some(5), completed: Some(4) };

/// Requests that the trackers received, one line each.
type Requests = Arc<Mutex<Vec<String>>>;

/// Starts an HTTP tracker that answers every request with this body. Returns its URL.
fn http(body: &'static [u8], requests: &Requests) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let requests = requests.clone();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            requests
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned());
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(body);
        }
    });
    format!("http://{addr}/announce")
}

/// Starts a UDP tracker that counts 3 seeds, 4 completed downloads and 5 peers for every torrent. Returns its
/// URL.
fn udp(requests: &Requests) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let requests = requests.clone();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut packet) {
            let packet = &packet[..n];
            let action = packet.get(8..12).map_or(9, |b| b[3]);
            requests.lock().unwrap().push(format!("udp action {action}"));
            let mut answer = vec![0, 0, 0, action];
            answer.extend_from_slice(&packet[12..16]);
            let words: &[u32] = if action == 0 { &[1, 2] } else { &[3, 4, 5] };
            answer.extend(words.iter().flat_map(|n| n.to_be_bytes()));
            let _ = socket.send_to(&answer, from);
        }
    });
    format!("udp://{addr}/announce")
}

const GOOD: &[u8] = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad10:incompletei5e8:completei3e10:downloadedi4eeee";

#[test]
fn a_paused_torrent_is_scraped_without_announcing_or_dialing() {
    let requests = Requests::default();
    let trackers = vec![http(GOOD, &requests), udp(&requests), "http://127.0.0.1:1/a".to_owned()];
    let undialed = TcpListener::bind("127.0.0.1:0").unwrap();
    undialed.set_nonblocking(true).unwrap();
    let s = session("127.0.0.1");
    let link = Magnet {
        trackers: trackers.clone(),
        peers: vec![undialed.local_addr().unwrap()],
        ..Magnet::new(HASH)
    };
    let id = s.add(AddTorrent { paused: true, ..AddTorrent::magnet(link, "") }).unwrap();
    s.scrape(id).unwrap();
    let mut answers = Vec::new();
    wait(&s, |e| {
        if let Event::Scraped { source, result, .. } = e {
            answers.push((source.to_string(), result.clone()));
        }
        matches!(e, Event::ScrapeDone { .. })
    });
    let of = |url: &String| answers.iter().find(|(of, _)| of == url).unwrap().1.clone();
    assert_eq!(answers.len(), 3);
    assert_eq!((of(&trackers[0]), of(&trackers[1])), (Ok(COUNTS), Ok(COUNTS)));
    assert!(of(&trackers[2]).unwrap_err().contains("/announce"));
    std::thread::sleep(Duration::from_millis(300));
    let requests = requests.lock().unwrap().clone();
    let scraped = format!("GET /scrape?info_hash={} HTTP/1.1", "a".repeat(20));
    assert!(
        requests.len() == 3 && requests.contains(&scraped) && requests.contains(&"udp action 2".to_owned()),
        "{requests:?}"
    );
    assert!(undialed.accept().is_err(), "a peer was dialed");
    assert!(s.stop(Duration::from_secs(5)).clean);
}

#[test]
fn a_torrent_added_as_paused_downloads_only_after_resume() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "a", 200_000, 16 << 10);
    let (_seed, addr): (_, SocketAddr) = support::seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.2");
    let id =
        s.add(AddTorrent { paused: true, peers: vec![addr], ..AddTorrent::new(torrent, to.path()) }).unwrap();
    wait(&s, |e| matches!(e, Event::Opened { .. }));
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        if let Some(Event::Progress(p)) = s.next_event(Duration::from_millis(50)) {
            assert_eq!((p.peers, p.downloaded), (0, 0), "the paused torrent has a peer or payload");
        }
    }
    s.resume(id).unwrap();
    wait(&s, |e| matches!(e, Event::Completed { .. }));
}

// ---- the command ------------------------------------------------------------------------------------------------------

fn show(trackers: &[String], words: &[&str]) -> Output {
    let link = format!(
        "magnet:?xt=urn:btih:{HASH}{}",
        trackers.iter().map(|t| format!("&tr={t}")).collect::<String>()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command
        .env_clear()
        .envs([("LC_ALL", "C"), ("RILL_NO_DHT", "1")])
        .args(["show", "--no-state", "--scrape"])
        .args(words)
        .arg(link);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn show_prints_a_line_for_each_tracker_after_the_table() {
    let requests = Requests::default();
    let good = http(GOOD, &requests);
    let bad = http(b"d14:failure reason9:no\x1b[2J\r\nxe", &requests);
    let ended = show(&[bad.clone(), good.clone(), udp(&requests)], &[]);
    let stdout = text(&ended.stdout);
    assert_eq!(ended.status.code(), Some(0), "{stdout}{}", text(&ended.stderr));
    let lines: Vec<&str> = stdout.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("Scrape:")).unwrap();
    assert!(lines[..at].iter().any(|line| line.starts_with("Magnet:")) && lines.len() == at + 3, "{stdout}");
    assert!(lines.contains(&&*format!("Scrape:     {good}: 3 seeds, 5 peers, 4 completed")), "{stdout}");
    assert!(lines.contains(&&*format!("Scrape:     {bad}: the tracker refuses: no[2J x")), "{stdout}");
}

#[test]
fn show_prints_the_scrape_as_a_json_field() {
    let requests = Requests::default();
    let trackers = [udp(&requests), "http://127.0.0.1:1/announce".to_owned()];
    let ended = show(&trackers, &["--json"]);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let object: serde_json::Value = serde_json::from_str(&text(&ended.stdout)).unwrap();
    let rows = object["scrape"].as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["seeds"], &rows[0]["completed"], &rows[0]["error"]),
        (2, &3.into(), &4.into(), &().into())
    );
    assert!(
        rows[1]["tracker"] == *trackers[1] && rows[1]["seeds"].is_null() && rows[1]["error"].is_string(),
        "{rows:?}"
    );
}

#[test]
fn show_fails_with_one_sentence_if_no_tracker_answers() {
    for (trackers, sentence) in [
        (vec!["http://127.0.0.1:1/announce".to_owned()], "rill: no tracker has answered\n"),
        (vec![], "rill: there is no tracker to ask\n"),
    ] {
        let ended = show(&trackers, &[]);
        assert_eq!((ended.status.code(), &*text(&ended.stderr)), (Some(6), sentence));
        assert!(text(&ended.stdout).starts_with("Info hash:"));
    }
}
