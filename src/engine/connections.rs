//! The life of a connection: dial, accept, handshake, time-outs and teardown.

use super::action::{Action, DialFailure, Notice};
use super::config::EngineConfig;
use super::dialer::{DIAL_STEP, Dialer};
use super::disconnect::DisconnectReason;
use super::effects::Effect;
use super::extended_handshake::send_extended_handshake;
use super::limits;
use super::negotiation::{Encryption, Negotiation, note_attempt};
use super::peer::{Connection, Connections, Peer, Phase, Reading};
use super::pex::advertise;
use super::swarms::Swarms;
use super::timers::Timer;
use super::torrent::{Activity, Metadata, Torrent};
use super::turn::Turn;
use super::upload_only::check_mutual_interest;
use super::{holepunch, transports};
use crate::units::{BlockSpan, Instant, Origin, PeerKey, TorrentKey, TransportKind};
use crate::wire::limits::METAINFO_PIECES;
use crate::wire::{Decoder, Handshake, Message};
use std::cmp::Reverse;
use std::net::SocketAddr;

/// Notes what the end of a dialed connection shows about its address, and tries the next way to it. Returns whether it
/// is dialed again at once.
fn try_another_way(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    connections: &mut Connections,
    peer: &Peer,
    negotiation: Option<&Negotiation>,
    heard: bool,
    why: DisconnectReason,
) -> bool {
    if note_attempt(turn.config.encryption, &mut t.peer_list, peer, negotiation, heard, why) {
        return true;
    }
    // Dialed over uTP, an address is also introduced: our packets then open the way for those of the peer.
    if transports::was_unreachable(peer, heard, why) {
        holepunch::ask(turn, t, connections, peer.source.addr);
    }
    transports::note_end(turn.config.transports, turn.now, &mut t.peer_list, peer, heard, why)
}

impl Swarms {
    /// Dials one address of the torrent whose turn it is, and arms the timer of the next dial.
    pub(super) fn dial(&mut self, turn: &mut Turn<'_>, dialer: &mut Dialer) {
        if let Some(at) = dialer.wait_until(turn.now) {
            return turn.timers.arm(Timer::Dial, at);
        }
        if self.stopping
            || self.half_open >= limits::HALF_OPEN
            || self.connections.len() >= turn.config.max_peers
        {
            return; // the timer is armed again when a connection is established or closed
        }
        let keys: Vec<TorrentKey> = self.torrents.keys().collect();
        let mut later: Option<Instant> = None;
        for (at, key) in dialer.in_turns(&keys) {
            let Some(t) = self.torrents.get_mut(*key).filter(|t| t.running) else { continue };
            let max_peers = match t.activity() {
                Activity::Seeding => turn.config.policy.most_slots(),
                Activity::Opening => limits::METADATA_PEERS,
                Activity::Leeching | Activity::Paused => usize::MAX,
            };
            if t.peers.len() >= max_peers.min(turn.config.max_peers_per_torrent) {
                continue;
            }
            if let Some((addr, origin)) = t.peer_list.take(turn.now) {
                let encrypt = turn.config.encryption.dials(t.peer_list.encrypted(addr));
                let over = transports::choose(turn.config.transports, t.peer_list.transport(addr));
                dialer.on_dial(turn.now, at);
                self.connect(turn, *key, addr, origin, over, encrypt);
                return turn.timers.arm(Timer::Dial, turn.now);
            }
            later = [later, t.peer_list.next()].into_iter().flatten().min();
        }
        if let Some(at) = later {
            turn.timers.arm(Timer::Dial, at.max(turn.now + DIAL_STEP));
        }
    }

