//! Floor 5, the session: the loop thread that owns the engine, and the handle on the user's thread.
//!
//! A turn of the loop: wait for readiness, commands and replies; pass them to the engine; serve the ready
//! connections, each within a budget; carry out the engine's actions; write; submit the disk requests to the
//! workers. The handle and the workers reach the loop through channels; the engine is never shared or locked.

mod command;
mod config;
mod connection_io;
mod disk_full;
mod dispatch;
mod error;
mod event;
mod event_loop;
mod event_queue;
mod handle;
mod interface;
mod memory;
mod metadata;
mod proxy;
mod questions;
mod registry;
mod status;
mod tokens;
mod utp;

pub use crate::disk::{DiskFault, FaultKind, SpaceShortage, StorageMode};
pub use crate::engine::{
    AttemptCounts, ConnectionCounts, Encryption, MappingProtocol, PartialPiece, PeerStatus, PortMapping,
    ScrapeSource, SlowReason, StreamEncryption, TrackerStatus,
};
pub use crate::net::{Interface, IpFamily, PrivateHosts, Proxy, RootCertificates};
pub use crate::units::Origin;
pub use crate::units::{Bitfield, TransportKind, Transports};
pub use crate::wire::SwarmCounts;
pub use config::{AddTorrent, Config, DhtConfig, TorrentSource};
pub use error::{CommandError, StartError};
pub use event::{Event, Progress, TorrentId};
pub use event_queue::{Events, OnEvent};
pub use handle::{Session, Stopped};
pub use memory::{default_max_memory, info_share};
pub use metadata::kept_metadata;
pub use status::{FilePriority, FileStatus, PieceStatus, SessionStats, TorrentState, TorrentStatus};
