//! State of a torrent on the display, as a plain line and as a JSON object; `layout` draws it on a terminal and
//! `summary` writes its last line.
//!
//! Names are cleaned when a row is made.

use super::format;
use super::json::Object;
use crate::session::Origin;
use crate::wire::{Magnet, Metainfo, printable};
use std::time::Duration;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// State of a torrent as it is displayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DisplayPhase {
    /// The session has not reported about the torrent yet.
    #[default]
    Starting,
    /// Metadata is being fetched from peers.
    Metadata,
    /// Existing content is being hashed.
    Checking { checked: u32, pieces: u32 },
    /// Wanted pieces are missing.
    Downloading,
    /// All wanted pieces are complete, and the torrent is seeded.
    Seeding,
    /// All wanted pieces are complete, and nothing is left to do.
    Done,
    /// An error stopped the torrent.
    Failed,
}

impl DisplayPhase {
    pub(super) fn word(self) -> &'static str {
        match self {
            DisplayPhase::Starting => "starting",
            DisplayPhase::Metadata => "metadata",
            DisplayPhase::Checking { .. } => "checking",
            DisplayPhase::Downloading => "downloading",
            DisplayPhase::Seeding => "seeding",
            DisplayPhase::Done => "done",
            DisplayPhase::Failed => "failed",
        }
    }
}

/// State of one torrent on the display. Rates are in bytes a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Name without control characters.
    pub(crate) name: String,
    pub(crate) info_hash: String,
    pub(crate) phase: DisplayPhase,
    pub(crate) wanted_bytes: u64,
    pub(crate) have_bytes: u64,
    pub(crate) pieces: u32,
    pub(crate) pieces_have: u32,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    /// Bytes sent in this and earlier runs.
    pub(crate) total_uploaded: u64,
    pub(crate) wasted: u64,
    pub(crate) download_rate: u64,
    pub(crate) upload_rate: u64,
    pub(crate) peers: usize,
    pub(crate) seeds: usize,
    /// Number of peers by the source of their address, indexed by [`Origin::number`].
    pub(crate) peers_by_origin: [usize; Origin::ALL.len()],
    /// Responding nodes in the DHT routing table; `None` without a DHT.
    pub(crate) dht_nodes: Option<usize>,
    pub(crate) eta: Option<Duration>,
    /// Reason why the download is slow, if it is.
    pub(crate) slow_reason: Option<&'static str>,
    /// Why the torrent has no peers, as far as trackers and given peers have told; safe to print.
    pub(crate) trouble: Option<String>,
    /// The same in a few words.
    pub(crate) trouble_words: Option<String>,
    /// Bytes of the whole torrent if only some of its files are selected; `wanted_bytes` then counts theirs.
    pub(crate) selected_of: Option<u64>,
    /// Verified bytes at the start.
    pub(crate) resumed_bytes: u64,
    /// The start was a moment ago, so the display says where the download resumes.
    pub(crate) has_just_resumed: bool,
    /// Time from the start to the completion.
    pub(crate) took: Option<Duration>,
}

/// Characters that the display draws with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glyphs {
    pub(super) down: &'static str,
    pub(super) up: &'static str,
    full: char,
    part: &'static [char],
    empty: char,
    pub(super) ellipsis: &'static str,
}

impl Glyphs {
    /// Returns arrows and block characters, or ASCII without `utf8`.
    pub(crate) const fn new(utf8: bool) -> Glyphs {
        if utf8 {
            Glyphs {
                down: "↓",
                up: "↑",
                full: '█',
                part: &['▏', '▎', '▍', '▌', '▋', '▊', '▉'],
                empty: '░',
                ellipsis: "…",
            }
        } else {
            Glyphs { down: "down", up: "up", full: '#', part: &[], empty: '.', ellipsis: "..." }
        }
    }
}

impl Row {
    /// Returns the row of a torrent that has not started.
    pub(crate) fn of(metainfo: &Metainfo) -> Row {
        Row {
            name: printable(metainfo.name(), 200),
            info_hash: metainfo.info_hash().to_string(),
            wanted_bytes: metainfo.geometry().total(),
            pieces: metainfo.geometry().pieces(),
            ..Row::default()
        }
    }

    /// Returns the row of a magnet link without metadata.
    pub(crate) fn of_link(magnet: &Magnet) -> Row {
        let info_hash = magnet.info_hash.to_string();
        let name = magnet.name.as_deref().map_or(info_hash.clone(), |name| printable(name, 200));
        Row { name, info_hash, phase: DisplayPhase::Metadata, ..Row::default() }
    }

