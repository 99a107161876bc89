//! Connections' beginnings and ends: who is dialed, who is let in, and what is put back when one is lost.

use super::action::{Action, Actions, DialFailure};
use super::disconnect::DisconnectReason;
use super::engine::{Effect, Engine, EngineConfig};
use super::limits;
use super::peer::{Connection, Peer, Phase, Reading};
use super::pex::advertise;
use super::stream::Cx;
use super::timers::Timer;
use super::torrent::{Activity, Metadata};
use super::upload_only::send_extended_handshake;
use crate::units::{BlockSpan, Instant, Origin, PeerKey, TorrentKey};
use crate::wire::limits::METAINFO_PIECES;
use crate::wire::{Decoder, Handshake, Message};
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

/// Time between two dials in the long run.
const DIAL_STEP: Duration = Duration::from_micros(1_000_000 / limits::DIALS_PER_SECOND as u64);
/// How far dials may run ahead of that.
const DIAL_LEAD: Duration = DIAL_STEP.saturating_mul(limits::DIALS_AT_ONCE - 1);

impl Engine {
    /// Dials one address and comes back for the next.
    pub(super) fn dial(&mut self, now: Instant, out: &mut Actions) {
        let ahead = self.dials_spent_until.since(now);
        if ahead > DIAL_LEAD {
            return self.timers.arm(Timer::Dial, now + (ahead - DIAL_LEAD));
        }
        if self.stopping || self.half_open >= limits::HALF_OPEN || self.connections.len() >= self.config.max_peers {
            return; // a connection that ends or gets through arms the timer again
        }
        let keys: Vec<TorrentKey> = self.torrents.keys().collect();
        let start = self.next_to_dial.min(keys.len());
        let mut later: Option<Instant> = None;
        for key in keys[start..].iter().chain(&keys[..start]) {
            let Some(t) = self.torrents.get_mut(*key).filter(|t| t.running) else { continue };
            let most = match t.activity() {
                Activity::Seeding => self.config.policy.most_slots(),
                Activity::Opening => limits::METADATA_PEERS,
                Activity::Leeching | Activity::Paused => usize::MAX,
            };
            if t.peers.len() >= most.min(self.config.max_peers_per_torrent) {
                continue;
            }
            if let Some((addr, origin)) = t.peer_list.take(now) {
                self.next_to_dial = keys.iter().position(|k| k == key).map_or(0, |at| at + 1);
                self.dials_spent_until = self.dials_spent_until.max(now) + DIAL_STEP;
                self.connect(now, *key, addr, origin, out);
                return self.timers.arm(Timer::Dial, now);
            }
            later = [later, t.peer_list.next()].into_iter().flatten().min();
        }
        if let Some(at) = later {
            self.timers.arm(Timer::Dial, at.max(now + DIAL_STEP));
        }
    }

