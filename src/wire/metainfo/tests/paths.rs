//! T1 to T12, T29, T31: names from outside become paths that stay inside.

use super::super::{Metainfo, MetainfoError, OWN_PREFIX, for_fat};
use super::{one_path, parse, paths};
use crate::wire::testing::{SampleTorrent, dict, file, file_with_attr, i, list, s};

#[test]
fn t1_dots_lead_nowhere() {
    assert_eq!(one_path(&["..", "..", "etc", "passwd"]), "etc/passwd");
    assert_eq!(one_path(&["a", ".", "..", "b"]), "a/b");
    assert_eq!(one_path(&[".\u{200b}.", "b"]), "b", "dots that only show after cleaning");
    assert_eq!(one_path(&["/..", "b"]), "b");
    assert_eq!(one_path(&[".. ", "..."]), ".. /...", "names like any other on Linux");
}

#[test]
fn t1_dots_lead_nowhere_in_names_and_twins() {
    let torrent =
        SampleTorrent::of([dict([("length", i(1)), ("path.utf-8", list([s(".."), s("x")]))])]).info("name.utf-8", s("../up"));
    assert_eq!(paths(&torrent), [".._up/x"]);
    assert_eq!(parse(&SampleTorrent::single().info("name", s(".."))).unwrap().name().len(), 40, "the info hash");
}

#[test]
fn t2_absolute_paths_become_relative() {
    assert_eq!(one_path(&["/etc", "passwd"]), "etc/passwd");
    assert_eq!(one_path(&["", "/", "//etc/", "passwd"]), "etc_/passwd");
    assert_eq!(one_path(&["\\\\server", "share"]), "server/share");
    assert_eq!(parse(&SampleTorrent::single().info("name", s("/root/x"))).unwrap().name(), "root_x");
}

/// Below the torrent's own directory.
fn paths_on_fat(info: &Metainfo) -> Vec<String> {
    for_fat(info.files()).iter().map(|file| file.path().skip(1).collect::<Vec<_>>().join("/")).collect()
}

#[test]
fn t2_drive_letters_are_mapped_for_fat_alone() {
    let info = parse(&SampleTorrent::with_paths(&[&["c:", "a\\b"]])).unwrap();
    assert_eq!(info.files().get(0).unwrap().path().collect::<Vec<_>>(), ["name", "c:", "a\\b"]);
    assert_eq!(paths_on_fat(&info), ["c_/a_b"]);
}

#[test]
fn t3_separator_inside_a_component_is_replaced() {
    assert_eq!(one_path(&["a/../../b"]), "a_.._.._b");
    assert_eq!(parse(&SampleTorrent::single().info("name", s("Bundle 1/2"))).unwrap().name(), "Bundle 1_2");
}

#[test]
fn t4_control_and_invisible_characters_never_stay() {
    assert_eq!(one_path(&["a\0b\x1b[2J\x7f\u{9b}c"]), "a_b_[2J__c");
    assert_eq!(one_path(&["gpj\u{202e}exe.\u{200b}\u{feff}txt"]), "gpjexe.txt");
}

#[test]
fn t5_the_macos_icon_file_loads() {
    assert_eq!(one_path(&["Icon\r"]), "Icon_");
}

