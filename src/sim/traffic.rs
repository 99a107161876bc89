//! Connections: dialing, transfer through lines and pipes, reading and writing at both ends, and teardown.

use super::faults::chance;
use super::link::NodeId;
use super::link::{LINE_BUFFER, Link, LinkEnd, PACKET, PipeId, Stream, quantum, time_for};
use super::node::{Body, number};
use super::puppet::{PuppetConnection, PuppetResult};
use super::queue::SimEvent;
use super::world::{INFO_HASH, World};
use crate::engine::{DialFailure, DisconnectReason, Want};
use crate::units::{BLOCK_LEN, Instant, PeerKey, Rng, TransportKind};
use crate::wire::{ReadAhead, Segment};
use std::net::SocketAddr;
use std::time::Duration;

/// First source port of dials; no node listens there.
const DIALED_FROM: u16 = 40_000;
/// How long a router lets packets of an address in after one was sent to it.
const ROUTER_OPEN: Duration = Duration::from_secs(30);
/// The accepting side takes the connection after three one-way latencies: SYN, SYN-ACK, ACK.
const HANDSHAKE_TRIPS: u32 = 3;

impl World {
    // ---- dialing ------------------------------------------------------------------------------------------

    /// Dials an address; `key` is the engine's key of the connection.
    pub(super) fn dial(&mut self, from: NodeId, key: Option<PeerKey>, addr: SocketAddr, over: TransportKind) {
        let Some(to) = number(addr).filter(|to| (*to as usize) < self.nodes.len() && *to != from) else {
            return;
        };
        let latency = self.latency(from, to);
        let link = self.links.len() as u32;
        let end = |node, key, open| LinkEnd { node, key, open, out: Stream::default() };
        self.links.push(Some(Box::new(Link {
            ends: [end(from, key, true), end(to, None, false)],
            latency,
            over,
        })));
        if let (Some(key), Some(e)) = (key, self.nodes[from as usize].engine()) {
            e.connections.insert(key, PipeId::new(link, 0));
        }
        // A SYN to an absent node, or to one behind a router without a port mapping, gets no answer.
        let let_in = over == TransportKind::Utp && self.punch(from, to);
        let there = &self.nodes[to as usize];
        if !there.present || !there.dialable && !let_in {
            return;
        }
        let refused = self.scenario.faults.refused_dials;
        if self.fault_counts.draw(&mut self.rng, refused, "refused dials") {
            return self.queue.push(self.now + latency * 2, SimEvent::Refused(link));
        }
        self.queue.push(self.now + latency * 2, SimEvent::Dialed(link));
        self.queue.push(self.now + latency * HANDSHAKE_TRIPS, SimEvent::Accepted(link));
    }

    /// Opens the router of `from` for packets of `to`, and returns whether that of `to` lets this one in: it is open for
    /// `from`, and these two routers allow it.
    fn punch(&mut self, from: NodeId, to: NodeId) -> bool {
        let now = self.now;
        self.nodes[from as usize].opened.insert(to, now + ROUTER_OPEN);
        let is_open = self.nodes[to as usize].opened.get(&from).is_some_and(|until| now <= *until);
        let (low, high) = (from.min(to), from.max(to));
        let mut pair = Rng::new(self.scenario.seed ^ u64::from(low) << 32 ^ u64::from(high));
        is_open && chance(&mut pair, self.scenario.punches.unwrap_or(0.0))
    }

    pub(super) fn dialed(&mut self, link: u32) {
        let pipe = PipeId::new(link, 0);
        let Some(end) = self.link(pipe).map(|l| &l.ends[0]).filter(|e| e.open) else { return };
        let node = end.node;
        let key = end.key;
        match (&mut self.nodes[node as usize].body, key) {
            (Body::Engine(_), Some(key)) => {
                self.with_engine(node, |now, e| e.engine.on_dialed(now, key, &mut e.out));
            }
            (Body::Puppet(p), _) => {
                let mut conn = PuppetConnection::default();
                p.puppet.send_handshake(&mut conn, INFO_HASH);
                p.connections.insert(pipe, conn);
                self.fill_pipe(pipe);
            }
            _ => {}
        }
    }

