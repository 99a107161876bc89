//! URLs as sources: redirects, credentials, codings; trackers that are left out; signals while a source is
//! read.

use super::{World, head_of, reply};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// Starts a web server that answers each request with what `answer` returns for its number. Returns its URL
/// and the heads of the requests.
fn serve(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heads, received) = channel();
    std::thread::spawn(move || {
        for n in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            if heads.send(head_of(&mut stream)).is_err() {
                return;
            }
            // The client may close the connection early, so errors are ignored.
            let _ = stream.write_all(&answer(n));
        }
    });
    (url, received)
}

/// Serves a redirect to `location`, then the torrent. Returns the URL and the heads of the requests.
fn redirect_then_torrent(w: &World, location: &str) -> (String, Receiver<String>) {
    let torrent = fs::read(w.at("t.torrent")).unwrap();
    let redirect = reply(&format!("302 Found\r\nLocation: {location}"), b"");
    serve(move |n| if n == 0 { redirect.clone() } else { reply("200 OK", &torrent) })
}

#[test]
fn k15_relative_redirects_with_a_url_in_their_query_are_followed() {
    let w = World::new();
    for (location, path) in [
        ("/ok?from=http://site.example/page", "/ok?from=http://site.example/page"),
        ("ok?from=http://site.example/page", "/a/ok?from=http://site.example/page"),
        ("?ok=http://site.example/", "/a/b?ok=http://site.example/"),
        ("../c/./d#fragment", "/c/d"),
        ("/with blank\u{e9} ", "/with%20blank%C3%A9"),
    ] {
        let (url, heads) = redirect_then_torrent(&w, location);
        assert_eq!(w.rill(["show", "--json", &format!("{url}/a/b?q")]).expect(0).json()["name"], "t");
        let second = heads.iter().nth(1).unwrap();
        assert!(second.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{location}: {second}");
    }
}

#[test]
fn k15_a_redirect_to_a_magnet_link_is_used() {
    let w = World::new();
    let link = format!("magnet:?xt=urn:btih:{HASH}&dn=a+name");
    let (url, _heads) = redirect_then_torrent(&w, &link);
    assert_eq!(w.rill(["show", "--json", "--no-state", &url]).expect(0).json()["info_hash"], HASH);
    let (url, _heads) = redirect_then_torrent(&w, &link);
    let ended = w.rill(["get", &url, "--no-state", "--listen-port", "0", "--timeout", "100ms"]).expect(2);
    assert!(ended.stderr.contains("no metadata"), "{}", ended.stderr);
    let (url, _heads) = redirect_then_torrent(&w, "magnet:?xt=urn:btih:abc");
    w.rill(["show", &url]).fails_with(27);
}

#[test]
fn k15_a_compressed_torrent_is_read_whatever_the_server_calls_the_coding() {
    let w = World::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&fs::read(w.at("t.torrent")).unwrap()).unwrap();
    let body = encoder.finish().unwrap();
    for coding in ["Content-Encoding: GZIP", "Content-Encoding: x-gzip", "Content-Type: application/gzip"] {
        let answer = reply(&format!("200 OK\r\n{coding}"), &body);
        let (url, _heads) = serve(move |_| answer.clone());
        assert_eq!(w.rill(["show", "--json", &url]).expect(0).json()["name"], "t", "{coding}");
    }
}

#[test]
fn k16_a_password_is_decoded_and_neither_forwarded_nor_shown() {
    let w = World::new();
    let (other, other_heads) = redirect_then_torrent(&w, "/t");
    let (url, heads) = redirect_then_torrent(&w, &format!("{other}/x"));
    let url = url.replace("http://", "http://user:p%40ss@");
    assert_eq!(w.rill(["show", "--json", &url]).expect(0).json()["name"], "t");
    let head = heads.recv().unwrap();
    assert!(head.to_lowercase().contains("authorization: basic dxnlcjpwqhnz\r\n"), "{head}");
    for head in other_heads.iter().take(2) {
        assert!(!head.to_lowercase().contains("authorization"), "{head}");
    }
    for (url, code) in [
        ("http://user:secret@127.0.0.1:1/x?passkey=secret", 6),
        ("http://user:secret@b\u{fc}cher.example/x", 6),
    ] {
        let sentence = w.rill(["show", url]).fails_with(code);
        assert!(!sentence.contains("secret") && !sentence.contains("user"), "{sentence}");
    }
    let sentence =
        w.rill(["get", "t.torrent", "--tracker", "ftp://user:secret@t.example/secret"]).fails_with(28);
    assert!(sentence.contains("ftp://t.example") && !sentence.contains("secret"), "{sentence}");
}

#[test]
fn k16_verbose_lines_about_trackers_have_no_secrets() {
    let w = World::new();
    fs::write(w.at("t.torrent"), torrent_with(&[])).unwrap();
    let tracker = "http://user:secret@127.0.0.1:9/secret/announce?key=secret";
    let options = "get t.torrent -d o -v --no-dht --no-lsd --no-state --listen-port 0 --timeout 2s --tracker";
    let lines = w.rill(options.split(' ').chain([tracker])).expect(2).stderr;
    let refused = "tracker http://127.0.0.1:9/\u{2026}: connection refused\n";
    assert!(lines.contains(refused) && !lines.contains("secret"), "{lines}");
    let sentence = "rill: not complete within 2s (no peers; tracker 127.0.0.1:9: connection refused)\n";
    assert!(lines.ends_with(sentence), "{lines}");
}

