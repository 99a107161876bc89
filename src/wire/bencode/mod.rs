//! Bencode from strangers (BEP 3): one tolerant scanner in front, serde's derived types behind it.
//!
//! ```text
//!   bytes ──scan──▶ Value (span, checked) ──read──▶ a struct with #[derive(Deserialize)], which borrows from the bytes
//!                                         ◀─write── the same struct with #[derive(Serialize)], keys in ascending order
//! ```
//!
//! Many programs write unsorted keys, repeated keys and leading zeros. The scanner takes these, checks depth, tokens and lengths without
//! recursion or allocation, and knows where every value lies *as written*, which is what the info hash is made of. [`deserialize`]
//! reads from its spans in place, so it needs no checks of its own.
//!
//! Each thing that rill reads or writes in bencode is one struct. A field whose absence does not matter is [`Lenient`]: with a wrong
//! type it counts as absent. A list whose length the sender chooses is a [`List`] or [`OneOrMany`]: it is walked in place, never
//! collected. A [`Value`] keeps a part as it is written.
//!
//! The policy, in one place:
//!
//! | what | outside `info` (tolerant) | inside `info` ([`Rules::strict`]) |
//! |---|---|---|
//! | keys out of order | taken | taken |
//! | a key twice | the first counts | refused: two readers could see two torrents under one hash |
//! | `i007e`, `i-0e`, `i+5e`, `05:hello` | taken as what they mean | refused |
//! | an integer beyond 64 bits | taken; nobody can read it as a number | refused |
//! | bytes after the value | cut, the caller is told how many | cannot be: the value ends where its span ends |

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