    pub(super) fn refused(&mut self, link: u32) {
        let Some(l) = self.links[link as usize].take() else { return };
        let LinkEnd { node, key, .. } = l.ends[0];
        if let Some(key) = key {
            self.with_engine(node, |now, e| {
                e.connections.remove(&key);
                e.engine.on_dial_failed(now, key, DialFailure::Refused, &mut e.out);
            });
        }
    }

    pub(super) fn accepted(&mut self, link: u32) {
        let pipe = PipeId::new(link, 1);
        let now = self.now;
        let Some(l) = self.link(pipe) else { return };
        let (dialer, node, over) = (l.ends[0].node, l.ends[1].node, l.over);
        let mut from = self.nodes[dialer as usize].addr;
        // A stream of uTP comes from the port where its side listens.
        if over == TransportKind::Tcp {
            from.set_port(DIALED_FROM + (link % 20_000) as u16);
        }
        let n = &mut self.nodes[node as usize];
        let mut known = n.present;
        let mut key = None;
        match &mut n.body {
            Body::Engine(e) => {
                key = e.engine.on_accepted(now, from, over, &mut e.out);
                known &= key.is_some();
                if let Some(key) = key {
                    e.connections.insert(key, pipe);
                }
            }
            Body::Puppet(p) => {
                let mut conn = PuppetConnection::default();
                p.puppet.send_handshake(&mut conn, INFO_HASH);
                p.connections.insert(pipe, conn);
            }
        }
        if let Some(l) = self.link(pipe) {
            l.ends[1].key = key;
            l.ends[1].open = true;
        }
        if !known {
            return self.close(pipe);
        }
        match key {
            Some(_) => self.turn(node),
            None => self.fill_pipe(pipe),
        }
    }

    // ---- lines --------------------------------------------------------------------------------------------

    /// Fills a pipe from the encoder of its sending end, as far as the send buffer goes, and starts the line.
    pub(super) fn fill_pipe(&mut self, pipe: PipeId) {
        let now = self.now;
        let buffer = u64::from(self.scenario.send_buffer);
        let Some(link) = self.links.get_mut(pipe.link()).and_then(|l| l.as_deref_mut()) else { return };
        let LinkEnd { node, key, open, out } = &mut link.ends[pipe.side()];
        let node = *node;
        if !*open {
            return;
        }
        let mut plan = std::mem::take(&mut self.plan);
        let n = &mut self.nodes[node as usize];
        loop {
            let budget = buffer.saturating_sub(out.queued) as usize;
            out.more = budget == 0;
            if out.more {
                break;
            }
            plan.clear();
            match (&mut n.body, *key) {
                (Body::Engine(e), Some(key)) => e.engine.plan(key, budget, &mut plan),
                (Body::Puppet(p), _) => {
                    if let Some(conn) = p.connections.get_mut(&pipe) {
                        conn.encoder.plan(budget, &mut plan);
                    }
                }
                _ => {}
            }
            let bytes = plan.bytes();
            if bytes == 0 {
                break;
            }
            self.wire_digest.plan(pipe, &plan);
            let mut payload = 0;
            if let (Some(wire_checker), Body::Engine(e)) = (&mut self.wire_checker, &n.body) {
                wire_checker.out(now, pipe, &plan, e);
            }
            for part in &plan.segments {
                match part {
                    Segment::Control(range) => out.push_control(&plan.control[range.clone()]),
                    Segment::Payload(span) => {
                        payload += u64::from(span.len());
                        let mut garbage = 0;
                        match &mut n.body {
                            Body::Engine(e) => {
                                assert!(
                                    e.disk.verified().has(span.piece()),
                                    "node {node} serves {span}, which it has not verified"
                                );
                            }
                            Body::Puppet(p) => {
                                if let Some(conn) = p.connections.get_mut(&pipe) {
                                    garbage = p.puppet.next_garbage(conn, *span, &mut self.rng);
                                    if garbage > 0 && span.begin() % BLOCK_LEN == 0 {
                                        self.fault_counts.count("lies");
                                    }
                                }
                            }
                        }
                        out.push_payload(*span, garbage);
                    }
                }
            }
            self.payload.sent += payload;
            match (&mut n.body, *key) {
                (Body::Engine(e), Some(key)) => {
                    if let Some(checker) = &mut e.rate_checkers.up {
                        checker.count(now, payload, "sent");
                    }
                    e.engine.sent(now, key, bytes, &mut e.out);
                    if e.is_seed {
                        self.seeds_uploaded += payload;
                    }
                }
                (Body::Puppet(p), _) => {
                    if let Some(conn) = p.connections.get_mut(&pipe) {
                        conn.encoder.sent(bytes);
                    }
                }
                _ => {}
            }
        }
        self.plan = plan;
        if out.queued > 0 && !out.in_ring && !out.blocked {
            out.in_ring = true;
            n.line.ring.push_back(pipe);
            if !n.line.sending {
                self.transmit(node);
            }
        }
    }

