//! Untrusted bencode (BEP 3): a tolerant scanner, and types with derived `Deserialize` and `Serialize` on top
//! of it.
//!
//! ```text
//!   bytes ──scan──▶ Value (span, checked) ──read──▶ a struct with #[derive(Deserialize)], which borrows from the bytes
//!                                         ◀─write── the same struct with #[derive(Serialize)], keys in ascending order
//! ```
//!
//! Many programs write unsorted keys, repeated keys and leading zeros. The scanner accepts these, checks
//! depth, tokens and lengths without recursion or allocation, and finds the span of every value *as written*,
//! over which the info hash is computed. The deserializer reads these spans in place, so it needs no checks
//! of its own.
//!
//! Each dictionary that rill reads or writes is one struct, in the file of the protocol it belongs to. A
//! field whose absence is harmless is [`Lenient`]: with a wrong type it counts as absent. A list whose length
//! the sender chooses is a [`List`] or a [`OneOrMany`]: it is iterated in place, never collected. A [`Value`]
//! keeps a part as written.
//!
//! What is accepted:
//!
//! | what | outside `info` (tolerant) | inside `info` ([`Rules::strict`]) |
//! |---|---|---|
//! | keys out of order | accepted | accepted |
//! | a key twice | the first counts | refused: two readers could see two torrents under one hash |
//! | `i007e`, `i-0e`, `i+5e`, `05:hello` | accepted with the value they mean | refused |
//! | an integer beyond 64 bits | accepted, but has no value as a number | refused |
//! | bytes after the value | returned to the caller | not applicable: the span of `info` ends with its value |

mod canonical;
mod deserialize;
mod lenient;
mod list;
mod scan;
mod serialize;
mod value;

pub use canonical::{Canonical, canonicalize, refuse_repeated_keys};
pub use deserialize::TypeMismatch;
pub use lenient::{Bytes, Lenient};
pub use list::{List, OneOrMany};
pub use scan::{BencodeError, Rules, Scanned, scan};
pub use serialize::{Encoded, to_bytes, write};
pub use value::Value;

use super::limits::{METAINFO_DEPTH, METAINFO_TOKENS};

/// Returns whether the bytes begin with a whole value, as far as a torrent file may nest.
pub fn is_whole_bencode(bytes: &[u8]) -> bool {
    scan(bytes, &Rules { depth: METAINFO_DEPTH, tokens: METAINFO_TOKENS, strict: false }).is_ok()
}
