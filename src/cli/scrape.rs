//! `rill show --scrape`: the number of seeds and peers as each tracker and the DHT count them.
//!
//! A session of its own sends the scrapes. Its torrent is paused, so nothing is announced, no peer is dialed
//! and no content is opened. The output of `rill show` comes first, then a line for each tracker as it
//! answers, or one more field of the JSON object. The command fails if no tracker and no DHT node answers.

use super::args;
use super::exit::{Exit, Failure};
use super::get::start_failure;
use super::json::Object;
use super::progress::{Glyphs, fit};
use super::signals::StopFlag;
use super::source::LoadedSource;
use super::{format, out, plan};
use crate::session::{AddTorrent, Config, Event, ScrapeSource, Session, SwarmCounts};
use crate::wire::{Magnet, Metainfo, printable, without_user_info};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Longest delay before a signal is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a DHT is waited for of which no node has answered.
const DHT_PATIENCE: Duration = Duration::from_secs(5);
/// Columns before a line's value, as in the table of `rill show`.
const INDENT: usize = 12;
/// Most characters of a tracker's URL or error in one line.
const LINE_CHARS: usize = 500;

/// The torrent with its trackers, and the session's configuration.
pub(crate) struct ScrapeRequest {
    torrent: Magnet,
    /// The trackers that the user named; they are in `torrent` too.
    typed: Vec<String>,
    config: Config,
}

/// Returns the request to scrape a torrent. The DHT is not asked about a private torrent (BEP 27).
pub(crate) fn of(
    found: &LoadedSource,
    options: &args::Show,
    mut config: Config,
) -> Result<ScrapeRequest, Failure> {
    let (info_hash, trackers) = match found {
        LoadedSource::Torrent(metainfo) => (metainfo.info_hash(), metainfo.trackers().concat()),
        LoadedSource::Magnet(magnet) => (magnet.info_hash, magnet.trackers.clone()),
    };
    config.dht = config.dht.filter(|_| !found.metainfo().is_some_and(Metainfo::private));
    let mut all: Vec<String> = Vec::new();
    let typed = plan::trackers(&options.discovery)?;
    for url in trackers.iter().chain(&typed) {
        if !all.contains(url) {
            all.push(url.clone());
        }
    }
    Ok(ScrapeRequest { torrent: Magnet { trackers: all, ..Magnet::new(info_hash) }, typed, config })
}

/// Prints the output of `rill show` and the results of the scrape.
pub(crate) fn show(text: &str, request: &ScrapeRequest, options: &args::Show) -> Result<Exit, Failure> {
    let mut answers = Vec::new();
    let end = if options.json {
        let end = scrape(request, options.time_limit(), |url, result| answers.push((url, result)));
        out::data(&with_answers(text, &request.torrent, &answers));
        end
    } else {
        out::data(text);
        let width = if std::io::stdout().is_terminal() { out::Terminal::extent().0 } else { usize::MAX };
        scrape(request, options.time_limit(), |url, result| {
            out::data(&(line(&url, &result, width) + "\n"));
            answers.push((url, result));
        })
    };
    end?;
    if answers.iter().any(|(_, result)| result.is_ok()) {
        Ok(Exit::Done)
    } else if answers.is_empty() {
        Err(Failure::new(Exit::Network, "there is no tracker to ask"))
    } else {
        Err(Failure::new(Exit::Network, "no tracker has answered"))
    }
}

/// Scrapes every tracker and the DHT, and calls `on_answer` for each answer as it arrives.
fn scrape(
    request: &ScrapeRequest,
    timeout: Duration,
    mut on_answer: impl FnMut(String, Result<SwarmCounts, String>),
) -> Result<(), Failure> {
    let stop = StopFlag::on_signals(Exit::Stopped)
        .map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    let config = Config {
        listen_ports: 0..=0,
        lsd: false,
        port_mapping: false,
        pex: false,
        workers: 1,
        ..request.config.clone()
    };
    let session = Session::start(config).map_err(start_failure)?;
    let add = AddTorrent {
        paused: true,
        choose_later: true,
        trackers: request.typed.clone(),
        ..AddTorrent::magnet(request.torrent.clone(), "")
    };
    let id = session.add(add).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
    session.scrape(id).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
    let begun = Instant::now();
    let mut open_trackers = request.torrent.trackers.len();
    let mut dht_is_silent = request.config.dht.is_some();
    while begun.elapsed() < timeout {
        match session.next_event(POLL_INTERVAL) {
            Some(Event::Scraped { source, result, .. }) => {
                match source {
                    ScrapeSource::Dht => dht_is_silent = false,
                    ScrapeSource::Tracker(_) => open_trackers = open_trackers.saturating_sub(1),
                }
                on_answer(source.to_string(), result);
            }
            Some(Event::ScrapeDone { .. }) => return Ok(()),
            Some(Event::Died { reason }) => return Err(Failure::new(Exit::Other, reason)),
            _ => {}
        }
        if dht_is_silent && begun.elapsed() >= DHT_PATIENCE {
            let status = session.torrents().unwrap_or_default();
            dht_is_silent = status.iter().all(|torrent| torrent.progress.dht_nodes == Some(0));
            if dht_is_silent && open_trackers == 0 {
                let waited = format::duration(DHT_PATIENCE);
                on_answer(
                    ScrapeSource::Dht.to_string(),
                    Err(format!("no node has answered within {waited}")),
                );
                return Ok(());
            }
        }
        if stop.requested() {
            return Err(Failure::new(Exit::Stopped, "stopped before every tracker answered"));
        }
    }
    Ok(())
}