    /// Sends from a node's line, one quantum per connection in turn, until a transfer occupies the line.
    pub(super) fn transmit(&mut self, node: NodeId) {
        let rate = self.nodes[node as usize].line.line.up;
        while let Some(pipe) = self.nodes[node as usize].line.ring.pop_front() {
            let now = self.now;
            let Some(link) = self.links.get_mut(pipe.link()).and_then(|l| l.as_deref_mut()) else { continue };
            let latency = link.latency;
            let to = link.ends[1 - pipe.side()].node;
            let end = &mut link.ends[pipe.side()];
            end.out.in_ring = false;
            if !end.open || end.out.queued == 0 {
                continue;
            }
            let n = end.out.sendable().min(quantum(rate, self.rng.u32()));
            if n == 0 {
                end.out.blocked = true; // until the receiver reads
                continue;
            }
            let waits_until = self.nodes[to as usize].line.down_free_at;
            if waits_until > now + LINE_BUFFER {
                end.out.blocked = true;
                self.queue.push(
                    now + waits_until.since(now + LINE_BUFFER).max(Duration::from_micros(1)),
                    SimEvent::Unblock(pipe),
                );
                continue;
            }
            end.out.queued -= n;
            end.out.on_wire += n;
            let more = end.out.more && end.out.queued < u64::from(self.scenario.send_buffer) * 3 / 4;
            let line = &mut self.nodes[node as usize].line;
            if end.out.queued > 0 {
                end.out.in_ring = true;
                line.ring.push_back(pipe);
            }
            line.small_bytes += n;
            let sent = if n < PACKET {
                now
            } else {
                now + time_for(std::mem::take(&mut line.small_bytes), line.line.up)
            };
            line.sending = sent > now;
            self.queue.push(sent + latency, SimEvent::Arrive(pipe, n as u32));
            if sent > now {
                self.queue.push(sent, SimEvent::LineFree(node));
            }
            if more {
                self.fill_pipe(pipe);
                self.turn(node);
            }
            if sent > now {
                return;
            }
        }
    }

    pub(super) fn unblock(&mut self, pipe: PipeId) {
        let Some(end) = self.link(pipe).map(|l| &mut l.ends[pipe.side()]).filter(|e| e.open) else { return };
        let node = end.node;
        if !std::mem::take(&mut end.out.blocked) || end.out.queued == 0 || end.out.in_ring {
            return;
        }
        end.out.in_ring = true;
        let line = &mut self.nodes[node as usize].line;
        line.ring.push_back(pipe);
        if !line.sending {
            self.transmit(node);
        }
    }

