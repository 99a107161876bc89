//! Bencode from strangers (BEP 3): a tolerant scanner in front, bendy's strict decoder behind it.
//!
//! ```text
//!   bytes ──scan──▶ Value (spans, checked) ──tidy──▶ Cow<[u8]> (sorted, plain) ──decode──▶ a Shape (bendy)
//!                      └── raw span of `info`, small messages read in place
//! ```
//!
//! bendy refuses what many programs write: unsorted keys, repeated keys, leading zeros. The scanner takes these,
//! checks depth, tokens and lengths without recursion or allocation, and knows where every value lies *as written*,
//! which is what the info hash is made of. Only a value that is not already in order is written anew for bendy.
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
//!
//! bendy does all encoding, and decoding of files and tracker replies. A decoder of bendy's allocates 147 KB, so
//! small messages (extension handshakes, DHT packets) are read through [`Value`] directly.

mod scan;
mod shape;
mod tidy;
mod value;

pub use scan::{BencodeError, Rules, Scanned, scan};
pub use shape::{Lenient, Shape, decode, optional, pairs};
pub use tidy::tidy;
pub use value::Value;
