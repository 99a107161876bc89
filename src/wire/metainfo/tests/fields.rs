//! T21 to T23, T25 to T28, T30: key order, garbage, wrong types, trackers and versions; and torrents that
//! rill writes.

use super::super::{BuildError, Builder, MetainfoError as E};
use super::parse;
use crate::units::{InfoHash, PieceHash};
use crate::wire::bencode::BencodeError;
use crate::wire::limits::{TORRENT_NODES, TRACKERS, WEB_SEEDS};
use crate::wire::metainfo::Metainfo;
use crate::wire::testing::{SampleTorrent, dict, file, i, list, s};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

#[test]
fn t21_accepts_unsorted_keys_and_hashes_the_bytes_as_written() {
    let torrent = SampleTorrent::single()
        .info("a late key", i(1))
        .outer("z", i(1))
        .outer("announce", s("http://t.example/a"));
    let info = parse(&torrent).unwrap();
    assert_eq!(info.info_hash(), InfoHash(Sha1::digest(torrent.info_bytes()).into()));
    assert_eq!(&info.info().unwrap()[..], torrent.info_bytes());
    assert_eq!(info.trackers(), [["http://t.example/a"]]);
    assert_eq!(info.piece_hash(info.geometry().piece(0).unwrap()), PieceHash([7; 20]));
}

#[test]
fn t22_refuses_repeated_keys_in_info_and_keeps_the_first_outside() {
    let twice = SampleTorrent::single().info_again("name", s("other"));
    assert_eq!(parse(&twice).unwrap_err(), E::BadInfo(BencodeError::DuplicateKey { key: "name".into() }));
    let torrent = SampleTorrent::single().outer("comment", s("first")).outer("comment", s("second"));
    assert_eq!(parse(&torrent).unwrap().comment(), Some("first"));
}

#[test]
fn t22_parses_and_hashes_the_first_of_two_info_dictionaries() {
    let first = SampleTorrent::single().info("name", s("first"));
    let bytes = dict([("info", first.info_bytes()), ("info", SampleTorrent::single().info_bytes())]);
    let info = Metainfo::parse(&bytes).unwrap();
    assert_eq!((info.name(), info.info_hash()), ("first", parse(&first).unwrap().info_hash()));
}

#[test]
fn t23_ignores_bytes_after_the_end() {
    let clean = SampleTorrent::single().bytes();
    let hash = Metainfo::parse(&clean).unwrap().info_hash();
    for (tail, cut) in [("\n", 0), ("\r\n", 0), ("garbage", 7), ("d4:infodee", 10)] {
        let info = Metainfo::parse(&[&clean, tail.as_bytes()].concat()).unwrap();
        assert_eq!((info.info_hash(), info.repairs().bytes_cut), (hash, cut));
    }
    let info = [SampleTorrent::single().info_bytes(), b"\n".to_vec()].concat();
    assert_eq!(Metainfo::from_info(&info, vec![], vec![]).unwrap_err(), E::BytesAfterInfo(1));
}

#[test]
fn t25_refuses_other_files_with_a_hint() {
    let refused = |bytes: &[u8]| Metainfo::parse(bytes).unwrap_err();
    assert_eq!(refused(b""), E::Empty);
    assert_eq!(refused(b"\xef\xbb\xbf \n<!DOCTYPE html><html>"), E::Html);
    assert_eq!(refused(b"le"), E::NotADictionary);
    assert_eq!(refused(b"i5e"), E::NotADictionary);
    assert_eq!(refused(b"de"), E::NoInfo);
    assert_eq!(refused(b"d4:infole"), E::NotBencode(BencodeError::Truncated { at: 9 }));
    assert_eq!(refused(b"d4:infolee"), E::NoInfo);
    assert_eq!(refused(b"d4:info3:abce"), E::NoInfo);
    let whole = SampleTorrent::with_paths(&[&["a"]]).outer("announce", s("http://t.example/")).bytes();
    for cut in 1..whole.len() {
        assert!(refused(&whole[..cut]).is_not_bencode(), "cut at {cut}");
    }
    assert!(!E::NoInfo.is_not_bencode());
    assert!(refused(b"<html>").to_string().contains("HTML"));
}