/// Returns a torrent of one byte with these trackers, each a tier.
fn torrent_with(trackers: &[&str]) -> Vec<u8> {
    let tiers: String = trackers.iter().map(|url| format!("l{}:{url}e", url.len())).collect();
    let info = "d6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
    format!("d13:announce-listl{tiers}e4:info{info}e").into_bytes()
}

#[test]
fn t27_trackers_that_are_left_out_are_named_at_once() {
    let w = World::new();
    fs::write(w.at("x.torrent"), torrent_with(&["http://user:secret@b\u{fc}cher.example/announce"])).unwrap();
    fs::write(
        w.at("y.torrent"),
        torrent_with(&["ftp://a/", "udp://b", "http://:80/", "http://c:0/", "x", "y", "z"]),
    )
    .unwrap();
    let line = "rill: x: tracker http://b\u{fc}cher.example/announce is left out: its host name has letters \
                outside of ASCII; only its xn-- form can be used";
    let get = ["get", "--no-state", "--listen-port", "0", "--timeout", "100ms", "-d", "new"];
    for (command, code) in [(&["show"][..], 0), (&get, 2)] {
        let ended = w.rill(command.iter().copied().chain(["x.torrent"])).expect(code);
        assert!(ended.stderr.lines().any(|l| l == line), "{command:?}: {}", ended.stderr);
        let ended = w.rill(command.iter().copied().chain(["y.torrent"])).expect(code);
        let named: Vec<&str> = ended.stderr.lines().filter(|l| l.starts_with("rill: x: ")).collect();
        assert_eq!(named.len(), 6, "{}", ended.stderr);
        assert_eq!(named[5], "rill: x: and 2 more trackers are left out");
    }
    let link = format!("magnet:?xt=urn:btih:{HASH}&tr=ftp%3A%2F%2Fu%3Asecret%40t.example%2F");
    let ended = w.rill(["show", "--no-state", &link]).expect(0);
    assert_eq!(
        ended.stderr,
        format!("rill: {HASH}: tracker ftp://t.example/ is left out: its scheme is not http, https or udp\n")
    );
}

#[test]
fn k10_a_tracker_on_the_command_line_is_asked_in_the_own_network() {
    let w = World::new();
    let body = b"d8:intervali1800e5:peers0:e";
    for (path, options) in [
        ("/announce.php", &[][..]),
        ("/0123/announce", &[]),
        ("/announce?passkey=0123", &[]),
        ("/0123/announce", &["--allow-private-hosts=loopback"]),
    ] {
        let (url, heads) = serve(|_| reply("200 OK", body));
        let tracker = format!("{url}{path}");
        let dir = tempfile::tempdir().unwrap();
        let mut args = vec!["get", "x.torrent", "--no-state", "--listen-port", "0", "--timeout", "1s"];
        args.extend(["-d", dir.path().to_str().unwrap()]);
        if options.is_empty() {
            fs::write(w.at("x.torrent"), torrent_with(&[])).unwrap();
            args.extend(["--tracker", &tracker]);
        } else {
            fs::write(w.at("x.torrent"), torrent_with(&[&tracker])).unwrap();
            assert_eq!((w.rill(&args).code, heads.try_recv().ok()), (2, None), "a tracker of the torrent");
            args.extend(options);
        }
        w.rill(&args).expect(2);
        let head = heads.try_recv().expect("the tracker is asked");
        assert!(head.starts_with(&format!("GET {path}")), "{head}");
    }
}

/// Sends a signal and returns the exit code; the process must end within a second.
fn end_by(mut child: Child, signal: &str) -> Option<i32> {
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > Duration::from_secs(1) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process is still there after a second");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the process has a handler for SIGTERM.
fn wait_for_handler(child: &Child) {
    let begun = Instant::now();
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask =
            status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & 1 << 14 != 0
    };
    while !caught() {
        assert!(begun.elapsed() < Duration::from_secs(20), "no handler");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn r11_the_first_signal_ends_the_reading_of_a_source_and_hashing() {
    let w = World::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.torrent", silent.local_addr().unwrap());
    assert!(Command::new("mkfifo").arg(w.at("pipe")).status().unwrap().success());
    fs::create_dir(w.at("big")).unwrap();
    fs::File::create(w.at("big/hole")).unwrap().set_len(1 << 36).unwrap();
    for (args, signal, code) in [
        (&["get", &url][..], "TERM", 7),
        (&["get", &url], "INT", 7),
        (&["show", &url], "TERM", 7),
        (&["verify", &url], "INT", 7),
        (&["seed", &url], "TERM", 0),
        (&["get", "-"], "TERM", 7),
        (&["get", "pipe"], "INT", 7),
        (&["create", "big", "-o", "big.torrent"], "TERM", 7),
        (&["create", "t", "-o", "pipe"], "INT", 7),
    ] {
        let mut command = w.command();
        let child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().unwrap();
        wait_for_handler(&child);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(end_by(child, signal), Some(code), "{args:?}");
    }
    let names: Vec<_> = fs::read_dir(w.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("rill")), "{names:?}");
}
