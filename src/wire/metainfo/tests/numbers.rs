//! T13 to T20, T24: invalid, huge and missing numbers.

use super::super::MetainfoError as E;
use super::parse;
use crate::units::GeometryError;
use crate::wire::bencode::BencodeError;
use crate::wire::metainfo::Metainfo;
use crate::wire::testing::{SampleTorrent, dict, file, i, list, s};

#[test]
fn t13_refuses_an_invalid_piece_length() {
    let with = |value| parse(&SampleTorrent::single().info("piece length", value)).unwrap_err();
    assert_eq!(with(i(0)), E::Geometry(GeometryError::PieceLen(0)));
    assert_eq!(with(i(-16384)), E::PieceLength(-16384));
    assert_eq!(with(s("16384")), E::Field("piece length"));
    assert_eq!(
        parse(&SampleTorrent::single().without("piece length")).unwrap_err(),
        E::Field("piece length")
    );
}

#[test]
fn t14_accepts_odd_piece_lengths() {
    for (len, pieces) in [(1, 100), (7, 15), (99, 2), (100, 1), (33_000, 1)] {
        let torrent =
            SampleTorrent::single().info("piece length", i(len)).info("pieces", s(vec![1; pieces * 20]));
        assert_eq!(parse(&torrent).unwrap().geometry().pieces() as usize, pieces);
    }
}

#[test]
fn t15_a_huge_piece_length_allocates_nothing() {
    let with = |len: u64| parse(&SampleTorrent::single().info("piece length", i(len)));
    assert_eq!(with(1 << 29).unwrap().geometry().pieces(), 1);
    for shift in [30, 32, 62] {
        assert_eq!(with(1 << shift).unwrap_err(), E::Geometry(GeometryError::PieceLen(1 << shift)));
    }
}

#[test]
fn t16_refuses_lengths_whose_sum_overflows() {
    let with = |value| parse(&SampleTorrent::single().info("length", value)).unwrap_err();
    assert_eq!(with(i(-1)), E::FileLength { file: 1, length: -1 });
    assert!(matches!(with(i("9223372036854775808")), E::BadInfo(BencodeError::Number { .. })));
    assert_eq!(
        with(i((1u64 << 32) + 10)),
        E::Pieces { got: 20, expected: 262_145 * 20 },
        "lengths have 64 bits"
    );
    let max = i64::MAX as u64;
    assert_eq!(
        parse(&SampleTorrent::of([file(&["a"], max), file(&["b"], max), file(&["c"], 102)])).unwrap_err(),
        E::TotalLength
    );
    assert_eq!(
        parse(&SampleTorrent::of([file(&["a"], max), file(&["b"], 1)])).unwrap_err(),
        E::TotalLength,
        "offsets have 63 bits"
    );
    let negative = dict([("length", i(-5)), ("path", list([s("b")]))]);
    assert_eq!(
        parse(&SampleTorrent::of([file(&["a"], 105), negative])).unwrap_err(),
        E::FileLength { file: 2, length: -5 }
    );
}

#[test]
fn t17_refuses_a_wrong_number_of_hashes() {
    let with = |value| parse(&SampleTorrent::single().info("pieces", value)).unwrap_err();
    for got in [0, 19, 21, 40] {
        assert_eq!(with(s(vec![0; got])), E::Pieces { got, expected: 20 });
    }
    assert_eq!(with(list([s([0; 20])])), E::Field("pieces"));
    assert_eq!(with(i(20)), E::Field("pieces"));
    assert_eq!(parse(&SampleTorrent::single().without("pieces")).unwrap_err(), E::Field("pieces"));
}

#[test]
fn t17_refuses_repeated_hashes() {
    let twice = SampleTorrent::single().info_again("pieces", s([9; 20]));
    assert_eq!(parse(&twice).unwrap_err(), E::BadInfo(BencodeError::DuplicateKey { key: "pieces".into() }));
}

#[test]
fn t18_refuses_an_empty_torrent_but_accepts_empty_files() {
    assert_eq!(
        parse(&SampleTorrent::single().info("length", i(0))).unwrap_err(),
        E::Geometry(GeometryError::Empty)
    );
    assert_eq!(parse(&SampleTorrent::of([])).unwrap_err(), E::NoFiles);
    assert_eq!(parse(&SampleTorrent::of([file(&["a"], 0)])).unwrap_err(), E::Geometry(GeometryError::Empty));
    let info = parse(&SampleTorrent::of([file(&["a"], 0), file(&["b"], 5), file(&["c"], 0)])).unwrap();
    assert_eq!(
        info.files().iter().map(|f| (f.offset, f.length)).collect::<Vec<_>>(),
        [(0, 0), (0, 5), (5, 0)]
    );
}