#[test]
fn t26_ignores_optional_fields_of_the_wrong_type() {
    let torrent = SampleTorrent::single()
        .outer("announce", i(3))
        .outer("announce-list", s("http://t.example/"))
        .outer("comment", list([]))
        .outer("created by", dict([]))
        .outer("creation date", s("yesterday"))
        .outer("nodes", s(""))
        .outer("url-list", i(7));
    let info = parse(&torrent.info("private", s("yes")).info("attr", i(1)).info("name.utf-8", i(1))).unwrap();
    assert_eq!(
        (info.comment(), info.created_by(), info.creation_date(), info.private()),
        (None, None, None, false)
    );
    assert!(info.web_seeds().is_empty());
    assert_eq!(info.trackers(), [["http://t.example/"]], "a URL in place of the list is a list of one");
    let mixed = list([i(5), list([i(1), s("http://a.example/")]), s("http://b.example/")]);
    assert_eq!(parse(&SampleTorrent::single().outer("announce-list", mixed)).unwrap().trackers().len(), 2);
}

#[test]
fn keeps_dht_nodes_with_a_valid_host_and_port() {
    let node = |host: &str, port: i64| list([s(host), i(port)]);
    let good = [node("router.example", 6881), node("192.0.2.1", 1), node("2001:db8::1", 65_535)];
    let bad = [
        node("a b", 1),
        node("x.example", 0),
        node("x.example", -1),
        node("x.example", 65_536),
        node("", 1),
        node(":", 1),
        s("x"),
    ];
    let nodes = list(good.into_iter().chain(bad));
    let info = parse(&SampleTorrent::single().outer("nodes", nodes)).unwrap();
    let expected = [("router.example", 6881), ("192.0.2.1", 1), ("2001:db8::1", 65_535)];
    assert!(
        info.nodes().iter().map(|(host, port)| (host.as_str(), *port)).eq(expected),
        "{:?}",
        info.nodes()
    );
    let many = list((0..1000).map(|n| node(&format!("n{n}.example"), 1)));
    assert_eq!(parse(&SampleTorrent::single().outer("nodes", many)).unwrap().nodes().len(), TORRENT_NODES);
}

#[test]
fn a_file_written_from_metadata_reads_back() {
    let urls = list([list([s("http://a.example/"), s("udp://b.example:1")]), list([s("http://c.example/")])]);
    let full = SampleTorrent::single().outer("announce-list", urls).outer("url-list", s("http://w.example/"));
    let nodes = list([list([s("router.example"), i(6881)])]);
    for torrent in [
        full.outer("nodes", nodes),
        SampleTorrent::single(),
        SampleTorrent::single().outer("announce", s("http://a.example/")),
    ] {
        let info = parse(&torrent).unwrap();
        let again = Metainfo::parse(&info.to_file().unwrap()).unwrap();
        assert_eq!((again.info_hash(), again.info()), (info.info_hash(), info.info()));
        assert_eq!(
            (again.trackers(), again.web_seeds(), again.nodes()),
            (info.trackers(), info.web_seeds(), info.nodes())
        );
    }
}

#[test]
fn t26_names_required_fields_of_the_wrong_type() {
    assert_eq!(parse(&SampleTorrent::single().without("length")).unwrap_err(), E::Field("length"));
    assert_eq!(parse(&SampleTorrent::single().info("files", s("x"))).unwrap_err(), E::Field("files"));
    assert_eq!(parse(&SampleTorrent::of([s("x")])).unwrap_err(), E::Field("files"));
    let pathless = dict([("length", i(3))]);
    assert_eq!(
        parse(&SampleTorrent::of([file(&["a"], 1), pathless])).unwrap_err(),
        E::FileField { file: 2, field: "path" }
    );
    let lengthless = dict([("path", list([s("x")]))]);
    assert_eq!(
        parse(&SampleTorrent::of([lengthless])).unwrap_err(),
        E::FileField { file: 1, field: "length" }
    );
    let mixed_path = dict([("length", i(3)), ("path", list([s("x"), i(3)]))]);
    assert_eq!(parse(&SampleTorrent::of([mixed_path])).unwrap_err(), E::FileField { file: 1, field: "path" });
}

