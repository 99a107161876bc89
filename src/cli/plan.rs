//! Plans of `get` and `seed`: turns their options into a session's configuration, the request for each
//! torrent, and the conditions that end the run.
//!
//! Contradicting options are refused here, before a file or a socket is opened. The only input besides the
//! options is the environment, which the caller passes in.

use super::args;
use super::certificates;
use super::exit::{Exit, Failure};
use super::file_choice::FileChoice;
use super::format;
use super::input_file;
use super::on_complete::HookCommand;
use super::peer_names::Peers;
use super::proxy;
use super::source::{LoadedSource, SourceArg, shown, usable_tracker};
use crate::disk::StorageMode;
use crate::session::{AddTorrent, Config, DhtConfig, Encryption, Interface, IpFamily, Transports};
use crate::wire::{Magnet, Metainfo};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Smallest `--max-memory`: with less, a session cannot hold one block for every peer.
const LEAST_MEMORY_BYTES: u64 = 4 << 20;

/// Amount and format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    /// Progress is shown on a terminal only, and erased at the end; stdout holds nothing but results.
    pub(crate) brief: bool,
}

/// Conditions that end seeding. Without any, a complete torrent ends at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SeedGoal {
    pub(crate) ratio: Option<f64>,
    pub(crate) time: Option<Duration>,
}

impl SeedGoal {
    /// Returns whether seeding ends for a torrent that has been complete for `seeding` and has sent
    /// `ratio` times its content.
    pub(crate) fn reached(&self, ratio: f64, seeding: Duration) -> bool {
        match (self.ratio, self.time) {
            (None, None) => true,
            (r, t) => r.is_some_and(|r| ratio >= r) || t.is_some_and(|t| seeding >= t),
        }
    }

    /// Returns whether there is a condition.
    pub(crate) fn is_some(&self) -> bool {
        self.ratio.is_some() || self.time.is_some()
    }
}

/// Plan of a `get` or `seed` command.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sources: Vec<SourceArg>,
    /// Places of the last sources in a list, as in `list.txt, line 3`; sources typed as words have none.
    origins: Vec<String>,
    pub(crate) config: Config,
    pub(crate) style: Style,
    pub(crate) goal: SeedGoal,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) on_complete: Option<HookCommand>,
    /// Save each torrent's metadata as a file and download no content.
    pub(crate) metadata_only: bool,
    /// The command is `seed`: download nothing; a signal ends it with exit code 0.
    pub(crate) seed_only: bool,
    /// Warnings that are printed once on stderr before the session starts.
    pub(crate) remarks: Vec<String>,
    dir: PathBuf,
    /// Name of the content instead of the torrent's.
    pub(crate) out: Option<String>,
    check: bool,
    allow_overwrite: bool,
    part_names: bool,
    refetch: bool,
    preallocate: bool,
    sequential: bool,
    first_last: bool,
    choice: FileChoice,
    /// The peers given as options.
    pub(crate) peers: Peers,
    trackers: Vec<String>,
}

impl Plan {
    /// Returns the plan of a `get` command.
    pub(crate) fn get(options: args::Get, env: impl Fn(&str) -> Option<String>) -> Result<Plan, Failure> {
        let mut plan = Plan::common(
            &options.sources,
            options.place,
            options.network,
            options.goal,
            &options.output,
            env,
        )?;
        plan.config.download_limit = options.max_download_limit.filter(|rate| *rate > 0);
        plan.timeout = options.timeout.filter(|t| !t.is_zero());
        plan.stall_timeout = options.stall_timeout.filter(|t| !t.is_zero());
        plan.on_complete = options.on_complete;
        plan.sequential = options.sequential;
        plan.first_last = options.first_last;
        plan.metadata_only = options.metadata_only;
        plan.style.brief = options.metadata_only;
        plan.add_list(options.input_file.as_deref())?;
        if plan.sources.len() > 1 && options.select.is_some() {
            return Err(option("--select counts the files of one torrent, but several are given"));
        }
        plan.check_out()?;
        if let Some(name) = plan.out.as_mut().filter(|_| options.metadata_only) {
            // The name is that of the torrent file then.
            let stem = name.strip_suffix(".torrent").filter(|stem| !stem.is_empty());
            *name = stem.unwrap_or(name).to_owned();
        }
        plan.allow_overwrite = options.allow_overwrite;
        plan.part_names = !options.no_part;
        plan.refetch = options.refetch;
        plan.preallocate = options.file_allocation == args::FileAllocation::Falloc;
        plan.choice = FileChoice {
            numbers: options.select,
            names: options.select_name,
            excluded: options.exclude_name,
        };
        Ok(plan)
    }

