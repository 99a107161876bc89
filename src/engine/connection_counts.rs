//! How far connection attempts came: counts of the addresses that were dialed and of the connections that came
//! in, over all torrents and the whole session.

use super::disconnect::DisconnectReason;
use super::peer::{Phase, Wire};
use crate::units::TransportKind;

/// Outcomes of connection attempts since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that this session dialed.
    pub dialed: AttemptCounts,
    /// Connections that came in.
    pub incoming: AttemptCounts,
}

/// Outcomes of attempts in one direction. An attempt that has no outcome yet counts in `tried` only, as does one
/// that was given up because its torrent stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    /// All attempts.
    pub tried: u64,
    /// The peer's host refused the connection.
    pub refused: u64,
    /// The network could not reach the peer.
    pub unreachable: u64,
    /// The connection was not established in time.
    pub timed_out: u64,
    /// The peer closed the connection before its first byte.
    pub closed: u64,
    /// The peer was silent: no handshake in time.
    pub silent: u64,
    /// What the peer sent is no handshake for this torrent.
    pub bad_handshake: u64,
    /// This session closed the connection after the handshake or for lack of room: a second connection to the
    /// same peer, a connection to itself, a banned address, too many connections.
    pub turned_away: u64,
    /// Peers: connections with a handshake both ways.
    pub connected: u64,
    /// Those of them that negotiated encryption (MSE).
    pub encrypted: u64,
    /// Those of all attempts that were made over uTP.
    pub utp_tried: u64,
    /// Those of the peers that are connected over uTP.
    pub utp_connected: u64,
}

impl AttemptCounts {
    /// Returns the outcomes with their names, without `tried`.
    pub fn outcomes(&self) -> [(&'static str, u64); 8] {
        [
            ("connected", self.connected),
            ("refused", self.refused),
            ("unreachable", self.unreachable),
            ("timed_out", self.timed_out),
            ("closed", self.closed),
            ("silent", self.silent),
            ("bad_handshake", self.bad_handshake),
            ("turned_away", self.turned_away),
        ]
    }

    fn add(&mut self, other: &AttemptCounts) {
        self.tried += other.tried;
        self.refused += other.refused;
        self.unreachable += other.unreachable;
        self.timed_out += other.timed_out;
        self.closed += other.closed;
        self.silent += other.silent;
        self.bad_handshake += other.bad_handshake;
        self.turned_away += other.turned_away;
        self.connected += other.connected;
        self.encrypted += other.encrypted;
        self.utp_tried += other.utp_tried;
        self.utp_connected += other.utp_connected;
    }

    /// Counts an attempt.
    pub(super) fn on_tried(&mut self, over: TransportKind) {
        self.tried += 1;
        self.utp_tried += u64::from(over == TransportKind::Utp);
    }

    /// Takes back an attempt that this machine could not make.
    fn undo_tried(&mut self, over: TransportKind) {
        self.tried = self.tried.saturating_sub(1);
        self.utp_tried = self.utp_tried.saturating_sub(u64::from(over == TransportKind::Utp));
    }

    /// Counts a handshake both ways.
    pub(super) fn on_connected(&mut self, encrypted: bool, over: TransportKind) {
        self.connected += 1;
        self.encrypted += u64::from(encrypted);
        self.utp_connected += u64::from(over == TransportKind::Utp);
    }

    /// Counts a connection that was closed. `heard`: the peer sent at least one byte.
    fn close(&mut self, wire: &Wire, heard: bool, why: DisconnectReason) {
        match (wire.phase, why) {
            // Counted when it was established.
            (Phase::Up, _) => {}
            (_, DisconnectReason::Stopped | DisconnectReason::Private | DisconnectReason::NetworkChanged) => {
            }
            (_, DisconnectReason::OutOfResources) => self.undo_tried(wire.over),
            (_, DisconnectReason::Refused) => self.refused += 1,
            (Phase::Connecting, DisconnectReason::ConnectTimeout) => self.timed_out += 1,
            (Phase::Connecting, _) => self.unreachable += 1,
            (Phase::Handshaking, DisconnectReason::HandshakeTimeout) => self.silent += 1,
            (Phase::Handshaking, DisconnectReason::Lost) if !heard => self.closed += 1,
            (
                Phase::Handshaking,
                DisconnectReason::Ourselves
                | DisconnectReason::Duplicate
                | DisconnectReason::Banned
                | DisconnectReason::Full,
            ) => self.turned_away += 1,
            (Phase::Handshaking, _) => self.bad_handshake += 1,
        }
    }
}

impl ConnectionCounts {
    /// Adds the counts of another session.
    pub fn add(&mut self, other: &ConnectionCounts) {
        self.dialed.add(&other.dialed);
        self.incoming.add(&other.incoming);
    }

    /// Returns the counts of the direction.
    pub(super) fn of(&mut self, dialed: bool) -> &mut AttemptCounts {
        if dialed { &mut self.dialed } else { &mut self.incoming }
    }

    /// Counts a connection that was closed.
    pub(super) fn on_closed(&mut self, wire: &Wire, heard: bool, why: DisconnectReason) {
        self.of(wire.dialed).close(wire, heard, why);
    }
}
