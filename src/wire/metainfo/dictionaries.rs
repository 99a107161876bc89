//! The dictionaries of a .torrent file (BEP 3, 5, 12, 19, 27, 47), unvalidated.
//!
//! One type per dictionary, for reading and for writing. The type parameters stand for lists, which are read
//! in place and written from our own data. A field of the wrong type counts as absent; [`super::parse`]
//! decides which fields are required.

use crate::wire::bencode::{Bytes, Lenient, List, OneOrMany, Value};
use serde::{Deserialize, Serialize};

/// The outer dictionary.
#[derive(Deserialize, Serialize)]
pub struct TorrentFile<
    'a,
    I = Value<'a>,
    T = Tiers<'a>,
    N = OneOrMany<'a, NamedNode<'a>>,
    U = OneOrMany<'a, Bytes<'a>>,
> {
    #[serde(borrow)]
    pub announce: Lenient<Bytes<'a>>,
    #[serde(rename = "announce-list")]
    pub announce_list: Lenient<T>,
    pub comment: Lenient<Bytes<'a>>,
    #[serde(rename = "comment.utf-8")]
    pub comment_utf8: Lenient<Bytes<'a>>,
    #[serde(rename = "created by")]
    pub created_by: Lenient<Bytes<'a>>,
    #[serde(rename = "creation date")]
    pub creation_date: Lenient<i64>,
    /// As written: the info hash is computed over these bytes.
    pub info: Option<I>,
    pub nodes: Lenient<N>,
    #[serde(rename = "url-list")]
    pub url_list: Lenient<U>,
}

/// Lists of tracker URLs (BEP 12).
pub type Tiers<'a> = OneOrMany<'a, OneOrMany<'a, Bytes<'a>>>;

/// A DHT node: a list of host and port (BEP 5).
#[derive(Deserialize, Serialize)]
pub struct NamedNode<'a>(#[serde(borrow)] pub Bytes<'a>, pub i64);

/// The info dictionary.
#[derive(Deserialize, Serialize)]
pub struct InfoDictionary<'a, F = List<'a, FileDictionary<'a>>> {
    #[serde(borrow)]
    pub attr: Lenient<Bytes<'a>>,
    #[serde(rename = "file tree")]
    pub file_tree: Option<Value<'a>>,
    pub files: Option<Lenient<F>>,
    pub length: Lenient<i64>,
    #[serde(rename = "meta version")]
    pub meta_version: Lenient<i64>,
    pub name: Lenient<Bytes<'a>>,
    #[serde(rename = "name.utf-8")]
    pub name_utf8: Lenient<&'a str>,
    #[serde(rename = "piece length")]
    pub piece_length: Lenient<i64>,
    pub pieces: Lenient<Bytes<'a>>,
    pub private: Lenient<i64>,
}

/// One entry of `files`.
#[derive(Deserialize, Serialize)]
pub struct FileDictionary<'a, P = List<'a, Bytes<'a>>> {
    #[serde(borrow)]
    pub attr: Lenient<Bytes<'a>>,
    pub length: Lenient<i64>,
    pub path: Lenient<P>,
    #[serde(rename = "path.utf-8")]
    pub path_utf8: Lenient<List<'a, &'a str>>,
}
