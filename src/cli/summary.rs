//! The last line about a torrent: what, how much, how long it took, the average rate, and where it lies.

use super::exit::Exit;
use super::format;
use super::progress::{DisplayPhase, Row};
use std::time::Duration;

/// End of a command, as far as the last lines need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunEnd<'a> {
    pub(crate) exit: Exit,
    /// Time since the start, without the wait for trackers.
    pub(crate) elapsed: Duration,
    /// The directory of the content, safe to print.
    pub(crate) place: &'a str,
    /// The command is `seed`.
    pub(crate) seed_only: bool,
}

/// Returns the last line about a torrent.
pub(crate) fn summary(row: &Row, end: RunEnd<'_>) -> String {
    format!("{}: {}", row.name, text(row, end))
}

fn text(row: &Row, end: RunEnd<'_>) -> String {
    let took = row.took.filter(|_| !end.seed_only).unwrap_or(end.elapsed);
    let in_time = |bytes: u64| {
        let mean = (bytes as f64 / took.as_secs_f64().max(0.001)) as u64;
        format!("in {} ({})", format::took(took), format::rate(mean))
    };
    let sent = match row.uploaded {
        0 => String::new(),
        sent => format!(", sent {}, ratio {:.2}", format::size(sent), row.ratio()),
    };
    if row.is_unknown() {
        return format!("no metadata after {}", format::duration(end.elapsed));
    }
    if end.seed_only && row.phase != DisplayPhase::Failed {
        let took = format::took(took);
        return format!("sent {} in {took}, ratio {:.2}", format::size(row.uploaded), row.ratio());
    }
    if row.took.is_some() && row.phase != DisplayPhase::Failed {
        let what = match row.selected_of {
            None => format::size(row.wanted_bytes),
            Some(all) => {
                format!(
                    "{} of the selected files ({} in all)",
                    format::size(row.wanted_bytes),
                    format::size(all)
                )
            }
        };
        let fetched = row.wanted_bytes.saturating_sub(row.resumed_bytes);
        return match row.resumed_bytes {
            0 => format!("{what} {}, saved in {}{sent}", in_time(fetched), end.place),
            _ if fetched == 0 => format!("{what}, all there already, in {}{sent}", end.place),
            _ => format!(
                "{what}, the last {} {}, saved in {}{sent}",
                format::size(fetched),
                in_time(fetched),
                end.place
            ),
        };
    }
    let verb = match end.exit {
        _ if row.phase == DisplayPhase::Failed => "failed",
        Exit::Stopped => "stopped",
        Exit::TimedOut => "timed out",
        _ => "ended",
    };
    let how = if row.phase == DisplayPhase::Failed { "" } else { ": run the same command to continue" };
    if matches!(row.phase, DisplayPhase::Checking { .. } | DisplayPhase::Starting) {
        return format!("{verb} before the content was checked{how}");
    }
    let share = row.share();
    let of = if row.selected_of.is_some() { " of the selected files" } else { "" };
    let fetched = row.have_bytes.saturating_sub(row.resumed_bytes);
    let have = match (row.have_bytes, row.resumed_bytes) {
        (0, _) => format!("nothing of {}", format::size(row.wanted_bytes)),
        (_, 0) => format::size_of(row.have_bytes, row.wanted_bytes),
        _ if fetched == 0 => format!("{}, nothing new", format::size_of(row.have_bytes, row.wanted_bytes)),
        _ => format!("{}, {} new", format::size_of(row.have_bytes, row.wanted_bytes), format::size(fetched)),
    };
    let took = if fetched == 0 { format!("in {}", format::took(took)) } else { in_time(fetched) };
    format!("{have} {took}{sent}, {verb} at {share}{of}{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: RunEnd<'_> =
        RunEnd { exit: Exit::Done, elapsed: Duration::from_secs(90), place: "here", seed_only: false };

    fn row() -> Row {
        Row {
            name: "a".into(),
            phase: DisplayPhase::Done,
            pieces: 100,
            wanted_bytes: 100 << 20,
            have_bytes: 100 << 20,
            downloaded: 101 << 20,
            took: Some(Duration::from_secs(10)),
            ..Row::default()
        }
    }

    #[test]
    fn s4_the_last_line_says_what_how_much_how_long_how_fast_and_where() {
        assert_eq!(summary(&row(), END), "a: 100.0 MiB in 10s (10.0 MiB/s), saved in here");
        let sent = Row { uploaded: 50 << 20, total_uploaded: 50 << 20, ..row() };
        assert!(summary(&sent, END).ends_with(", saved in here, sent 50.0 MiB, ratio 0.50"));
    }

    #[test]
    fn s4_a_stopped_download_says_how_far_it_is_and_how_to_continue() {
        let stopped = Row { phase: DisplayPhase::Downloading, have_bytes: 9 << 20, took: None, ..row() };
        let end = RunEnd { exit: Exit::Stopped, ..END };
        assert_eq!(
            summary(&stopped, end),
            "a: 9.0/100.0 MiB in 1m30s (102.4 KiB/s), stopped at 9.0%: run the same command to continue"
        );
        let end = RunEnd { exit: Exit::TimedOut, ..END };
        assert!(summary(&stopped, end).contains(", timed out at 9.0%: run the same"));
        let failed = Row { phase: DisplayPhase::Failed, resumed_bytes: 9 << 20, ..stopped.clone() };
        assert_eq!(summary(&failed, end), "a: 9.0/100.0 MiB, nothing new in 1m30s, failed at 9.0%");
        let checking = Row { phase: DisplayPhase::Checking { checked: 1, pieces: 9 }, ..stopped };
        let end = RunEnd { exit: Exit::Stopped, ..END };
        assert_eq!(
            summary(&checking, end),
            "a: stopped before the content was checked: run the same command to continue"
        );
    }

    #[test]
    fn s4_a_resumed_download_counts_only_what_was_missing() {
        let resumed = Row { resumed_bytes: 60 << 20, ..row() };
        assert_eq!(
            summary(&resumed, END),
            "a: 100.0 MiB, the last 40.0 MiB in 10s (4.0 MiB/s), saved in here"
        );
        let whole = Row { resumed_bytes: 100 << 20, ..row() };
        assert_eq!(summary(&whole, END), "a: 100.0 MiB, all there already, in here");
    }

    #[test]
    fn s5_a_selection_is_never_called_the_whole() {
        let part = Row { selected_of: Some(1 << 30), ..row() };
        assert!(
            summary(&part, END).starts_with("a: 100.0 MiB of the selected files (1.0 GiB in all) in 10s")
        );
        let have_bytes = row().wanted_bytes - 1;
        let nearly = Row { phase: DisplayPhase::Downloading, took: None, have_bytes, ..part };
        let end = RunEnd { exit: Exit::Stopped, ..END };
        assert!(summary(&nearly, end).contains("stopped at 99.9% of the selected files: run"));
    }

    #[test]
    fn the_last_line_of_a_link_without_metadata_and_of_a_seed() {
        let link = Row { name: "a".into(), phase: DisplayPhase::Metadata, ..Row::default() };
        assert_eq!(summary(&link, END), "a: no metadata after 1m30s");
        let seed =
            Row { phase: DisplayPhase::Seeding, uploaded: 10 << 20, total_uploaded: 10 << 20, ..row() };
        assert_eq!(
            summary(&seed, RunEnd { seed_only: true, ..END }),
            "a: sent 10.0 MiB in 1m30s, ratio 0.10"
        );
    }
}
