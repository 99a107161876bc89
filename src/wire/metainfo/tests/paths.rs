//! T1 to T12, T29, T31: untrusted names become paths below the torrent's directory.

use super::super::{Metainfo, MetainfoError, OWN_PREFIX, for_fat};
use super::{one_path, parse, paths};
use crate::wire::testing::{SampleTorrent, dict, file, file_with_attr, i, list, s};

#[test]
fn t1_removes_dots() {
    assert_eq!(one_path(&["..", "..", "etc", "passwd"]), "etc/passwd");
    assert_eq!(one_path(&["a", ".", "..", "b"]), "a/b");
    assert_eq!(one_path(&[".\u{200b}.", "b"]), "b", "dots that appear after sanitizing");
    assert_eq!(one_path(&["/..", "b"]), "b");
    assert_eq!(one_path(&[".. ", "..."]), ".. /...", "ordinary names on Linux");
}

#[test]
fn t1_removes_dots_from_names_and_utf8_fields() {
    let torrent = SampleTorrent::of([dict([("length", i(1)), ("path.utf-8", list([s(".."), s("x")]))])])
        .info("name.utf-8", s("../up"));
    assert_eq!(paths(&torrent), [".._up/x"]);
    assert_eq!(
        parse(&SampleTorrent::single().info("name", s(".."))).unwrap().name().len(),
        40,
        "the info hash"
    );
}

#[test]
fn t2_makes_absolute_paths_relative() {
    assert_eq!(one_path(&["/etc", "passwd"]), "etc/passwd");
    assert_eq!(one_path(&["", "/", "//etc/", "passwd"]), "etc_/passwd");
    assert_eq!(one_path(&["\\\\server", "share"]), "server/share");
    assert_eq!(parse(&SampleTorrent::single().info("name", s("/root/x"))).unwrap().name(), "root_x");
}

/// Returns the paths for FAT, below the torrent's directory.
fn paths_on_fat(info: &Metainfo) -> Vec<String> {
    for_fat(info.files()).iter().map(|file| file.path().skip(1).collect::<Vec<_>>().join("/")).collect()
}

#[test]
fn t2_replaces_drive_letters_only_for_fat() {
    let info = parse(&SampleTorrent::with_paths(&[&["c:", "a\\b"]])).unwrap();
    assert_eq!(info.files().get(0).unwrap().path().collect::<Vec<_>>(), ["name", "c:", "a\\b"]);
    assert_eq!(paths_on_fat(&info), ["c_/a_b"]);
}

#[test]
fn t3_replaces_separators_inside_a_component() {
    assert_eq!(one_path(&["a/../../b"]), "a_.._.._b");
    assert_eq!(parse(&SampleTorrent::single().info("name", s("Bundle 1/2"))).unwrap().name(), "Bundle 1_2");
}

#[test]
fn t4_removes_control_and_invisible_characters() {
    assert_eq!(one_path(&["a\0b\x1b[2J\x7f\u{9b}c"]), "a_b_[2J__c");
    assert_eq!(one_path(&["gpj\u{202e}exe.\u{200b}\u{feff}txt"]), "gpjexe.txt");
}

#[test]
fn t5_accepts_the_macos_icon_file() {
    assert_eq!(one_path(&["Icon\r"]), "Icon_");
}

#[test]
fn t6_replaces_empty_names() {
    assert_eq!(one_path(&["", "a", "", "b"]), "a/b");
    assert_eq!(one_path(&["", ""]), "_");
    assert_eq!(one_path(&[]), "_");
    for nameless in [
        SampleTorrent::single().info("name", s("")),
        SampleTorrent::single().without("name"),
        SampleTorrent::single().info("name", i(3)),
    ] {
        let info = parse(&nameless).unwrap();
        assert_eq!(info.name(), info.info_hash().to_string());
    }
}

#[test]
fn t7_replaces_bytes_that_are_not_utf8() {
    let raw = |bytes: &[u8]| {
        paths(&SampleTorrent::of([dict([("length", i(1)), ("path", list([s(bytes)]))])]))[0].clone()
    };
    assert_eq!(raw(b"caf\xe9.txt"), "name/caf_.txt");
    assert_eq!(raw(b"..\xc0\xaf.."), "name/..__..", "an overlong slash");
    assert_eq!(raw(b"\xf8\x88\x80\x80\xaf"), "name/_____", "a five-byte form");
}

#[test]
fn t7_renames_files_whose_names_become_equal() {
    let entry = |bytes: &[u8]| dict([("length", i(1)), ("path", list([s(bytes)]))]);
    assert_eq!(paths(&SampleTorrent::of([entry(b"a\xff"), entry(b"a\xfe")])), ["name/a_", "name/a_.1"]);
}

