//! Connections at work: dialing, bytes through lines and pipes, reading and writing at both ends, and the
//! loss of it all.

use super::faults::chance;
use super::link::{LINE_BUFFER, Link, LinkEnd, PACKET, PipeId, Stream, quantum, time_for};
use super::node::{Body, number};
use super::puppet::{HeardMessage, Talk};
use super::queue::{NodeId, SimEvent};
use super::world::{INFO_HASH, World};
use crate::engine::{DialFailure, DisconnectReason, Want};
use crate::units::{BLOCK_LEN, Instant, PeerKey};
use crate::wire::{ReadAhead, Segment};
use std::net::SocketAddr;
use std::time::Duration;

/// The port from which a node dials: no node listens there.
const DIALED_FROM: u16 = 40_000;
/// What the first three packets of a connection are to its latency.
const HANDSHAKE_TRIPS: u32 = 3;

impl World {
    // ---- dialing --------------------------------------------------------------------------------------------------

    /// A node dials an address; an engine's key goes along.
    pub(super) fn dial(&mut self, from: NodeId, key: Option<PeerKey>, addr: SocketAddr) {
        let Some(to) = number(addr).filter(|to| (*to as usize) < self.nodes.len() && *to != from) else {
            return;
        };
        let latency = self.latency(from, to);
        let link = self.links.len() as u32;
        let end = |node, key, open| LinkEnd { node, key, open, out: Stream::default() };
        self.links.push(Some(Box::new(Link { ends: [end(from, key, true), end(to, None, false)], latency })));
        if let (Some(key), Some(e)) = (key, self.nodes[from as usize].engine()) {
            e.connections.insert(key, PipeId::new(link, 0));
        }
        // A packet to an absent node, or to one behind a router without a mapping, gets no answer.
        let there = &self.nodes[to as usize];
        if !there.present || !there.dialable {
            return;
        }
        let refused = self.scenario.faults.refused_dials;
        if self.tally.strikes(&mut self.rng, refused, "refused dials") {
            return self.queue.push(self.now + latency * 2, SimEvent::Refused(link));
        }
        self.queue.push(self.now + latency * 2, SimEvent::Dialed(link));
        self.queue.push(self.now + latency * HANDSHAKE_TRIPS, SimEvent::Accepted(link));
    }

