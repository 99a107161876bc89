//! The hazards T1 to T31: malformed .torrent files. Each test's name starts with the number of its hazard.

mod fields;
mod numbers;
mod paths;

use super::{Metainfo, MetainfoError};
use crate::wire::testing::SampleTorrent;

/// Parses the torrent's file.
fn parse(torrent: &SampleTorrent) -> Result<Metainfo, MetainfoError> {
    Metainfo::parse(&torrent.bytes())
}

/// Returns the paths of all files, joined by `/`.
fn paths(torrent: &SampleTorrent) -> Vec<String> {
    parse(torrent).unwrap().files().iter().map(|f| f.path_text()).collect()
}

/// Returns the path that a file with these components gets, below the torrent's directory.
fn one_path(components: &[&str]) -> String {
    paths(&SampleTorrent::with_paths(&[components]))[0].strip_prefix("name/").unwrap().to_owned()
}
