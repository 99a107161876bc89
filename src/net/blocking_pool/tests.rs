//! Hazards K2 to K4, K8, K10 and K12, against servers on loopback that misbehave.

use super::*;
use crate::net::{Egress, Interface, IpFamily};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns a complete response with this status line and body.
fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// A valid reply whose keys are not sorted.
fn good() -> Vec<u8> {
    answer("200 OK", b"d5:peers6:\x01\x02\x03\x04\x00\x058:intervali60e1:ai1ee\n")
}

/// Starts a server that reads each request's head and calls `respond`; returns its address.
fn server(respond: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            respond(&String::from_utf8_lossy(&head), &mut stream).ok();
        }
    });
    addr
}

fn serving(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    server(move |_, stream| stream.write_all(&bytes))
}

fn redirecting_to(location: impl Into<String>) -> SocketAddr {
    serving(format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        location.into()
    ))
}

/// Returns a pool that wakes no loop.
fn pool() -> BlockingPool {
    BlockingPool::new(2, PrivateHosts::Refused, Arc::new(|| {}))
}

fn wait(pool: &mut BlockingPool) -> BlockingReply {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(done) = pool.next_done() {
            return done;
        }
        assert!(Instant::now() < patience, "no reply");
        thread::sleep(Duration::from_millis(2));
    }
}

fn ask_url(url: String, timeout_ms: u64) -> Result<AnnounceReply, AnnounceError> {
    let mut pool = pool();
    pool.announce(7, url, Duration::from_millis(timeout_ms));
    match wait(&mut pool) {
        BlockingReply::Announced { id: 7, result } => result,
        other => panic!("{other:?}"),
    }
}

fn ask(addr: SocketAddr) -> Result<AnnounceReply, AnnounceError> {
    ask_url(format!("http://{addr}/announce?info_hash=x"), 5_000)
}

#[test]
fn k8_an_unsorted_reply_is_read() {
    let reply = ask(serving(good())).unwrap();
    assert_eq!((reply.peers.len(), reply.interval), (1, Some(Duration::from_secs(60))));
}

#[test]
fn a_request_carries_the_user_agent_and_no_credentials() {
    let (heads, received) = channel();
    let addr = server(move |head, stream| {
        heads.send(head.to_ascii_lowercase()).unwrap();
        stream.write_all(&good())
    });
    ask(addr).unwrap();
    let head = received.recv().unwrap();
    assert!(head.starts_with("get /announce?info_hash=x http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("user-agent: rill/{}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
    assert!(
        !head.contains("cookie") && !head.contains("authorization") && !head.contains("referer"),
        "{head}"
    );
}

#[test]
fn k1_an_error_page_is_an_error() {
    assert_eq!(ask(serving(answer("200 OK", b"<html>"))), Err(AnnounceError::Html));
    assert_eq!(ask(serving(answer("404 Not Found", b"<html>"))), Err(AnnounceError::Status(404)));
    assert!(matches!(ask(serving("garbage\r\n\r\n")), Err(AnnounceError::Connection(_))));
    assert!(ask(serving("")).is_err());
}

#[test]
fn k5_a_refusal_is_read_even_from_an_error_status() {
    let refused = ask(serving(answer("403 Forbidden", b"d14:failure reason2:noe"))).unwrap_err();
    assert!(matches!(refused, AnnounceError::Failure { reason, .. } if reason == "no"));
}

#[test]
fn k2_an_endless_body_is_cut_off() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let addr = server(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let piece = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
        loop {
            stream.write_all(&piece)?;
            counter.fetch_add(piece.len(), Ordering::Relaxed);
        }
    });
    assert_eq!(ask(addr), Err(AnnounceError::TooBig { limit: 1 << 20 }));
    assert!(sent.load(Ordering::Relaxed) < 32 << 20);
}

#[test]
fn k2_a_gzip_bomb_is_cut_off_after_inflation() {
    let addr = server(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff")?;
        // A fixed-Huffman block: literal 0, then matches of 258 bytes at distance 1 without end.
        let mut bits = BitWriter::default();
        bits.push(0b011, 3);
        bits.push_code(0b0011_0000, 8);
        loop {
            for _ in 0..8_000 {
                bits.push_code(0b1100_0101, 8);
                bits.push_code(0, 5);
            }
            stream.write_all(&std::mem::take(&mut bits.bytes))?;
        }
    });
    assert_eq!(ask(addr), Err(AnnounceError::TooBig { limit: 1 << 20 }));
}