    fn connect(
        &mut self,
        turn: &mut Turn<'_>,
        torrent: TorrentKey,
        addr: SocketAddr,
        origin: Origin,
        over: TransportKind,
        encrypt: bool,
    ) {
        let key = self.connections.next_key();
        let mut peer = Peer::new(turn.now, key, addr, origin, Some(torrent), &turn.config.policy);
        peer.wire.encrypt = encrypt;
        peer.wire.over = over;
        self.connections.insert(Connection { decoder: Decoder::default(), peer, negotiation: None });
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.peers.push(key);
        }
        self.half_open += 1;
        self.counts.dialed.on_tried(over);
        self.arm_peer(turn, key);
        turn.out.push(Action::Dial { peer: key, addr, over });
    }

    /// A dialed connection is established: sends our handshake.
    pub fn on_dialed(&mut self, turn: &mut Turn<'_>, key: PeerKey) {
        let Some(c) = self.connections.get_mut(key).filter(|c| c.peer.wire.phase == Phase::Connecting) else {
            return;
        };
        self.half_open -= 1;
        c.peer.wire.phase = Phase::Handshaking;
        c.peer.wire.since = turn.now;
        c.peer.source.last_in = turn.now;
        self.send_handshake(turn, key);
        self.arm_peer(turn, key);
        turn.timers.arm(Timer::Dial, turn.now);
    }

    /// A dial failed: removes the connection. Returns false if the connection was removed already.
    pub fn on_dial_failed(
        &mut self,
        turn: &mut Turn<'_>,
        dialer: &mut Dialer,
        key: PeerKey,
        failure: DialFailure,
    ) -> bool {
        let Some(c) = self.connections.get(key) else { return false };
        let addr = c.peer.source.addr;
        let torrent = c.peer.source.torrent;
        let why = match failure {
            DialFailure::Refused => DisconnectReason::Refused,
            DialFailure::Unreachable => DisconnectReason::Unreachable,
            DialFailure::OutOfResources => DisconnectReason::OutOfResources,
        };
        self.remove_connection(turn, key, why);
        if failure == DialFailure::OutOfResources {
            if let Some(t) = torrent.and_then(|t| self.torrents.get_mut(t)) {
                t.peer_list.undo_take(turn.now, addr);
            }
            dialer.pause(turn.now);
        }
        true
    }

    /// A peer connected to us. Returns `None` if there is no room; the caller closes the connection.
    pub fn on_accepted(
        &mut self,
        turn: &mut Turn<'_>,
        addr: SocketAddr,
        over: TransportKind,
    ) -> Option<PeerKey> {
        self.counts.incoming.on_tried(over);
        let peers = || self.connections.iter().map(|(_, c)| &c.peer);
        let same_host = peers().filter(|p| p.source.addr.ip() == addr.ip()).count();
        if self.stopping
            || self.connections.len() >= turn.config.max_peers
            || same_host >= limits::PEERS_PER_ADDRESS
        {
            self.counts.incoming.turned_away += 1;
            return None;
        }
        if peers().filter(|p| p.source.torrent.is_none()).count() >= limits::INCOMING_WITHOUT_HANDSHAKE {
            self.evict_silent_connection(turn);
        }
        let key = self.connections.next_key();
        let mut peer = Peer::new(turn.now, key, addr, Origin::Incoming, None, &turn.config.policy);
        peer.wire.over = over;
        self.connections.insert(Connection { decoder: Decoder::default(), peer, negotiation: None });
        self.arm_peer(turn, key);
        Some(key)
    }

    /// Evicts the oldest connection without a handshake of the address that holds most of them: an honest
    /// peer sends its handshake at once, so an attacker that only occupies places loses its own connections.
    fn evict_silent_connection(&mut self, turn: &mut Turn<'_>) {
        let silent = || self.connections.iter().map(|(_, c)| &c.peer).filter(|p| p.source.torrent.is_none());
        let of_host = |peer: &Peer| silent().filter(|p| p.source.addr.ip() == peer.source.addr.ip()).count();
        let oldest = silent().min_by_key(|p| (Reverse(of_host(p)), p.wire.since)).map(|p| p.source.key);
        if let Some(key) = oldest {
            self.disconnect(turn, key, DisconnectReason::Full);
        }
    }

    fn send_handshake(&mut self, turn: &mut Turn<'_>, key: PeerKey) {
        let dht_port = self.dht_port;
        let Some(c) = self.connections.get_mut(key) else { return };
        let Some(t) = c.peer.source.torrent.and_then(|t| self.torrents.get(t)) else { return };
        let EngineConfig { peer_id, policy, .. } = turn.config;
        let dht = dht_port.is_some() && t.allows(Origin::Dht);
        let ours =
            Handshake { info_hash: t.info_hash, peer_id: *peer_id, fast: policy.fast, extended: true, dht };
        if c.peer.wire.encrypt && c.peer.wire.phase == Phase::Handshaking {
            let info_hash = t.info_hash.0;
            return self.begin_negotiation(turn, key, &ours.to_bytes(), info_hash);
        }
        c.peer.wire.encoder.push_bytes(&ours.to_bytes());
        c.peer.flush(turn.out);
    }

    /// The peer sent its handshake: assigns the connection to the torrent, and sends our first messages.
    ///
    /// # Errors
    /// The reason to close the connection.
    pub(super) fn on_handshake(
        &mut self,
        turn: &mut Turn<'_>,
        key: PeerKey,
        theirs: &Handshake,
    ) -> Result<(), DisconnectReason> {
        let Some(c) = self.connections.get(key) else { return Ok(()) };
        let addr = c.peer.source.addr;
        let dialed = c.peer.wire.dialed;
        let negotiated = c.peer.wire.negotiated;
        let (over, kind_words) = (c.peer.wire.over, c.peer.wire.kind_words());
        if turn.config.encryption == Encryption::Require && negotiated.is_none() {
            return Err(DisconnectReason::Unencrypted);
        }
        let origin = c.peer.source.origin;
        let torrent = match c.peer.source.torrent {
            Some(t) => t,
            None => *self.by_hash.get(&theirs.info_hash).ok_or(DisconnectReason::UnknownTorrent)?,
        };
        let t =
            self.torrents.get_mut(torrent).filter(|t| t.running).ok_or(DisconnectReason::UnknownTorrent)?;
        if t.info_hash != theirs.info_hash || negotiated.is_some_and(|named| named != theirs.info_hash.0) {
            return Err(DisconnectReason::WrongTorrent);
        }
        if theirs.peer_id == turn.config.peer_id {
            t.peer_list.forget(addr);
            // We connected to ourselves. This end may be the accepted one, whose address is not the dialed
            // one: forget every dialed address with our port whose handshake is outstanding, too.
            let ours = [turn.config.port, turn.public_port(false), turn.public_port(true)];
            let dialed = t
                .peers
                .iter()
                .filter_map(|p| self.connections.get(*p))
                .map(|c| &c.peer)
                .filter(|p| p.wire.phase == Phase::Handshaking);
            dialed
                .filter(|p| p.wire.dialed && ours.contains(&p.source.addr.port()))
                .for_each(|p| t.peer_list.forget(p.source.addr));
            return Err(DisconnectReason::Ourselves);
        }
        if t.peer_list.is_banned(turn.now, addr.ip()) {
            return Err(DisconnectReason::Banned);
        }
        let twin = t
            .peers
            .iter()
            .filter_map(|p| self.connections.get(*p))
            .map(|c| &c.peer)
            .find(|p| p.source.key != key && p.wire.id == Some(theirs.peer_id));
        if let Some((twin, twin_dialed, twin_addr)) =
            twin.map(|p| (p.source.key, p.wire.dialed, p.source.addr))
        {
            // If both sides dialed each other at the same time, each side keeps the connection that the side
            // with the greater peer id dialed.
            let keep_ours = turn.config.peer_id > theirs.peer_id;
            // A peer that dials again has lost the connection before, of which this side may not know yet.
            let again = !dialed && !twin_dialed && twin_addr.ip() == addr.ip();
            if !again && (dialed == twin_dialed || dialed != keep_ours) {
                return Err(DisconnectReason::Duplicate);
            }
            self.disconnect(turn, twin, DisconnectReason::Duplicate);
        }
        let Some(t) = self.torrents.get_mut(torrent) else { return Ok(()) };
        if !dialed {
            let max_peers = if t.open { usize::MAX } else { limits::METADATA_PEERS };
            if t.peers.len() >= max_peers.min(turn.config.max_peers_per_torrent) {
                return Err(DisconnectReason::Full);
            }
            t.peers.push(key);
        }
        log::info!("{addr} is a peer ({}{})", origin.word(), kind_words);
        if dialed {
            t.peer_list.set_encrypted(addr, negotiated.is_some());
            t.peer_list.on_connected_over(addr, over);
        }
        self.counts.of(dialed).on_connected(negotiated.is_some(), over);
        let geometry = *t.pieces.geometry();
        let Some(c) = self.connections.get_mut(key) else { return Ok(()) };
        if t.metadata.is_wanted() {
            c.decoder.set_bitfield_most(METAINFO_PIECES.div_ceil(8) as usize);
        } else {
            c.decoder.set_bitfield_len(geometry.pieces().div_ceil(8) as usize);
        }
        let peer = &mut c.peer;
        peer.source.torrent = Some(torrent);
        peer.wire.id = Some(theirs.peer_id);
        peer.wire.fast = theirs.fast && turn.config.policy.fast;
        peer.source.has = crate::units::Bitfield::empty(geometry.pieces());
        peer.wire.phase = Phase::Up;
        peer.wire.since = turn.now;
        peer.wire.last_wanted = turn.now;
        if !dialed {
            self.send_handshake(turn, key);
        }
        self.send_initial_messages(turn, key, theirs);
        if let (Some(c), Some(t)) = (self.connections.get_mut(key), self.torrents.get_mut(torrent)) {
            advertise(turn, t, &mut c.peer);
        }
        Ok(())
    }

    /// Sends the first messages of a connection: verified pieces, extension handshake, DHT port and
    /// allowed-fast set.
    fn send_initial_messages(&mut self, turn: &mut Turn<'_>, key: PeerKey, theirs: &Handshake) {
        let dht_port = self.dht_port;
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get(t)) else { return };
        let have = t.pieces.have();
        if peer.wire.fast && have.is_full() {
            peer.send(&Message::HaveAll, turn.out);
        } else if peer.wire.fast && have.is_empty() {
            peer.send(&Message::HaveNone, turn.out);
        } else if !have.is_empty() {
            peer.send(&Message::Bitfield { bytes: have.as_bytes() }, turn.out);
        }
        if theirs.extended {
            send_extended_handshake(turn, t, peer);
        }
        if let Some(port) = dht_port.filter(|_| theirs.dht && t.allows(Origin::Dht)) {
            let port = turn.outside.udp(peer.source.addr.is_ipv6(), port);
            peer.send(&Message::Port { port }, turn.out);
        }
        if peer.wire.fast && turn.config.policy.serves() {
            let k = limits::ALLOWED_FAST_PIECES;
            let set = super::peer::allowed_fast(t.pieces.geometry(), &t.info_hash, peer.source.addr.ip(), k);
            for piece in set.into_iter().filter(|p| have.has(*p)) {
                peer.wire.fast_to_them.push((piece, 0));
                peer.send(&Message::AllowedFast { piece: piece.get() }, turn.out);
            }
        }
        peer.wire.last_out = turn.now;
    }

    // ---- teardown -------------------------------------------------------------------------------------------------

    /// Closes a connection.
    pub(super) fn disconnect(&mut self, turn: &mut Turn<'_>, key: PeerKey, why: DisconnectReason) {
        if self.connections.get(key).is_some() {
            log::debug!("closing {key:?}: {why}");
            self.remove_connection(turn, key, why);
            turn.out.push(Action::Close { peer: key });
        }
    }

    /// Removes a connection from all state: counters, peer list, availability, leases and requests.
    pub(super) fn remove_connection(&mut self, turn: &mut Turn<'_>, key: PeerKey, why: DisconnectReason) {
        let Some(Connection { mut peer, decoder, negotiation }) = self.connections.remove(key) else {
            return;
        };
        let heard = decoder.has_received() || peer.wire.heard;
        self.counts.on_closed(&peer.wire, heard, why);
        turn.timers.disarm(Timer::Peer(key));
        if peer.wire.phase == Phase::Connecting {
            self.half_open -= 1;
        }
        turn.timers.arm(Timer::Dial, turn.now);
        let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        t.peers.retain(|p| *p != key);
        t.deferred_bitfields.take(key);
        if let Metadata::Wanted(fetch) = &mut t.metadata {
            fetch.gone(key);
            turn.effects.push(Effect::AskMetadata { torrent: t.key });
        }
        if let Some(pex_peer) = peer.pex_peer().filter(|_| peer.wire.advertised) {
            t.pex_log.left(pex_peer);
            turn.effects.push(Effect::Pex { torrent: t.key });
        }
        if peer.wire.phase == Phase::Up {
            t.picker.availability.leave(&peer.source.has, peer.wire.joined_as_seed);
        }
        let retry = peer.wire.dialed
            && try_another_way(turn, t, &mut self.connections, &peer, negotiation.as_deref(), heard, why);
        let given = peer.wire.dialed && peer.source.origin == Origin::Given;
        if given && peer.wire.phase != Phase::Up && !retry {
            let notice = Notice::GivenPeerFailed { torrent: t.key, addr: peer.source.addr, why };
            turn.out.push(Action::Notice(notice));
        }
        if peer.wire.dialed && matches!(why, DisconnectReason::Stopped | DisconnectReason::NetworkChanged) {
            t.peer_list.closed_by_us(turn.now, peer.source.addr);
        } else if peer.wire.dialed && why != DisconnectReason::OutOfResources && !retry {
            // If two peers dial each other at once, each may close a different one of the two connections. A
            // connection that is a duplicate or lost at once therefore counts as failed: its first retry
            // comes soon.
            let brief =
                why == DisconnectReason::Lost && turn.now.since(peer.wire.since) < limits::BRIEF_CONNECTION;
            let failed = peer.wire.phase != Phase::Up
                || brief
                || matches!(
                    why,
                    DisconnectReason::ProtocolViolation(_)
                        | DisconnectReason::Duplicate
                        | DisconnectReason::Idle
                        | DisconnectReason::Uninteresting
                );
            if peer.wire.phase == Phase::Up {
                t.peer_list.set_reliable(peer.source.addr, !failed);
            }
            let is_up =
                |p: &PeerKey| self.connections.get(*p).is_some_and(|c| c.peer.wire.phase == Phase::Up);
            let needs_peers = matches!(t.activity(), Activity::Leeching | Activity::Opening);
            if needs_peers && why != DisconnectReason::Uninteresting && !t.peers.iter().any(is_up) {
                t.peer_list.lost_only(turn.now, peer.source.addr, failed);
            } else {
                t.peer_list.lost(turn.now, peer.source.addr, failed);
            }
        }
        let torrent = t.key;
        if let Reading::Block { block, .. } = peer.source.reading {
            if t.pieces.release(block, key) {
                turn.out.push(Action::Release { torrent, block });
            }
        }
        let in_flight = peer.source.requests.drain();
        self.release_requests(Some(torrent), &in_flight);
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.pieces.clear_owner(key);
        turn.effects.push(Effect::TopUp { torrent });
        turn.effects.push(Effect::FillSlots { torrent });
    }

    /// Frees blocks that were requested from a peer that will not send them. A piece without any received or
    /// requested block is closed: the picker may begin it again later.
    pub(super) fn release_requests(&mut self, torrent: Option<TorrentKey>, blocks: &[BlockSpan]) {
        let Some(t) = torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        for block in blocks {
            t.pieces.cancel_request(*block);
        }
        for block in blocks {
            if t.pieces.close_if_untouched(block.piece()) {
                t.picker.availability.restore(block.piece());
            }
        }
    }

    /// Closes connections on which neither side can make progress any more, and announces a change of our
    /// upload-only state (BEP 21) to the other peers.
    pub(super) fn update_upload_only(&mut self, turn: &mut Turn<'_>, torrent: TorrentKey) {
        let Some(t) = self.torrents.get(torrent) else { return };
        for key in t.peers.clone() {
            let (Some(t), Some(c)) = (self.torrents.get(torrent), self.connections.get_mut(key)) else {
                continue;
            };
            if let Err(why) = check_mutual_interest(t, &c.peer) {
                self.disconnect(turn, key, why);
            } else if c.peer.wire.sent_upload_only == Some(!t.is_upload_only()) {
                send_extended_handshake(turn, t, &mut c.peer);
            }
        }
    }

    /// A time-out of a connection may have passed: closes the connection, sends a keep-alive, or frees the
    /// requests of a snubbing peer.
    pub(super) fn on_peer_deadline(&mut self, turn: &mut Turn<'_>, key: PeerKey) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let now = turn.now;
        if peer.is_held_back() {
            peer.source.reset_timeouts(now);
        }
        let close = match peer.wire.phase {
            Phase::Connecting => {
                (now >= peer.wire.since + limits::CONNECT_TIMEOUT).then_some(DisconnectReason::ConnectTimeout)
            }
            Phase::Handshaking => (now >= peer.wire.since + limits::HANDSHAKE_TIMEOUT)
                .then_some(DisconnectReason::HandshakeTimeout),
            Phase::Up if now >= peer.source.last_in + limits::IDLE_TIMEOUT => Some(DisconnectReason::Idle),
            Phase::Up if now >= peer.source.block_due() => Some(DisconnectReason::Stalled),
            Phase::Up if now >= peer.uninteresting_at() => Some(DisconnectReason::Uninteresting),
            Phase::Up => None,
        };
        if let Some(close) = close {
            return self.disconnect(turn, key, close);
        }
        if peer.wire.phase == Phase::Up {
            if now >= peer.wire.last_out + limits::KEEP_ALIVE {
                peer.wire.last_out = now;
                peer.send(&Message::KeepAlive, turn.out);
            }
            if now >= peer.source.requests.snub_at() {
                let torrent = peer.source.torrent;
                let released = peer.source.requests.snub();
                self.release_requests(torrent, &released);
                if let Some(torrent) = torrent {
                    if let Some(t) = self.torrents.get_mut(torrent) {
                        t.pieces.clear_owner(key);
                    }
                    self.top_up_all(turn, torrent);
                }
            }
        }
        self.arm_peer(turn, key);
    }
}