    /// Handles bytes that reach the receiver's line.
    pub(super) fn arrive(&mut self, pipe: PipeId, n: u32) {
        let Some(to) = self.link(pipe).map(|l| l.ends[1 - pipe.side()].node) else { return };
        let now = self.now;
        let line = &mut self.nodes[to as usize].line;
        // The line forwards bytes while they arrive: the last one is through now, unless other bytes occupy
        // the line.
        let before = line.down_free_at;
        let took = time_for(u64::from(n), line.line.down);
        let began = Instant::from_micros(now.as_micros().saturating_sub(took.as_micros() as u64));
        line.down_free_at = before.max(began) + took;
        let passed = line.down_free_at;
        if passed <= now || u64::from(n) < PACKET {
            self.deliver(pipe, n);
        } else {
            self.queue.push(passed, SimEvent::Deliver(pipe, n));
        }
    }

    /// Moves bytes into the receiver's buffer.
    pub(super) fn deliver(&mut self, pipe: PipeId, n: u32) {
        let Some(link) = self.link(pipe) else { return };
        let reader = &link.ends[1 - pipe.side()];
        let node = reader.node;
        let open = reader.open;
        let out = &mut link.ends[pipe.side()].out;
        out.on_wire -= u64::from(n);
        out.arrived += u64::from(n);
        if open && !out.paused {
            self.read(pipe);
            self.turn(node);
        }
    }

    // ---- reading ------------------------------------------------------------------------------------------

    /// Reads from this pipe as far as its reading end wants.
    pub(super) fn read(&mut self, pipe: PipeId) {
        let before = self.link(pipe).map_or(0, |l| l.ends[pipe.side()].out.arrived);
        let Some(reader) = self.link(pipe).map(|l| l.ends[1 - pipe.side()].node) else { return };
        match &self.nodes[reader as usize].body {
            Body::Engine(_) => self.read_engine(pipe, reader),
            Body::Puppet(_) => self.read_puppet(pipe, reader),
        }
        let now = self.now;
        let Some(link) = self.link(pipe) else { return };
        let latency = link.latency;
        let end = &link.ends[pipe.side()];
        // The sender learns one latency later that the buffer has space.
        if end.out.arrived < before && end.out.blocked {
            self.queue.push(now + latency, SimEvent::Unblock(pipe));
        }
    }

    fn read_engine(&mut self, pipe: PipeId, reader: NodeId) {
        let now = self.now;
        let cuts = self.scenario.strict;
        loop {
            let Some(link) = self.links.get_mut(pipe.link()).and_then(|l| l.as_deref_mut()) else { return };
            let [a, b] = &mut link.ends;
            let (sender, to) = if pipe.side() == 0 { (a, b) } else { (b, a) };
            let (stream, Some(key)) = (&mut sender.out, to.key) else { return };
            let Some(e) = self.nodes[reader as usize].engine() else { return };
            if !to.open {
                return;
            }
            let mut most = stream.arrived.min(u64::from(u32::MAX)) as u32;
            if cuts && most > 0 && chance(&mut self.rng, 0.5) {
                most = 1 + self.rng.u32() % most;
            }
            let mut received = None;
            let mut taken = 0;
            let n = match e.engine.want(key) {
                Want::Pause => {
                    stream.paused = true;
                    return;
                }
                Want::Gone => return,
                Want::Copy { span, .. } => {
                    received = Some((span, stream.take_read_ahead(span)));
                    span.len()
                }
                _ if most == 0 => return,
                Want::Control { room } => {
                    let (n, payload) = stream.read_into(room, most);
                    taken = payload;
                    if let Some(wire_checker) = &mut self.wire_checker {
                        wire_checker.read(now, pipe.back(), 0, &room[..n as usize]);
                    }
                    n
                }
                Want::Skip { len } => {
                    let (n, payload) = stream.skip(len.min(most));
                    taken = payload;
                    if let Some(wire_checker) = &mut self.wire_checker {
                        wire_checker.read(now, pipe.back(), n, &[]);
                    }
                    n
                }
                Want::Fill { span, spill, .. } => {
                    let payload = stream.read_payload(span.len().min(most));
                    let payload = payload
                        .unwrap_or_else(|| panic!("{span} is expected, but the next byte is not payload"));
                    let filled = payload.span.len();
                    received = Some((span.first(filled), payload));
                    let (n, spilled_payload) = if filled == span.len() && most > filled && !spill.is_empty() {
                        stream.read_into(spill, most - filled)
                    } else {
                        (0, 0)
                    };
                    taken = filled + spilled_payload;
                    if let Some(wire_checker) = &mut self.wire_checker {
                        wire_checker.read(now, pipe.back(), filled, &spill[..n as usize]);
                    }
                    filled + n
                }
            };
            self.payload.received += u64::from(taken);
            if let Some((span, payload)) = received {
                assert_eq!(payload.span.len(), span.len(), "the payload read for {span} is incomplete");
                if let Some(checker) = &mut e.rate_checkers.down {
                    checker.count(now, u64::from(span.len()), "received");
                }
                let complete = e.disk.write(key, span, payload);
                if let (true, Some(wire_checker)) = (complete, &mut self.wire_checker) {
                    wire_checker.block_complete(now, pipe.back(), span, e);
                }
            }
            if let Err(reason) = e.engine.got(now, key, n as usize, &mut e.out) {
                e.connections.remove(&key);
                self.on_disconnect(pipe, reader, reason);
                return self.close(pipe.back());
            }
        }
    }

