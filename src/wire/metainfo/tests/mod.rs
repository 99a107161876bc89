//! Every bad .torrent file of the catalogue, T1 to T31, has a test here that carries its number.

mod fields;
mod numbers;
mod paths;

use super::{Metainfo, MetainfoError};
use crate::wire::testing::SampleTorrent;

/// What becomes of it.
fn parse(torrent: &SampleTorrent) -> Result<Metainfo, MetainfoError> {
    Metainfo::parse(&torrent.bytes())
}

/// The paths of all files, joined by `/`.
fn paths(torrent: &SampleTorrent) -> Vec<String> {
    parse(torrent).unwrap().files().iter().map(|f| f.path_text()).collect()
}

/// The path of the only file of a directory, without the directory.
fn one_path(components: &[&str]) -> String {
    paths(&SampleTorrent::with_paths(&[components]))[0].strip_prefix("name/").unwrap().to_owned()
}
