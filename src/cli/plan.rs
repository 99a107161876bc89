//! What the typed options of `get` and `seed` mean: a session's configuration, a template for each torrent,
//! and when to stop.
//!
//! Pure but for the environment that is handed in; everything that contradicts itself is found here, before
//! anything is opened.

use super::args;
use super::exit::{Exit, Failure};
use super::format::{self, Selection};
use super::source::{Found, SourceArg, usable_tracker};
use crate::disk::StorageMode;
use crate::session::{AddTorrent, Config, DhtConfig};
use crate::wire::{FileEntry, Files, Metainfo};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Below this a session cannot hold a block for every peer.
const LEAST_MEMORY_BYTES: u64 = 4 << 20;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    /// Progress is for a person who looks on; stdout gets what was asked for and nothing else.
    pub(crate) brief: bool,
}

/// How long to go on when everything is there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ContentTarget {
    pub(crate) ratio: Option<f64>,
    pub(crate) time: Option<Duration>,
}

impl ContentTarget {
    /// Whether a torrent that has been complete for `seeding` and sent `ratio` times its content may stop.
    /// Without a goal that is at once.
    pub(crate) fn reached(&self, ratio: f64, seeding: Duration) -> bool {
        match (self.ratio, self.time) {
            (None, None) => true,
            (r, t) => r.is_some_and(|r| ratio >= r) || t.is_some_and(|t| seeding >= t),
        }
    }

    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.ratio.is_some() || self.time.is_some()
    }
}

/// Everything that `get` or `seed` was told.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sources: Vec<SourceArg>,
    pub(crate) config: Config,
    pub(crate) style: Style,
    pub(crate) goal: ContentTarget,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) on_complete: Option<PathBuf>,
    /// Save what is in each torrent as a file, and fetch nothing of it.
    pub(crate) metadata_only: bool,
    /// `seed`: serve only, end without complaint when told to.
    pub(crate) seed_only: bool,
    /// Said once on stderr, because it is not what one would expect.
    pub(crate) remarks: Vec<String>,
    dir: PathBuf,
    check: bool,
    sequential: bool,
    select: Option<Selection>,
    select_name: Vec<String>,
    peers: Vec<std::net::SocketAddr>,
    trackers: Vec<String>,
}

impl Plan {
    /// What `get` means.
    pub(crate) fn get(typed: args::Get, env: impl Fn(&str) -> Option<String>) -> Result<Plan, Failure> {
        let mut plan =
            Plan::common(&typed.sources, typed.place, typed.network, typed.goal, &typed.output, env)?;
        plan.config.download_limit = typed.max_download_limit.filter(|rate| *rate > 0);
        plan.timeout = typed.timeout.filter(|t| !t.is_zero());
        plan.stall_timeout = typed.stall_timeout.filter(|t| !t.is_zero());
        plan.on_complete = typed.on_complete;
        plan.sequential = typed.sequential;
        (plan.metadata_only, plan.style.brief) = (typed.metadata_only, typed.metadata_only);
        if plan.sources.len() > 1 && typed.select.is_some() {
            return Err(option("--select counts the files of one torrent, but several are given"));
        }
        (plan.select, plan.select_name) = (typed.select, typed.select_name);
        Ok(plan)
    }

    /// What `seed` means.
    pub(crate) fn seed(typed: args::Seed, env: impl Fn(&str) -> Option<String>) -> Result<Plan, Failure> {
        let mut plan =
            Plan::common(&typed.sources, typed.place, typed.network, typed.goal, &typed.output, env)?;
        plan.seed_only = true;
        Ok(plan)
    }