    /// Checks a disconnect by an engine: an engine must not report a protocol violation of another engine.
    fn on_disconnect(&mut self, pipe: PipeId, by: NodeId, reason: DisconnectReason) {
        let DisconnectReason::ProtocolViolation(violation) = reason else { return };
        let Some(node) = self.link(pipe).map(|l| l.ends[pipe.side()].node) else { return };
        assert!(
            self.nodes[node as usize].puppet().is_some(),
            "node {by} reports a protocol violation of the engine of node {node}: {violation}"
        );
        self.fault_counts.count("accusations");
    }

    fn read_puppet(&mut self, pipe: PipeId, reader: NodeId) {
        let geometry = self.geometry;
        loop {
            let Some(link) = self.links.get_mut(pipe.link()).and_then(|l| l.as_deref_mut()) else { return };
            let stream = &mut link.ends[pipe.side()].out;
            let Some(p) = self.nodes[reader as usize].puppet() else { return };
            let Some(conn) = p.connections.get_mut(&pipe.back()) else { return };
            let left = conn.decoder.payload_left();
            let skip = conn.decoder.skip_left();
            let result = if left > 0 && skip == 0 {
                let buffered = conn.decoder.buffered().len() as u32;
                let garbage = if buffered > 0 {
                    conn.decoder.buffered_taken(buffered);
                    0
                } else {
                    let Some(payload) = stream.read_payload(left) else { break };
                    conn.decoder.payload_taken(payload.span.len());
                    self.payload.received += u64::from(payload.span.len());
                    payload.garbage
                };
                p.puppet.on_payload(conn, garbage, &geometry)
            } else if skip > 0 {
                let (n, payload) = stream.skip(skip);
                if n == 0 {
                    break;
                }
                conn.decoder.payload_taken(n);
                self.payload.received += u64::from(payload);
                PuppetResult::Nothing
            } else {
                let (n, payload) = stream.read_into(conn.decoder.room(ReadAhead::Header), u32::MAX);
                self.payload.received += u64::from(payload);
                if n == 0 {
                    break;
                }
                conn.decoder.advance(n as usize);
                p.puppet.on_bytes(conn, &geometry)
            };
            match result {
                PuppetResult::Nothing => {}
                PuppetResult::Piece(piece) => {
                    for conn in p.connections.values_mut() {
                        conn.announce_piece(piece);
                    }
                    let all: Vec<PipeId> = p.connections.keys().copied().collect();
                    all.into_iter().for_each(|p| self.fill_pipe(p));
                }
                PuppetResult::Invalid => return self.close(pipe.back()),
            }
        }
        self.fill_pipe(pipe.back());
    }

