//! The command line.

use crate::clients::Client;
use crate::work::Work;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Measure rill beside the other BitTorrent clients of this machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "compare", bin_name = "cargo bench --bench compare --")]
pub struct Options {
    /// What to measure
    #[arg(
        long,
        value_name = "LIST",
        value_enum,
        value_delimiter = ',',
        default_value = "download,files,many,seed"
    )]
    pub work: Vec<Work>,
    /// Clients to measure beside rill [default: all that are found]
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    pub against: Vec<Client>,
    /// MiB to transfer in each run; half of it for `many`
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    pub size: u64,
    /// Number of rounds; every client runs once in each
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds after which a run has failed
    #[arg(long, value_name = "S", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
    /// The rill to measure [default: the one that cargo has built]
    #[arg(long, value_name = "PATH")]
    pub rill: Option<PathBuf>,
    /// Another build of rill to measure beside it, and no other client unless --against names it; may be
    /// repeated
    #[arg(long, value_name = "PATH")]
    pub beside: Vec<PathBuf>,
    /// Directory to work in [default: $TMPDIR or /var/tmp]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write one JSON object a run to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the medians of the leading measures into this file (SVG)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Option that cargo adds to every bench
    #[arg(long, hide = true)]
    pub bench: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| "not a whole number of seconds".to_owned())?;
    if seconds == 0 { Err("not even a second".to_owned()) } else { Ok(Duration::from_secs(seconds)) }
}