    pub(super) fn dialed(&mut self, link: u32) {
        let pipe = PipeId::new(link, 0);
        let Some(end) = self.link(pipe).map(|l| &l.ends[0]).filter(|e| e.open) else { return };
        let (node, key) = (end.node, end.key);
        match (&mut self.nodes[node as usize].body, key) {
            (Body::Engine(_), Some(key)) => {
                self.with_engine(node, |now, e| e.engine.on_dialed(now, key, &mut e.out))
            }
            (Body::Puppet(p), _) => {
                let mut talk = Talk::default();
                p.puppet.greet(&mut talk, INFO_HASH);
                p.talks.insert(pipe, talk);
                self.pull(pipe);
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
        let (dialer, node) = (l.ends[0].node, l.ends[1].node);
        let mut from = self.nodes[dialer as usize].addr;
        from.set_port(DIALED_FROM + (link % 20_000) as u16);
        let n = &mut self.nodes[node as usize];
        let mut known = n.present;
        let mut key = None;
        match &mut n.body {
            Body::Engine(e) => {
                key = e.engine.on_accepted(now, from, &mut e.out);
                known &= key.is_some();
                if let Some(key) = key {
                    e.connections.insert(key, pipe);
                }
            }
            Body::Puppet(p) => {
                let mut talk = Talk::default();
                p.puppet.greet(&mut talk, INFO_HASH);
                p.talks.insert(pipe, talk);
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
            None => self.pull(pipe),
        }
    }

    // ---- lines ----------------------------------------------------------------------------------------------------

    /// Moves what an end has to say into its pipe, as far as its send buffer goes, and sees to it that the
    /// line sends.
    pub(super) fn pull(&mut self, pipe: PipeId) {
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
                    if let Some(talk) = p.talks.get_mut(&pipe) {
                        talk.encoder.plan(budget, &mut plan);
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
            if let (Some(taps), Body::Engine(e)) = (&mut self.taps, &n.body) {
                taps.out(now, pipe, &plan, e);
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
                                    "{span} is served by node {node} and not verified there"
                                );
                            }
                            Body::Puppet(p) => {
                                if let Some(talk) = p.talks.get_mut(&pipe) {
                                    garbage = p.puppet.garbage(talk, *span, &mut self.rng);
                                    if garbage > 0 && span.begin() % BLOCK_LEN == 0 {
                                        self.tally.count("lies");
                                    }
                                }
                            }
                        }
                        out.push_payload(*span, garbage);
                    }
                }
            }
            self.payload.out += payload;
            match (&mut n.body, *key) {
                (Body::Engine(e), Some(key)) => {
                    if let Some(cap) = &mut e.caps.up {
                        cap.pass(now, payload, "sent");
                    }
                    e.engine.sent(now, key, bytes, &mut e.out);
                    if e.is_seed {
                        self.seeds_uploaded += payload;
                    }
                }
                (Body::Puppet(p), _) => {
                    if let Some(talk) = p.talks.get_mut(&pipe) {
                        talk.encoder.sent(bytes);
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

    /// The line sends the next quantum of whichever connection's turn it is.
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
                end.out.blocked = true; // until its reader reads
                continue;
            }
            let waits_until = self.nodes[to as usize].line.down_free;
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
            line.slipped_in += n;
            let sent = match n < PACKET {
                true => now,
                false => now + time_for(std::mem::take(&mut line.slipped_in), line.line.up),
            };
            line.sending = sent > now;
            self.queue.push(sent + latency, SimEvent::Arrive(pipe, n as u32));
            if sent > now {
                self.queue.push(sent, SimEvent::LineFree(node));
            }
            if more {
                self.pull(pipe);
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

    /// Bytes reach the receiver's line.
    pub(super) fn arrive(&mut self, pipe: PipeId, n: u32) {
        let Some(to) = self.link(pipe).map(|l| l.ends[1 - pipe.side()].node) else { return };
        let now = self.now;
        let line = &mut self.nodes[to as usize].line;
        // They pass while they arrive: the last one is through now, unless the line is busy with others'.
        let (before, took) = (line.down_free, time_for(u64::from(n), line.line.down));
        let began = Instant::from_micros(now.as_micros().saturating_sub(took.as_micros() as u64));
        line.down_free = before.max(began) + took;
        let passed = line.down_free;
        match passed <= now || u64::from(n) < PACKET {
            true => self.deliver(pipe, n),
            false => self.queue.push(passed, SimEvent::Deliver(pipe, n)),
        }
    }

    /// Bytes are there to be read.
    pub(super) fn deliver(&mut self, pipe: PipeId, n: u32) {
        let Some(link) = self.link(pipe) else { return };
        let reader = &link.ends[1 - pipe.side()];
        let (node, open) = (reader.node, reader.open);
        let out = &mut link.ends[pipe.side()].out;
        out.on_wire -= u64::from(n);
        out.arrived += u64::from(n);
        if open && !out.paused {
            self.read(pipe);
            self.turn(node);
        }
    }

    // ---- reading --------------------------------------------------------------------------------------------------

    /// The end that reads from this pipe reads what there is, as far as it wants.
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
        // The sender hears a way later that there is room again.
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
            let mut landed = None;
            let mut taken = 0;
            let n = match e.engine.want(key) {
                Want::Pause => {
                    stream.paused = true;
                    return;
                }
                Want::Gone => return,
                Want::Copy { span, .. } => {
                    landed = Some((span, stream.place_carried(span)));
                    span.len()
                }
                _ if most == 0 => return,
                Want::Control { room } => {
                    let (n, payload) = stream.read_into(room, most);
                    taken = payload;
                    if let Some(taps) = &mut self.taps {
                        taps.read(now, pipe.back(), 0, &room[..n as usize]);
                    }
                    n
                }
                Want::Skip { len } => {
                    let (n, payload) = stream.skip(len.min(most));
                    taken = payload;
                    if let Some(taps) = &mut self.taps {
                        taps.read(now, pipe.back(), n, &[]);
                    }
                    n
                }
                Want::Fill { span, spill, .. } => {
                    let payload = stream.read_payload(span.len().min(most));
                    let payload =
                        payload.unwrap_or_else(|| panic!("{span} is expected, and what comes is no payload"));
                    let filled = payload.span.len();
                    landed = Some((span.first(filled), payload));
                    let (n, along) = match filled == span.len() && most > filled && !spill.is_empty() {
                        true => stream.read_into(spill, most - filled),
                        false => (0, 0),
                    };
                    taken = filled + along;
                    if let Some(taps) = &mut self.taps {
                        taps.read(now, pipe.back(), filled, &spill[..n as usize]);
                    }
                    filled + n
                }
            };
            self.payload.taken += u64::from(taken);
            if let Some((span, came)) = landed {
                assert_eq!(came.span.len(), span.len(), "what came along for {span} is not all of it");
                if let Some(cap) = &mut e.caps.down {
                    cap.pass(now, u64::from(span.len()), "received");
                }
                let complete = e.disk.write(key, span, came);
                if let (true, Some(taps)) = (complete, &mut self.taps) {
                    taps.block_complete(now, pipe.back(), span, e);
                }
            }
            if let Err(why) = e.engine.got(now, key, n as usize, &mut e.out) {
                e.connections.remove(&key);
                self.accused(pipe, reader, why);
                return self.close(pipe.back());
            }
        }
    }

    /// An engine hangs up on who sends into this pipe. Engines have no reason to find fault with one another.
    fn accused(&mut self, pipe: PipeId, by: NodeId, why: DisconnectReason) {
        let DisconnectReason::ProtocolViolation(misconduct) = why else { return };
        let Some(node) = self.link(pipe).map(|l| l.ends[pipe.side()].node) else { return };
        assert!(self.nodes[node as usize].puppet().is_some(), "node {by} says of node {node}: {misconduct}");
        self.tally.count("accusations");
    }

    fn read_puppet(&mut self, pipe: PipeId, reader: NodeId) {
        let geometry = self.geometry;
        let mut news = None;
        loop {
            let Some(link) = self.links.get_mut(pipe.link()).and_then(|l| l.as_deref_mut()) else { return };
            let stream = &mut link.ends[pipe.side()].out;
            let Some(p) = self.nodes[reader as usize].puppet() else { return };
            let Some(talk) = p.talks.get_mut(&pipe.back()) else { return };
            let left = talk.decoder.payload_left();
            let skip = talk.decoder.skip_left();
            let heard = if left > 0 && skip == 0 {
                let came_along = talk.decoder.buffered().len() as u32;
                let garbage = match came_along > 0 {
                    true => {
                        talk.decoder.buffered_taken(came_along);
                        0
                    }
                    false => {
                        let Some(payload) = stream.read_payload(left) else { break };
                        talk.decoder.payload_taken(payload.span.len());
                        self.payload.taken += u64::from(payload.span.len());
                        payload.garbage
                    }
                };
                p.puppet.taken(talk, garbage, &geometry)
            } else if skip > 0 {
                let (n, payload) = stream.skip(skip);
                if n == 0 {
                    break;
                }
                talk.decoder.payload_taken(n);
                self.payload.taken += u64::from(payload);
                HeardMessage::Nothing
            } else {
                let (n, payload) = stream.read_into(talk.decoder.room(ReadAhead::Header), u32::MAX);
                self.payload.taken += u64::from(payload);
                if n == 0 {
                    break;
                }
                talk.decoder.advance(n as usize);
                p.puppet.hear(talk, &geometry)
            };
            match heard {
                HeardMessage::Nothing => {}
                HeardMessage::Piece(piece) => news = Some(piece),
                HeardMessage::Nonsense => return self.close(pipe.back()),
            }
            if let Some(piece) = news.take() {
                for talk in p.talks.values_mut() {
                    talk.tell(piece);
                }
                let all: Vec<PipeId> = p.talks.keys().copied().collect();
                all.into_iter().for_each(|p| self.pull(p));
            }
        }
        self.pull(pipe.back());
    }

    /// A flapper's whims, about all of its connections.
    pub(super) fn whims(&mut self, node: NodeId) {
        let Some(p) = self.nodes[node as usize].puppet() else { return };
        let all: Vec<PipeId> = p.talks.keys().copied().collect();
        for pipe in all {
            let Some(p) = self.nodes[node as usize].puppet() else { return };
            let Some(talk) = p.talks.get_mut(&pipe) else { continue };
            let hangs_up = p.puppet.whim(talk, &mut self.rng);
            self.tally.count("whims");
            match hangs_up {
                true => {
                    let other = self.link(pipe).map(|l| l.ends[1 - pipe.side()].node);
                    self.close(pipe);
                    if let Some(addr) = other.map(|n| self.nodes[n as usize].addr) {
                        self.dial(node, None, addr);
                    }
                }
                false => self.pull(pipe),
            }
        }
    }

    // ---- ends -----------------------------------------------------------------------------------------------------

    /// The end that sends into this pipe hangs up. The other end hears of it; what it has sent is lost.
    pub(super) fn close(&mut self, pipe: PipeId) {
        let now = self.now;
        let Some(link) = self.link(pipe) else { return };
        let latency = link.latency;
        let end = &mut link.ends[pipe.side()];
        (end.open, end.key) = (false, None);
        let node = end.node;
        let other_open = link.ends[1 - pipe.side()].open;
        if let Some(p) = self.nodes[node as usize].puppet() {
            if let Some(mut talk) = p.talks.remove(&pipe) {
                p.puppet.give_up(&mut talk);
            }
        }
        if other_open {
            self.queue.push(now + latency, SimEvent::Lost(pipe));
        } else {
            self.bury(pipe);
        }
    }

    /// The end that reads from this pipe hears that it is gone.
    pub(super) fn lost(&mut self, pipe: PipeId) {
        let back = pipe.back();
        let Some(end) = self.link(back).map(|l| &mut l.ends[back.side()]).filter(|e| e.open) else { return };
        end.open = false;
        let (node, key) = (end.node, end.key.take());
        if self.link(pipe).is_some_and(|l| !l.ends[pipe.side()].open) {
            self.bury(pipe);
        }
        if let Some(p) = self.nodes[node as usize].puppet() {
            if let Some(mut talk) = p.talks.remove(&back) {
                p.puppet.give_up(&mut talk);
            }
        }
        if let Some(key) = key {
            self.with_engine(node, |now, e| {
                e.connections.remove(&key);
                e.engine.on_lost(now, key, &mut e.out);
            });
        }
    }

    /// Both ends have left this link: what was on it is lost.
    fn bury(&mut self, pipe: PipeId) {
        if let Some(link) = self.links[pipe.link()].take() {
            self.payload.lost += link.ends.iter().map(|e| e.out.payload_bytes()).sum::<u64>();
            if let Some(taps) = &mut self.taps {
                taps.forget(pipe);
            }
        }
    }

    /// Some connection is cut, wherever its streams stand.
    pub(super) fn lose_one(&mut self) {
        let is_open = |l: &Option<Box<Link>>| l.as_ref().is_some_and(|l| l.ends.iter().all(|e| e.open));
        let open: Vec<usize> =
            self.links.iter().enumerate().filter(|(_, l)| is_open(l)).map(|(n, _)| n).collect();
        let Some(link) = open.get(self.rng.below(open.len())).copied() else { return };
        let Some(l) = self.links[link].as_deref() else { return };
        let mid_block = l.ends.iter().any(|e| e.out.payload_bytes() > 0);
        self.tally.count("lost connections");
        if mid_block {
            self.tally.count("lost mid-block");
        }
        for side in [0, 1] {
            self.queue.push(self.now, SimEvent::Lost(PipeId::new(link as u32, side)));
        }
    }
}