    /// Returns whether the torrent's metadata is unknown.
    pub(crate) fn is_unknown(&self) -> bool {
        self.phase == DisplayPhase::Metadata || self.pieces == 0 && self.phase == DisplayPhase::Failed
    }

    /// Sets the figures of the moment to those of a torrent without connections.
    pub(crate) fn clear_traffic(&mut self) {
        self.download_rate = 0;
        self.upload_rate = 0;
        self.peers = 0;
        self.seeds = 0;
        self.peers_by_origin = Default::default();
        self.eta = None;
    }

    /// Returns the bytes of the whole torrent.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.selected_of.unwrap_or(self.wanted_bytes)
    }

    pub(super) fn done_and_total(&self) -> (u64, u64) {
        match self.phase {
            DisplayPhase::Checking { checked, pieces } => (checked.into(), pieces.into()),
            // The size is unknown: show an empty bar.
            _ if self.is_unknown() => (0, 1),
            _ => (self.have_bytes, self.wanted_bytes),
        }
    }

    /// Returns the number of peers with its noun.
    pub(super) fn peers_text(&self) -> String {
        format!("{} peer{}", self.peers, if self.peers == 1 { "" } else { "s" })
    }

    /// Returns the share of an incomplete torrent: 100% only once everything is verified and durable.
    pub(super) fn share(&self) -> String {
        let (have, all) = self.done_and_total();
        format::percent(have.min(all.saturating_sub(1)), all.max(1))
    }

    /// Returns the parts of the plain line.
    fn facts(&self, g: Glyphs) -> Vec<String> {
        let (have, all) = self.done_and_total();
        let mut facts = Vec::with_capacity(6);
        match self.phase {
            DisplayPhase::Starting => facts.push("starting".to_string()),
            DisplayPhase::Metadata => {
                facts.push(self.metadata_text());
                facts.extend(self.dht_text());
            }
            DisplayPhase::Failed if self.is_unknown() => facts.push("failed, no metadata".to_string()),
            DisplayPhase::Checking { .. } => {
                facts.push(format!("checking what is there, {have} of {all} pieces"));
            }
            DisplayPhase::Downloading | DisplayPhase::Failed => {
                facts.push(self.share());
                facts.push(format::size_of(have, all));
                facts.extend(self.selected_of.map(|_| "of the selected files".to_string()));
                facts.push(format!("{} {}", g.down, format::rate(self.download_rate)));
                facts.push(format!("{} {}", g.up, format::rate(self.upload_rate)));
                facts.push(self.peers_text());
                facts.extend(self.eta.map(|eta| format!("ETA {}", format::duration(eta))));
            }
            DisplayPhase::Seeding | DisplayPhase::Done => {
                facts.push(self.done_text());
                facts.push(format!("{} {}", g.up, format::rate(self.upload_rate)));
                facts.push(self.peers_text());
                facts.push(format!("sent {}, ratio {:.2}", format::size(self.uploaded), self.ratio()));
            }
        }
        facts
    }

    /// Returns what is known about the metadata of a magnet link.
    pub(super) fn metadata_text(&self) -> String {
        if self.peers == 0 {
            "metadata, no peers yet".to_string()
        } else {
            format!("metadata, {}", self.peers_text())
        }
    }

    pub(super) fn dht_text(&self) -> Option<String> {
        self.dht_nodes.map(|n| format!("({n} DHT node{})", if n == 1 { "" } else { "s" }))
    }

    /// Returns the state and size of a torrent without missing pieces.
    pub(super) fn done_text(&self) -> String {
        let word = if self.phase == DisplayPhase::Done { "done" } else { "seeding" };
        let of = if self.selected_of.is_some() { " of the selected files" } else { "" };
        format!("{word} {}{of}", format::size(self.wanted_bytes))
    }

    /// Returns why little happens: the word about a slow download, unless the facts say so already, and the
    /// sentence about trackers and peers while there are no peers.
    fn reason(&self) -> Option<String> {
        let is_said = matches!(self.phase, DisplayPhase::Downloading | DisplayPhase::Failed);
        let word = self.slow_reason.filter(|_| is_said);
        let reasons = word.into_iter().chain(self.shown_trouble()).collect::<Vec<_>>().join("; ");
        (!reasons.is_empty()).then(|| format!("({reasons})"))
    }

    /// Returns the sentence about trackers and given peers, if it explains why nothing happens.
    pub(super) fn shown_trouble(&self) -> Option<&str> {
        let waits =
            matches!(self.phase, DisplayPhase::Metadata | DisplayPhase::Downloading | DisplayPhase::Seeding);
        self.trouble.as_deref().filter(|_| waits && self.peers == 0)
    }

    /// Returns the payload sent in all runs as a multiple of the wanted content.
    pub(crate) fn ratio(&self) -> f64 {
        if self.wanted_bytes == 0 { 0.0 } else { self.total_uploaded as f64 / self.wanted_bytes as f64 }
    }

    /// Returns one line without a newline: `name: 12.3% 1.2/9.8 GiB …`.
    pub(crate) fn plain(&self, g: Glyphs) -> String {
        let facts: Vec<String> = self.facts(g).into_iter().chain(self.reason()).collect();
        format!("{}: {}", self.name, facts.join(" "))
    }

    fn peers_by_source(&self) -> Object {
        let count =
            |o: Object, origin: &Origin| o.num(origin.word(), self.peers_by_origin[origin.number()] as u64);
        Origin::ALL.iter().fold(Object::new(), count)
    }

    /// Returns the JSON object of this row. `event` names the reason for the line: `progress`,
    /// `complete`, `failed` …
    pub(crate) fn json(&self, event: &str) -> Object {
        let o = Object::new().str("event", event).str("info_hash", &self.info_hash).str("name", &self.name);
        let o = o
            .str("state", self.phase.word())
            .num("wanted_bytes", self.wanted_bytes)
            .num("have_bytes", self.have_bytes);
        let o = match self.phase {
            DisplayPhase::Checking { checked, .. } => o.num("checked_pieces", checked.into()),
            _ => o,
        };
        o.num("pieces", self.pieces.into())
            .num("pieces_have", self.pieces_have.into())
            .num("downloaded_bytes", self.downloaded)
            .num("uploaded_bytes", self.uploaded)
            .num("wasted_bytes", self.wasted)
            .num("download_rate", self.download_rate)
            .num("upload_rate", self.upload_rate)
            .num("peers", self.peers as u64)
            .num("seeds", self.seeds as u64)
            .raw("peers_by_source", &self.peers_by_source().end())
            .opt("dht_nodes", self.dht_nodes.map(|n| n as u64))
            .opt("eta_s", self.eta.map(|eta| eta.as_secs()))
            .raw("slow", &self.slow_reason.map_or("null".to_string(), super::json::string))
    }
}

