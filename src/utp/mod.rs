//! Floor 2: the Micro Transport Protocol, uTP (BEP 29), with LEDBAT congestion control (RFC 6817).
//!
//! Pure as the engine is: packets and the time come in by method calls, packets and events are fetched. There is
//! no socket, clock or thread.
//!
//! ```text
//!   dial ─▶ SynSent ──STATE──▶ Open ──close──▶ FIN sent ──acked──▶ removed
//!   SYN ──▶ one answer; its number in the first DATA ──▶ Open
//!                                  Open ── RESET, or 8 timeouts in a row ──▶ Closed event, removed
//! ```

mod endpoint;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod ledbat;
mod limits;
mod receive;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod timers;

pub use endpoint::{Endpoint, UtpBudget, UtpEvent};
pub use stream::UtpRead;