    fn common(
        sources: &[String],
        place: args::Place,
        network: args::Network,
        goal: args::Goal,
        output: &args::Output,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Plan, Failure> {
        let mut remarks = Vec::new();
        let state_dir = state_dir(&place.state, env);
        if state_dir.is_none() && !place.state.no_state {
            remarks.push(
                "no HOME and no --state-dir: progress is not recorded, content is hashed again next time"
                    .into(),
            );
        }
        let defaults = Config::default();
        let max_memory = match place.max_memory {
            None => defaults.max_memory,
            Some(bytes) if bytes < LEAST_MEMORY_BYTES => {
                return Err(option(format!(
                    "--max-memory must be at least {}",
                    format::size(LEAST_MEMORY_BYTES)
                )));
            }
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let discovery = &network.discovery;
        let trackers = trackers(discovery)?;
        let per_torrent = usize::from(network.max_peers);
        let config = Config {
            listen_ports: network.listen_port.0..=network.listen_port.1,
            max_peers: defaults.max_peers.max(per_torrent),
            max_peers_per_torrent: per_torrent,
            upload_limit: network.max_upload_limit.filter(|rate| *rate > 0),
            storage: storage_mode(place.storage),
            max_memory,
            state_dir,
            ..discover(discovery, defaults)?
        };
        Ok(Plan {
            sources: sources.iter().map(|text| SourceArg::parse(text)).collect(),
            config,
            style: Style { json: output.json, quiet: output.quiet, verbose: output.verbose, brief: false },
            goal: ContentTarget { ratio: goal.seed_ratio, time: goal.seed_time },
            timeout: None,
            stall_timeout: None,
            on_complete: None,
            metadata_only: false,
            seed_only: false,
            remarks,
            dir: place.dir,
            check: place.check,
            sequential: false,
            select: None,
            select_name: Vec::new(),
            peers: network.discovery.peer,
            trackers,
        })
    }

    /// Where content lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files of it that were chosen by number or name; `None` if none were.
    pub(crate) fn choose(&self, metainfo: &Metainfo) -> Result<Option<Vec<usize>>, Failure> {
        choose(metainfo.files(), self.select.as_ref(), &self.select_name)
    }

    /// The order for one torrent.
    pub(crate) fn order(&self, found: &Found) -> Result<AddTorrent, Failure> {
        let mut order = match found {
            Found::Torrent(metainfo) => AddTorrent {
                wanted_files: self.choose(metainfo)?,
                ..AddTorrent::new(metainfo.clone(), self.dir.clone())
            },
            Found::Magnet(magnet) => {
                AddTorrent { choose_later: true, ..AddTorrent::magnet(magnet.clone(), self.dir.clone()) }
            }
        };
        order.peers.clone_from(&self.peers);
        order.trackers.clone_from(&self.trackers);
        order.seed_only = self.seed_only;
        order.check = self.check;
        order.sequential = self.sequential;
        Ok(order)
    }
}

/// A configuration that finds peers in these ways.
pub(crate) fn discover(discovery: &args::Discovery, otherwise: Config) -> Result<Config, Failure> {
    Ok(Config { dht: dht(discovery)?, pex: !discovery.no_pex, lsd: !discovery.no_lsd, ..otherwise })
}

/// The trackers that were typed.
pub(crate) fn trackers(discovery: &args::Discovery) -> Result<Vec<String>, Failure> {
    discovery.tracker.iter().map(|url| usable_tracker(url)).collect()
}

/// How the DHT is joined, if it is.
fn dht(discovery: &args::Discovery) -> Result<Option<DhtConfig>, Failure> {
    if discovery.no_dht {
        return match discovery.dht_bootstrap.is_empty() {
            true => Ok(None),
            false => Err(option("--no-dht and --dht-bootstrap contradict each other")),
        };
    }
    let mut dht = DhtConfig { port: discovery.dht_port, ..DhtConfig::default() };
    if !discovery.dht_bootstrap.is_empty() {
        (dht.bootstrap, dht.routers) = (discovery.dht_bootstrap.clone(), Vec::new());
    }
    Ok(Some(dht))
}

/// The way of the bytes that was typed.
pub(crate) fn storage_mode(typed: args::Storage) -> StorageMode {
    match typed {
        args::Storage::Auto => StorageMode::Auto,
        args::Storage::Mapped => StorageMode::Mapped,
        args::Storage::Plain => StorageMode::Plain,
    }
}

fn option(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::Option, sentence)
}

/// Which files are wanted; `None` is all of them. Both ways of choosing add up.
fn choose(
    files: &Files,
    numbers: Option<&Selection>,
    globs: &[String],
) -> Result<Option<Vec<usize>>, Failure> {
    if numbers.is_none() && globs.is_empty() {
        return Ok(None);
    }
    let mut chosen = BTreeSet::new();
    if let Some(selection) = numbers {
        selection.pick(files.len(), &mut chosen).map_err(option)?;
    }
    for pattern in globs {
        let before = chosen.len();
        let matches = |file: &FileEntry<'_>| match pattern.contains('/') {
            true => {
                let below: Vec<&str> = file.path().skip(1).collect();
                format::glob(pattern, &file.path_text()) || format::glob(pattern, &below.join("/"))
            }
            false => file.path().next_back().is_some_and(|name| format::glob(pattern, name)),
        };
        chosen.extend(files.iter().enumerate().filter(|(_, file)| matches(file)).map(|(i, _)| i));
        if chosen.len() == before && !files.iter().any(|file| matches(&file)) {
            return Err(option(format!("--select-name {pattern} matches no file")));
        }
    }
    Ok(Some(chosen.into_iter().collect()))
}