/// Returns a progress bar of `cells` columns. It is full only if `have` is at least `all`.
pub(crate) fn bar(have: u64, all: u64, cells: usize, g: Glyphs) -> String {
    let steps_a_cell = g.part.len() as u64 + 1;
    let steps = cells as u64 * steps_a_cell;
    let filled =
        if have >= all { steps } else { (u128::from(steps) * u128::from(have) / u128::from(all)) as u64 };
    let whole = (filled / steps_a_cell) as usize;
    let rest = (filled % steps_a_cell) as usize;
    let part = (rest > 0).then(|| g.part[rest - 1]);
    let empty = cells - whole - usize::from(part.is_some());
    std::iter::repeat_n(g.full, whole).chain(part).chain(std::iter::repeat_n(g.empty, empty)).collect()
}

/// Cuts the text to `width` columns. An ellipsis marks the cut; if there is room, the end of the text with
/// the file's extension is kept.
pub(crate) fn fit(text: &str, width: usize, g: Glyphs) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mark = g.ellipsis.width();
    if width <= mark {
        return take(text.chars(), width).into_iter().collect();
    }
    let room = width - mark;
    let tail_room = if room >= 24 { room / 3 } else { 0 };
    let mut tail = take(text.chars().rev(), tail_room);
    tail.reverse();
    let tail_width: usize = tail.iter().filter_map(|c| c.width()).sum();
    let head = take(text.chars(), room - tail_width);
    head.into_iter().chain(g.ellipsis.chars()).chain(tail).collect()
}

