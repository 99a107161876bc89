//! The hazards K1 and K5 to K9: malformed replies of HTTP trackers; and the request URL.

use super::*;
use crate::wire::testing::{dict, i, list, s};

fn reply(pairs: Vec<(&str, Vec<u8>)>) -> AnnounceReply {
    parse_reply(&dict(pairs)).unwrap()
}

fn refused(body: &[u8]) -> AnnounceError {
    parse_reply(body).unwrap_err()
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\x00\x01abc\xff /?&=%+.-_~123"),
        peer_id: PeerId(*b"-RL0100-abcdefghijkl"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: u64::MAX,
        event: AnnounceEvent::Started,
        numwant: 80,
        key: 0xab,
        tracker_id: None,
        encryption: None,
        ipv4: None,
        ipv6: None,
    }
}

#[test]
fn the_request_is_one_well_formed_url() {
    assert_eq!(
        request().http_url("http://t.example/announce"),
        "http://t.example/announce?info_hash=%00%01abc%FF%20%2F%3F%26%3D%25%2B.-_~123&peer_id=-RL0100-abcdefghijkl&port=6881\
         &uploaded=1&downloaded=2&left=18446744073709551615&compact=1&no_peer_id=1&numwant=80&key=000000ab&event=started"
    );
}

#[test]
fn keeps_the_query_of_the_trackers_url() {
    let mut request = request();
    request.event = AnnounceEvent::None;
    request.tracker_id = Some((*b"a b").into());
    request.ipv6 = Some("2001:db8::1".parse().unwrap());
    let url = request.http_url("http://t.example/a?passkey=x");
    assert!(url.starts_with("http://t.example/a?passkey=x&info_hash="), "{url}");
    assert!(url.ends_with("&key=000000ab&ipv6=2001%3Adb8%3A%3A1&trackerid=a%20b"), "{url}");
}

#[test]
fn a_partial_seed_is_paused_over_http_and_without_event_over_udp() {
    let request = AnnounceRequest { event: AnnounceEvent::Paused, ..request() };
    assert!(request.http_url("http://t.example/announce").contains("&event=paused"));
    let packet = crate::wire::udp_tracker::announce_request(1, 2, &request, "");
    assert_eq!(packet[80..84], [0; 4]);
}

#[test]
fn only_an_announce_that_was_refused_or_not_sent_leaves_no_trace_at_the_tracker() {
    let refusal = AnnounceError::Failure { reason: "no".into(), retry_in: None };
    for error in [refusal, AnnounceError::Status(403), AnnounceError::NoAddress("none".into())] {
        assert!(error.is_certain_refusal(), "{error}");
    }
    for error in [AnnounceError::Timeout, AnnounceError::Status(502), AnnounceError::Html] {
        assert!(!error.is_certain_refusal(), "{error}");
    }
}

#[test]
fn k1_refuses_a_body_that_is_not_a_reply() {
    assert_eq!(refused(b""), AnnounceError::NotBencode(BencodeError::Empty));
    assert_eq!(refused(b"\n <html><body>404"), AnnounceError::Html);
    assert_eq!(refused(b"le"), AnnounceError::NotADictionary);
    assert_eq!(refused(b"i5e"), AnnounceError::NotADictionary);
    assert!(matches!(
        refused(b"d5:peers99:abce"),
        AnnounceError::NotBencode(BencodeError::StringTooLong { .. })
    ));
    for open in ["l", "d1:a"] {
        let bomb = open.repeat(100_000);
        assert!(matches!(
            refused(bomb.as_bytes()),
            AnnounceError::NotBencode(BencodeError::TooDeep { limit: 8, .. })
        ));
    }
}

#[test]
fn k5_sanitizes_a_failure_and_ignores_its_peers() {
    let failure = refused(&dict([
        ("failure reason", s("\x1b[31mno\nway")),
        ("peers", s([1, 2, 3, 4, 0, 5])),
        ("retry in", s("never")),
    ]));
    assert_eq!(
        failure,
        AnnounceError::Failure { reason: "[31mno way".into(), retry_in: Some(RetryIn::Never) }
    );
    for (retry, expected) in [
        (i(5), Some(RetryIn::After(Duration::from_secs(300)))),
        (s("5"), Some(RetryIn::After(Duration::from_secs(300)))),
        (i(-5), None),
        (i(i64::MAX), Some(RetryIn::After(Duration::from_secs(u64::MAX)))),
        (s("soon"), None),
        (list([]), None),
    ] {
        let got = refused(&dict([("failure reason", i(404)), ("retry in", retry)]));
        assert_eq!(got, AnnounceError::Failure { reason: "404".into(), retry_in: expected });
    }
    assert_eq!(reply(vec![("warning message", s("\u{202e}careful"))]).warning.as_deref(), Some("careful"));
}

