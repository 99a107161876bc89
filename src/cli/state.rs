//! `rill state`: lists, forgets and cleans the records of the state directory.

use super::args;
use super::exit::{Exit, Failure};
use super::json::{self, Object};
use super::source::{is_info_hash, shown};
use super::{fault_exit, format, out, plan};
use crate::disk::{ContentState, RecordSummary, forget_metadata, forget_record, records};
use crate::wire::{Magnet, printable};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Runs `rill state`.
pub(crate) fn run(options: &args::StateCommand) -> Result<Exit, Failure> {
    match &options.part {
        args::StatePart::List(options) => list(options),
        args::StatePart::Forget(options) => forget(options),
        args::StatePart::Clean(options) => clean(options),
    }
}

fn state_dir(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let options = args::State { state_dir: given.cloned(), no_state: false };
    plan::state_dir(&options, |name| std::env::var(name).ok())
        .ok_or_else(|| Failure::new(Exit::Option, "there is no HOME; give the directory with --state-dir"))
}

fn read(dir: &Path) -> Result<Vec<RecordSummary>, Failure> {
    records(dir).map_err(|e| Failure::os(Exit::Open, shown(dir), &e))
}

fn list(options: &args::StateList) -> Result<Exit, Failure> {
    let found = read(&state_dir(options.state_dir.as_ref())?)?;
    out::data(&if options.json {
        Object::new().list("records", found.iter().map(object)).end() + "\n"
    } else {
        found.iter().map(|record| line(record) + "\n").collect()
    });
    Ok(Exit::Done)
}

fn forget(options: &args::StateForget) -> Result<Exit, Failure> {
    let hash = hash(&options.hash)?;
    let dir = state_dir(options.state_dir.as_ref())?;
    let all = read(&dir)?;
    let wanted = options.dir.as_ref().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone()));
    let in_place = |record: &RecordSummary| match &wanted {
        None => true,
        Some(wanted) => record.dir.as_ref().is_some_and(|dir| dir == wanted),
    };
    let of_hash: Vec<_> = all.iter().filter(|record| record.info_hash == hash).collect();
    let chosen: Vec<_> = of_hash.iter().filter(|record| in_place(record)).collect();
    if chosen.is_empty() {
        return Err(Failure::new(Exit::Option, format!("there is no record of {hash} to forget")));
    }
    for record in &chosen {
        remove(&dir, record)?;
    }
    if chosen.len() == of_hash.len() {
        forget_metadata(&dir, &hash);
    }
    Ok(Exit::Done)
}

fn clean(options: &args::StateClean) -> Result<Exit, Failure> {
    let dir = state_dir(options.state_dir.as_ref())?;
    let found = read(&dir)?;
    for record in found.iter().filter(|record| record.content == ContentState::NotMounted) {
        out::error(format_args!("{}: is kept, its disk is not mounted", line(record)));
    }
    let gone: Vec<_> = found.iter().filter(|record| record.content == ContentState::Gone).collect();
    if options.yes {
        return gone.iter().try_for_each(|record| remove(&dir, record)).map(|()| Exit::Done);
    }
    for record in &gone {
        out::data(&(line(record) + "\n"));
    }
    if !gone.is_empty() {
        out::error(format_args!(
            "{} of {} records are of content that is gone; --yes removes them",
            gone.len(),
            found.len()
        ));
    }
    Ok(Exit::Done)
}

fn remove(dir: &Path, record: &RecordSummary) -> Result<(), Failure> {
    forget_record(dir, &record.stem).map_err(|fault| Failure::new(fault_exit(&fault), fault.to_string()))?;
    out::data(&format!("removed {}\n", line(record)));
    Ok(())
}

/// Returns the info hash in hexadecimal digits.
fn hash(text: &str) -> Result<String, Failure> {
    let lower = text.to_ascii_lowercase();
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(lower);
    }
    let magnet =
        is_info_hash(text).then(|| Magnet::parse(&format!("magnet:?xt=urn:btih:{text}")).ok()).flatten();
    let magnet = magnet.or_else(|| Magnet::parse(text).ok());
    magnet
        .map(|magnet| magnet.info_hash.to_string())
        .ok_or_else(|| Failure::new(Exit::Option, format!("'{}' is not an info hash", out::clean(text))))
}

fn age(record: &RecordSummary) -> Option<Duration> {
    SystemTime::now().duration_since(record.saved?).ok()
}

/// Formats a record as `HASH 12.3% of 1.2 GiB, 3h05m ago, /srv/downloads/name (gone)`.
fn line(record: &RecordSummary) -> String {
    let size = match record.size {
        Some(size) => {
            let have = format::percent(size.have.into(), size.pieces.into());
            format!("{have} of {}", format::size(size.bytes))
        }
        None => "damaged".to_owned(),
    };
    let age = age(record).map(|age| format!(", {} ago", format::duration(age))).unwrap_or_default();
    let place = match (&record.dir, &record.name) {
        (Some(dir), Some(name)) => printable(dir.join(name).to_string_lossy().as_bytes(), 4096),
        _ => "directory unknown".to_owned(),
    };
    let state = match record.content {
        ContentState::Present | ContentState::Unknown => "",
        ContentState::Gone => " (gone)",
        ContentState::NotMounted => " (not mounted)",
    };
    format!("{} {size}{age}, {place}{state}", record.info_hash)
}

fn object(record: &RecordSummary) -> String {
    let text = |text: Option<String>| text.map_or("null".to_owned(), |text| json::string(&text));
    let word = match record.content {
        ContentState::Present => "present",
        ContentState::Gone => "gone",
        ContentState::NotMounted => "not mounted",
        ContentState::Unknown => "unknown",
    };
    Object::new()
        .str("info_hash", &record.info_hash)
        .raw("name", &text(record.name.clone()))
        .raw("dir", &text(record.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned())))
        .opt("pieces", record.size.map(|size| size.pieces.into()))
        .opt("pieces_have", record.size.map(|size| size.have.into()))
        .opt("bytes", record.size.map(|size| size.bytes))
        .opt("age_s", age(record).map(|age| age.as_secs()))
        .str("content", word)
        .end()
}