/// Writes bits in the order of deflate.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl BitWriter {
    fn push(&mut self, bits: u32, len: u32) {
        for n in 0..len {
            self.pending |= (bits >> n & 1) << self.count;
            self.count += 1;
            if self.count == 8 {
                self.bytes.push(self.pending as u8);
                self.pending = 0;
                self.count = 0;
            }
        }
    }

    /// Writes a Huffman code, high bit first.
    fn push_code(&mut self, code: u32, len: u32) {
        self.push(code.reverse_bits() >> (32 - len), len);
    }
}

#[test]
fn k3_a_drip_ends_at_the_total_deadline() {
    let addr = server(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
        loop {
            stream.write_all(b"d")?;
            thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    assert_eq!(ask_url(format!("http://{addr}/announce"), 200), Err(AnnounceError::Timeout));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn k3_silence_ends_at_the_total_deadline() {
    let addr = server(|_, stream| stream.read(&mut [0]).map(drop));
    assert_eq!(ask_url(format!("http://{addr}/announce"), 100), Err(AnnounceError::Timeout));
}

#[test]
fn k4_a_redirect_is_followed() {
    let good = serving(good());
    assert!(ask(redirecting_to(format!("http://{good}/announce"))).is_ok());
}

#[test]
fn k4_a_redirect_loop_ends() {
    let hops = Arc::new(AtomicUsize::new(0));
    let counter = hops.clone();
    let addr = server(move |_, stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        stream.write_all(
            b"HTTP/1.1 301 Moved\r\nLocation: /announce\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
    });
    assert_eq!(ask(addr), Err(AnnounceError::Redirect("more than 5 times")));
    assert_eq!(hops.load(Ordering::Relaxed), 6);
}

#[test]
fn k4_a_redirect_to_anything_but_http_is_refused() {
    for location in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://user:password@127.0.0.1/",
        "udp://127.0.0.1:1/",
        "data:,x",
    ] {
        assert_eq!(
            ask(redirecting_to(location)),
            Err(AnnounceError::Redirect("to something that is not http")),
            "{location}"
        );
    }
    let nowhere = serving(answer("302 Found", b""));
    assert_eq!(ask(nowhere), Err(AnnounceError::Redirect("without saying where")));
}

#[test]
fn k10_a_private_address_is_asked_only_by_a_plain_announce() {
    let good = serving(good());
    assert_eq!(ask_url(format!("http://{good}/reboot?info_hash=x"), 5_000), Err(AnnounceError::LocalAddress));
    assert_eq!(
        ask_url(format!("http://[::ffff:127.0.0.1]:{}/x", good.port()), 5_000),
        Err(AnnounceError::LocalAddress)
    );
    assert!(ask_url(format!("http://{good}/announce?info_hash=x"), 5_000).is_ok());
}

/// Announces with these permissions, and returns the result.
fn ask_with(private_hosts: PrivateHosts, trusted: &str, url: String) -> Result<AnnounceReply, AnnounceError> {
    let mut pool = BlockingPool::new(2, private_hosts, Arc::new(|| {}));
    pool.trust(trusted);
    pool.announce(7, url, Duration::from_secs(5));
    match wait(&mut pool) {
        BlockingReply::Announced { id: 7, result } => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn k10_a_tracker_that_the_user_named_is_asked_at_any_address() {
    use PrivateHosts::*;
    let good = serving(good());
    let url = format!("http://{good}/0123/announce?passkey=4");
    assert!(ask_with(Refused, &url, format!("{url}&info_hash=x")).is_ok());
    let other = format!("http://{good}/0123/announce?passkey=45&info_hash=x");
    assert_eq!(ask_with(Refused, &url, other), Err(AnnounceError::LocalAddress), "another passkey");
    let reboot = format!("http://{good}/reboot?info_hash=x");
    assert_eq!(ask_with(Refused, &url, reboot.clone()), Err(AnnounceError::LocalAddress));
    assert_eq!(ask_with(Allowed, "", reboot.clone()), Err(AnnounceError::LocalAddress), "loopback");
    assert!(ask_with(AllowedWithLoopback, "", reboot).is_ok());
}

#[test]
fn k10_a_scrape_of_a_tracker_that_the_user_named_is_sent() {
    let addr =
        serving(answer("200 OK", b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad10:incompletei2e8:completei1eeee"));
    let mut pool = pool();
    let (tracker, info_hash) = (format!("http://{addr}/x/announce"), InfoHash([b'a'; 20]));
    pool.trust(&tracker);
    pool.scrape(8, scrape_url(&tracker, &info_hash).unwrap(), info_hash, Duration::from_secs(5));
    assert!(matches!(wait(&mut pool), BlockingReply::Scraped { id: 8, result: Ok(_) }));
}

#[test]
fn k16_user_info_is_decoded_and_never_sent_to_another_host() {
    let (heads, received) = channel();
    let other = heads.clone();
    let second = server(move |head, stream| {
        other.send(head.to_ascii_lowercase()).unwrap();
        stream.write_all(&good())
    });
    let first = server(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        let location = if head.starts_with("GET /announce") {
            "again".to_owned()
        } else {
            format!("http://{second}/announce")
        };
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    });
    ask_url(format!("http://user:p%40ss@{first}/announce?info_hash=x"), 5_000).unwrap();
    let heads: Vec<String> = received.try_iter().collect();
    let has_credentials = |head: &&String| head.to_ascii_lowercase().contains("authorization");
    assert!(heads[0].contains("Basic dXNlcjpwQHNz\r\n"), "{heads:?}");
    assert_eq!(heads.iter().map(|head| has_credentials(&head)).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn k15_gzip_is_recognised_by_its_first_bytes() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"d8:intervali60e5:peers6:\x01\x02\x03\x04\x00\x05e").unwrap();
    let body = encoder.finish().unwrap();
    for coding in ["Content-Encoding: gzip", "Content-Encoding: GZip", "content-encoding: X-GZIP", "X: y"] {
        let head = format!("HTTP/1.1 200 OK\r\n{coding}\r\nContent-Length: {}\r\n\r\n", body.len());
        let reply = ask(serving([head.as_bytes(), &body].concat()));
        assert_eq!(reply.map(|reply| reply.peers.len()), Ok(1), "{coding}");
    }
}

#[test]
fn k15_a_whole_body_that_ends_before_its_length_is_read() {
    let body = b"d8:intervali60e5:peers6:\x01\x02\x03\x04\x00\x05e";
    let whole = [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".as_slice(), body].concat();
    assert_eq!(ask(serving(whole.clone())).map(|reply| reply.peers.len()), Ok(1));
    assert!(matches!(ask(serving(&whole[..whole.len() - 1])), Err(AnnounceError::NotBencode(_))));
    let short = [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".as_slice(), body].concat();
    assert_eq!(ask(serving(short)).map(|reply| reply.peers.len()), Ok(1));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n".as_slice();
    assert_eq!(body.len(), 0x20 - 1);
    let chunked = [chunked, body, b"\n\r\n"].concat();
    assert_eq!(ask(serving(chunked)).map(|reply| reply.peers.len()), Ok(1));
}

#[test]
fn k15_folded_headers_and_bare_newlines_are_read() {
    let body = b"d8:intervali60e5:peers6:\x01\x02\x03\x04\x00\x05e";
    for head in [
        "HTTP/1.1 200 OK\r\nX-Note: one\r\n two\r\nContent-Length: 31\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Type: text/plain\n\n",
        "HTTP/1.0 200 OK\r\nno header\r\n\r\n",
    ] {
        let answer = [head.as_bytes(), body].concat();
        assert_eq!(ask(serving(answer)).map(|reply| reply.peers.len()), Ok(1), "{head:?}");
    }
    let to = serving(good());
    let folded = format!("HTTP/1.1 302 Found\r\nLocation:\r\n\thttp://{to}/announce \r\nX: y\r\n\r\n");
    assert!(ask(serving(folded)).is_ok());
}

#[test]
fn k15_a_connection_that_is_kept_open_does_not_delay_the_reply() {
    let addr = server(|_, stream| {
        stream.write_all(&good())?;
        thread::sleep(Duration::from_secs(4));
        Ok(())
    });
    let begun = Instant::now();
    assert!(ask(addr).is_ok());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_url_that_is_not_http_is_refused() {
    for url in ["udp://127.0.0.1:1/announce", "file:///etc/passwd", "http://", "nonsense"] {
        assert_eq!(ask_url(url.into(), 1_000), Err(AnnounceError::Url), "{url}");
    }
}

#[test]
fn a_closed_port_is_an_error_at_once() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(ask(gone), Err(AnnounceError::Connection(_))));
}

#[test]
fn requests_beyond_the_workers_wait_and_all_get_a_reply() {
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = woken.clone();
    let mut pool = BlockingPool::new(
        2,
        PrivateHosts::Refused,
        Arc::new(move || _ = counter.fetch_add(1, Ordering::Relaxed)),
    );
    let good = serving(good());
    for id in 0..9 {
        pool.announce(id, format!("http://{good}/announce"), Duration::from_secs(5));
    }
    pool.resolve(9, "127.0.0.1".into(), 6969);
    assert_eq!(pool.in_flight(), 10);
    let mut ids: Vec<u64> = (0..10)
        .map(|_| match wait(&mut pool) {
            BlockingReply::Announced { id, result } => {
                assert!(result.is_ok());
                id
            }
            BlockingReply::Resolved { id, result } => {
                assert_eq!(result, Ok(vec!["127.0.0.1:6969".parse().unwrap()]));
                id
            }
            BlockingReply::Scraped { .. } | BlockingReply::FromRouter { .. } => panic!("not requested"),
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    assert_eq!(pool.in_flight(), 0);
    assert!(woken.load(Ordering::Relaxed) >= 9);
}

#[test]
fn k12_the_queue_is_bounded_and_dropping_the_pool_waits_for_no_thread() {
    let silent = server(|_, stream| match stream.read(&mut [0]) {
        Err(e) if e.kind() != ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    });
    let mut pool = pool();
    for id in 0..WAITING as u64 + 3 {
        pool.announce(id, format!("http://{silent}/announce"), Duration::from_secs(5));
    }
    assert!(matches!(
        pool.next_done(),
        Some(BlockingReply::Announced { result: Err(AnnounceError::Busy), .. })
    ));
    let begun = Instant::now();
    drop(pool);
    assert!(begun.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_worker_that_dies_is_reported() {
    let (to, done) = channel();
    let died = BlockingReply::Announced { id: 3, result: Err(worker_died()) };
    let report = ReplyGuard { done: Some(died), to, wake: Arc::new(|| {}) };
    let died = thread::Builder::new().spawn(move || {
        let _report = report;
        std::panic::resume_unwind(Box::new("a test's panic"));
    });
    died.unwrap().join().unwrap_err();
    assert!(matches!(
        done.recv(),
        Ok(BlockingReply::Announced { id: 3, result: Err(AnnounceError::Connection(_)) })
    ));
}

// ---- counts ---------------------------------------------------------------------------------------------------------

fn count(url: String) -> Result<SwarmCounts, AnnounceError> {
    let mut pool = pool();
    pool.scrape(8, url, InfoHash([b'a'; 20]), Duration::from_secs(5));
    match wait(&mut pool) {
        BlockingReply::Scraped { id: 8, result } => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_are_read_from_a_local_tracker() {
    let addr =
        serving(answer("200 OK", b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad10:incompletei2e8:completei1eeee"));
    let counts = SwarmCounts { seeds: Some(1), peers: Some(2), completed: None };
    assert_eq!(count(format!("http://{addr}/scrape?info_hash=x")), Ok(counts));
    assert_eq!(count(format!("http://{addr}/x/scrape?info_hash=x")), Err(AnnounceError::LocalAddress), "K10");
    let addr = serving(answer("404 Not Found", b"<html>"));
    assert_eq!(count(format!("http://{addr}/scrape?info_hash=x")), Err(AnnounceError::Status(404)));
}

/// Asks a router at this address, within two seconds.
fn ask_router(addr: SocketAddr) -> Option<RouterReply> {
    let mut pool = pool();
    pool.ask_router(1, format!("http://{addr}/d"), None, Duration::from_secs(2));
    let BlockingReply::FromRouter { id: 1, reply } = wait(&mut pool) else { panic!("another reply") };
    reply
}

#[test]
fn a_call_of_a_router_is_posted() {
    let (tell, told) = channel();
    let addr = server(move |head, stream| {
        let mut body = [0; 5];
        stream.read_exact(&mut body)?;
        tell.send((head.to_ascii_lowercase(), body)).ok();
        stream.write_all(&answer("500 Internal Server Error", b"<errorCode>718</errorCode>"))
    });
    let mut pool = pool();
    let call = RouterCall { action: "\"service#Add\"".into(), body: "<x/>\n".into() };
    pool.ask_router(1, format!("http://{addr}/ctl"), Some(call), Duration::from_secs(5));
    let BlockingReply::FromRouter { reply: Some(reply), .. } = wait(&mut pool) else { panic!("failed") };
    assert_eq!((reply.status, reply.body.as_slice()), (500, &b"<errorCode>718</errorCode>"[..]));
    let (head, body) = told.recv().unwrap();
    assert!(
        head.starts_with("post /ctl http/1.1\r\n") && head.contains("soapaction: \"service#add\""),
        "{head}"
    );
    assert_eq!(&body, b"<x/>\n");
}

#[test]
fn g2_a_router_that_sends_a_gigabyte_is_left_after_64_kib() {
    let sent = Arc::new(AtomicUsize::new(0));
    for head in ["Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "\r\n"] {
        sent.store(0, Ordering::Relaxed);
        let count = sent.clone();
        let addr = server(move |_, stream| {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes())?;
            let chunked = head.contains("chunked");
            let block = [if chunked { &b"1000\r\n"[..] } else { b"" }, &[b'<'; 4096], b"\r\n"].concat();
            while count.fetch_add(block.len(), Ordering::Relaxed) < 1 << 30 {
                stream.write_all(&block)?;
            }
            Ok(())
        });
        assert_eq!(ask_router(addr), None, "{head}");
        // What the buffers of both kernels hold is sent as well.
        assert!(sent.load(Ordering::Relaxed) < 64 << 20, "{head}");
    }
}

#[test]
fn g2_a_router_that_never_ends_its_answer_is_left_at_the_deadline() {
    for body in ["Transfer-Encoding: chunked\r\n\r\n", "Content-Length: 9999\r\n\r\n", "X-"] {
        let addr = server(move |_, stream| {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes())?;
            loop {
                stream.write_all(if body.contains("chunked") { b"1\r\n<\r\n" } else { b"<" })?;
                thread::sleep(Duration::from_millis(50));
            }
        });
        let start = Instant::now();
        assert_eq!(ask_router(addr), None, "{body}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn g2_a_redirect_of_a_router_is_not_followed_and_a_name_is_not_looked_up() {
    let visits = Arc::new(AtomicUsize::new(0));
    let count = visits.clone();
    let third = server(move |_, stream| {
        count.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&answer("200 OK", b"<root/>"))
    });
    let reply = ask_router(redirecting_to(format!("http://{third}/")));
    assert_eq!(reply.map(|reply| reply.status), Some(302));
    let mut pool = pool();
    let url = format!("http://localhost:{}/", third.port());
    pool.ask_router(1, url, None, Duration::from_secs(2));
    assert!(matches!(wait(&mut pool), BlockingReply::FromRouter { reply: None, .. }));
    assert_eq!(visits.load(Ordering::Relaxed), 0);
}

#[test]
fn a_request_to_a_router_leaves_from_the_address_of_the_session_and_never_beside_a_proxy() {
    let (tell, told) = channel();
    let addr = server(move |_, stream| {
        tell.send(stream.peer_addr()?.ip()).ok();
        stream.write_all(&answer("200 OK", b"<root/>"))
    });
    let own = "127.0.0.3".parse().unwrap();
    let egress = Egress { interface: Some(Interface::Address(own)), ..Egress::default() };
    let mut pool = pool();
    pool.set_http(HttpOptions { egress, ..HttpOptions::default() });
    pool.ask_router(1, format!("http://{addr}/d"), None, Duration::from_secs(5));
    assert!(matches!(wait(&mut pool), BlockingReply::FromRouter { reply: Some(_), .. }));
    assert_eq!(told.recv().unwrap(), own);
    let v6_only = Egress { family: Some(IpFamily::V6), ..Egress::default() };
    let proxy = crate::net::Proxy::parse("socks5://192.0.2.1:1080").unwrap();
    let proxied = Egress { proxy: Some(proxy), ..Egress::default() };
    for egress in [v6_only, proxied] {
        pool.set_http(HttpOptions { egress, ..HttpOptions::default() });
        pool.ask_router(2, format!("http://{addr}/d"), None, Duration::from_secs(5));
        assert!(matches!(wait(&mut pool), BlockingReply::FromRouter { reply: None, .. }));
        assert!(told.try_recv().is_err(), "asked over IPv4, or beside the proxy");
    }
}

#[test]
fn g2_trackers_that_hang_do_not_delay_a_request_to_a_router() {
    let silent = server(|_, _| {
        thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let router = serving(answer("200 OK", b"<root/>"));
    let mut pool = pool();
    for id in 2..8 {
        pool.announce(id, format!("http://{silent}/announce"), Duration::from_secs(60));
    }
    pool.ask_router(1, format!("http://{router}/d"), None, Duration::from_secs(5));
    assert!(matches!(wait(&mut pool), BlockingReply::FromRouter { id: 1, reply: Some(_) }));
}
