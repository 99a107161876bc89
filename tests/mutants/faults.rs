//! The injected bugs: a name, the file below `src`, the code to replace (it occurs there once; white space
//! and comments do not count) and its replacement.
//!
//! Each is a mistake that a developer could make and the compiler would accept.

/// One fault.
pub struct Fault {
    pub what: &'static str,
    pub file: &'static str,
    pub old: &'static str,
    pub new: &'static str,
}

pub const FAULTS: &[Fault] = &[
    // ---- first, because it is caught only by a count over all runs, which takes as long as ten others
    Fault {
        what: "a liar is never banned",
        file: "engine/piece_results.rs",
        old: "t.peer_list.ban(turn.now, ip);\n        for peer in t.peers.clone() {",
        new: "for peer in t.peers.clone().into_iter().filter(|_| false) {",
    },
    // ---- leases and pieces
    Fault {
        what: "a lease is given twice",
        file: "engine/torrent/pieces.rs",
        old: "let free = o.stage != Stage::Hashing && o.blocks[i].content == BlockContent::Missing;",
        new: "let free = o.stage != Stage::Hashing && o.blocks[i].content != BlockContent::Arrived;",
    },
    Fault {
        what: "a lease is given while the hasher reads",
        file: "engine/torrent/pieces.rs",
        old: "let free = o.stage != Stage::Hashing && o.blocks[i].content == BlockContent::Missing;
            if free {
                if o.blocks[i].asked == 0 {",
        new: "let free = o.stage == Stage::Hashing || o.blocks[i].content == BlockContent::Missing;
            if free {
                if o.blocks[i].asked == 0 && o.free > 0 {",
    },
    Fault {
        what: "a disconnected peer keeps its lease",
        file: "engine/connections.rs",
        old: "if t.pieces.release(block, key) {",
        new: "if false {",
    },
    Fault {
        what: "a delayed release discards the bytes of the next writer",
        file: "engine/action.rs",
        old: "self.0.retain(|a| !matches!(a, Action::Release { torrent, block: b } if *torrent == of && *b == block));",
        new: "let _ = (of, block);",
    },
    Fault {
        what: "a block is written before its piece is prepared",
        file: "engine/stream.rs",
        old: "is_some_and(|o| o.stage == Stage::Open);",
        new: "is_some();",
    },
    Fault {
        what: "a pause drops the pieces that are being hashed",
        file: "engine/torrent/pieces.rs",
        old: ".partition(|(_, o)| o.stage == Stage::Hashing);",
        new: ".partition(|_| false);",
    },
    Fault {
        what: "a bad piece counts as good",
        file: "engine/piece_results.rs",
        old: "HashVerdict::Bad { digests } => self.on_bad(turn, key, piece, digests),",
        new: "HashVerdict::Bad { .. } => self.on_good(turn, key, piece, None),",
    },
    // ---- requests
    Fault {
        what: "requests are sent to a peer that chokes us",
        file: "engine/messages.rs",
        old: "peer.source.they_choke = true;",
        new: "",
    },
    Fault {
        what: "requests stay in flight after a choke",
        file: "engine/messages.rs",
        old: "for block in &cancelled {\n        t.pieces.cancel_request(*block);\n    }",
        new: "",
    },
    Fault {
        what: "requests to a disconnected peer stay in flight",
        file: "engine/connections.rs",
        old: "self.release_requests(Some(torrent), &in_flight);",
        new: "let _ = &in_flight;",
    },
    Fault {
        what: "a cancelled request is forgotten at once",
        file: "engine/peer/request_queue.rs",
        old: "self.cancelled.push_back(block);",
        new: "let _ = block;",
    },
    Fault {
        what: "no cancel is sent",
        file: "engine/engine.rs",
        old: "self.swarms.cancel_elsewhere(turn, torrent, block, but)",
        new: "let _ = (torrent, block, but);",
    },
    Fault {
        what: "the limit of requests in flight is ignored",
        file: "engine/peer/request_queue.rs",
        old: "let room = goal.saturating_sub(self.in_flight.len() as u32);",
        new: "let room = goal;",
    },
    Fault {
        what: "no peer is ever considered a snubber",
        file: "engine/peer/request_queue.rs",
        old: "self.last_block_at + self.timeout().max(after)",
        new: "{\n        let _ = after;\n        Instant::NEVER\n    }",
    },
    Fault {
        what: "no timer is set for a peer",
        file: "engine/timers.rs",
        old: "if at == Instant::NEVER ||",
        new: "if matches!(timer, Timer::Peer(_)) || at == Instant::NEVER ||",
    },
    Fault {
        what: "endgame never begins",
        file: "engine/torrent/picker.rs",
        old: "self.availability.candidates() == 0 &&",
        new: "false &&",
    },
    // ---- availability
    Fault {
        what: "a HAVE counts twice in the availability",
        file: "engine/torrent/availability.rs",
        old: "self.counts[piece.as_usize()] += 1;",
        new: "self.counts[piece.as_usize()] += 2;",
    },
    Fault {
        what: "the pieces of a disconnected peer stay in the availability",
        file: "engine/torrent/availability.rs",
        old: "self.counts[piece.as_usize()] -= 1;",
        new: "",
    },
    Fault {
        what: "HAVE is sent before the piece is verified",
        file: "engine/stream.rs",
        old: "if arrival.piece_full {",
        new: "if arrival.piece_full {
        peer.send(&Message::Have { piece: block.piece().get() }, turn.out);",
    },
    Fault {
        what: "HAVE names the next piece",
        file: "engine/piece_results.rs",
        old: "Message::Have { piece: piece.get() }",
        new: "Message::Have { piece: piece.get() ^ 1 }",
    },
    Fault {
        what: "a new peer is told that we have all pieces",
        file: "engine/connections.rs",
        old: "if peer.wire.fast && have.is_full() {",
        new: "if peer.wire.fast {",
    },
    // ---- uploads
    Fault {
        what: "a choked peer is served",
        file: "engine/messages.rs",
        old: "    if peer.wire.we_choke {\n        let allowed",
        new: "    if false {\n        let allowed",
    },
    Fault {
        what: "allowed fast pieces are served without an AllowedFast message",
        file: "engine/connections.rs",
        old: "peer.send(&Message::AllowedFast { piece: piece.get() }, turn.out);",
        new: "",
    },
    Fault {
        what: "an allowed fast piece may be requested without limit",
        file: "engine/messages.rs",
        old: "if *taken > u64::from(limits::ALLOWED_FAST_TIMES)",
        new: "if *taken > u64::from(u32::MAX)",
    },
    Fault {
        what: "the upload limit is ignored",
        file: "engine/stream.rs",
        old: "peer.wire.encoder.plan(payload_budget.min(allowance), plan);",
        new: "peer.wire.encoder.plan(payload_budget, plan);",
    },
    Fault {
        what: "the download limit is ignored",
        file: "engine/stream.rs",
        old: "let allowance = self.down.allowance().min(t.down.allowance());",
        new: "let allowance = u64::MAX;",
    },
    // ---- smart ban
    Fault {
        what: "an innocent peer is banned instead of the liar",
        file: "engine/torrent/smart_ban.rs",
        old: "if digest != good &&",
        new: "if digest == good &&",
    },
    Fault {
        what: "every peer that sent a part of a bad piece is banned at once",
        file: "engine/torrent/smart_ban.rs",
        old: "if let [only] = open.senders() {",
        new: "if let [only, ..] = open.senders() {",
    },
    // ---- peer sources
    Fault {
        what: "the peers in a tracker's response are ignored",
        file: "engine/discovery.rs",
        old: "self.swarms.learn_peers(&mut self.context.turn(now, out), torrent, &reply.peers, Origin::Tracker);",
        new: "let _ = torrent;",
    },
    Fault {
        what: "a tracker that did not answer is never announced to again",
        file: "engine/discovery.rs",
        old: "arm_announce(turn, t);",
        new: "let _ = (turn, t);",
    },
    Fault {
        what: "addresses from PEX are received and never dialed",
        file: "engine/pex.rs",
        old: "new |= t.peer_list.learn(turn.now, addr, Origin::Pex);",
        new: "new |= addr.port() == 0 && t.peer_list.learn(turn.now, addr, Origin::Pex);",
    },
];
