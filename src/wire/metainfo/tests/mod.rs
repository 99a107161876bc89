//! Every bad .torrent file of the catalogue, T1 to T31, has a test here that carries its number.

mod numbers;
mod paths;
mod rest;

use super::{Metainfo, MetainfoError};
use crate::wire::testing::Torrent;

/// What becomes of it.
fn parse(torrent: &Torrent) -> Result<Metainfo, MetainfoError> {
    Metainfo::parse(&torrent.bytes())
}

/// The paths of all files, joined by `/`.
fn paths(torrent: &Torrent) -> Vec<String> {
    parse(torrent).unwrap().files().iter().map(|f| f.path_text()).collect()
}

/// The path of the only file of a directory, without the directory.
fn one_path(components: &[&str]) -> String {
    paths(&Torrent::with_paths(&[components]))[0].strip_prefix("name/").unwrap().to_owned()
}
