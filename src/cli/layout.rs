//! The live block: a pure function of the torrents' rows, the width and the height of the terminal.
//!
//! A torrent has two lines, its name with a bar and its figures, and more below them while it has no peers and
//! the reason is known. If that does not fit, each torrent has one line; if that does not fit either, the last line
//! counts the others. Finished torrents are below the running ones. Columns have fixed widths, so that
//! nothing moves while figures change, and no line is wider than the given width.

use super::format;
use super::progress::{DisplayPhase, Glyphs, Row, bar, fit};
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// Columns of a share, as in `12.3%`.
const SHARE_COLUMNS: usize = 5;
/// Columns of a rate, as in `999.9 KiB/s`.
const RATE_COLUMNS: usize = 11;
/// Columns of a remaining time, as in `999d23h`, and its word.
const ETA_COLUMNS: usize = 10;
/// Columns of a size, as in `1023.9 MiB`.
const SIZE_COLUMNS: usize = 10;
/// Most lines about the trackers and given peers of one torrent.
const TROUBLE_LINES: usize = 4;
/// Least columns of a name beside a bar.
const LEAST_NAME: usize = 8;

/// One figure of a line.
struct Figure {
    text: String,
    /// Columns that the figure may need at another moment, so that the choice of figures is steady.
    columns: usize,
    /// Figures of a higher rank are left out first.
    rank: u8,
}

impl Figure {
    fn new(rank: u8, text: impl Into<String>) -> Figure {
        let text = text.into();
        Figure { columns: text.width(), text, rank }
    }

    /// Returns a figure that is aligned to the right in its columns.
    fn right(rank: u8, text: &str, columns: usize) -> Figure {
        Figure::new(rank, format!("{text:>columns$}"))
    }
}

/// Joins the figures that fit into `width` columns; those of a low rank get their columns first.
fn join(figures: Vec<Figure>, width: usize, g: Glyphs) -> String {
    let mut order: Vec<usize> = (0..figures.len()).collect();
    order.sort_by_key(|at| figures[*at].rank);
    let mut left = width + 1;
    let mut shown = vec![false; figures.len()];
    for at in order.iter().copied() {
        if let Some(rest) = left.checked_sub(figures[at].columns + 1) {
            left = rest;
            shown[at] = true;
        }
    }
    if !shown.contains(&true) {
        let first = order.first().map_or("", |at| figures[*at].text.trim());
        return fit(first, width, g);
    }
    let texts = figures.into_iter().zip(shown).filter(|(_, shown)| *shown).map(|(f, _)| f.text);
    texts.collect::<Vec<_>>().join(" ").trim_end().to_string()
}

impl Row {
    /// Returns the lines of one torrent alone: name and bar, then the figures.
    pub(crate) fn live(&self, width: usize, g: Glyphs) -> [String; 2] {
        let width = width.max(1);
        [self.name_and_bar(width, self.name.width(), g), self.figures_line(width, g)]
    }

    /// Returns the name in `name_columns` columns or fewer, and the bar.
    fn name_and_bar(&self, width: usize, name_columns: usize, g: Glyphs) -> String {
        let (have, all) = self.done_and_total();
        let cells = (width / 3).clamp(4, 40);
        if width < LEAST_NAME + cells + 2 {
            return fit(&self.name, width, g);
        }
        let columns = name_columns.min(width - cells - 2);
        let name = fit(&self.name, columns, g);
        let gap = " ".repeat(columns - name.width());
        // A bar is full only if everything is verified and durable.
        let have = if self.is_complete() { all } else { have.min(all.saturating_sub(1)) };
        format!("{name}{gap}  {}", bar(have, all.max(1), cells, g))
    }

    fn is_complete(&self) -> bool {
        matches!(self.phase, DisplayPhase::Done | DisplayPhase::Seeding)
    }

