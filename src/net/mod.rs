//! Floor 4, hands for the network: sockets, clocks, and what blocks.
//!
//! Carries out what the engine decided and tells it what happened; decides nothing itself. The loop thread
//! never waits here: what can only be asked by waiting (an HTTP tracker, a host name) is asked by threads of
//! the [`BlockingPool`].

mod blocking_pool;
mod clock;
mod descriptors;
mod listen;
mod multicast;
mod socket;
mod sys;

pub use blocking_pool::{BlockingPool, BlockingReply};
pub use clock::{Clock, thread_cpu};
pub use descriptors::connections_within;
pub use listen::{Accepted, Listeners};
pub use multicast::MulticastSockets;
pub use socket::{DialError, Socket, Transfer};
pub use sys::Batch;