#[test]
fn t19_refuses_too_many_pieces() {
    let pieces = (1 << 21) + 1;
    let many_pieces = SampleTorrent::single()
        .info("length", i(pieces))
        .info("piece length", i(1))
        .info("pieces", s(vec![0; pieces * 20]));
    assert_eq!(parse(&many_pieces).unwrap_err(), E::TooManyPieces { pieces: pieces as u32, limit: 1 << 21 });
}

#[test]
fn t19_refuses_too_many_files() {
    let many_files = SampleTorrent::of(std::iter::repeat_n(file(&["a"], 1), 375_001));
    assert_eq!(parse(&many_files).unwrap_err(), E::TooManyFiles { files: 375_001, limit: 375_000 });
}

#[test]
fn t19_refuses_too_many_tokens_or_bytes() {
    let many_tokens = SampleTorrent::single().outer("junk", list(std::iter::repeat_n(i(1), 4_500_000)));
    assert_eq!(
        parse(&many_tokens).unwrap_err(),
        E::NotBencode(BencodeError::TooManyTokens { limit: 4_500_000 })
    );
    let bytes = (64 << 20) + 1;
    assert_eq!(Metainfo::parse(&vec![b'd'; bytes]).unwrap_err(), E::TooBig { bytes, limit: 64 << 20 });
}

#[test]
fn t19_accepts_two_million_pieces() {
    let pieces = 1 << 21;
    let torrent = SampleTorrent::single()
        .info("length", i(pieces))
        .info("piece length", i(1))
        .info("pieces", s(vec![0; pieces * 20]));
    assert_eq!(parse(&torrent).unwrap().geometry().pieces(), 1 << 21);
}

#[test]
fn t20_refuses_depth_bombs_and_giant_strings() {
    for open in ["l", "d1:a"] {
        let bomb = SampleTorrent::single().outer("x", open.repeat(1_000_000).into_bytes());
        assert!(matches!(parse(&bomb).unwrap_err(), E::NotBencode(BencodeError::TooDeep { limit: 32, .. })));
        let closed = [open.repeat(40), "le".into(), "e".repeat(40)].concat().into_bytes();
        assert!(matches!(
            parse(&SampleTorrent::single().info("x", closed)).unwrap_err(),
            E::NotBencode(BencodeError::TooDeep { .. })
        ));
    }
    for len in ["18446744073709551615", "9223372036854775807", "4294967296", "99999999999999999999999999"] {
        let bytes = format!("d4:info{len}:abc").into_bytes();
        assert!(matches!(
            Metainfo::parse(&bytes).unwrap_err(),
            E::NotBencode(BencodeError::StringTooLong { at: 7 })
        ));
    }
}

#[test]
fn t20_a_depth_bomb_needs_no_more_than_64_kib_of_stack() {
    let small = std::thread::Builder::new().stack_size(64 * 1024);
    let refused = small.spawn(|| {
        let lists = [&[b'l'; 1_000_000][..], &[b'e'; 1_000_000]].concat();
        let dictionaries = b"d1:a".repeat(1_000_000);
        [lists, dictionaries].map(|bomb| Metainfo::parse(&bomb).unwrap_err())
    });
    for refused in refused.unwrap().join().unwrap() {
        assert!(matches!(refused, E::NotBencode(BencodeError::TooDeep { limit: 32, .. })), "{refused}");
    }
}

#[test]
fn t24_refuses_unusual_integers_only_inside_info() {
    for odd in ["007", "-0", "+5", "00"] {
        assert!(
            matches!(
                parse(&SampleTorrent::single().info("x", i(odd))).unwrap_err(),
                E::BadInfo(BencodeError::Number { .. })
            ),
            "{odd}"
        );
        assert!(parse(&SampleTorrent::single().outer("x", i(odd))).is_ok(), "{odd}");
    }
    assert_eq!(
        parse(&SampleTorrent::single().outer("creation date", i("+0123"))).unwrap().creation_date(),
        Some(123)
    );
    let huge = "9".repeat(50);
    assert!(parse(&SampleTorrent::single().info("x", i(&huge))).is_err());
    assert_eq!(
        parse(&SampleTorrent::single().outer("creation date", i(&huge))).unwrap().creation_date(),
        None
    );
}