    fn figures_line(&self, width: usize, g: Glyphs) -> String {
        let (have, all) = self.done_and_total();
        let rate = |glyph: &str, rate: u64| format!("{glyph} {:>RATE_COLUMNS$}", format::short_rate(rate));
        let peers = |rank| {
            let s = if self.peers == 1 { " " } else { "s" };
            Figure::new(rank, format!("{:>2} peer{s}", self.peers))
        };
        let figures = match self.phase {
            DisplayPhase::Starting => vec![Figure::new(0, "starting")],
            DisplayPhase::Metadata => {
                let mut figures = vec![Figure::new(0, self.metadata_text())];
                figures.extend(self.dht_text().map(|text| Figure::new(1, text)));
                figures
            }
            DisplayPhase::Failed if self.is_unknown() => vec![Figure::new(0, "failed, no metadata")],
            DisplayPhase::Failed => {
                vec![Figure::new(0, "failed at"), Figure::new(0, self.share()), self.size_figure(1)]
            }
            DisplayPhase::Checking { .. } => vec![
                Figure::new(0, "checking"),
                Figure::new(2, "what is there,"),
                Figure::new(1, format!("{have:>columns$} of {all} pieces", columns = all.to_string().len())),
            ],
            DisplayPhase::Downloading => {
                let mut figures = vec![Figure::right(0, &self.share(), SHARE_COLUMNS), self.size_figure(4)];
                let is_idle = self.download_rate == 0 && self.slow_reason.is_some();
                if !is_idle {
                    figures.push(Figure::new(2, rate(g.down, self.download_rate)));
                }
                if !is_idle || self.upload_rate > 0 {
                    figures.push(Figure::new(6, rate(g.up, self.upload_rate)));
                }
                if !is_idle || self.peers > 0 {
                    figures.push(peers(5));
                }
                figures.push(self.word(is_idle));
                figures
            }
            DisplayPhase::Seeding => vec![
                Figure::new(0, self.done_text()),
                Figure::new(1, rate(g.up, self.upload_rate)),
                peers(2),
                Figure::new(3, format!("sent {}, ratio {:.2}", format::size(self.uploaded), self.ratio())),
            ],
            DisplayPhase::Done => {
                let mut figures = vec![Figure::new(0, self.done_text())];
                figures.extend(self.took.map(|took| Figure::new(1, format!("in {}", format::took(took)))));
                figures
            }
        };
        join(figures, width, g)
    }

    fn size_figure(&self, rank: u8) -> Figure {
        let (have, all) = self.done_and_total();
        let selected = if self.selected_of.is_some() { " selected" } else { "" };
        Figure::new(rank, format::padded_size_of(have, all) + selected)
    }

    /// Returns the last figure of a download: why it is slow, where it resumed, or the remaining time.
    fn word(&self, is_idle: bool) -> Figure {
        let (rank, text) = match (self.slow_reason, self.eta) {
            (Some(reason), _) if is_idle => (1, reason.to_string()),
            (Some(reason), _) => (3, format!("({reason})")),
            (None, _) if self.has_just_resumed => (1, resuming(self.resumed_bytes)),
            (None, Some(eta)) => (3, format!("ETA {}", format::duration(eta))),
            (None, None) => (3, String::new()),
        };
        Figure { columns: text.width().max(ETA_COLUMNS), text, rank }
    }

    /// Returns the torrent in one line: name, share, size, and its rate, time or state.
    fn one_line(&self, width: usize, name_columns: usize, g: Glyphs) -> String {
        let has_size = width >= 60;
        let beside = SHARE_COLUMNS + 2 + if has_size { SIZE_COLUMNS + 2 } else { 0 };
        let state_columns = g.down.width() + 1 + RATE_COLUMNS + if width >= 70 { 2 + ETA_COLUMNS } else { 0 };
        let room = width.saturating_sub(beside + 2 + state_columns);
        if room < LEAST_NAME {
            return fit(&format!("{:>SHARE_COLUMNS$} {}", self.short_share(), self.name), width, g);
        }
        let columns = name_columns.min(room);
        let name = fit(&self.name, columns, g);
        let mut line =
            format!("{name}{}  {:>SHARE_COLUMNS$}  ", " ".repeat(columns - name.width()), self.short_share());
        if has_size {
            let size = if self.wanted_bytes > 0 { format::size(self.wanted_bytes) } else { String::new() };
            line += &format!("{size:>SIZE_COLUMNS$}  ");
        }
        let state = self.state(width - line.width().min(width), g);
        (line + &state).trim_end().to_string()
    }

    /// Returns the share, if there is one; 100% is only that of the whole torrent.
    fn short_share(&self) -> String {
        match self.phase {
            DisplayPhase::Seeding | DisplayPhase::Done if self.selected_of.is_none() => "100%".to_string(),
            DisplayPhase::Downloading => self.share(),
            DisplayPhase::Failed if !self.is_unknown() => self.share(),
            _ => String::new(),
        }
    }

