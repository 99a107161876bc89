//! The options of `rill sim`. They change a named scenario; `cli::sim::plan` applies them.

use crate::cli::format::{parse_duration, parse_size};
use crate::cli::sim::values::{Fault, PartCount, Percent, Rates, Without};
use clap::Args;
use clap::builder::FalseyValueParser;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
#[command(after_help = super::examples::SIM)]
pub(crate) struct Sim {
    /// Scenario to start from; --list names them [default: flash]
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: Option<String>,
    /// Print the names and descriptions of all scenarios and experiments
    #[arg(long, env = "RILL_LIST", value_parser = FalseyValueParser::new())]
    pub(crate) list: bool,
    /// Run an experiment instead: many scenarios that differ in one thing [default: none]
    #[arg(long, value_name = "NAME", env = "RILL_EXPERIMENT")]
    pub(crate) experiment: Option<String>,

    #[command(flatten)]
    pub(crate) swarm: Swarm,
    #[command(flatten)]
    pub(crate) behavior: Behavior,

    /// Seed of all randomness; the same seed gives the same run
    #[arg(long, value_name = "N", env = "RILL_SEED", default_value_t = 1, help_heading = "Runs")]
    pub(crate) seed: u64,
    /// Number of runs; each has its own seed, counted up from --seed [default: 1, or the experiment's own
    /// number]
    #[arg(long, value_name = "N", env = "RILL_RUNS", help_heading = "Runs")]
    pub(crate) runs: Option<u32>,
    /// Check every message and recount the engine's state during the run
    #[arg(long, env = "RILL_STRICT", value_parser = FalseyValueParser::new(), help_heading = "Runs")]
    pub(crate) strict: bool,

    /// Print one JSON object instead of a table
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new(), help_heading = "Output")]
    pub(crate) json: bool,
    /// Draw completion over time, or the experiment's chart, as SVG into FILE [default: none]
    #[arg(long, value_name = "FILE", env = "RILL_PLOT", help_heading = "Output")]
    pub(crate) plot: Option<PathBuf>,
    /// Draw these metrics of the experiment [default: its first]
    #[arg(long, value_name = "NAME", env = "RILL_METRIC", value_delimiter = ',', help_heading = "Output")]
    pub(crate) metric: Vec<String>,
}

/// The peers of the swarm and their lines.
#[derive(Clone, Debug, Args)]
#[command(
    next_help_heading = "Swarm (RATES: 512K, 2M bytes a second or 10Mbit; several, with commas, are dealt in turn) [default: the scenario's]"
)]
pub(crate) struct Swarm {
    /// Engines that start without content
    #[arg(long, value_name = "N", env = "RILL_PEERS")]
    pub(crate) peers: Option<u32>,
    /// Engines that start with all content
    #[arg(long, value_name = "N", env = "RILL_SEEDS")]
    pub(crate) seeds: Option<u32>,
    /// Number of peers that upload nothing
    #[arg(long, value_name = "N", env = "RILL_FREE_RIDERS")]
    pub(crate) free_riders: Option<u32>,
    /// Scripted peers beside the engines: seed, slow, liar, snubber, flapper, leech, hoarder or greedy; may
    /// be repeated
    #[arg(long, value_name = "PART=N", env = "RILL_PUPPET", value_delimiter = ',', value_parser = PartCount::parse)]
    pub(crate) puppet: Vec<PartCount>,
    /// Bytes of content
    #[arg(long, value_name = "SIZE", env = "RILL_SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// Bytes in a piece
    #[arg(long, value_name = "SIZE", env = "RILL_PIECE", value_parser = parse_size)]
    pub(crate) piece: Option<u64>,
    /// Upload rates of the peers' lines
    #[arg(long, value_name = "RATES", env = "RILL_UP", value_parser = Rates::parse)]
    pub(crate) up: Option<Rates>,
    /// Download rates of the peers' lines; the first goes with the first of --up, and so on
    #[arg(long, value_name = "RATES", env = "RILL_DOWN", value_parser = Rates::parse)]
    pub(crate) down: Option<Rates>,
    /// Upload rates of the seeds' lines
    #[arg(long, value_name = "RATES", env = "RILL_SEED_UP", value_parser = Rates::parse)]
    pub(crate) seed_up: Option<Rates>,
    /// One-way latency from each peer to the middle of the network; between two peers it counts twice
    #[arg(long, value_name = "TIME", env = "RILL_LATENCY", value_parser = parse_duration)]
    pub(crate) latency: Option<Duration>,
    /// Share of the peers that cannot be dialed
    #[arg(long, value_name = "PERCENT", env = "RILL_UNDIALABLE", value_parser = Percent::parse)]
    pub(crate) undialable: Option<Percent>,
    /// Share of these whose routers open a port when they are asked
    #[arg(long, value_name = "PERCENT", env = "RILL_MAPPABLE", value_parser = Percent::parse)]
    pub(crate) mappable: Option<Percent>,
    /// Use uTP and hole punching, which works between this share of the pairs of peers that cannot be dialed
    #[arg(long, value_name = "PERCENT", env = "RILL_PUNCHES", value_parser = Percent::parse)]
    pub(crate) punches: Option<Percent>,
    /// Addresses in one reply of the tracker
    #[arg(long, value_name = "N", env = "RILL_ADDRESSES")]
    pub(crate) addresses: Option<u32>,
    /// Time over which the peers join, one after another
    #[arg(long, value_name = "TIME", env = "RILL_ARRIVE_WITHIN", value_parser = parse_duration)]
    pub(crate) arrive_within: Option<Duration>,
    /// Give up (exit code 2) after this much virtual time
    #[arg(long, value_name = "TIME", env = "RILL_PATIENCE", value_parser = parse_duration)]
    pub(crate) patience: Option<Duration>,
}

/// Policies of the engines, and faults.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Behaviour [default: the scenario's]")]
pub(crate) struct Behavior {
    /// Most connections of one engine
    #[arg(long, value_name = "N", env = "RILL_CONNECTIVITY")]
    pub(crate) connectivity: Option<u32>,
    /// Upload slots of one engine, besides the optimistic one; unused upload may open more
    #[arg(long, value_name = "N", env = "RILL_SLOTS")]
    pub(crate) slots: Option<u32>,
    /// Turn off a part of the engine; may be repeated
    #[arg(long, value_name = "WHAT", env = "RILL_WITHOUT", value_delimiter = ',')]
    pub(crate) without: Vec<Without>,
    /// Faults to inject: lose=5s (a connection breaks every 5 s on average), refuse=0.2 (share of dials
    /// refused), late=5ms (actions delayed by up to 5 ms), spikes=0.2,3s (piece checks delayed),
    /// unreadable=0.1 (piece checks that fail to read), full=0.1,10s (disk full), silence=0.3 (tracker does
    /// not answer), loss=0.3 and delay=50ms (tracker datagrams), clock=1h (start this long before the clock
    /// wraps); may be repeated
    #[arg(long, value_name = "NAME=VALUE", env = "RILL_FAULT", value_delimiter = ' ', value_parser = Fault::parse)]
    pub(crate) fault: Vec<Fault>,
}