#[test]
fn t6_empty_names_get_a_stand_in() {
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
fn t7_bytes_that_are_not_utf8_are_replaced() {
    let raw = |bytes: &[u8]| paths(&SampleTorrent::of([dict([("length", i(1)), ("path", list([s(bytes)]))])]))[0].clone();
    assert_eq!(raw(b"caf\xe9.txt"), "name/caf_.txt");
    assert_eq!(raw(b"..\xc0\xaf.."), "name/..__..", "an overlong slash");
    assert_eq!(raw(b"\xf8\x88\x80\x80\xaf"), "name/_____", "a five-byte form");
}

#[test]
fn t7_names_that_become_equal_are_parted_again() {
    let entry = |bytes: &[u8]| dict([("length", i(1)), ("path", list([s(bytes)]))]);
    assert_eq!(paths(&SampleTorrent::of([entry(b"a\xff"), entry(b"a\xfe")])), ["name/a_", "name/a_.1"]);
}

#[test]
fn t7_a_twin_that_is_not_utf8_does_not_count() {
    let entry = dict([("length", i(1)), ("path", list([s("good")])), ("path.utf-8", list([s(b"\xff")]))]);
    assert_eq!(paths(&SampleTorrent::of([entry]).info("name.utf-8", s(b"\xff"))), ["name/good"]);
}

#[test]
fn t8_a_long_component_is_cut_between_characters_and_keeps_its_extension() {
    let cut = one_path(&[&format!("{}.tar.gz", "é".repeat(300))]);
    assert!(cut.len() == 255 && cut.ends_with("é.gz"), "{cut}");
    let cut = one_path(&[&format!("{}.{}", "x".repeat(300), "y".repeat(300))]);
    assert_eq!(cut, "x".repeat(255));
    let fits = "x".repeat(255);
    assert_eq!(one_path(&[&fits]), fits);
}

#[test]
fn t8_a_counter_or_a_stand_in_makes_no_name_too_long() {
    let long = format!("{}.mkv", "x".repeat(251));
    let info = parse(&SampleTorrent::with_paths(&[&[&long], &[&long], &[&format!("aux.{}", "x".repeat(251))]])).unwrap();
    assert_eq!(info.files().get(1).unwrap().path().nth(1).unwrap(), format!("{}.1.mkv", "x".repeat(249)));
    assert_eq!(paths_on_fat(&info)[2].len(), 255);
}

#[test]
fn t8_a_path_that_no_system_takes_is_refused() {
    let long = "x".repeat(200);
    let deep: Vec<&str> = std::iter::repeat_n(long.as_str(), 20).collect();
    let refused = parse(&SampleTorrent::with_paths(&[&["ok"], &deep]));
    assert!(matches!(refused, Err(MetainfoError::PathTooLong { file: 2, bytes: 4025 })), "{refused:?}");
}

#[test]
fn t9_reserved_names_are_kept_on_linux_and_mapped_for_fat() {
    let info =
        parse(&SampleTorrent::with_paths(&[&["CON"], &["lpt1.txt"], &["a<b>?.x"], &["dir. ", "f"], &["console"], &[".. ."]]))
            .unwrap();
    let linux: Vec<_> = info.files().iter().map(|f| f.path().skip(1).collect::<Vec<_>>().join("/")).collect();
    assert_eq!(linux, ["CON", "lpt1.txt", "a<b>?.x", "dir. /f", "console", ".. ."]);
    assert_eq!(paths_on_fat(&info), ["_CON", "_lpt1.txt", "a_b__.x", "dir/f", "console", "_"]);
}

#[test]
fn t10_no_two_entries_share_a_path() {
    let torrent = SampleTorrent::with_paths(&[&["a.txt"], &["a.txt"], &["a.1.txt"], &["a.txt"]]);
    assert_eq!(paths(&torrent), ["name/a.txt", "name/a.2.txt", "name/a.1.txt", "name/a.3.txt"]);
    assert_eq!(parse(&torrent).unwrap().repairs().files_renamed, 2);
}

#[test]
fn t10_a_file_that_is_also_a_directory_is_renamed() {
    assert_eq!(paths(&SampleTorrent::with_paths(&[&["a"], &["a", "b"]])), ["name/a.1", "name/a/b"]);
    assert_eq!(
        paths(&SampleTorrent::with_paths(&[&["a", "b", "c"], &["a!"], &["a", "b"]])),
        ["name/a/b/c", "name/a!", "name/a/b.1"]
    );
}

#[test]
fn t10_names_that_differ_in_case_are_parted_for_fat() {
    let info = parse(&SampleTorrent::with_paths(&[&["A.txt"], &["a.txt"], &["D", "x"], &["d", "y"], &["É"], &["é"]])).unwrap();
    assert_eq!(info.repairs().files_renamed, 0, "different names on Linux");
    assert_eq!(paths_on_fat(&info), ["A.txt", "a.1.txt", "D/x", "d/y", "É", "é.1"]);
}

#[test]
fn t10_twenty_thousand_equal_names_take_no_long_time() {
    let torrent = SampleTorrent::of(std::iter::repeat_n(file(&["a"], 1), 20_000)).info("pieces", s(vec![0; 20 * 2]));
    assert_eq!(parse(&torrent).unwrap().repairs().files_renamed, 19_999);
}

#[test]
fn t11_symlinks_are_never_created() {
    let link = |target: &[&str]| {
        dict([
            ("attr", s("l")),
            ("length", i(0)),
            ("path", list([s("link")])),
            ("symlink path", list(target.iter().map(s).collect::<Vec<_>>())),
        ])
    };
    let info = parse(&SampleTorrent::of([link(&["..", "..", "etc"]), file(&["link", "passwd"], 10), file(&["f"], 5)])).unwrap();
    assert!(info.files().get(0).unwrap().attributes.symlink && !info.files().get(0).unwrap().lands_on_disk());
    assert_eq!(info.files().get(1).unwrap().path_text(), "name/link/passwd", "below a link: a directory of our own");
    assert_eq!(info.files().get(2).unwrap().offset, 10);
}

#[test]
fn t11_a_link_with_content_is_a_file() {
    let info = parse(&SampleTorrent::of([file_with_attr("l", &["x"], 10)])).unwrap();
    assert!(!info.files().get(0).unwrap().attributes.symlink && info.files().get(0).unwrap().lands_on_disk());
}

#[test]
fn t12_every_component_can_be_opened_on_its_own() {
    let torrent = SampleTorrent::with_paths(&[&["a/b", "..", "/c", "d\0"], &["e", "f/"]]);
    for file in parse(&torrent).unwrap().files().iter() {
        for name in file.path() {
            assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']), "{name:?}");
        }
    }
}

#[test]
fn t29_pads_count_in_the_torrent_and_not_on_the_disk() {
    let nameless = dict([("attr", s("p")), ("length", i(3))]);
    let last = file_with_attr("p", &[".pad", "7"], 7);
    let twice = file_with_attr("xp", &[".pad", "7"], 7);
    let info = parse(&SampleTorrent::of([file(&["a"], 5), nameless, twice, file(&["b"], 5), last])).unwrap();
    let seen: Vec<_> = info.files().iter().map(|f| (f.offset, f.length, f.attributes.pad, f.lands_on_disk())).collect();
    assert_eq!(seen, [(0, 5, false, true), (5, 3, true, false), (8, 7, true, false), (15, 5, false, true), (20, 7, true, false)]);
    assert_eq!(info.geometry().total(), 27);
    assert_eq!(info.repairs().files_renamed, 0, "equal names of pads matter to nobody");
}

#[test]
fn t31_rills_own_names_are_not_the_torrents() {
    assert_eq!(one_path(&[".rill-resume"]), "_rill-resume");
    assert_eq!(one_path(&["d", ".RILL-lock"]), "d/_RILL-lock");
    assert!(parse(&SampleTorrent::single().info("name", s(".\u{200b}rill-x"))).unwrap().name().starts_with('_'));
    assert_eq!(one_path(&[".rilly"]), ".rilly");
    assert_eq!(OWN_PREFIX, ".rill-");
}
