//! Hole punching (BEP 55): two peers behind NAT meet through a third one that both are connected to.
//!
//! ```text
//!   asker ── rendezvous(target) ──▶ relay ── connect(asker) ──▶ target
//!     ▲                              │                            │
//!     └────── connect(target) ───────┘                            │
//!     └◀──────────── both dial each other over uTP ──────────────▶┘
//! ```
//!
//! Each dial opens the NAT of its own side, so the later of the two first packets passes both. If both pass, there
//! are two connections, and the rule for duplicates keeps one.
//!
//! We ask as soon as one transport has failed to reach an address, if the peer that told us the address (BEP 11) said
//! that its owner speaks `ut_holepunch`. We introduce peers that do. A peer can have us, as relay or as target, send
//! a few packets to an address of its choice: both are limited for each peer, private addresses are named to private
//! addresses only, and a dial after an introduction counts as any other. A private torrent neither asks nor answers
//! (BEP 27).

use super::effects::Effect;
use super::limits;
use super::peer::{Connections, Peer, Phase};
use super::swarms::Swarms;
use super::torrent::Torrent;
use super::turn::Turn;
use crate::units::{Instant, PeerKey, TorrentKey, TransportKind, Transports};
use crate::wire::compact::may_name;
use crate::wire::{HolepunchError, HolepunchKind, HolepunchMessage, Message};
use std::net::SocketAddr;

/// What is left for hole punching with one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct HolepunchBudget {
    /// For its messages.
    theirs: MessageLimit,
    /// For introductions that we ask of it: more than we would give are not asked.
    ours: MessageLimit,
    /// Other peers are not introduced to it before this time.
    introduced_until: Instant,
}

/// The virtual clock of a rate limit (GCRA).
#[derive(Clone, Copy, Debug, Default)]
struct MessageLimit {
    spent_until: Instant,
}

impl MessageLimit {
    /// Returns whether another message is within the limit, and counts it.
    fn take(&mut self, now: Instant) -> bool {
        let step = limits::HOLEPUNCH_STEP;
        let within = self.spent_until.since(now) <= step * (limits::HOLEPUNCH_AT_ONCE - 1);
        if within {
            self.spent_until = self.spent_until.max(now) + step;
        }
        within
    }
}

impl Torrent {
    /// Returns whether the torrent takes part in hole punching.
    pub(super) fn holepunch_enabled(&self, transports: Transports) -> bool {
        transports != Transports::Tcp && self.pex_enabled()
    }
}

impl Peer {
    fn speaks_holepunch(&self) -> bool {
        self.wire.phase == Phase::Up && self.wire.extensions.ut_holepunch != 0
    }

    /// Returns where the peer answers over uTP, as far as this side sees; `None` if its port is unknown.
    fn utp_address(&self) -> Option<SocketAddr> {
        if self.wire.dialed || self.wire.over == TransportKind::Utp {
            return Some(self.source.addr);
        }
        self.wire.listen_port.map(|port| SocketAddr::new(self.source.addr.ip(), port))
    }

    fn send_holepunch(&mut self, turn: &mut Turn<'_>, kind: HolepunchKind, addr: SocketAddr) {
        let (id, payload) = (self.wire.extensions.ut_holepunch, HolepunchMessage { kind, addr }.encode());
        self.send(&Message::Extended { id, payload: &payload }, turn.out);
    }
}

/// Handles a message. A peer that has not said that it speaks the extension, and messages beyond the limit, get no
/// answer.
pub(super) fn on_holepunch(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) {
    if !t.holepunch_enabled(turn.config.transports) || !peer.speaks_holepunch() {
        return;
    }
    let Some(HolepunchMessage { kind, addr }) = HolepunchMessage::parse(payload) else { return };
    let from = peer.source.addr;
    match kind {
        HolepunchKind::Error(why) => log::debug!("{from} does not introduce us to {addr}: {why:?}"),
        _ if !peer.wire.holepunch.theirs.take(turn.now) => {}
        HolepunchKind::Rendezvous => {
            turn.effects.push(Effect::Introduce { torrent: t.key, asker: peer.source.key, target: addr });
        }
        HolepunchKind::Connect => {
            if may_name(from.ip(), addr.ip()) && t.peer_list.punch(turn.now, addr) {
                turn.effects.push_once(Effect::Dial);
            }
        }
    }
}

/// Asks the peer that named this address to introduce us. Does nothing if none did, or it was asked lately.
pub(super) fn ask(turn: &mut Turn<'_>, t: &mut Torrent, connections: &mut Connections, addr: SocketAddr) {
    if !t.holepunch_enabled(turn.config.transports) {
        return;
    }
    let Some(relay) = t.peer_list.introducer(turn.now, addr) else { return };
    let relay = connections.get_mut(relay).map(|c| &mut c.peer);
    let Some(relay) = relay.filter(|p| p.source.torrent == Some(t.key) && p.speaks_holepunch()) else {
        return;
    };
    if relay.wire.holepunch.ours.take(turn.now) {
        relay.send_holepunch(turn, HolepunchKind::Rendezvous, addr);
        t.peer_list.on_asked(turn.now, addr);
    }
}

impl Swarms {
    /// Introduces a peer to another one: both are told to dial each other.
    pub(super) fn introduce(
        &mut self,
        turn: &mut Turn<'_>,
        torrent: TorrentKey,
        asker: PeerKey,
        target: SocketAddr,
    ) {
        let Some(t) = self.torrents.get(torrent) else { return };
        let Some(asking) = self.connections.get(asker).map(|c| &c.peer) else { return };
        let Some(from) = asking.utp_address() else { return };
        let is_target = |p: &&Peer| p.source.addr == target || p.pex_peer().is_some_and(|p| p.addr == target);
        let mut peers = t.peers.iter().filter_map(|p| self.connections.get(*p)).map(|c| &c.peer);
        let answer = match peers.find(is_target) {
            Some(p) if p.source.key == asker => Err(HolepunchError::NoSelf),
            Some(p) if !p.speaks_holepunch() => Err(HolepunchError::NoSupport),
            Some(p) => Ok((p.source.key, p.utp_address())),
            None => Err(HolepunchError::NotConnected),
        };
        let (key, to) = match answer {
            Ok((key, Some(to))) if may_name(from.ip(), to.ip()) && may_name(to.ip(), from.ip()) => (key, to),
            Ok(_) => return,
            Err(why) => return self.tell(turn, asker, HolepunchKind::Error(why), target),
        };
        let Some(peer) = self.connections.get_mut(key).map(|c| &mut c.peer) else { return };
        if turn.now < peer.wire.holepunch.introduced_until {
            return;
        }
        peer.wire.holepunch.introduced_until = turn.now + limits::HOLEPUNCH_TARGET_INTERVAL;
        self.tell(turn, key, HolepunchKind::Connect, from);
        self.tell(turn, asker, HolepunchKind::Connect, to);
    }

    fn tell(&mut self, turn: &mut Turn<'_>, key: PeerKey, kind: HolepunchKind, addr: SocketAddr) {
        if let Some(c) = self.connections.get_mut(key) {
            c.peer.send_holepunch(turn, kind, addr);
        }
    }
}
