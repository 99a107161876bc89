//! The screens of five runs at three widths, compared with the files in `screens`.
//!
//! After a deliberate change `RILL_WRITE_SCREENS=1 cargo test --lib screens` writes the files; `git diff` then
//! shows what a user will see.

use super::exit::Exit;
use super::layout::{block, folded, waiting};
use super::progress::{DisplayPhase, Glyphs, Row};
use super::summary::{RunEnd, summary};
use std::path::Path;
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

const UTF8: Glyphs = Glyphs::new(true);
const MIB: u64 = 1 << 20;

/// One moment of a run.
enum Moment {
    /// The live block on a terminal with this many rows.
    Live(&'static str, Vec<Row>, usize),
    /// The last lines, and what the end waits for.
    End(&'static str, Vec<Row>, Exit, Option<&'static str>),
}

fn lines(moment: &Moment, width: usize) -> (&'static str, Vec<String>) {
    match moment {
        Moment::Live(title, rows, height) => (title, block(rows, width - 1, *height, UTF8)),
        Moment::End(title, rows, exit, awaited) => {
            let end = RunEnd {
                exit: *exit,
                elapsed: Duration::from_secs(42),
                place: "/home/ada/films",
                seed_only: false,
            };
            let last = rows.iter().map(|row| summary(row, end));
            let wait = awaited.map(|what| waiting(what, Duration::from_secs(5)));
            (title, last.chain(wait).flat_map(|line| folded(&line, width - 1, UTF8)).collect())
        }
    }
}

fn plain(moment: &Moment) -> Vec<String> {
    match moment {
        Moment::Live(_, rows, _) => rows.iter().map(|row| row.plain(Glyphs::new(false))).collect(),
        Moment::End(..) => lines(moment, 1000).1,
    }
}

/// Compares the screens of a run with its file.
fn hold(name: &str, moments: &[Moment]) {
    let mut text = String::new();
    for width in [40, 80, 200] {
        for moment in moments {
            let (title, lines) = lines(moment, width);
            text += &format!("== {width} columns: {title}\n");
            for line in lines {
                assert!(line.width() < width, "{line}");
                text += &(line + "\n");
            }
        }
    }
    if name != "thirty" {
        text += "== plain lines\n";
        moments.iter().flat_map(plain).for_each(|line| text += &(line + "\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/screens").join(name).with_extension("txt");
    if std::env::var_os("RILL_WRITE_SCREENS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let difference: Vec<String> = difference(&kept, &text);
    assert!(difference.is_empty(), "{} differs:\n{}", path.display(), difference.join("\n"));
}

/// Returns the lines that differ, those of the file with `-` and the new ones with `+`.
fn difference(kept: &str, new: &str) -> Vec<String> {
    let (mut kept, mut new): (Vec<&str>, Vec<&str>) = (kept.lines().collect(), new.lines().collect());
    let same_start = kept.iter().zip(&new).take_while(|(a, b)| a == b).count();
    kept.drain(..same_start);
    new.drain(..same_start);
    while kept.last().is_some() && kept.last() == new.last() {
        kept.pop();
        new.pop();
    }
    let of =
        |sign: &str, lines: Vec<&str>| lines.iter().map(|line| format!("{sign}{line}")).collect::<Vec<_>>();
    [of("-", kept), of("+", new)].concat()
}

fn debian() -> Row {
    Row {
        name: "debian-13.2.0-amd64-netinst.iso".into(),
        phase: DisplayPhase::Downloading,
        wanted_bytes: 783 * MIB,
        have_bytes: 96 * MIB,
        pieces: 3132,
        download_rate: 12_687_769,
        upload_rate: 419_430,
        downloaded: 96 * MIB,
        peers: 23,
        eta: Some(Duration::from_secs(57)),
        ..Row::default()
    }
}

fn waits_for_peers() -> Row {
    Row {
        have_bytes: 0,
        downloaded: 0,
        download_rate: 0,
        upload_rate: 0,
        peers: 0,
        eta: None,
        slow_reason: Some("no peers"),
        ..debian()
    }
}

fn done() -> Row {
    Row {
        phase: DisplayPhase::Done,
        have_bytes: 783 * MIB,
        took: Some(Duration::from_secs(65)),
        ..Row { download_rate: 0, upload_rate: 0, peers: 0, eta: None, ..debian() }
    }
}

#[test]
fn s7_screens_of_a_good_download() {
    let slow = Row { slow_reason: Some("own limit"), download_rate: 102_400, ..debian() };
    let last = Row { have_bytes: 783 * MIB - 1, eta: Some(Duration::ZERO), ..debian() };
    hold(
        "good",
        &[
            Moment::Live("start", vec![Row { phase: DisplayPhase::Starting, ..waits_for_peers() }], 24),
            Moment::Live("first second", vec![waits_for_peers()], 24),
            Moment::Live("download", vec![debian()], 24),
            Moment::Live("limited", vec![slow], 24),
            Moment::Live("last block", vec![last], 24),
            Moment::Live("done", vec![done()], 24),
            Moment::End("end", vec![done()], Exit::Done, None),
        ],
    );
}

#[test]
fn s1_screens_of_a_refused_download() {
    let trouble = "tracker tracker.example.org:6969 refuses: this torrent is not registered; 1 tracker is left out; \
                   peer 192.0.2.7:6881: connection refused";
    let refused = Row { trouble: Some(trouble.into()), ..waits_for_peers() };
    let link = Row { phase: DisplayPhase::Metadata, dht_nodes: Some(87), ..refused.clone() };
    hold(
        "refused",
        &[
            Moment::Live("refused", vec![refused.clone()], 24),
            Moment::Live("a link", vec![link], 24),
            Moment::End("end", vec![refused], Exit::TimedOut, None),
        ],
    );
}

#[test]
fn s4_screens_of_a_stopped_download() {
    let stopped = Row { have_bytes: 72 * MIB, ..debian() };
    hold(
        "stopped",
        &[
            Moment::Live("download", vec![stopped.clone()], 24),
            Moment::End("Ctrl-C", vec![stopped], Exit::Stopped, Some("tracker tracker.example.org:6969")),
        ],
    );
}

#[test]
fn s4_screens_of_a_resumed_download() {
    let resumed = Row { resumed_bytes: 72 * MIB, has_just_resumed: true, ..debian() };
    let checking = Row { phase: DisplayPhase::Checking { checked: 250, pieces: 3132 }, ..waits_for_peers() };
    let done = Row { resumed_bytes: 72 * MIB, ..done() };
    let selected = Row { selected_of: Some(4000 * MIB), name: "a series".into(), ..debian() };
    let part = Row { selected_of: Some(4000 * MIB), name: "a series".into(), ..done.clone() };
    hold(
        "resumed",
        &[
            Moment::Live("check", vec![checking], 24),
            Moment::Live("resumed, and a selection", vec![resumed, selected], 24),
            Moment::Live("done, and a selection", vec![done.clone(), part.clone()], 24),
            Moment::End("end", vec![done, part], Exit::Done, None),
        ],
    );
}

#[test]
fn s6_screens_of_thirty_torrents() {
    let names = [
        "alpine-3.22.iso",
        "日本の民話.epub",
        "the.complete.recordings.of.a.small.town.orchestra.1962-1987.flac",
    ];
    let rows: Vec<Row> = (0..30)
        .map(|n| {
            let name = format!("{:02} {}", n + 1, names[n % 3]);
            let bytes = (n as u64 + 1) * 37 * MIB;
            let busy = Row { name, wanted_bytes: bytes, have_bytes: bytes * n as u64 / 30, ..debian() };
            match n {
                3 => Row { name: busy.name, wanted_bytes: bytes, ..waits_for_peers() },
                4 => Row {
                    name: busy.name,
                    wanted_bytes: bytes,
                    trouble: Some("tracker t.example refuses: not registered".into()),
                    trouble_words: Some("refused: not registered".into()),
                    ..waits_for_peers()
                },
                5 => Row { name: busy.name, phase: DisplayPhase::Metadata, ..waits_for_peers() },
                6 => Row { phase: DisplayPhase::Checking { checked: 5, pieces: 99 }, ..busy },
                7..=11 => Row { name: busy.name, wanted_bytes: bytes, ..done() },
                12 => Row { phase: DisplayPhase::Failed, ..busy },
                13 => Row { phase: DisplayPhase::Seeding, have_bytes: bytes, ..busy },
                14 => Row { selected_of: Some(bytes * 9), phase: DisplayPhase::Done, ..busy },
                n => Row { download_rate: 1 << n, ..busy },
            }
        })
        .collect();
    hold("thirty", &[Moment::Live("24 rows", rows.clone(), 24), Moment::Live("50 rows", rows, 50)]);
}