    /// Returns the plan of a `seed` command.
    pub(crate) fn seed(options: args::Seed, env: impl Fn(&str) -> Option<String>) -> Result<Plan, Failure> {
        let mut plan = Plan::common(
            &options.sources,
            options.place,
            options.network,
            options.goal,
            &options.output,
            env,
        )?;
        plan.seed_only = true;
        plan.check_out()?;
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
        let proxy = proxy::of(&network.proxy)?;
        if proxy.is_some() {
            if transports(&network.discovery.transport) == Transports::Utp {
                return Err(option("--transport utp with --proxy leaves no way: uTP does not go through it"));
            }
            remarks.push(
                "with --proxy no port is opened, and the DHT, UDP trackers and uTP are not used".into(),
            );
        } else if network.egress.interface.is_some() {
            remarks.push("names of hosts are resolved by the system, over any interface".into());
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
            root_certificates: certificates::roots(&network.https)?,
            proxy,
            ..leave(&network.egress, discover(discovery, defaults)?)
        };
        Ok(Plan {
            sources: sources.iter().map(|text| SourceArg::parse(text)).collect(),
            origins: Vec::new(),
            config,
            style: Style { json: output.json, quiet: output.quiet, verbose: output.verbose, brief: false },
            goal: SeedGoal { ratio: goal.seed_ratio, time: goal.seed_time },
            timeout: None,
            stall_timeout: None,
            on_complete: None,
            metadata_only: false,
            seed_only: false,
            remarks,
            dir: place.dir,
            out: place.out,
            check: place.check,
            allow_overwrite: false,
            part_names: true,
            refetch: false,
            preallocate: false,
            sequential: false,
            first_last: false,
            choice: FileChoice::default(),
            peers: Peers::of(&network.discovery.peer),
            trackers,
        })
    }

    /// Fails if the name of the content would be that of several torrents.
    fn check_out(&self) -> Result<(), Failure> {
        if self.sources.len() > 1 && self.out.is_some() {
            return Err(option("--out names the content of one torrent, but several are given"));
        }
        Ok(())
    }

    /// Appends the sources of the list in this file.
    fn add_list(&mut self, path: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = path else { return Ok(()) };
        if path == Path::new("-") && self.sources.contains(&SourceArg::Stdin) {
            return Err(option("standard input cannot be a torrent and the list of --input-file at once"));
        }
        for listed in input_file::read(path)? {
            self.sources.push(listed.source);
            self.origins.push(listed.origin);
        }
        Ok(())
    }

    /// Returns the failure of the source at this place, with its line if it comes from a list.
    pub(crate) fn located(&self, place: usize, failure: Failure) -> Failure {
        let listed = place.checked_sub(self.sources.len() - self.origins.len());
        match listed.and_then(|index| self.origins.get(index)) {
            Some(origin) => Failure::new(failure.exit, format!("{origin}: {}", failure.sentence)),
            None => failure,
        }
    }

    /// Returns the directory of the content.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the directory of the content for a message: the current directory with its path.
    pub(crate) fn place(&self) -> String {
        let is_current = self.dir.as_os_str().is_empty() || self.dir == Path::new(".");
        let dir = if is_current { std::env::current_dir().ok() } else { None };
        shown(dir.as_deref().unwrap_or(&self.dir))
    }

    /// Returns the indices of the files that the options choose, or `None` if the link chooses them, for a
    /// torrent file all of them.
    pub(crate) fn choose(
        &self,
        metainfo: &Metainfo,
        link: Option<&Magnet>,
    ) -> Result<Option<Vec<usize>>, Failure> {
        self.choice.of(metainfo.files(), link)
    }

