//! `rill verify`: hashes content and prints which pieces and files are good.
//!
//! A file is good if every piece that overlaps it is good and its length is exact; an empty file is good if
//! it exists. The exit code is 0 if all pieces and files are good, 15 if nothing is wrong but that files cannot
//! be opened, else 32. Nothing is written and no resume record is read.

use super::args;
use super::exit::{Exit, Failure, reason};
use super::json::{Object, array};
use super::progress_line::ProgressLine;
use super::show::path_of;
use super::source::{self, SourceArg};
use super::{certificates, fault_exit, format, out, proxy};
use crate::disk::{FaultKind, FileState, OpenTorrent, VerifyReport};
use crate::net::{Egress, HttpOptions};
use crate::units::Bitfield;
use crate::wire::{FileEntry, Metainfo, printable};
use std::fmt::Write;
use std::io;
use std::path::Path;

/// Runs `rill verify`.
pub(crate) fn run(options: &args::Verify) -> Result<Exit, Failure> {
    let egress = Egress { proxy: proxy::of(&options.proxy)?, ..Egress::default() };
    let http = HttpOptions { roots: certificates::roots(&options.https)?, egress };
    let metainfo = source::torrent(&SourceArg::parse(&options.source), &http)?;
    let metainfo = options.out.as_deref().and_then(|name| metainfo.renamed(name)).unwrap_or(metainfo);
    let found = hash(&metainfo, &options.dir, options.quiet || options.json)?;
    let reports = judge(&metainfo, &found);
    let good = found.have.is_full() && reports.iter().all(|r| r.state == FileVerdict::Good);
    if !options.quiet {
        out::data(&if options.json {
            object(&metainfo, &found.have, &reports, good)
        } else {
            table(&metainfo, &found.have, &reports)
        });
    }
    Ok(if good { Exit::Done } else { verdict(&metainfo, &found.have, &reports) })
}

/// Returns the exit code of content that is not all good: [`Exit::Open`] if every bad piece and file is one
/// that cannot be opened.
fn verdict(metainfo: &Metainfo, have: &Bitfield, reports: &[FileSummary<'_>]) -> Exit {
    let unreadable = |r: &FileSummary<'_>| matches!(r.state, FileVerdict::CannotOpen(_));
    let geometry = metainfo.geometry();
    let mut unknown = Bitfield::empty(geometry.pieces());
    let mut start = 0;
    let mut summaries = reports.iter().peekable();
    for (i, file) in metainfo.files().iter().enumerate() {
        let end = start + file.length;
        if let Some(summary) = summaries.next_if(|r| r.number == i + 1) {
            if unreadable(summary) {
                geometry.pieces_of(start, end).for_each(|piece| _ = unknown.set(piece));
            }
        }
        start = end;
    }
    let all_explained = geometry.all_pieces().all(|piece| have.has(piece) || unknown.has(piece));
    // A neighbour that shares a piece with such a file is called bad, though nothing is known of it.
    let files_explained =
        reports.iter().all(|r| unreadable(r) || matches!(r.state, FileVerdict::Good | FileVerdict::Bad));
    if all_explained && files_explained { Exit::Open } else { Exit::Mismatch }
}

fn hash(metainfo: &Metainfo, dir: &Path, silent: bool) -> Result<VerifyReport, Failure> {
    let geometry = metainfo.geometry();
    let (files, hashes) = (metainfo.files().clone(), metainfo.hashes());
    let torrent = OpenTorrent {
        read_only: true,
        check: true,
        ..OpenTorrent::new(metainfo.info_hash().into(), geometry, files, hashes, dir)
    };
    let mut meter = ProgressLine::new("checking", metainfo.name(), geometry.pieces(), silent);
    crate::disk::verify(torrent, &mut |done, all| meter.show(done, all)).map_err(|fault| match fault.kind {
        // Without the directory no file of the torrent exists, which is a result of the check and not
        // an error.
        FaultKind::Missing => Failure::new(Exit::Mismatch, fault.to_string()),
        _ => Failure::new(fault_exit(&fault), fault.to_string()),
    })
}

/// State of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileVerdict {
    Good,
    Missing,
    /// Not a regular file.
    Odd,
    /// Longer than in the torrent; the torrent's part of it may be good or bad.
    Longer,
    Shorter,
    Bad,
    /// It cannot be opened, for the reason with this number of the system.
    CannotOpen(i32),
}

