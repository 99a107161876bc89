//! `rill show`: prints the content of a torrent or a magnet link as a table or as one JSON object.

use super::args;
use super::exit::{Exit, Failure};
use super::fetch_metadata::{self, MetadataRequest};
use super::json::{Object, array, string};
use super::peer_names::Peers;
use super::source::{self, LoadedSource, SourceArg};
use super::{certificates, format, out, plan, proxy, scrape};
use crate::session::{Config, kept_metadata};
use crate::wire::{FileEntry, Magnet, Metainfo, printable};
use std::fmt::Write;
use std::time::Duration;

/// Runs `rill show`.
pub(crate) fn run(options: &args::Show) -> Result<Exit, Failure> {
    let config = Config {
        state_dir: plan::state_dir(&options.state, |name| std::env::var(name).ok()),
        root_certificates: certificates::roots(&options.https)?,
        proxy: proxy::of(&options.proxy)?,
        ..plan::leave(&options.egress, plan::discover(&options.discovery, Config::default())?)
    };
    let found = source::open(&SourceArg::parse(&options.source), &config.http_options())?;
    source::report_refused_trackers(&found);
    let found = match found {
        LoadedSource::Magnet(magnet) => look_into(magnet, options, &config)?,
        found => found,
    };
    let swarm = if options.scrape { Some(scrape::of(&found, options, config)?) } else { None };
    let text = match (found, options.json) {
        (LoadedSource::Torrent(metainfo), false) => table(&metainfo),
        (LoadedSource::Torrent(metainfo), true) => object(&metainfo) + "\n",
        (LoadedSource::Magnet(magnet), false) => magnet_table(&magnet),
        (LoadedSource::Magnet(magnet), true) => magnet_object(&magnet) + "\n",
    };
    match swarm {
        Some(swarm) => scrape::show(&text, &swarm, options),
        None => {
            out::data(&text);
            Ok(Exit::Done)
        }
    }
}

/// Returns the torrent of a magnet link if its metadata is in the state directory or, with `--fetch`, comes
/// from peers. Otherwise returns the link.
fn look_into(magnet: Magnet, options: &args::Show, config: &Config) -> Result<LoadedSource, Failure> {
    if let Some(metainfo) = config.state_dir.as_deref().and_then(|dir| kept_metadata(dir, &magnet)) {
        return Ok(LoadedSource::Torrent(metainfo));
    }
    if !options.fetch {
        return Ok(LoadedSource::Magnet(magnet));
    }
    let config = config.clone();
    let peers = Peers::of(&options.discovery.peer);
    let trackers = plan::trackers(&options.discovery)?;
    fetch_metadata::metadata(
        &magnet,
        MetadataRequest { config, peers, trackers, timeout: options.time_limit(), silent: options.json },
    )
    .map(LoadedSource::Torrent)
}

/// Appends a line with a field's name and its value, aligned.
fn field(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{:<11} {value}", format!("{name}:"));
}

fn table(m: &Metainfo) -> String {
    let mut text = String::new();
    let geometry = m.geometry();
    field(&mut text, "Name", &printable(m.name(), 255));
    field(&mut text, "Info hash", &m.info_hash().to_string());
    field(&mut text, "Size", &format!("{} ({} bytes)", format::size(geometry.total()), geometry.total()));
    field(
        &mut text,
        "Pieces",
        &format!("{} of {}", geometry.pieces(), format::exact(geometry.nominal_piece_len().into())),
    );
    if m.private() {
        field(&mut text, "Private", "yes: peers come from its own trackers alone");
    }
    if let Some(comment) = m.comment() {
        field(&mut text, "Comment", &printable(comment, 1000));
    }
    if let Some(program) = m.created_by() {
        field(&mut text, "Made by", &printable(program, 100));
    }
    if let Some(date) = m.creation_date().and_then(date) {
        field(&mut text, "Made on", &date);
    }
    for (i, tier) in m.trackers().iter().enumerate() {
        for url in tier {
            field(&mut text, &format!("Tracker {}", i + 1), &printable(url, 500));
        }
    }
    for url in m.web_seeds() {
        field(&mut text, "Web seed", &printable(url, 500));
    }
    field(&mut text, "Magnet", &m.magnet().to_string());
    text.push_str("Files:\n");
    text.push_str(&files(m));
    text
}