#[test]
fn k6_drops_peers_that_cannot_be_dialed() {
    let compact =
        [&[1, 2, 3, 4, 0, 5][..], &[0; 6], &[9, 9, 9, 9, 0, 0], &[224, 0, 0, 1, 0, 5], &[1, 2]].concat();
    let mut six = vec![0x20; 16];
    six.extend([0, 7, 1, 2, 3]);
    let got = reply(vec![("peers", s(compact)), ("peers6", s(six))]);
    assert_eq!(
        got.peers,
        ["1.2.3.4:5".parse().unwrap(), "[2020:2020:2020:2020:2020:2020:2020:2020]:7".parse().unwrap()]
    );
    assert!(reply(vec![("peers", i(5)), ("peers6", list([]))]).peers.is_empty());
}

#[test]
fn k6_skips_malformed_peer_dictionaries() {
    let entry = |ip: &str, port| dict([("ip", s(ip)), ("port", port)]);
    let peers = list([
        entry("1.2.3.4", i(5)),
        entry("tracker.example", i(5)),
        entry("1.2.3.4", i(0)),
        entry("1.2.3.4", i(65_536)),
        entry("1.2.3.4", i(-1)),
        entry("1.2.3.4", s("x")),
        dict([("ip", i(1))]),
        i(7),
        list([]),
        entry("2001:db8::1", i(6)),
    ]);
    assert_eq!(
        reply(vec![("peers", peers)]).peers,
        ["1.2.3.4:5".parse().unwrap(), "[2001:db8::1]:6".parse().unwrap()]
    );
}

#[test]
fn k6_caps_a_hundred_thousand_peers() {
    let got = reply(vec![
        ("peers", s([1, 2, 3, 4, 0, 5].repeat(100_000))),
        ("peers6", s([0x20; 18].repeat(5_000))),
    ]);
    assert_eq!(got.peers.len(), PEERS);
    let long = list(std::iter::repeat_n(dict([("ip", s("1.2.3.4")), ("port", i(5))]), 20_000));
    assert_eq!(reply(vec![("peers", long)]).peers.len(), PEERS);
}

#[test]
fn k7_a_malformed_interval_counts_as_absent() {
    let interval = |value| reply(vec![("interval", value)]).interval;
    assert_eq!(interval(i(1800)), Some(Duration::from_secs(1800)));
    assert_eq!(interval(i(0)), Some(Duration::ZERO));
    assert_eq!(interval(s("1800")), Some(Duration::from_secs(1800)));
    assert_eq!(interval(i(i64::MAX)), Some(Duration::from_secs(i64::MAX as u64)));
    for none in [i(-1), i("9".repeat(40)), s("often"), list([]), dict([])] {
        assert_eq!(interval(none), None);
    }
    assert_eq!(reply(vec![("min interval", i(60))]).min_interval, Some(Duration::from_secs(60)));
}

#[test]
fn k8_accepts_unsorted_and_repeated_keys() {
    let got = reply(vec![
        ("peers", s([1, 2, 3, 4, 0, 5])),
        ("interval", i(60)),
        ("complete", i(3)),
        ("complete", i(4)),
        ("incomplete", i(-1)),
    ]);
    assert_eq!(
        (got.peers.len(), got.interval, got.seeders, got.leechers),
        (1, Some(Duration::from_secs(60)), Some(3), None)
    );
}

#[test]
fn k9_drops_a_tracker_id_above_the_limit() {
    assert_eq!(reply(vec![("tracker id", s("abc"))]).tracker_id.as_deref(), Some(&b"abc"[..]));
    assert_eq!(reply(vec![("tracker id", s("x".repeat(100_000)))]).tracker_id, None);
}

#[test]
fn reads_our_external_address() {
    assert_eq!(reply(vec![("external ip", s([1, 2, 3, 4]))]).external_ip, Some("1.2.3.4".parse().unwrap()));
    assert_eq!(reply(vec![("external ip", s([0; 16]))]).external_ip, Some("::".parse().unwrap()));
    assert_eq!(reply(vec![("external ip", s("1.2.3.4"))]).external_ip, None);
}
