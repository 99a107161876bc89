//! The dictionaries of a DHT packet, field by field, for reading and for writing (BEP 5, 32, 33, 42, 43).

use crate::wire::bencode::{Bytes, Lenient, List};
use serde::{Deserialize, Serialize};

/// A packet. The type parameters stand for lists, which are read in place and written from our own data.
#[derive(Deserialize, Serialize)]
pub struct KrpcMessage<'a, V = List<'a, Bytes<'a>>, W = List<'a, Bytes<'a>>> {
    /// The arguments of a query.
    pub a: Lenient<Arguments<'a, W>>,
    /// An error; with a wrong type it is an error without code and text.
    pub e: Option<Lenient<ErrorList<'a>>>,
    /// The receiver's address (BEP 42).
    #[serde(borrow)]
    pub ip: Lenient<Bytes<'a>>,
    /// The method of a query.
    pub q: Lenient<Bytes<'a>>,
    /// The return values of a response.
    pub r: Lenient<ReturnValues<'a, V>>,
    /// 1 if the sender is read-only (BEP 43).
    pub ro: Lenient<i64>,
    /// The transaction id.
    pub t: Lenient<Bytes<'a>>,
    /// The sender's version.
    pub v: Lenient<Bytes<'a>>,
    /// The kind: `q`, `r` or `e`.
    pub y: Lenient<Bytes<'a>>,
}

/// The arguments of all methods.
#[derive(Deserialize, Serialize)]
pub struct Arguments<'a, W = List<'a, Bytes<'a>>> {
    #[serde(borrow)]
    pub id: Lenient<Bytes<'a>>,
    pub implied_port: Lenient<i64>,
    pub info_hash: Lenient<Bytes<'a>>,
    pub port: Lenient<u16>,
    pub scrape: Lenient<i64>,
    pub seed: Lenient<i64>,
    pub target: Lenient<Bytes<'a>>,
    pub token: Lenient<Bytes<'a>>,
    /// `n4`, `n6` or both (BEP 32).
    pub want: Lenient<W>,
}

/// The return values of all methods.
#[derive(Deserialize, Serialize)]
pub struct ReturnValues<'a, V = List<'a, Bytes<'a>>> {
    #[serde(borrow, rename = "BFpe")]
    pub peers_filter: Lenient<Bytes<'a>>,
    #[serde(rename = "BFsd")]
    pub seeds_filter: Lenient<Bytes<'a>>,
    pub id: Lenient<Bytes<'a>>,
    pub nodes: Lenient<Bytes<'a>>,
    pub nodes6: Lenient<Bytes<'a>>,
    pub token: Lenient<Bytes<'a>>,
    /// Compact addresses of peers, one string each.
    pub values: Lenient<V>,
}

/// An error: a list of its code and its text.
#[derive(Deserialize, Serialize)]
pub struct ErrorList<'a>(
    #[serde(default)] pub Lenient<i64>,
    #[serde(borrow, default)] pub Lenient<Bytes<'a>>,
);