fn take(chars: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut left = width;
    chars
        .take_while(|c| match left.checked_sub(c.width().unwrap_or(0)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Glyphs = Glyphs::new(true);
    const ASCII: Glyphs = Glyphs::new(false);

    fn row() -> Row {
        Row {
            name: "debian-13.0.0-amd64-netinst.iso".into(),
            info_hash: "ab".repeat(20),
            phase: DisplayPhase::Downloading,
            wanted_bytes: 10_522_669_875,
            have_bytes: 1_288_490_188,
            pieces: 9,
            pieces_have: 1,
            download_rate: 12_687_769,
            upload_rate: 419_430,
            peers: 23,
            eta: Some(Duration::from_secs(250)),
            ..Row::default()
        }
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end() {
        let name = fit("The quick brown fox jumps over the lazy dog.part07.rar", 40, UTF8);
        assert!(
            name.starts_with("The quick") && name.ends_with("part07.rar") && name.contains('…'),
            "{name}"
        );
    }

    #[test]
    fn the_bar_is_full_only_at_the_end() {
        assert_eq!(bar(0, 100, 10, ASCII), "..........");
        assert_eq!(bar(99, 100, 10, ASCII), "#########.");
        assert_eq!(bar(100, 100, 10, ASCII), "##########");
        assert_eq!(bar(0, 0, 3, ASCII), "###");
        for have in 0..=1000 {
            assert_eq!(bar(have, 1000, 17, UTF8).width(), 17);
        }
        assert_ne!(bar(u64::MAX - 1, u64::MAX, 10, UTF8), bar(1, 1, 10, UTF8));
    }

    #[test]
    fn a_plain_line_names_the_torrent_and_all_facts() {
        assert_eq!(
            row().plain(ASCII),
            "debian-13.0.0-amd64-netinst.iso: 12.2% 1.2/9.8 GiB down 12.1 MiB/s up 409.6 KiB/s 23 peers ETA 4m10s"
        );
    }

    #[test]
    fn json_rows_hold_the_numbers_unrounded() {
        let checking = Row { phase: DisplayPhase::Checking { checked: 3, pieces: 9 }, ..row() };
        let line = checking.json("progress").end();
        assert!(
            line.contains(
                r#""state":"checking","wanted_bytes":10522669875,"have_bytes":1288490188,"checked_pieces":3"#
            ),
            "{line}"
        );
        assert!(line.ends_with(r#""eta_s":250,"slow":null}"#), "{line}");
    }

    #[test]
    fn the_reason_of_a_slow_download_is_printed_and_its_trouble_while_it_has_no_peers() {
        let trouble = Some("tracker t.example refuses: banned".to_string());
        let slow = Row { slow_reason: Some("choked"), trouble, eta: None, ..row() };
        assert!(slow.plain(UTF8).ends_with("23 peers (choked)"));
        assert!(slow.json("progress").end().contains(r#""slow":"choked""#));
        let alone = Row { peers: 0, slow_reason: Some("no peers"), ..slow };
        assert!(alone.plain(ASCII).ends_with("0 peers (no peers; tracker t.example refuses: banned)"));
        assert!(alone.plain(ASCII).is_ascii());
    }

    #[test]
    fn s5_only_a_whole_torrent_is_at_100_percent() {
        let nearly = Row { have_bytes: row().wanted_bytes - 1, ..row() };
        assert!(nearly.plain(ASCII).contains(": 99.9% "));
        let verified = Row { have_bytes: row().wanted_bytes, ..row() };
        assert!(verified.plain(ASCII).contains(": 99.9% "), "not durable yet");
        let part = Row { selected_of: Some(1 << 40), ..verified };
        assert!(part.plain(ASCII).contains(": 99.9% 9.8/9.8 GiB of the selected files "));
        let done = Row { phase: DisplayPhase::Done, ..part };
        assert!(done.plain(ASCII).contains(": done 9.8 GiB of the selected files "));
    }

    #[test]
    fn a_link_without_metadata_says_its_peers_and_dht_nodes() {
        let request = Row { phase: DisplayPhase::Metadata, peers: 3, dht_nodes: Some(1), ..Row::default() };
        assert_eq!(request.plain(ASCII), ": metadata, 3 peers (1 DHT node)");
        assert_eq!(Row { dht_nodes: None, ..request.clone() }.plain(ASCII), ": metadata, 3 peers");
        let alone = Row { peers: 0, dht_nodes: Some(120), slow_reason: Some("no peers"), ..request.clone() };
        assert_eq!(alone.plain(ASCII), ": metadata, no peers yet (120 DHT nodes)", "said once");
        let failed = Row { phase: DisplayPhase::Failed, ..alone };
        assert!(!failed.plain(ASCII).contains('%'), "{}", failed.plain(ASCII));
        let mut by = [0; 6];
        by[Origin::Dht.number()] = 2;
        let line = Row { peers_by_origin: by, ..request }.json("progress").end();
        let sources = r#""peers_by_source":{"given":0,"incoming":0,"tracker":0,"dht":2,"pex":0,"lsd":0},"dht_nodes":1,"#;
        assert!(line.contains(sources) && line.contains(r#""state":"metadata""#), "{line}");
    }
}