impl FileVerdict {
    fn word(self) -> &'static str {
        match self {
            FileVerdict::Good => "good",
            FileVerdict::Missing => "missing",
            FileVerdict::Odd => "odd",
            FileVerdict::Longer => "longer",
            FileVerdict::Shorter => "shorter",
            FileVerdict::Bad => "bad",
            FileVerdict::CannotOpen(_) => "unread",
        }
    }

    /// Returns why the content is not known, if it is not.
    fn reason(self) -> Option<String> {
        let FileVerdict::CannotOpen(errno) = self else { return None };
        Some(format!("cannot open: {}", reason(&io::Error::from_raw_os_error(errno))))
    }
}

/// Result for one file.
#[derive(Debug)]
struct FileSummary<'a> {
    file: FileEntry<'a>,
    number: usize,
    pieces: u32,
    pieces_good: u32,
    state: FileVerdict,
}

fn judge<'a>(metainfo: &'a Metainfo, found: &VerifyReport) -> Vec<FileSummary<'a>> {
    let report = |r: &crate::disk::FileReport| {
        let state = match r.state {
            FileState::Missing => FileVerdict::Missing,
            FileState::NotAFile => FileVerdict::Odd,
            FileState::TooLong => FileVerdict::Longer,
            FileState::TooShort => FileVerdict::Shorter,
            FileState::CannotOpen(errno) => FileVerdict::CannotOpen(errno),
            FileState::Present if r.bad > 0 => FileVerdict::Bad,
            FileState::Present => FileVerdict::Good,
        };
        let file = metainfo.files().get(r.file)?;
        Some(FileSummary { file, number: r.file + 1, pieces: r.pieces, pieces_good: r.pieces - r.bad, state })
    };
    found.files.iter().filter_map(report).collect()
}

