//! Peer exchange (BEP 11): when messages are sent, and which addresses of received messages are accepted.
//!
//! Our messages contain only connected peers that sent their handshakes, with the address where they accept
//! connections: the address that we dialed, or the port of their extension handshake. The first message
//! follows soon after a peer announces `ut_pex`, so that two peers of ours connect to each other at once;
//! later messages follow a minute apart, if there are changes. A torrent without changes arms no timer.
//!
//! Received addresses are unverified: the rate of messages is limited, and addresses in a network that the
//! sender cannot know are ignored (hazard P18). A private torrent neither sends nor accepts messages (BEP
//! 27).

use super::effects::Effect;
use super::limits;
use super::peer::{Connection, Connections, Peer, Phase};
use super::timers::Timer;
use super::torrent::{PexPeer, Torrent};
use super::turn::Turn;
use crate::units::{Instant, Origin, TransportKind};
use crate::wire::compact::{is_local, may_name};
use crate::wire::{
    Message, PEX_ENCRYPTION, PEX_HOLEPUNCH, PEX_REACHABLE, PEX_SEED, PEX_UTP, PexMessage, write_pex,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;

impl Torrent {
    /// Returns whether the torrent takes part in peer exchange.
    pub(super) fn pex_enabled(&self) -> bool {
        self.pex_log.enabled && self.allows(Origin::Pex)
    }
}

impl Peer {
    /// Returns the peer's entry for messages to other peers; `None` if it is unknown where the peer accepts
    /// connections.
    pub(super) fn pex_peer(&self) -> Option<PexPeer> {
        let port = if self.wire.dialed { Some(self.source.addr.port()) } else { self.wire.listen_port };
        let flags = if self.wire.dialed { PEX_REACHABLE } else { 0 }
            | if self.is_upload_only() { PEX_SEED } else { 0 }
            | if self.wire.wants_encryption { PEX_ENCRYPTION } else { 0 }
            | if self.wire.over == TransportKind::Utp { PEX_UTP } else { 0 }
            | if self.wire.extensions.ut_holepunch != 0 { PEX_HOLEPUNCH } else { 0 };
        port.filter(|_| self.wire.phase == Phase::Up)
            .map(|port| PexPeer { addr: SocketAddr::new(self.source.addr.ip(), port), flags })
    }

    fn speaks_pex(&self) -> bool {
        self.wire.phase == Phase::Up && self.wire.extensions.ut_pex != 0
    }
}

/// Adds the peer to the PEX log, once the address where it accepts connections is known.
pub(super) fn advertise(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer) {
    if let Some(pex_peer) = peer.pex_peer().filter(|_| !peer.wire.advertised && t.pex_enabled()) {
        peer.wire.advertised = true;
        t.pex_log.joined(pex_peer);
        turn.effects.push_once(Effect::Pex { torrent: t.key });
    }
}

/// Handles a PEX message. Messages beyond the permitted rate are ignored.
pub(super) fn on_pex(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) {
    let minutes = turn.now.since(peer.wire.since).as_micros() / limits::PEX_ACCEPT_INTERVAL.as_micros();
    if !t.pex_enabled()
        || u128::from(peer.wire.pex_cursor.accepted) >= u128::from(limits::PEX_ACCEPT_BURST) + minutes
    {
        return;
    }
    peer.wire.pex_cursor.accepted += 1;
    let Some(message) = PexMessage::parse(payload) else { return };
    let mut hosts = BTreeSet::new();
    let mut new = false;
    for (addr, flags) in message.added().filter(|(addr, _)| may_name(peer.source.addr.ip(), addr.ip())) {
        // Only one port of a host counts; otherwise a message could have us dial many ports of a victim.
        let accepted = hosts.insert(addr.ip()) || is_local(addr.ip());
        if accepted && !(t.is_upload_only() && flags & PEX_SEED != 0) {
            new |= t.peer_list.learn(turn.now, addr, Origin::Pex);
            if flags & PEX_ENCRYPTION != 0 {
                t.peer_list.hint_encrypted(addr);
            }
            if flags & PEX_UTP != 0 {
                t.peer_list.hint_utp(addr);
            }
            if flags & PEX_HOLEPUNCH != 0 {
                t.peer_list.set_introducer(addr, peer.source.key);
            }
        }
    }
    if new {
        turn.effects.push_once(Effect::Dial);
    }
}

/// Sends a message to each peer for which one is due, and arms the timer of the next message.
pub(super) fn send(turn: &mut Turn<'_>, t: &Torrent, connections: &mut Connections) {
    if !t.pex_enabled() {
        return;
    }
    let mut next = Instant::NEVER;
    for peer in &t.peers {
        let Some(peer) = connections.get(*peer).map(|c| &c.peer).filter(|p| p.speaks_pex()) else { continue };
        if !t.pex_log.has_changes(&peer.wire.pex_cursor) {
            continue;
        }
        if turn.now < peer.wire.pex_cursor.not_before {
            next = next.min(peer.wire.pex_cursor.not_before);
            continue;
        }
        let mut cursor = peer.wire.pex_cursor;
        let others = t.peers.iter().filter_map(|p| connections.get(*p)?.peer.pex_peer());
        let delta = t.pex_log.next_message(&mut cursor, peer.pex_peer().map(|p| p.addr), others);
        if !delta.is_empty() {
            cursor.not_before = turn.now + limits::PEX_INTERVAL;
        }
        if t.pex_log.has_changes(&cursor) {
            next = next.min(cursor.not_before.max(turn.now + limits::PEX_FIRST_DELAY));
        }
        let id = peer.wire.extensions.ut_pex;
        let waiting = peer.wire.encoder.control_bytes();
        let Some(Connection { peer, .. }) = connections.get_mut(peer.source.key) else { continue };
        peer.wire.pex_cursor = cursor;
        if !delta.is_empty() && waiting < limits::ENCODER_STOP_READING_BYTES {
            peer.send(&Message::Extended { id, payload: &write_pex(&delta.added, &delta.dropped) }, turn.out);
        }
    }
    turn.timers.arm(Timer::Pex(t.key), next);
}