#[test]
fn t27_drops_and_counts_refused_trackers() {
    let tiers = list([
        list([s("file:///etc/passwd"), s("http://good.example/a"), s("http://x.example/\r\nX: y")]),
        list([s("ftp://x.example/"), s("http://x.example:0/"), s("http://x.example:99999/")]),
        list([
            s("http://user:password@b\u{fc}cher.example/announce?passkey=1"),
            s("udp://good.example:1"),
            s("http://user:password@good.example/"),
            s("http://good.example/a"),
            s(""),
        ]),
    ]);
    let info =
        parse(&SampleTorrent::single().outer("announce-list", tiers).outer("url-list", s("file:///etc")))
            .unwrap();
    let last_tier = ["udp://good.example:1", "http://user:password@good.example/"];
    assert_eq!(info.trackers(), [&["http://good.example/a"][..], &last_tier]);
    assert_eq!(info.repairs().urls_dropped, 7);
    assert_eq!(info.refused_trackers().count(), 6);
    let named: Vec<_> = info.refused_trackers().first().iter().map(|r| r.url.as_str()).collect();
    let expected = [
        "file:///…",
        "http://x.example/…",
        "ftp://x.example/",
        "http://x.example:0/",
        "http://x.example:99999/",
    ];
    assert_eq!(named, expected);
}

#[test]
fn t27_names_a_refused_tracker_without_its_secrets() {
    let url = "http://user:password@b\u{fc}cher.example/announce?passkey=1";
    let info = parse(&SampleTorrent::single().outer("announce", s(url))).unwrap();
    let refused = info.refused_trackers().first();
    assert_eq!(refused[0].url, "http://b\u{fc}cher.example/announce");
    assert_eq!(refused[0].error, crate::wire::UrlError::Internationalized);
}

#[test]
fn t27_caps_ten_thousand_trackers() {
    let urls = |kind: &'static str| (0..10_000).map(move |n| s(format!("{kind}://t{n}.example:80/a")));
    let torrent = SampleTorrent::single()
        .outer("announce-list", list(urls("udp").map(|url| list([url]))))
        .outer("url-list", list(urls("http")));
    let info = parse(&torrent).unwrap();
    assert_eq!((info.trackers().len(), info.web_seeds().len()), (TRACKERS, WEB_SEEDS));
}

#[test]
fn t27_uses_announce_only_without_a_usable_list() {
    let announce = || SampleTorrent::single().outer("announce", s("http://a.example/"));
    assert_eq!(
        parse(&announce().outer("announce-list", list([list([s("http://b.example/")])]))).unwrap().trackers(),
        [["http://b.example/"]]
    );
    for empty in [list([]), list([list([])]), list([list([s("")])])] {
        assert_eq!(
            parse(&announce().outer("announce-list", empty)).unwrap().trackers(),
            [["http://a.example/"]]
        );
    }
}

#[test]
fn t28_reads_the_private_flag() {
    assert!(parse(&SampleTorrent::single().info("private", i(1))).unwrap().private());
    assert!(!parse(&SampleTorrent::single().info("private", i(0))).unwrap().private());
    assert!(
        !parse(&SampleTorrent::single().outer("private", i(1))).unwrap().private(),
        "BEP 27: only inside info"
    );
}

#[test]
fn t30_refuses_v2_with_its_own_error_and_reads_a_hybrid_as_v1() {
    let tree = dict([("name", dict([("", dict([("length", i(100)), ("pieces root", s([1; 32]))]))]))]);
    let v2 = SampleTorrent::single().info("file tree", tree).info("meta version", i(2));
    assert_eq!(parse(&v2).unwrap().geometry().total(), 100);
    let alone = parse(&v2.without("pieces").without("length")).unwrap_err();
    assert_eq!(alone, E::V2Only);
    assert!(alone.to_string().contains("v2"));
}

#[test]
fn t4_sanitizes_text_for_display() {
    let info = parse(
        &SampleTorrent::single().outer("comment", s("\x1b[2Jhi\n")).outer("created by", s("x".repeat(5_000))),
    )
    .unwrap();
    assert_eq!(info.comment(), Some("[2Jhi"));
    assert!(info.created_by().unwrap().len() < 2_000);
}