fn table(metainfo: &Metainfo, have: &Bitfield, reports: &[FileSummary<'_>]) -> String {
    let mut text = String::new();
    for r in reports {
        let part = if let Some(reason) = r.state.reason() {
            format!(" ({reason})")
        } else if r.pieces_good < r.pieces {
            format!(" ({} of {} pieces good)", r.pieces_good, r.pieces)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "{:<7} {:>12} {}{part}",
            r.state.word(),
            format::size(r.file.length),
            path_of(r.file)
        );
    }
    let good = reports.iter().filter(|r| r.state == FileVerdict::Good).count();
    let name = printable(metainfo.name(), 200);
    let _ = writeln!(
        text,
        "{name}: {} of {} pieces and {good} of {} files are good",
        have.ones(),
        have.pieces(),
        reports.len()
    );
    text
}

fn object(metainfo: &Metainfo, have: &Bitfield, reports: &[FileSummary<'_>], good: bool) -> String {
    let files = reports.iter().map(|r| {
        let o = Object::new()
            .num("number", r.number as u64)
            .str("path", &r.file.path_text())
            .num("bytes", r.file.length);
        let o = o
            .str("state", r.state.word())
            .num("pieces", r.pieces.into())
            .num("pieces_good", r.pieces_good.into());
        match r.state.reason() {
            Some(reason) => o.str("reason", &reason).end(),
            None => o.end(),
        }
    });
    let bad =
        metainfo.geometry().all_pieces().filter(|piece| !have.has(*piece)).map(|piece| piece.to_string());
    let o = Object::new()
        .str("name", metainfo.name())
        .str("info_hash", &metainfo.info_hash().to_string())
        .bool("good", good);
    let o = o
        .num("pieces", have.pieces().into())
        .num("pieces_good", have.ones().into())
        .raw("pieces_bad", &array(bad));
    o.list("files", files).end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PieceHash;
    use crate::wire::metainfo::Builder;

    fn torrent() -> Metainfo {
        let files = [("a", 20u64), ("empty", 0), ("b", 15)].map(|(name, len)| (vec![name.to_string()], len));
        let builder = Builder { piece_len: 10, ..Builder::multi("t", files.to_vec()) };
        Metainfo::parse(&builder.finish(&[PieceHash([0; 20]); 4]).unwrap()).unwrap()
    }

    fn found(have: Bitfield, states: [(u32, u32, FileState); 3]) -> VerifyReport {
        let files = states.into_iter().enumerate();
        let files = files
            .map(|(file, (pieces, bad, state))| crate::disk::FileReport { file, pieces, bad, state })
            .collect();
        VerifyReport { have, files }
    }

    #[test]
    fn a_file_is_good_only_with_its_pieces_and_its_length() {
        use FileState::{Missing, Present, TooLong};
        let m = torrent();
        let mut have = Bitfield::full(4);
        have.clear(m.geometry().piece(3).unwrap());
        let states: Vec<FileVerdict> =
            judge(&m, &found(have, [(2, 0, TooLong), (0, 0, Present), (2, 1, Present)]))
                .iter()
                .map(|r| r.state)
                .collect();
        assert_eq!(states, [FileVerdict::Longer, FileVerdict::Good, FileVerdict::Bad]);
        let states: Vec<FileVerdict> =
            judge(&m, &found(Bitfield::full(4), [(2, 0, Present), (0, 0, Missing), (2, 0, Present)]))
                .iter()
                .map(|r| r.state)
                .collect();
        assert_eq!(states, [FileVerdict::Good, FileVerdict::Missing, FileVerdict::Good]);
    }

    #[test]
    fn the_table_counts_pieces_and_files() {
        let m = torrent();
        let found = found(
            Bitfield::full(4),
            [(2, 0, FileState::Present), (0, 0, FileState::Missing), (2, 0, FileState::Present)],
        );
        let reports = judge(&m, &found);
        assert!(table(&m, &found.have, &reports).ends_with("t: 4 of 4 pieces and 2 of 3 files are good\n"));
        assert!(object(&m, &found.have, &reports, false).contains(r#""state":"missing""#));
    }

    #[test]
    fn r13_a_file_that_cannot_be_opened_is_not_called_bad() {
        use FileState::{CannotOpen, Missing, Present};
        let m = torrent();
        let exit = |have: &[u32], states| {
            let mut bits = Bitfield::empty(4);
            have.iter().for_each(|piece| _ = bits.set(m.geometry().piece(*piece).unwrap()));
            let found = found(bits, states);
            verdict(&m, &found.have, &judge(&m, &found))
        };
        let denied = CannotOpen(libc::EACCES);
        assert_eq!(exit(&[2, 3], [(2, 2, denied), (0, 0, Present), (2, 0, Present)]), Exit::Open);
        assert_eq!(exit(&[2], [(2, 2, denied), (0, 0, Present), (2, 1, Present)]), Exit::Mismatch);
        assert_eq!(exit(&[2, 3], [(2, 2, denied), (0, 0, Missing), (2, 0, Present)]), Exit::Mismatch);
        let found = found(Bitfield::empty(4), [(2, 2, denied), (0, 0, Present), (2, 2, Present)]);
        let reports = judge(&m, &found);
        let line = "unread          20 B t/a (cannot open: permission denied)\n";
        assert!(table(&m, &found.have, &reports).starts_with(line), "{}", table(&m, &found.have, &reports));
        let reason =
            r#""state":"unread","pieces":2,"pieces_good":0,"reason":"cannot open: permission denied""#;
        assert!(object(&m, &found.have, &reports, false).contains(reason));
    }
}