/// Where what outlives a run is kept, if it is.
pub(crate) fn state_dir(typed: &args::State, env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if typed.no_state { None } else { typed.state_dir.clone().or_else(|| default_state_dir(env)) }
}

/// Where records go by default: as the XDG rules have it.
fn default_state_dir(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("rill"))
}

#[cfg(test)]
mod tests {
    use super::super::args::{CliArgs, CliCommand};
    use super::*;

    fn plan(words: &str) -> Result<Plan, Failure> {
        plan_with(words, |name| (name == "HOME").then(|| "/home/u".to_string()))
    }

    fn plan_with(words: &str, env: impl Fn(&str) -> Option<String>) -> Result<Plan, Failure> {
        match CliArgs::parse_words(words.split(' ').map(Into::into)).unwrap().command {
            CliCommand::Get(typed) => Plan::get(typed, env),
            CliCommand::Seed(typed) => Plan::seed(typed, env),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let plan = plan("rill get x").unwrap();
        assert_eq!(plan.config.listen_ports, 6881..=6999);
        assert_eq!((plan.config.max_peers, plan.config.max_peers_per_torrent), (200, 55));
        assert_eq!(plan.config.state_dir, Some("/home/u/.local/state/rill".into()));
        assert!(plan.goal.reached(0.0, Duration::ZERO) && !plan.goal.is_some());
        assert!(plan.config.storage == StorageMode::Auto && plan.remarks.is_empty());
    }

    #[test]
    fn without_a_home_nothing_is_recorded_and_it_is_said() {
        let plan = plan_with("rill get x", |_| None).unwrap();
        assert_eq!((plan.config.state_dir, plan.remarks.len()), (None, 1));
        let plan = plan_with("rill get --no-state x", |_| None).unwrap();
        assert_eq!((plan.config.state_dir, plan.remarks.len()), (None, 0));
        let relative = |name: &str| (name == "XDG_STATE_HOME").then(|| "relative".to_string());
        assert_eq!(plan_with("rill get x", relative).unwrap().config.state_dir, None);
    }

    #[test]
    fn a_limit_of_nothing_is_no_limit() {
        let plan = plan("rill get --max-download-limit 0 -u 64K --timeout 0 x").unwrap();
        assert_eq!((plan.config.download_limit, plan.config.upload_limit), (None, Some(64 << 10)));
        assert_eq!(plan.timeout, None);
    }

    #[test]
    fn more_peers_for_a_torrent_are_more_for_all() {
        assert_eq!(plan("rill get --max-peers 500 x").unwrap().config.max_peers, 500);
        assert_eq!(plan("rill get --max-peers 5 x").unwrap().config.max_peers, 200);
    }

    #[test]
    fn contradictions_are_bad_options() {
        for words in [
            "rill get --select 1 a b",
            "rill get --max-memory 1K a",
            "rill get --tracker file:///etc/passwd a",
            "rill get --no-dht --dht-bootstrap r:1 a",
        ] {
            assert_eq!(plan(words).unwrap_err().exit, Exit::Option, "{words}");
        }
    }

    #[test]
    fn the_first_goal_reached_ends_the_seeding() {
        let goal = plan("rill seed --seed-ratio 1.5 --seed-time 2 x").unwrap().goal;
        assert!(!goal.reached(1.4, Duration::from_secs(119)));
        assert!(goal.reached(1.5, Duration::ZERO));
        assert!(goal.reached(0.0, Duration::from_secs(120)));
    }

    #[test]
    fn files_are_chosen_by_number_and_by_name() {
        let files = Files::from_iter([("t/a.mkv", 1), ("t/sub/b.mkv", 1), ("t/c.txt", 1)]);
        let choose = |numbers: Option<&str>, globs: &[&str]| {
            let selection = numbers.map(|n| Selection::parse(n).unwrap());
            choose(&files, selection.as_ref(), &globs.iter().map(|g| g.to_string()).collect::<Vec<_>>())
                .map_err(|f| f.exit)
        };
        assert_eq!(choose(None, &[]), Ok(None));
        assert_eq!(choose(Some("3"), &["*.mkv"]), Ok(Some(vec![0, 1, 2])));
        assert_eq!(choose(None, &["sub/*"]), Ok(Some(vec![1])));
        assert_eq!(choose(None, &["*.iso"]), Err(Exit::Option));
        assert_eq!(choose(Some("4"), &[]), Err(Exit::Option));
    }
}