/// Lists the files with the numbers that `--select` takes. Pad files and symbolic links are left out, but
/// have numbers.
fn files(m: &Metainfo) -> String {
    let digits = m.files().len().to_string().len().max(3);
    let mut text = String::new();
    for (i, file) in m.files().iter().enumerate().filter(|(_, file)| file.lands_on_disk()) {
        let _ = writeln!(text, "{:>digits$} {:>12} {}", i + 1, format::size(file.length), path_of(file));
    }
    text
}

/// Returns a file's path without control characters.
pub(crate) fn path_of(file: FileEntry<'_>) -> String {
    printable(file.path_text(), 4096)
}

fn object(m: &Metainfo) -> String {
    let geometry = m.geometry();
    let tiers = m.trackers().iter().map(|tier| array(tier.iter().map(|url| string(url))));
    let files = m.files().iter().enumerate().filter(|(_, f)| f.lands_on_disk()).map(|(i, f)| {
        let path = f.path_text();
        Object::new()
            .num("number", i as u64 + 1)
            .str("path", &path)
            .num("bytes", f.length)
            .bool("executable", f.attributes.executable)
            .end()
    });
    let o = Object::new()
        .str("name", m.name())
        .str("info_hash", &m.info_hash().to_string())
        .num("bytes", geometry.total());
    let o =
        o.num("pieces", geometry.pieces().into()).num("piece_length", geometry.nominal_piece_len().into());
    let o = o.bool("private", m.private()).list("trackers", tiers);
    let o = o.list("web_seeds", m.web_seeds().iter().map(|url| string(url)));
    let o = match m.comment() {
        Some(comment) => o.str("comment", comment),
        None => o,
    };
    let o = match m.created_by() {
        Some(program) => o.str("created_by", program),
        None => o,
    };
    let o = match m.creation_date() {
        Some(date) => o.raw("creation_date", &date.to_string()),
        None => o,
    };
    o.str("magnet", &m.magnet().to_string()).list("files", files).end()
}

fn magnet_table(magnet: &Magnet) -> String {
    let mut text = String::new();
    if let Some(name) = &magnet.name {
        field(&mut text, "Name", &printable(name, 255));
    }
    field(&mut text, "Info hash", &magnet.info_hash.to_string());
    for url in &magnet.trackers {
        field(&mut text, "Tracker", &printable(url, 500));
    }
    for url in &magnet.web_seeds {
        field(&mut text, "Web seed", &printable(url, 500));
    }
    for peer in &magnet.peers {
        field(&mut text, "Peer", &peer.to_string());
    }
    field(&mut text, "Magnet", &magnet.to_string());
    text
}

fn magnet_object(magnet: &Magnet) -> String {
    let o = match &magnet.name {
        Some(name) => Object::new().str("name", name),
        None => Object::new(),
    };
    o.str("info_hash", &magnet.info_hash.to_string())
        .list("trackers", magnet.trackers.iter().map(|url| array([string(url)])))
        .list("web_seeds", magnet.web_seeds.iter().map(|url| string(url)))
        .list("peers", magnet.peers.iter().map(|peer| string(&peer.to_string())))
        .str("magnet", &magnet.to_string())
        .end()
}

/// Formats a Unix time as `2009-02-13 23:31:30 UTC`. Returns `None` before 1970 and after the year 9999.
fn date(unix_s: i64) -> Option<String> {
    let since_epoch = Duration::from_secs(u64::try_from(unix_s).ok().filter(|s| *s < 253_402_300_800)?);
    let days = since_epoch.as_secs() / 86_400;
    let s = since_epoch.as_secs() % 86_400;
    // Years are counted from March, so that the leap day is the last day of a year. An era is 400 years,
    // 146,097 days.
    let from_march = days + 719_468;
    let era = from_march / 146_097;
    let day = from_march % 146_097;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    Some(format!(
        "{:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        era * 400 + year + carry,
        s / 3600,
        s / 60 % 60,
        s % 60
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times_become_calendar_dates() {
        assert_eq!(date(0).unwrap(), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(1_234_567_890).unwrap(), "2009-02-13 23:31:30 UTC");
        assert_eq!(date(951_782_400).unwrap(), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(4_107_542_400).unwrap(), "2100-03-01 00:00:00 UTC");
        assert_eq!((date(-1), date(i64::MAX)), (None, None));
    }
}
