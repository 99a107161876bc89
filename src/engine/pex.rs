//! Peers tell each other of peers (BEP 11): when a message goes out, and what of one that came is believed.
//!
//! Named are only those whom we are connected to and who shook hands, by the address where they listen: where
//! we dialed them, or where their extension handshake says. A first message comes soon after a peer says that
//! it speaks of peers, so that two who know the same third meet at once; later ones follow a minute apart, if
//! there are changes. A torrent without changes arms no timer.
//!
//! Believed is a stranger's claim of an address, a few a minute, and none that leads into a network that the
//! stranger cannot know (hazard P18). A private torrent neither tells nor believes (BEP 27).

use super::effects::Effect;
use super::limits;
use super::peer::{Connection, Peer, Phase};
use super::swarms::Connections;
use super::timers::Timer;
use super::torrent::{PexPeer, Torrent};
use super::turn::Turn;
use crate::units::{Instant, Origin};
use crate::wire::compact::{is_local, may_name};
use crate::wire::{Message, PEX_REACHABLE, PEX_SEED, PexMessage, write_pex};
use std::collections::BTreeSet;
use std::net::SocketAddr;

impl Torrent {
    /// Whether its peers tell each other of peers.
    pub(super) fn pex_enabled(&self) -> bool {
        self.pex_log.enabled && self.allows(Origin::Pex)
    }
}

impl Peer {
    /// How others are told of it, if it is known where it listens.
    pub(super) fn contact(&self) -> Option<PexPeer> {
        let port = if self.wire.dialed { Some(self.source.addr.port()) } else { self.wire.listen_port };
        let flags = if self.wire.dialed { PEX_REACHABLE } else { 0 }
            | if self.is_upload_only() { PEX_SEED } else { 0 };
        port.filter(|_| self.wire.phase == Phase::Up)
            .map(|port| PexPeer { addr: SocketAddr::new(self.source.addr.ip(), port), flags })
    }

    fn speaks_pex(&self) -> bool {
        self.wire.phase == Phase::Up && self.wire.extensions.ut_pex != 0
    }
}

/// The peer can be named from now on, if it can.
pub(super) fn advertise(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer) {
    if let Some(contact) = peer.contact().filter(|_| !peer.wire.advertised && t.pex_enabled()) {
        peer.wire.advertised = true;
        t.pex_log.joined(contact);
        turn.effects.push_once(Effect::Pex { torrent: t.key });
    }
}

/// A peer tells us of others.
pub(super) fn on_pex(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) {
    let minutes = turn.now.since(peer.wire.since).as_micros() / limits::PEX_ACCEPT_INTERVAL.as_micros();
    if !t.pex_enabled()
        || u128::from(peer.wire.pex_cursor.told_us) >= u128::from(limits::PEX_ACCEPT_BURST) + minutes
    {
        return;
    }
    peer.wire.pex_cursor.told_us += 1;
    let Some(message) = PexMessage::parse(payload) else { return };
    let mut hosts = BTreeSet::new();
    let mut new = false;
    for (addr, flags) in message.added().filter(|(addr, _)| may_name(peer.source.addr.ip(), addr.ip())) {
        // One host at many ports is a way to make us knock at all of them.
        let first = hosts.insert(addr.ip()) || is_local(addr.ip());
        if first && !(t.is_upload_only() && flags & PEX_SEED != 0) {
            new |= t.peer_list.learn(turn.now, addr, Origin::Pex);
        }
    }
    if new {
        turn.effects.push_once(Effect::Dial);
    }
}

/// Sends a message to each peer for which one is due, and arms the timer for the others.
pub(super) fn send(turn: &mut Turn<'_>, t: &Torrent, connections: &mut Connections) {
    if !t.pex_enabled() {
        return;
    }
    let mut next = Instant::NEVER;
    for peer in &t.peers {
        let Some(peer) = connections.get(*peer).map(|c| &c.peer).filter(|p| p.speaks_pex()) else { continue };
        if !t.pex_log.has_news(&peer.wire.pex_cursor) {
            continue;
        }
        if turn.now < peer.wire.pex_cursor.not_before {
            next = next.min(peer.wire.pex_cursor.not_before);
            continue;
        }
        let mut heard = peer.wire.pex_cursor;
        let others = t.peers.iter().filter_map(|p| connections.get(*p)?.peer.contact());
        let news = t.pex_log.news(&mut heard, peer.contact().map(|c| c.addr), others);
        if !news.is_empty() {
            heard.not_before = turn.now + limits::PEX_INTERVAL;
        }
        if t.pex_log.has_news(&heard) {
            next = next.min(heard.not_before.max(turn.now + limits::PEX_FIRST_DELAY));
        }
        let (id, waiting) = (peer.wire.extensions.ut_pex, peer.wire.encoder.control_bytes());
        let Some(Connection { peer, .. }) = connections.get_mut(peer.source.key) else { continue };
        peer.wire.pex_cursor = heard;
        if !news.is_empty() && waiting < limits::OUTBOX_STOP_READING_BYTES {
            peer.say(&Message::Extended { id, payload: &write_pex(&news.added, &news.dropped) }, turn.out);
        }
    }
    turn.timers.arm(Timer::Pex(t.key), next);
}
