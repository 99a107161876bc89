//! Snapshots of a torrent's peers, trackers and pieces, computed on request.

use super::negotiation::StreamEncryption;
use super::peer::{Peer, Phase};
use super::swarms::Swarms;
use crate::units::{Bitfield, Instant, Origin, PeerId, PieceIndex, TorrentKey, TransportKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Statistics of one connected peer that sent its handshake.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The peer's address; if we dialed the peer, the address where it accepts connections.
    pub addr: SocketAddr,
    /// The source of the peer's address.
    pub origin: Origin,
    /// The transport of the connection.
    pub transport: TransportKind,
    /// How the connection is encrypted.
    pub encryption: StreamEncryption,
    /// We dialed the peer; otherwise it dialed us.
    pub dialed: bool,
    /// The peer id (BEP 20).
    pub peer_id: Option<PeerId>,
    /// The client's name and version as the peer reports them (BEP 10 `v`); short, and safe to print to a
    /// terminal.
    pub client: Option<String>,
    /// The share of the torrent's pieces that the peer has, 0 to 1.
    pub progress: f64,
    /// Payload received from the peer, bytes a second.
    pub download_rate: u64,
    /// Payload sent to the peer, bytes a second.
    pub upload_rate: u64,
    /// Blocks requested from the peer.
    pub requests: usize,
    /// Blocks that the peer requested and that are queued to be sent.
    pub upload_queue: usize,
    /// We choke the peer.
    pub we_choke: bool,
    /// We are interested: the peer has a missing piece.
    pub we_want: bool,
    /// The peer chokes us.
    pub they_choke: bool,
    /// The peer is interested in our pieces.
    pub they_want: bool,
    /// The peer snubs us: it sends none of the requested blocks.
    pub snubbed: bool,
    /// Time since the handshake.
    pub connected: Duration,
}

/// The state of one tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackerStatus {
    /// The announce URL.
    pub url: Arc<str>,
    /// The tier, from 0 (BEP 12).
    pub tier: usize,
    /// The result of the last announce: the number of addresses in the answer, or an error message. `None`
    /// before the first answer.
    pub last: Option<Result<usize, String>>,
    /// An announce is outstanding.
    pub announcing: bool,
    /// Time to the next announce; `None` if none is planned.
    pub next: Option<Duration>,
}

/// What the resume record of a torrent has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The verified pieces.
    pub have: Bitfield,
    /// The parts that do not follow from the content.
    pub history: History,
}

/// The part of a torrent's past that its content does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The whole torrent was downloaded, and `completed` was announced, or is announced once this is durable.
    pub completed: bool,
    /// Bytes received in all runs.
    pub downloaded: u64,
    /// Bytes sent in all runs.
    pub uploaded: u64,
}

impl Checkpoint {
    /// Returns the checkpoint of a torrent without a past.
    #[cfg(test)]
    pub fn of(have: Bitfield) -> Checkpoint {
        Checkpoint { have, history: History::default() }
    }
}

/// A piece of which blocks are requested or have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialPiece {
    /// The piece.
    pub piece: PieceIndex,
    /// Blocks that have arrived.
    pub arrived: u32,
    /// The number of the piece's blocks.
    pub blocks: u32,
}

impl Swarms {
    pub(super) fn peer_stats(&self, now: Instant, key: TorrentKey) -> Option<Vec<PeerStatus>> {
        let t = self.torrents.get(key)?;
        let pieces = t.pieces.geometry().pieces();
        let peers = t.peers.iter().filter_map(|p| self.connections.get(*p)).map(|c| &c.peer);
        let stats = |p: &Peer| PeerStatus {
            addr: p.source.addr,
            origin: p.source.origin,
            transport: p.wire.over,
            encryption: p.wire.encryption(),
            dialed: p.wire.dialed,
            peer_id: p.wire.id,
            client: p.wire.client.as_deref().map(str::to_owned),
            progress: f64::from(p.source.has.ones()) / f64::from(pieces.max(1)),
            download_rate: p.source.down.shown_per_second(now),
            upload_rate: p.wire.up.shown_per_second(now),
            requests: p.source.requests.in_flight(),
            upload_queue: p.wire.encoder.blocks(),
            we_choke: p.wire.we_choke,
            we_want: p.source.we_want,
            they_choke: p.source.they_choke,
            they_want: p.wire.they_want,
            snubbed: p.source.requests.is_snubbed(),
            connected: now.since(p.wire.since),
        };
        Some(peers.filter(|p| p.wire.phase == Phase::Up).map(stats).collect())
    }

    pub(super) fn partial_pieces(&self, key: TorrentKey) -> Option<Vec<PartialPiece>> {
        let t = self.torrents.get(key)?;
        let partial = t.pieces.open().map(|(piece, open)| PartialPiece {
            piece,
            arrived: open.arrived(),
            blocks: t.pieces.geometry().blocks(piece),
        });
        Some(partial.collect())
    }
}