    fn connect(&mut self, now: Instant, torrent: TorrentKey, addr: SocketAddr, origin: Origin, out: &mut Actions) {
        let key = self.connections.next_key();
        let peer = Peer::new(now, key, addr, origin, Some(torrent), &self.config.policy);
        self.connections.insert(Connection { decoder: Decoder::default(), peer });
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.peers.push(key);
        }
        self.half_open += 1;
        self.arm_peer(key);
        out.push(Action::Dial { peer: key, addr });
    }

    /// The connection that was dialed stands.
    pub fn on_dialed(&mut self, now: Instant, key: PeerKey, out: &mut Actions) {
        let Some(c) = self.connections.get_mut(key).filter(|c| c.peer.phase == Phase::Connecting) else { return };
        self.half_open -= 1;
        c.peer.phase = Phase::Handshaking;
        (c.peer.since, c.peer.last_in) = (now, now);
        self.send_handshake(key, out);
        self.arm_peer(key);
        self.timers.arm(Timer::Dial, now);
    }

    /// The connection that was dialed does not come about.
    pub fn on_dial_failed(&mut self, now: Instant, key: PeerKey, failure: DialFailure, out: &mut Actions) {
        let Some(c) = self.connections.get(key) else { return };
        let (addr, torrent) = (c.peer.addr, c.peer.torrent);
        let why = match failure {
            DialFailure::Refused => DisconnectReason::Lost,
            DialFailure::OutOfResources => DisconnectReason::OutOfResources,
        };
        self.remove_connection(now, key, why, out);
        if failure == DialFailure::OutOfResources {
            if let Some(t) = torrent.and_then(|t| self.torrents.get_mut(t)) {
                t.peer_list.undo_take(now, addr);
            }
            self.dials_spent_until = now + DIAL_LEAD + Duration::from_secs(1);
        }
        self.apply_effects(now, out);
    }

    /// Somebody connected to us. `None`: no room, hang up at once.
    pub fn on_accepted(&mut self, now: Instant, addr: SocketAddr, out: &mut Actions) -> Option<PeerKey> {
        let peers = || self.connections.iter().map(|(_, c)| &c.peer);
        let same_host = peers().filter(|p| p.addr.ip() == addr.ip()).count();
        if self.stopping || self.connections.len() >= self.config.max_peers || same_host >= limits::PEERS_PER_ADDRESS {
            return None;
        }
        if peers().filter(|p| p.torrent.is_none()).count() >= limits::INCOMING_WITHOUT_HANDSHAKE {
            self.evict_silent_connection(now, out);
        }
        let key = self.connections.next_key();
        let peer = Peer::new(now, key, addr, Origin::Incoming, None, &self.config.policy);
        self.connections.insert(Connection { decoder: Decoder::default(), peer });
        self.arm_peer(key);
        Some(key)
    }

    /// Too many have not said who they are. An honest peer says it at once, so of the host with the most of them the oldest has to go:
    /// whoever only holds places holds those of others of its kind.
    fn evict_silent_connection(&mut self, now: Instant, out: &mut Actions) {
        let unnamed = || self.connections.iter().map(|(_, c)| &c.peer).filter(|p| p.torrent.is_none());
        let of_host = |peer: &Peer| unnamed().filter(|p| p.addr.ip() == peer.addr.ip()).count();
        let oldest = unnamed().min_by_key(|p| (Reverse(of_host(p)), p.since)).map(|p| p.key);
        if let Some(key) = oldest {
            self.disconnect(now, key, DisconnectReason::Full, out);
        }
    }

    fn send_handshake(&mut self, key: PeerKey, out: &mut Actions) {
        let dht_port = self.dht_port();
        let Some(c) = self.connections.get_mut(key) else { return };
        let Some(t) = c.peer.torrent.and_then(|t| self.torrents.get(t)) else { return };
        let EngineConfig { peer_id, policy, .. } = &self.config;
        let dht = dht_port.is_some() && t.allows(Origin::Dht);
        let ours = Handshake { info_hash: t.info_hash, peer_id: *peer_id, fast: policy.fast, extended: true, dht };
        c.peer.encoder.push_bytes(&ours.to_bytes());
        c.peer.flush(out);
    }

    /// The other side said who it is.
    pub(super) fn on_handshake(
        &mut self,
        now: Instant,
        key: PeerKey,
        theirs: &Handshake,
        out: &mut Actions,
    ) -> Result<(), DisconnectReason> {
        let Some(c) = self.connections.get(key) else { return Ok(()) };
        let (addr, dialed, origin) = (c.peer.addr, c.peer.dialed, c.peer.origin);
        let torrent = match c.peer.torrent {
            Some(t) => t,
            None => *self.by_hash.get(&theirs.info_hash).ok_or(DisconnectReason::UnknownTorrent)?,
        };
        let t = self.torrents.get_mut(torrent).filter(|t| t.running).ok_or(DisconnectReason::UnknownTorrent)?;
        if t.info_hash != theirs.info_hash {
            return Err(DisconnectReason::WrongTorrent);
        }
        if theirs.peer_id == self.config.peer_id {
            t.peer_list.forget(addr);
            // If the other end of it is where we dialed from, the address that we dialed is ours, too.
            let port = self.config.port;
            let dialed = t
                .peers
                .iter()
                .filter_map(|p| self.connections.get(*p))
                .map(|c| &c.peer)
                .filter(|p| p.phase == Phase::Handshaking);
            dialed.filter(|p| p.dialed && p.addr.port() == port).for_each(|p| t.peer_list.forget(p.addr));
            return Err(DisconnectReason::Ourselves);
        }
        if t.peer_list.is_banned(now, addr.ip()) {
            return Err(DisconnectReason::Banned);
        }
        let twin = t
            .peers
            .iter()
            .filter_map(|p| self.connections.get(*p))
            .map(|c| &c.peer)
            .find(|p| p.key != key && p.id == Some(theirs.peer_id));
        if let Some((twin, twin_dialed)) = twin.map(|p| (p.key, p.dialed)) {
            // Both dialed at the same time: both keep the connection of the one with the greater name.
            let ours_stays = self.config.peer_id > theirs.peer_id;
            if dialed == twin_dialed || dialed != ours_stays {
                return Err(DisconnectReason::Duplicate);
            }
            self.disconnect(now, twin, DisconnectReason::Duplicate, out);
        }
        let Some(t) = self.torrents.get_mut(torrent) else { return Ok(()) };
        if !dialed {
            let most = if t.open { usize::MAX } else { limits::METADATA_PEERS };
            if t.peers.len() >= most.min(self.config.max_peers_per_torrent) {
                return Err(DisconnectReason::Full);
            }
            t.peers.push(key);
        }
        log::info!("{addr} is a peer ({})", origin.word());
        let geometry = *t.pieces.geometry();
        let Some(c) = self.connections.get_mut(key) else { return Ok(()) };
        match t.metadata.is_wanted() {
            true => c.decoder.set_bitfield_most(METAINFO_PIECES.div_ceil(8) as usize),
            false => c.decoder.set_bitfield_len(geometry.pieces().div_ceil(8) as usize),
        }
        let peer = &mut c.peer;
        peer.torrent = Some(torrent);
        peer.id = Some(theirs.peer_id);
        peer.fast = theirs.fast && self.config.policy.fast;
        peer.has = crate::units::Bitfield::empty(geometry.pieces());
        (peer.phase, peer.since, peer.last_wanted) = (Phase::Up, now, now);
        if !dialed {
            self.send_handshake(key, out);
        }
        self.send_initial_messages(now, key, theirs, out);
        if let (Some(c), Some(t)) = (self.connections.get_mut(key), self.torrents.get_mut(torrent)) {
            advertise(&mut Cx { now, out, effects: &mut self.effects }, t, &mut c.peer);
        }
        Ok(())
    }

    /// What every connection begins with: who we are, what we have, what may be had at once.
    fn send_initial_messages(&mut self, now: Instant, key: PeerKey, theirs: &Handshake, out: &mut Actions) {
        let dht_port = self.dht_port();
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get(t)) else { return };
        let have = t.pieces.have();
        match () {
            () if peer.fast && have.is_full() => peer.say(&Message::HaveAll, out),
            () if peer.fast && have.is_empty() => peer.say(&Message::HaveNone, out),
            () if have.is_empty() => {}
            () => peer.say(&Message::Bitfield { bytes: have.as_bytes() }, out),
        }
        if theirs.extended {
            send_extended_handshake(&self.config, t, peer, out);
        }
        if let Some(port) = dht_port.filter(|_| theirs.dht && t.allows(Origin::Dht)) {
            peer.say(&Message::Port { port }, out);
        }
        if peer.fast && self.config.policy.serves() {
            let k = limits::ALLOWED_FAST_PIECES;
            let set = super::peer::allowed_fast(t.pieces.geometry(), &t.info_hash, peer.addr.ip(), k);
            for piece in set.into_iter().filter(|p| have.has(*p)) {
                peer.fast_to_them.push((piece, 0));
                peer.say(&Message::AllowedFast { piece: piece.get() }, out);
            }
        }
        peer.last_out = now;
    }

    // ---- ends -----------------------------------------------------------------------------------------------------

    /// The stream ended, or the network failed.
    pub fn on_lost(&mut self, now: Instant, key: PeerKey, out: &mut Actions) {
        self.remove_connection(now, key, DisconnectReason::Lost, out);
        self.apply_effects(now, out);
    }

    /// We hang up.
    pub(super) fn disconnect(&mut self, now: Instant, key: PeerKey, why: DisconnectReason, out: &mut Actions) {
        if self.connections.get(key).is_some() {
            log::debug!("closing {key:?}: {why}");
            self.remove_connection(now, key, why, out);
            out.push(Action::Close { peer: key });
        }
    }

    /// Takes a connection out of everything that knows it.
    pub(super) fn remove_connection(&mut self, now: Instant, key: PeerKey, why: DisconnectReason, out: &mut Actions) {
        let Some(Connection { mut peer, .. }) = self.connections.remove(key) else { return };
        self.timers.disarm(Timer::Peer(key));
        if peer.phase == Phase::Connecting {
            self.half_open -= 1;
        }
        self.timers.arm(Timer::Dial, now);
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        t.peers.retain(|p| *p != key);
        t.deferred_bitfields.take(key);
        if let Metadata::Wanted(fetch) = &mut t.metadata {
            fetch.gone(key);
            self.effects.push(Effect::AskMetadata { torrent: t.key });
        }
        if let Some(contact) = peer.contact().filter(|_| peer.advertised) {
            t.pex_log.left(contact);
            self.effects.push(Effect::Pex { torrent: t.key });
        }
        if peer.phase == Phase::Up {
            t.picker.availability.leave(&peer.has, peer.joined_as_seed);
        }
        if peer.dialed && why == DisconnectReason::Stopped {
            t.peer_list.closed_by_us(now, peer.addr);
        } else if peer.dialed && why != DisconnectReason::OutOfResources {
            // Two who dial each other at once may lose both connections, each side another one: one of them tries again soon.
            let brief = why == DisconnectReason::Lost && now.since(peer.since) < limits::BRIEF_CONNECTION;
            let failed = peer.phase != Phase::Up
                || brief
                || matches!(
                    why,
                    DisconnectReason::ProtocolViolation(_)
                        | DisconnectReason::Duplicate
                        | DisconnectReason::Idle
                        | DisconnectReason::Uninteresting
                );
            t.peer_list.lost(now, peer.addr, failed);
        }
        let torrent = t.key;
        if let Reading::Block { block, .. } = peer.reading {
            if t.pieces.release(block, key) {
                out.push(Action::Release { torrent, block });
            }
        }
        let owed = peer.requests.drain();
        self.release_requests(Some(torrent), &owed);
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.pieces.clear_owner(key);
        self.effects.push(Effect::TopUp { torrent });
        self.effects.push(Effect::FillSlots { torrent });
    }

    /// Blocks that a peer owed and will not send are free for others. A piece of which nothing came begins anew some day.
    pub(super) fn release_requests(&mut self, torrent: Option<TorrentKey>, owed: &[BlockSpan]) {
        let Some(t) = torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        for block in owed {
            t.pieces.cancel_request(*block);
        }
        for block in owed {
            if t.pieces.close_if_untouched(block.piece()) {
                t.picker.availability.restore(block.piece());
            }
        }
    }
}
