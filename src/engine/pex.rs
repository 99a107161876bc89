//! Peers tell each other of peers (BEP 11): when a message goes out, and what of one that came is believed.
//!
//! Named are only those whom we are connected to and who shook hands, by the address where they listen: where we dialed them, or
//! where their extension handshake says. A first message comes soon after a peer says that it speaks of peers, so that two who know the
//! same third meet at once; later ones come a minute apart, if there is news. Nobody wakes for a torrent in which nothing happens.
//!
//! Believed is a stranger's claim of an address, a few a minute, and none that leads into a network that the stranger cannot know (hazard
//! P18). A private torrent neither tells nor believes (BEP 27).

use super::action::Actions;
use super::engine::{Effect, Engine};
use super::limits;
use super::peer::{Connection, Peer, Phase};
use super::stream::Cx;
use super::timers::Timer;
use super::torrent::{PexPeer, Torrent};
use crate::units::{Instant, Origin, TorrentKey};
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
        let port = if self.dialed { Some(self.addr.port()) } else { self.listen_port };
        let flags = if self.dialed { PEX_REACHABLE } else { 0 } | if self.is_upload_only() { PEX_SEED } else { 0 };
        port.filter(|_| self.phase == Phase::Up).map(|port| PexPeer { addr: SocketAddr::new(self.addr.ip(), port), flags })
    }

    fn speaks_pex(&self) -> bool {
        self.phase == Phase::Up && self.extensions.ut_pex != 0
    }
}

/// The peer can be named from now on, if it can.
pub(super) fn advertise(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer) {
    if let Some(contact) = peer.contact().filter(|_| !peer.advertised && t.pex_enabled()) {
        peer.advertised = true;
        t.pex_log.joined(contact);
        cx.effect(Effect::Pex { torrent: t.key });
    }
}

/// A peer tells us of others.
pub(super) fn on_pex(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) {
    let minutes = cx.now.since(peer.since).as_micros() / limits::PEX_ACCEPT_INTERVAL.as_micros();
    if !t.pex_enabled() || u128::from(peer.pex_cursor.told_us) >= u128::from(limits::PEX_ACCEPT_BURST) + minutes {
        return;
    }
    peer.pex_cursor.told_us += 1;
    let Some(message) = PexMessage::parse(payload) else { return };
    let mut hosts = BTreeSet::new();
    let mut new = false;
    for (addr, flags) in message.added().filter(|(addr, _)| may_name(peer.addr.ip(), addr.ip())) {
        // One host at many ports is a way to make us knock at all of them.
        let first = hosts.insert(addr.ip()) || is_local(addr.ip());
        if first && !(t.is_upload_only() && flags & PEX_SEED != 0) {
            new |= t.peer_list.learn(cx.now, addr, Origin::Pex);
        }
    }
    if new {
        cx.effect(Effect::Dial);
    }
}

impl Engine {
    /// Tells whoever is to be told by now, and comes back for the others.
    pub(super) fn send_pex(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(key).filter(|t| t.running && t.pex_enabled()) else { return };
        let mut next = Instant::NEVER;
        for peer in &t.peers {
            let Some(peer) = self.connections.get(*peer).map(|c| &c.peer).filter(|p| p.speaks_pex()) else { continue };
            if !t.pex_log.has_news(&peer.pex_cursor) {
                continue;
            }
            if now < peer.pex_cursor.not_before {
                next = next.min(peer.pex_cursor.not_before);
                continue;
            }
            let mut heard = peer.pex_cursor;
            let others = t.peers.iter().filter_map(|p| self.connections.get(*p)?.peer.contact());
            let news = t.pex_log.news(&mut heard, peer.contact().map(|c| c.addr), others);
            if !news.is_empty() {
                heard.not_before = now + limits::PEX_INTERVAL;
            }
            if t.pex_log.has_news(&heard) {
                next = next.min(heard.not_before.max(now + limits::PEX_FIRST_DELAY));
            }
            let (id, waiting) = (peer.extensions.ut_pex, peer.encoder.control_bytes());
            let Some(Connection { peer, .. }) = self.connections.get_mut(peer.key) else { continue };
            peer.pex_cursor = heard;
            if !news.is_empty() && waiting < limits::OUTBOX_STOP_READING_BYTES {
                peer.say(&Message::Extended { id, payload: &write_pex(&news.added, &news.dropped) }, out);
            }
        }
        self.timers.arm(Timer::Pex(key), next);
    }

    /// Something has happened that peers are to be told: in a moment, because more of it may follow.
    pub(super) fn arm_pex(&mut self, now: Instant, key: TorrentKey) {
        self.timers.arm(Timer::Pex(key), now + limits::PEX_FIRST_DELAY);
    }
}