#[test]
fn m9_validates_metadata_from_peers_like_a_file() {
    let torrent = SampleTorrent::with_paths(&[&["..", "x"]]);
    let info = Metainfo::from_info(
        &torrent.info_bytes(),
        vec![vec!["http://t.example/".into()]],
        vec!["file:///x".into()],
    )
    .unwrap();
    assert_eq!(info.files().get(0).unwrap().path_text(), "name/x");
    assert_eq!((info.trackers().len(), info.web_seeds().len()), (1, 0));
    assert_eq!(Metainfo::from_info(b"le", vec![], vec![]).unwrap_err(), E::NoInfo);
    assert_eq!(Metainfo::from_info(b"", vec![], vec![]).unwrap_err(), E::Empty);
}

#[test]
fn a_clone_copies_a_pointer() {
    let info = parse(&SampleTorrent::single()).unwrap();
    assert!(std::sync::Arc::ptr_eq(&info.clone().info().unwrap(), &info.info().unwrap()));
    assert_eq!(size_of::<Metainfo>(), size_of::<usize>());
}

#[test]
fn the_magnet_link_of_a_torrent_has_its_hash() {
    let info = parse(&SampleTorrent::single().outer("announce", s("http://t.example/a?b=c&d"))).unwrap();
    let magnet = crate::wire::Magnet::parse(&info.magnet().to_string()).unwrap();
    assert_eq!((magnet.info_hash, magnet.name.as_deref()), (info.info_hash(), Some("name")));
    assert_eq!(magnet.trackers, ["http://t.example/a?b=c&d"]);
}

#[test]
fn the_builder_refuses_what_would_not_read_back() {
    let hashes = [PieceHash([1; 20])];
    assert_eq!(Builder::single("..", 5).finish(&hashes), Err(BuildError::Name("..".into())));
    assert_eq!(
        Builder::multi("d", vec![(vec!["a/b".into()], 5)]).finish(&hashes),
        Err(BuildError::Name("a/b".into()))
    );
    assert_eq!(Builder::single("x", 5).finish(&[]), Err(BuildError::Hashes { got: 0, expected: 1 }));
    assert!(matches!(Builder::single("x", 0).finish(&[]), Err(BuildError::Geometry(_))));
}

proptest! {
    #[test]
    fn reads_what_the_builder_wrote(
        lengths in proptest::collection::vec(0u64..100_000, 1..9),
        private: bool,
        comment in proptest::option::of("[a-z]{1,9}"),
        date in proptest::option::of(0i64..1 << 40),
        tiers in 0usize..4,
    ) {
        prop_assume!(lengths.iter().sum::<u64>() > 0);
        let files: Vec<_> = lengths.iter().enumerate().map(|(n, l)| (vec![format!("d{}", n % 3), format!("f{n}.bin")], *l)).collect();
        let mut builder = Builder::multi("dir", files.clone());
        builder.private = private;
        builder.comment = comment.clone();
        builder.creation_date = date;
        builder.trackers = (0..tiers).map(|n| vec![format!("http://t{n}.example/a"), format!("udp://u{n}.example:1")]).collect();
        builder.web_seeds = vec!["http://w.example/".into()];
        let hashes: Vec<_> = builder.geometry().unwrap().all_pieces().map(|p| PieceHash([p.get() as u8; 20])).collect();
        let info = Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap();
        prop_assert_eq!(info.geometry(), builder.geometry().unwrap());
        prop_assert_eq!(info.geometry().all_pieces().map(|p| info.piece_hash(p)).collect::<Vec<_>>(), hashes);
        for (read, (path, length)) in info.files().iter().zip(&files) {
            prop_assert!(read.path().skip(1).eq(path.iter()));
            prop_assert_eq!(read.length, *length);
        }
        prop_assert_eq!((info.private(), info.comment(), info.creation_date()), (private, comment.as_deref(), date));
        prop_assert_eq!(info.trackers(), builder.trackers.as_slice());
        prop_assert_eq!(info.web_seeds(), builder.web_seeds.as_slice());
    }
}

#[test]
fn chooses_powers_of_two_as_piece_lengths() {
    use super::super::piece_len_for;
    assert_eq!(piece_len_for(1), 16 << 10);
    assert_eq!(piece_len_for(1 << 30), 1 << 20);
    assert_eq!(piece_len_for(u64::MAX), 16 << 20);
}
