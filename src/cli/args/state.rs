//! The words of `rill state`.

use super::examples;
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = examples::STATE, arg_required_else_help = true)]
pub(crate) struct StateCommand {
    #[command(subcommand)]
    pub(crate) part: StatePart,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StatePart {
    /// List the records: info hash, share, time of the last save, place of the content
    List(StateList),
    /// Remove the records of a torrent; its content is kept and hashed again at the next start
    Forget(StateForget),
    /// List the records whose content is gone, or remove them. A record whose disk is not mounted is kept
    Clean(StateClean),
}

#[derive(Debug, Args)]
#[command(after_help = examples::STATE_LIST)]
pub(crate) struct StateList {
    /// Directory of the records [default: $XDG_STATE_HOME/rill or ~/.local/state/rill]
    #[arg(long, value_name = "DIR", env = "RILL_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print one JSON object instead of lines
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = examples::STATE_FORGET)]
pub(crate) struct StateForget {
    /// Info hash or magnet link
    #[arg(value_name = "HASH")]
    pub(crate) hash: String,
    /// Forget only the record of the content in this directory [default: all directories]
    #[arg(short, long, value_name = "DIR", env = "RILL_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Directory of the records [default: $XDG_STATE_HOME/rill or ~/.local/state/rill]
    #[arg(long, value_name = "DIR", env = "RILL_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = examples::STATE_CLEAN)]
pub(crate) struct StateClean {
    /// Remove the records instead of listing them
    #[arg(long, env = "RILL_YES", value_parser = FalseyValueParser::new())]
    pub(crate) yes: bool,
    /// Directory of the records [default: $XDG_STATE_HOME/rill or ~/.local/state/rill]
    #[arg(long, value_name = "DIR", env = "RILL_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}