#[test]
fn t7_ignores_a_utf8_field_that_is_not_utf8() {
    let entry = dict([("length", i(1)), ("path", list([s("good")])), ("path.utf-8", list([s(b"\xff")]))]);
    assert_eq!(paths(&SampleTorrent::of([entry]).info("name.utf-8", s(b"\xff"))), ["name/good"]);
}

#[test]
fn t8_cuts_a_long_component_at_a_character_and_keeps_its_extension() {
    let cut = one_path(&[&format!("{}.tar.gz", "é".repeat(300))]);
    assert!(cut.len() == 255 && cut.ends_with("é.gz"), "{cut}");
    let cut = one_path(&[&format!("{}.{}", "x".repeat(300), "y".repeat(300))]);
    assert_eq!(cut, "x".repeat(255));
    let fits = "x".repeat(255);
    assert_eq!(one_path(&[&fits]), fits);
}

#[test]
fn t8_a_counter_or_replacement_keeps_the_length_limit() {
    let long = format!("{}.mkv", "x".repeat(251));
    let info =
        parse(&SampleTorrent::with_paths(&[&[&long], &[&long], &[&format!("aux.{}", "x".repeat(251))]]))
            .unwrap();
    assert_eq!(info.files().get(1).unwrap().path().nth(1).unwrap(), format!("{}.1.mkv", "x".repeat(249)));
    assert_eq!(paths_on_fat(&info)[2].len(), 255);
}

#[test]
fn t8_refuses_a_path_too_long_for_system_calls() {
    let long = "x".repeat(200);
    let deep: Vec<&str> = std::iter::repeat_n(long.as_str(), 20).collect();
    let refused = parse(&SampleTorrent::with_paths(&[&["ok"], &deep]));
    assert!(matches!(refused, Err(MetainfoError::PathTooLong { file: 2, bytes: 4025 })), "{refused:?}");
}

#[test]
fn t9_replaces_reserved_names_only_for_fat() {
    let info = parse(&SampleTorrent::with_paths(&[
        &["CON"],
        &["lpt1.txt"],
        &["a<b>?.x"],
        &["dir. ", "f"],
        &["console"],
        &[".. ."],
    ]))
    .unwrap();
    let linux: Vec<_> = info.files().iter().map(|f| f.path().skip(1).collect::<Vec<_>>().join("/")).collect();
    assert_eq!(linux, ["CON", "lpt1.txt", "a<b>?.x", "dir. /f", "console", ".. ."]);
    assert_eq!(paths_on_fat(&info), ["_CON", "_lpt1.txt", "a_b__.x", "dir/f", "console", "_"]);
}

#[test]
fn t10_no_two_files_have_the_same_path() {
    let torrent = SampleTorrent::with_paths(&[&["a.txt"], &["a.txt"], &["a.1.txt"], &["a.txt"]]);
    assert_eq!(paths(&torrent), ["name/a.txt", "name/a.2.txt", "name/a.1.txt", "name/a.3.txt"]);
    assert_eq!(parse(&torrent).unwrap().repairs().files_renamed, 2);
}

#[test]
fn t10_renames_a_file_that_is_also_a_directory() {
    assert_eq!(paths(&SampleTorrent::with_paths(&[&["a"], &["a", "b"]])), ["name/a.1", "name/a/b"]);
    assert_eq!(
        paths(&SampleTorrent::with_paths(&[&["a", "b", "c"], &["a!"], &["a", "b"]])),
        ["name/a/b/c", "name/a!", "name/a/b.1"]
    );
}

#[test]
fn t10_renames_names_that_differ_in_case_only_for_fat() {
    let info = parse(&SampleTorrent::with_paths(&[
        &["A.txt"],
        &["a.txt"],
        &["D", "x"],
        &["d", "y"],
        &["É"],
        &["é"],
    ]))
    .unwrap();
    assert_eq!(info.repairs().files_renamed, 0, "different names on Linux");
    assert_eq!(paths_on_fat(&info), ["A.txt", "a.1.txt", "D/x", "d/y", "É", "é.1"]);
}

#[test]
fn t10_renames_twenty_thousand_equal_names_in_little_time() {
    let torrent =
        SampleTorrent::of(std::iter::repeat_n(file(&["a"], 1), 20_000)).info("pieces", s(vec![0; 20 * 2]));
    assert_eq!(parse(&torrent).unwrap().repairs().files_renamed, 19_999);
}