    /// Runs the actions of a flapper on each of its connections.
    pub(super) fn flap_connections(&mut self, node: NodeId) {
        let Some(p) = self.nodes[node as usize].puppet() else { return };
        let all: Vec<PipeId> = p.connections.keys().copied().collect();
        for pipe in all {
            let Some(p) = self.nodes[node as usize].puppet() else { return };
            let Some(conn) = p.connections.get_mut(&pipe) else { continue };
            let disconnect = p.puppet.flap(conn, &mut self.rng);
            self.fault_counts.count("whims");
            if disconnect {
                let other = self.link(pipe).map(|l| l.ends[1 - pipe.side()].node);
                self.close(pipe);
                if let Some(addr) = other.map(|n| self.nodes[n as usize].addr) {
                    self.dial(node, None, addr, TransportKind::Tcp);
                }
            } else {
                self.fill_pipe(pipe);
            }
        }
    }

    // ---- teardown -----------------------------------------------------------------------------------------

    /// Closes the sending end of this pipe. The other end learns of it one latency later; unread bytes are
    /// lost.
    pub(super) fn close(&mut self, pipe: PipeId) {
        let now = self.now;
        let Some(link) = self.link(pipe) else { return };
        let latency = link.latency;
        let end = &mut link.ends[pipe.side()];
        end.open = false;
        end.key = None;
        let node = end.node;
        let other_open = link.ends[1 - pipe.side()].open;
        if let Some(p) = self.nodes[node as usize].puppet() {
            if let Some(mut conn) = p.connections.remove(&pipe) {
                p.puppet.abandon_fetch(&mut conn);
            }
        }
        if other_open {
            self.queue.push(now + latency, SimEvent::Lost(pipe));
        } else {
            self.remove_link(pipe);
        }
    }

    /// Closes the reading end of this pipe after the sending end was closed or the connection was cut.
    pub(super) fn lost(&mut self, pipe: PipeId) {
        let back = pipe.back();
        let Some(end) = self.link(back).map(|l| &mut l.ends[back.side()]).filter(|e| e.open) else { return };
        end.open = false;
        let node = end.node;
        let key = end.key.take();
        if self.link(pipe).is_some_and(|l| !l.ends[pipe.side()].open) {
            self.remove_link(pipe);
        }
        if let Some(p) = self.nodes[node as usize].puppet() {
            if let Some(mut conn) = p.connections.remove(&back) {
                p.puppet.abandon_fetch(&mut conn);
            }
        }
        if let Some(key) = key {
            self.with_engine(node, |now, e| {
                e.connections.remove(&key);
                e.engine.on_lost(now, key, &mut e.out);
            });
        }
    }

    /// Removes a link whose ends are both closed, and counts its payload as lost.
    fn remove_link(&mut self, pipe: PipeId) {
        if let Some(link) = self.links[pipe.link()].take() {
            self.payload.lost += link.ends.iter().map(|e| e.out.payload_bytes()).sum::<u64>();
            if let Some(wire_checker) = &mut self.wire_checker {
                wire_checker.forget(pipe);
            }
        }
    }

    /// Cuts a random connection at the current position of its streams.
    pub(super) fn cut_random_connection(&mut self) {
        let is_open = |l: &Option<Box<Link>>| l.as_ref().is_some_and(|l| l.ends.iter().all(|e| e.open));
        let open: Vec<usize> =
            self.links.iter().enumerate().filter(|(_, l)| is_open(l)).map(|(n, _)| n).collect();
        let Some(link) = open.get(self.rng.below(open.len())).copied() else { return };
        let Some(l) = self.links[link].as_deref() else { return };
        let mid_block = l.ends.iter().any(|e| e.out.payload_bytes() > 0);
        self.fault_counts.count("lost connections");
        if mid_block {
            self.fault_counts.count("lost mid-block");
        }
        for side in [0, 1] {
            self.queue.push(self.now, SimEvent::Lost(PipeId::new(link as u32, side)));
        }
    }
}