    /// Returns the rate and the remaining time, or the state, in at most `width` columns.
    fn state(&self, width: usize, g: Glyphs) -> String {
        let rate = |glyph: &str, rate: u64| format!("{glyph} {:>RATE_COLUMNS$}", format::short_rate(rate));
        let selected = if self.selected_of.is_some() { ", selected files" } else { "" };
        let text = match self.phase {
            DisplayPhase::Starting => "starting".to_string(),
            DisplayPhase::Metadata => self.why(width).unwrap_or(&self.metadata_text()).to_string(),
            DisplayPhase::Checking { checked, pieces } => format!("checking {checked} of {pieces} pieces"),
            DisplayPhase::Downloading if self.download_rate == 0 && self.slow_reason.is_some() => {
                self.why(width).or(self.slow_reason).unwrap_or_default().to_string()
            }
            DisplayPhase::Downloading => {
                let down = Figure::new(0, rate(g.down, self.download_rate));
                let word = self.word(false);
                let word = Figure { text: format!(" {}", word.text), columns: word.columns + 1, rank: 1 };
                return join(vec![down, word], width, g);
            }
            DisplayPhase::Seeding => {
                let up = Figure::new(0, rate(g.up, self.upload_rate));
                return join(vec![up, Figure::new(1, format!(" seeding{selected}"))], width, g);
            }
            DisplayPhase::Done => format!("done{selected}"),
            DisplayPhase::Failed => "failed".to_string(),
        };
        let is_long = text.width() > width;
        match self.phase {
            DisplayPhase::Metadata | DisplayPhase::Checking { .. } if is_long => {
                self.phase.word().to_string()
            }
            _ => cut(&text, width, g),
        }
    }

    /// Returns why the torrent has no peers, in a sentence or a few words; `None` if too little would fit.
    fn why(&self, width: usize) -> Option<&str> {
        const LEAST: usize = 20;
        let sentence = self.shown_trouble()?;
        let words = self.trouble_words.as_deref().filter(|words| words.width() <= width || width >= LEAST);
        if sentence.width() <= width { Some(sentence) } else { words }
    }

    fn is_running(&self) -> bool {
        !matches!(self.phase, DisplayPhase::Done | DisplayPhase::Failed)
    }
}

/// Cuts a sentence at its end to `width` columns.
fn cut(text: &str, width: usize, g: Glyphs) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mut shown = String::new();
    let room = width.saturating_sub(g.ellipsis.width());
    for c in text.chars() {
        shown.push(c);
        if shown.width() > room {
            shown.pop();
            break;
        }
    }
    fit(&(shown + g.ellipsis), width, g)
}

/// Returns where a download goes on.
pub(crate) fn resuming(bytes: u64) -> String {
    format!("resuming at {}", format::size(bytes))
}

/// Returns the live block in fewer than `height` lines, but at least one.
pub(crate) fn block(torrents: &[Row], width: usize, height: usize, g: Glyphs) -> Vec<String> {
    let width = width.max(1);
    // The cursor stands below the block.
    let room = height.saturating_sub(1).max(1);
    let (running, finished): (Vec<&Row>, Vec<&Row>) = torrents.iter().partition(|row| row.is_running());
    let name_columns = torrents.iter().map(|row| row.name.width()).max().unwrap_or(0);
    if torrents.len() * 2 <= room {
        let mut spare = room - torrents.len() * 2;
        let mut lines = Vec::with_capacity(room);
        for row in running.into_iter().chain(finished) {
            lines.push(row.name_and_bar(width, name_columns, g));
            lines.push(row.figures_line(width, g));
            let trouble = row.shown_trouble().map(|trouble| folded(trouble, width, g)).unwrap_or_default();
            let most = trouble.len().min(spare).min(TROUBLE_LINES);
            spare -= most;
            lines.extend(trouble.iter().take(most).cloned());
            if let Some(last) = lines.last_mut().filter(|_| most > 0 && most < trouble.len()) {
                *last = cut(&format!("{last}{}", g.ellipsis), width, g);
            }
        }
        return lines;
    }
    let one_line = |row: &&Row| row.one_line(width, name_columns, g);
    if torrents.len() <= room {
        return running.iter().chain(&finished).map(one_line).collect();
    }
    // Those with peers come first, so that the others are the ones that are left out.
    let (with_peers, without): (Vec<&Row>, Vec<&Row>) = running.iter().partition(|row| row.peers > 0);
    let order: Vec<&Row> = with_peers.into_iter().chain(without).chain(finished.iter().copied()).collect();
    let shown = room - 1;
    let mut lines: Vec<String> = order.iter().take(shown).map(one_line).collect();
    let others = order.get(shown..).unwrap_or_default();
    let done = others.iter().filter(|row| row.phase == DisplayPhase::Done).count();
    let (down, up) = torrents.iter().fold((0, 0), |(d, u), row| (d + row.download_rate, u + row.upload_rate));
    let figures = vec![
        Figure::new(0, format!("and {} more", others.len())),
        Figure::new(2, if done > 0 { format!("({done} done)") } else { String::new() }),
        Figure::new(1, format!("{} {}", g.down, format::short_rate(down))),
        Figure::new(3, format!("{} {}", g.up, format::short_rate(up))),
        Figure::new(4, "in all"),
    ];
    lines.push(join(figures.into_iter().filter(|f| !f.text.is_empty()).collect(), width, g));
    lines
}