    /// Returns whether only host names given with `--peer` can lead to peers of these sources.
    pub(crate) fn has_only_named_peers<'a>(
        &self,
        mut sources: impl Iterator<Item = &'a LoadedSource>,
    ) -> bool {
        let no_peers = |source: &LoadedSource| match source {
            LoadedSource::Torrent(metainfo) => metainfo.trackers().is_empty(),
            LoadedSource::Magnet(magnet) => magnet.trackers.is_empty() && magnet.peers.is_empty(),
        };
        let proxied = self.config.proxy.is_some();
        let searched = !proxied && (self.config.dht.is_some() || self.config.lsd);
        let others = searched || !self.trackers.is_empty();
        let named = !self.peers.names.is_empty() && self.peers.addrs.is_empty();
        named && !others && !self.seed_only && sources.all(no_peers)
    }

    /// Returns the source with the name that its content gets; a link gets it with its metadata.
    pub(crate) fn named(&self, source: LoadedSource) -> LoadedSource {
        match source {
            LoadedSource::Torrent(metainfo) => {
                let named = self.out.as_deref().and_then(|name| metainfo.renamed(name));
                LoadedSource::Torrent(named.unwrap_or(metainfo))
            }
            link @ LoadedSource::Magnet(_) => link,
        }
    }

    /// Returns the request that adds this torrent or link to the session.
    pub(crate) fn add_request(&self, source: &LoadedSource) -> Result<AddTorrent, Failure> {
        let mut request = match source {
            LoadedSource::Torrent(metainfo) => AddTorrent {
                wanted_files: self.choose(metainfo, None)?,
                ..AddTorrent::new(metainfo.clone(), self.dir.clone())
            },
            LoadedSource::Magnet(magnet) => AddTorrent {
                name: self.out.clone(),
                choose_later: true,
                ..AddTorrent::magnet(magnet.clone(), self.dir.clone())
            },
        };
        request.peers.clone_from(&self.peers.addrs);
        request.trackers.clone_from(&self.trackers);
        request.seed_only = self.seed_only;
        request.check = self.check;
        request.allow_overwrite = self.allow_overwrite;
        request.part_names = self.part_names;
        request.refetch = self.refetch;
        request.preallocate = self.preallocate;
        request.refuse_hidden = !self.allow_overwrite && self.out.is_none() && is_home(&self.dir);
        request.sequential = self.sequential;
        request.first_last = self.first_last;
        Ok(request)
    }
}

/// Returns the configuration with these sources of peers.
pub(crate) fn discover(discovery: &args::Discovery, otherwise: Config) -> Result<Config, Failure> {
    Ok(Config {
        dht: dht(discovery)?,
        pex: !discovery.no_pex,
        lsd: !discovery.no_lsd,
        port_mapping: !discovery.no_port_mapping,
        transports: transports(&discovery.transport),
        encryption: match discovery.encryption {
            args::WhenEncrypted::Off => Encryption::Off,
            args::WhenEncrypted::Allow => Encryption::Allow,
            args::WhenEncrypted::Prefer => Encryption::Prefer,
            args::WhenEncrypted::Require => Encryption::Require,
        },
        private_hosts: discovery.allow_private_hosts.unwrap_or_default(),
        ..otherwise
    })
}

/// Returns the transports with these names; each may be named more than once.
fn transports(names: &[args::Transport]) -> Transports {
    match (names.contains(&args::Transport::Tcp), names.contains(&args::Transport::Utp)) {
        (true, false) => Transports::Tcp,
        (false, true) => Transports::Utp,
        (true, true) | (false, false) => Transports::Both,
    }
}

/// Returns the configuration whose sockets leave the machine as the options say.
pub(crate) fn leave(egress: &args::Egress, otherwise: Config) -> Config {
    let ip_family = match (egress.ipv4, egress.ipv6) {
        (true, _) => Some(IpFamily::V4),
        (_, true) => Some(IpFamily::V6),
        (false, false) => None,
    };
    let interface = egress.interface.as_ref().map(|text| match text.parse() {
        Ok(addr) => Interface::Address(addr),
        Err(_) => Interface::Name(text.clone()),
    });
    Config { ip_family, interface, dscp: egress.dscp, ..otherwise }
}

