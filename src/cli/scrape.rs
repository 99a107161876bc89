//! `rill show --scrape`: how many have the torrent, as each of its trackers counts them, and the DHT.
//!
//! A session that lives for nothing else asks: the torrent rests in it, so trackers learn nothing of us, no
//! peer is dialed and no content is touched. What there is to show comes first; then a line for each tracker
//! as it answers, or one more field of the JSON object. It is a failure if no tracker answered.

use super::args;
use super::exit::{Exit, Failure};
use super::get::start_failure;
use super::json::Object;
use super::progress::{Glyphs, fit};
use super::signals::StopFlag;
use super::source::LoadedSource;
use super::{out, plan};
use crate::session::{AddTorrent, Config, Event, Session, SwarmCounts};
use crate::wire::{Magnet, Metainfo, printable};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The longest that a signal waits to be seen.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Columns before a line's value, as in the table above it.
const INDENT: usize = 12;
/// Characters of a tracker's address or words in one line, if there is no terminal to fit into.
const LINE_CHARS: usize = 500;

/// What to ask about, and how.
pub(crate) struct ScrapeRequest {
    torrent: Magnet,
    config: Config,
}

/// Which sources to ask about which torrent. Only its own trackers are asked about a private torrent.
pub(crate) fn of(found: &LoadedSource, options: &args::Show) -> Result<ScrapeRequest, Failure> {
    let (info_hash, trackers) = match found {
        LoadedSource::Torrent(metainfo) => (metainfo.info_hash(), metainfo.trackers().concat()),
        LoadedSource::Magnet(magnet) => (magnet.info_hash, magnet.trackers.clone()),
    };
    let mut config = plan::discover(&options.discovery, Config::default())?;
    config.dht = config.dht.filter(|_| !found.metainfo().is_some_and(Metainfo::private));
    config.state_dir = plan::state_dir(&options.state, |name| std::env::var(name).ok());
    let mut all: Vec<String> = Vec::new();
    for url in trackers.into_iter().chain(plan::trackers(&options.discovery)?) {
        if !all.contains(&url) {
            all.push(url);
        }
    }
    Ok(ScrapeRequest { torrent: Magnet { trackers: all, ..Magnet::new(info_hash) }, config })
}

/// Prints what there is to show, and what the trackers say.
pub(crate) fn show(text: &str, request: &ScrapeRequest, options: &args::Show) -> Result<Exit, Failure> {
    let mut answers = Vec::new();
    let end = match options.json {
        true => {
            let end = ask(request, options.timeout, |url, result| answers.push((url, result)));
            out::data(&with_answers(text, &request.torrent, &answers));
            end
        }
        false => {
            out::data(text);
            let width = if std::io::stdout().is_terminal() { out::Terminal::extent().0 } else { usize::MAX };
            ask(request, options.timeout, |url, result| {
                out::data(&(line(&url, &result, width) + "\n"));
                answers.push((url, result));
            })
        }
    };
    end?;
    match answers.iter().any(|(_, result)| result.is_ok()) {
        true => Ok(Exit::Done),
        false if answers.is_empty() => Err(Failure::new(Exit::Network, "there is no tracker to ask")),
        false => Err(Failure::new(Exit::Network, "no tracker has answered")),
    }
}

/// Asks every source and hands over each answer as it comes.
fn ask(
    request: &ScrapeRequest,
    timeout: Duration,
    mut each: impl FnMut(String, Result<SwarmCounts, String>),
) -> Result<(), Failure> {
    let stop = StopFlag::on_signals(Exit::Stopped)
        .map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    let config = Config { listen_ports: 0..=0, lsd: false, pex: false, workers: 1, ..request.config.clone() };
    let session = Session::start(config).map_err(start_failure)?;
    let add =
        AddTorrent { paused: true, choose_later: true, ..AddTorrent::magnet(request.torrent.clone(), "") };
    let id = session.add(add).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
    session.scrape(id).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
    let begun = Instant::now();
    while begun.elapsed() < timeout {
        match session.next_event(POLL_INTERVAL) {
            Some(Event::Scraped { source, result, .. }) => each(source.to_string(), result),
            Some(Event::ScrapeDone { .. }) => return Ok(()),
            Some(Event::Died { reason }) => return Err(Failure::new(Exit::Other, reason)),
            _ => {}
        }
        if stop.requested() {
            return Err(Failure::new(Exit::Stopped, "stopped before every tracker has answered"));
        }
    }
    Ok(())
}

/// `Scrape:     http://t.example/announce: 3 seeds, 5 peers, 4 completed`; if it is too long, the address
/// gives way.
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
    let url = fit(&printable(url, LINE_CHARS), room, glyphs);
    fit(&format!("{:<INDENT$}{url}: {text}", "Scrape:"), width, glyphs)
}

fn count(n: Option<u32>, one: &str, many: &str) -> String {
    match n {
        Some(1) => format!("1 {one}"),
        Some(n) => format!("{n} {many}"),
        None => format!("? {many}"),
    }
}

/// The finished object with one field more: the trackers in the torrent's order, and then who else has
/// answered.
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
    fn a_line_says_it_all() {
        let line = line("http://t.example/announce", &Ok(COUNTS), usize::MAX);
        assert_eq!(line, "Scrape:     http://t.example/announce: 1 seed, 5 peers, ? completed");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_numbers_stay() {
        let url = format!("http://t.example/{}/announce", "x".repeat(300));
        for width in [60, 80, 120] {
            let line = line(&url, &Ok(COUNTS), width);
            assert!(line.width() <= width && line.ends_with(": 1 seed, 5 peers, ? completed"), "{line}");
        }
        assert!(line(&url, &Err("日".repeat(300)), 40).width() <= 40);
    }

    #[test]
    fn no_control_byte_gets_through() {
        let line = line("http://t.example/announce", &Err("no\x1b[2J\r\n".into()), usize::MAX);
        assert!(!line.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn the_object_gets_one_field_more_in_the_torrents_order() {
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