/// Breaks a line between words so that no part is wider than `width`; all but the first part are indented.
pub(crate) fn folded(line: &str, width: usize, g: Glyphs) -> Vec<String> {
    const INDENT: &str = "  ";
    let mut lines: Vec<String> = Vec::new();
    let mut current = String::new();
    for word in line.split(' ') {
        if !current.trim().is_empty() && current.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut current, INDENT.to_string() + word));
        } else {
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
    }
    lines.push(current);
    lines.into_iter().map(|line| fit(&line, width, g)).collect()
}

/// How the live block says that the end waits for trackers.
pub(crate) fn waiting(what: &str, limit: Duration) -> String {
    format!("waiting for {what}, {} at most; Ctrl-C ends it now", format::duration(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Glyphs = Glyphs::new(true);
    const ASCII: Glyphs = Glyphs::new(false);

    fn row() -> Row {
        Row {
            name: "debian-13.0.0-amd64-netinst.iso".into(),
            phase: DisplayPhase::Downloading,
            wanted_bytes: 10_522_669_875,
            have_bytes: 1_288_490_188,
            pieces: 9,
            download_rate: 12_687_769,
            upload_rate: 419_430,
            peers: 23,
            eta: Some(Duration::from_secs(250)),
            ..Row::default()
        }
    }

    #[test]
    fn s7_no_line_is_wider_than_the_terminal_and_no_block_higher() {
        let names = [
            "a",
            "a plain name that is quite long indeed, longer than most terminals are wide, I should say.mkv",
            "日本語のとても長い名前のファイル日本語のとても長い名前のファイル.iso",
            &"e\u{301}".repeat(60),
            "👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦",
        ];
        let phases = [
            DisplayPhase::Starting,
            DisplayPhase::Metadata,
            DisplayPhase::Downloading,
            DisplayPhase::Seeding,
            DisplayPhase::Done,
            DisplayPhase::Failed,
            DisplayPhase::Checking { checked: 3, pieces: 7 },
        ];
        let mut rows = Vec::new();
        for name in names {
            for phase in phases {
                let busy = Row { name: name.into(), phase, ..row() };
                let trouble = Some("tracker t.example refuses: ".to_string() + name);
                let stuck = Row {
                    download_rate: 0,
                    peers: 0,
                    slow_reason: Some("no peers"),
                    trouble,
                    ..busy.clone()
                };
                rows.extend([busy, stuck]);
            }
        }
        for width in 0..130 {
            for (g, height) in [UTF8, ASCII].iter().flat_map(|g| [0, 5, 24, 80, 300].map(|h| (g, h))) {
                let lines = block(&rows, width, height, *g);
                assert!(lines.len() <= height.saturating_sub(1).max(1), "{width} {height}");
                for line in lines.iter().chain(&folded(&rows[3].name, width, *g)) {
                    assert!(line.width() <= width.max(1), "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn s6_finished_torrents_are_below_the_running_ones() {
        let done = |name: &str, phase| Row { name: name.into(), phase, ..row() };
        let rows = [
            done("d", DisplayPhase::Done),
            done("f", DisplayPhase::Failed),
            done("r", DisplayPhase::Seeding),
        ];
        for height in [24, 5] {
            let lines = block(&rows, 80, height, UTF8);
            let at = |name: &str| lines.iter().position(|line| line.starts_with(name)).unwrap();
            assert!(at("r  ") < at("d  ") && at("d  ") < at("f  "), "{lines:?}");
        }
    }

    #[test]
    fn s7_figures_keep_their_columns_while_they_change() {
        let columns = |row: &Row| {
            let line = row.live(79, UTF8)[1].clone();
            ["%", "/", "MiB", "peer"].map(|mark| line.find(mark))
        };
        let of = |have_mib: u64, peers, rate, eta| Row {
            have_bytes: have_mib << 20,
            wanted_bytes: 800 << 20,
            peers,
            download_rate: rate,
            eta: Some(Duration::from_secs(eta)),
            ..row()
        };
        let before = columns(&of(1, 1, 1 << 20, 100_000));
        assert_eq!(columns(&of(790, 99, 999 << 20, 1)), before);
        assert!(before.iter().all(Option::is_some));
    }

    #[test]
    fn the_ascii_block_is_ascii() {
        assert!(block(&[row()], 80, 24, ASCII).iter().all(|line| line.is_ascii()));
        assert!(row().one_line(79, 40, ASCII).is_ascii());
    }
}