/// Returns the trackers given as options.
pub(crate) fn trackers(discovery: &args::Discovery) -> Result<Vec<String>, Failure> {
    discovery.tracker.iter().map(|url| usable_tracker(url)).collect()
}

/// Returns the configuration of the DHT, or `None` with `--no-dht`.
fn dht(discovery: &args::Discovery) -> Result<Option<DhtConfig>, Failure> {
    if discovery.no_dht {
        return if discovery.dht_bootstrap.is_empty() {
            Ok(None)
        } else {
            Err(option("--no-dht and --dht-bootstrap contradict each other"))
        };
    }
    let mut dht = DhtConfig { port: discovery.dht_port, ..DhtConfig::default() };
    if !discovery.dht_bootstrap.is_empty() {
        dht.bootstrap = discovery.dht_bootstrap.clone();
        dht.routers = Vec::new();
    }
    Ok(Some(dht))
}

/// Returns the storage mode of the option `--storage`.
pub(crate) fn storage_mode(options: args::Storage) -> StorageMode {
    match options {
        args::Storage::Auto => StorageMode::Auto,
        args::Storage::Mapped => StorageMode::Mapped,
        args::Storage::Plain => StorageMode::Plain,
    }
}

fn option(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::Option, sentence)
}

/// Returns the state directory, or `None` if no state is kept.
pub(crate) fn state_dir(options: &args::State, env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if options.no_state { None } else { options.state_dir.clone().or_else(|| default_state_dir(env)) }
}

/// Returns the default state directory of the XDG Base Directory specification.
fn default_state_dir(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("rill"))
}

/// Whether this is the user's home directory.
fn is_home(dir: &Path) -> bool {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    let home = std::env::var_os("HOME").and_then(|home| canonical(Path::new(&home)));
    home.is_some() && home == canonical(dir)
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
            CliCommand::Get(options) => Plan::get(options, env),
            CliCommand::Seed(options) => Plan::seed(options, env),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let plan = plan("rill get x").unwrap();
        assert_eq!(plan.config.listen_ports, 6881..=6999);
        assert_eq!((plan.config.max_peers, plan.config.max_peers_per_torrent), (200, 55));
        assert_eq!(plan.config.state_dir, Some("/home/u/.local/state/rill".into()));
        assert!(plan.goal.reached(0.0, Duration::ZERO) && !plan.goal.is_some());
        assert!(plan.config.storage == StorageMode::Auto && plan.remarks.is_empty());
    }

    #[test]
    fn without_a_home_directory_no_state_is_kept_and_a_warning_says_so() {
        let plan = plan_with("rill get x", |_| None).unwrap();
        assert_eq!((plan.config.state_dir, plan.remarks.len()), (None, 1));
        let plan = plan_with("rill get --no-state x", |_| None).unwrap();
        assert_eq!((plan.config.state_dir, plan.remarks.len()), (None, 0));
        let relative = |name: &str| (name == "XDG_STATE_HOME").then(|| "relative".to_string());
        assert_eq!(plan_with("rill get x", relative).unwrap().config.state_dir, None);
    }

    #[test]
    fn a_limit_of_zero_is_no_limit() {
        let plan = plan("rill get --max-download-limit 0 -u 64K --timeout 0 x").unwrap();
        assert_eq!((plan.config.download_limit, plan.config.upload_limit), (None, Some(64 << 10)));
        assert_eq!(plan.timeout, None);
    }

    #[test]
    fn max_peers_above_200_raises_the_limit_of_all_torrents() {
        assert_eq!(plan("rill get --max-peers 500 x").unwrap().config.max_peers, 500);
        assert_eq!(plan("rill get --max-peers 5 x").unwrap().config.max_peers, 200);
    }

    #[test]
    fn contradicting_options_are_refused() {
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
}