#[test]
fn t11_never_creates_symlinks() {
    let link = |target: &[&str]| {
        dict([
            ("attr", s("l")),
            ("length", i(0)),
            ("path", list([s("link")])),
            ("symlink path", list(target.iter().map(s).collect::<Vec<_>>())),
        ])
    };
    let info = parse(&SampleTorrent::of([
        link(&["..", "..", "etc"]),
        file(&["link", "passwd"], 10),
        file(&["f"], 5),
    ]))
    .unwrap();
    assert!(info.files().get(0).unwrap().attributes.symlink && !info.files().get(0).unwrap().lands_on_disk());
    assert_eq!(
        info.files().get(1).unwrap().path_text(),
        "name/link/passwd",
        "a path below a symlink is an ordinary directory"
    );
    assert_eq!(info.files().get(2).unwrap().offset, 10);
}

#[test]
fn t11_a_symlink_with_content_is_a_file() {
    let info = parse(&SampleTorrent::of([file_with_attr("l", &["x"], 10)])).unwrap();
    assert!(!info.files().get(0).unwrap().attributes.symlink && info.files().get(0).unwrap().lands_on_disk());
}

#[test]
fn t12_every_component_is_a_plain_name() {
    let torrent = SampleTorrent::with_paths(&[&["a/b", "..", "/c", "d\0"], &["e", "f/"]]);
    for file in parse(&torrent).unwrap().files().iter() {
        for name in file.path() {
            assert!(
                !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']),
                "{name:?}"
            );
        }
    }
}

#[test]
fn t29_pad_files_have_an_offset_but_are_not_created() {
    let nameless = dict([("attr", s("p")), ("length", i(3))]);
    let last = file_with_attr("p", &[".pad", "7"], 7);
    let twice = file_with_attr("xp", &[".pad", "7"], 7);
    let info = parse(&SampleTorrent::of([file(&["a"], 5), nameless, twice, file(&["b"], 5), last])).unwrap();
    let seen: Vec<_> =
        info.files().iter().map(|f| (f.offset, f.length, f.attributes.pad, f.lands_on_disk())).collect();
    assert_eq!(
        seen,
        [
            (0, 5, false, true),
            (5, 3, true, false),
            (8, 7, true, false),
            (15, 5, false, true),
            (20, 7, true, false)
        ]
    );
    assert_eq!(info.geometry().total(), 27);
    assert_eq!(info.repairs().files_renamed, 0, "pad files are not renamed");
}

#[test]
fn t31_a_torrent_cannot_use_rills_own_file_names() {
    assert_eq!(one_path(&[".rill-resume"]), "_rill-resume");
    assert_eq!(one_path(&["d", ".RILL-lock"]), "d/_RILL-lock");
    assert!(
        parse(&SampleTorrent::single().info("name", s(".\u{200b}rill-x"))).unwrap().name().starts_with('_')
    );
    assert_eq!(one_path(&[".rilly"]), ".rilly");
    assert_eq!(OWN_PREFIX, ".rill-");
}

#[test]
fn s17_content_gets_another_name_and_keeps_its_hash() {
    let single = parse(&SampleTorrent::single()).unwrap();
    let renamed = single.renamed("x.iso").unwrap();
    assert_eq!((renamed.name(), renamed.info_hash()), ("x.iso", single.info_hash()));
    assert_eq!(renamed.files().get(0).unwrap().path_text(), "x.iso");
    assert_eq!(renamed.files().total(), single.files().total());
    assert!(renamed.is_single_file());
    // Colliding names were changed, so the files are stored with their whole paths.
    let torrent = SampleTorrent::with_paths(&[&["a"], &["d", "b"], &["a"], &["a", "c"]]);
    let files = parse(&torrent).unwrap();
    let renamed = files.renamed("new").unwrap();
    for (old, new) in files.files().iter().zip(renamed.files().iter()) {
        assert_eq!(old.path_text().replacen("name/", "new/", 1), new.path_text());
        assert_eq!((old.length, old.offset, old.attributes), (new.length, new.offset, new.attributes));
    }
    assert_eq!((renamed.files().len(), renamed.info()), (4, files.info()));
}

#[test]
fn s17_a_name_that_leads_elsewhere_is_refused() {
    let torrent = parse(&SampleTorrent::single()).unwrap();
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "a/b", "/a", "a\0", "a\n", ".rill-x", " ", "\u{202e}a", &long] {
        assert!(torrent.renamed(bad).is_none(), "{bad:?}");
    }
    for good in ["a", ".a", "a b", "\u{e9}", "-", &long[1..]] {
        assert!(torrent.renamed(good).is_some(), "{good:?}");
    }
}