/// Formats a line such as `Scrape:     http://t.example/announce: 3 seeds, 5 peers, 4 completed`. If it is
/// wider than `width`, the URL is cut.
fn line(url: &str, result: &Result<SwarmCounts, String>, width: usize) -> String {
    let text = match result {
        Ok(counts) => {
            let seeds = count(counts.seeds, "seed", "seeds");
            let peers = count(counts.peers, "peer", "peers");
            format!("{seeds}, {peers}, {}", count(counts.completed, "completed", "completed"))
        }
        Err(error) => printable(error, LINE_CHARS),
    };
    let glyphs = Glyphs::new(out::Terminal::of_stdout().utf8);
    let room = width.saturating_sub(INDENT + 2 + text.chars().count()).max(12);
    let url = fit(&printable(without_user_info(url), LINE_CHARS), room, glyphs);
    fit(&format!("{:<INDENT$}{url}: {text}", "Scrape:"), width, glyphs)
}

fn count(n: Option<u32>, one: &str, many: &str) -> String {
    match n {
        Some(1) => format!("1 {one}"),
        Some(n) => format!("{n} {many}"),
        None => format!("? {many}"),
    }
}

/// Adds the field `scrape` to the finished JSON object: the trackers in the torrent's order, then other
/// sources that answered.
fn with_answers(object: &str, torrent: &Magnet, answers: &[(String, Result<SwarmCounts, String>)]) -> String {
    let others = answers.iter().map(|(url, _)| url).filter(|url| !torrent.trackers.contains(url));
    let rows = torrent.trackers.iter().chain(others).map(|url| {
        let answer = answers.iter().find(|(of, _)| of == url).map(|(_, result)| result);
        let counts = answer.and_then(|result| result.as_ref().ok().copied()).unwrap_or_default();
        let number = |n: Option<u32>| n.map(u64::from);
        let row = Object::new()
            .str("tracker", url)
            .opt("seeds", number(counts.seeds))
            .opt("peers", number(counts.peers));
        let row = row.opt("completed", number(counts.completed));
        match answer {
            Some(Ok(_)) => row.raw("error", "null"),
            Some(Err(error)) => row.str("error", error),
            None => row.str("error", "no reply in time"),
        }
        .end()
    });
    let field = Object::new().list("scrape", rows).end();
    match object.trim_end().strip_suffix('}') {
        Some(open) => format!("{open},{}\n", &field[1..]),
        None => object.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::InfoHash;
    use unicode_width::UnicodeWidthStr;

    const COUNTS: SwarmCounts = SwarmCounts { seeds: Some(1), peers: Some(5), completed: None };

    #[test]
    fn a_line_gives_url_and_counts() {
        let line = line("http://t.example/announce", &Ok(COUNTS), usize::MAX);
        assert_eq!(line, "Scrape:     http://t.example/announce: 1 seed, 5 peers, ? completed");
    }

    #[test]
    fn a_long_url_is_cut_and_the_counts_are_kept() {
        let url = format!("http://t.example/{}/announce", "x".repeat(300));
        for width in [60, 80, 120] {
            let line = line(&url, &Ok(COUNTS), width);
            assert!(line.width() <= width && line.ends_with(": 1 seed, 5 peers, ? completed"), "{line}");
        }
        assert!(line(&url, &Err("日".repeat(300)), 40).width() <= 40);
    }

    #[test]
    fn control_bytes_of_a_tracker_are_not_printed() {
        let line = line("http://t.example/announce", &Err("no\x1b[2J\r\n".into()), usize::MAX);
        assert!(!line.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn the_field_scrape_lists_trackers_in_the_torrents_order() {
        let trackers = vec![
            "udp://a.example:1".to_owned(),
            "udp://b.example:1".to_owned(),
            "udp://c.example:1".to_owned(),
        ];
        let torrent = Magnet { trackers, ..Magnet::new(InfoHash([1; 20])) };
        let answers = [
            ("udp://c.example:1".to_owned(), Err("no".to_owned())),
            ("udp://a.example:1".to_owned(), Ok(COUNTS)),
        ];
        let text = with_answers("{\"name\":\"x\"}\n", &torrent, &answers);
        let rows = [
            r#"{"tracker":"udp://a.example:1","seeds":1,"peers":5,"completed":null,"error":null}"#,
            r#"{"tracker":"udp://b.example:1","seeds":null,"peers":null,"completed":null,"error":"no reply in time"}"#,
            r#"{"tracker":"udp://c.example:1","seeds":null,"peers":null,"completed":null,"error":"no"}"#,
        ];
        assert_eq!(text, format!("{{\"name\":\"x\",\"scrape\":[{}]}}\n", rows.join(",")));
    }
}
