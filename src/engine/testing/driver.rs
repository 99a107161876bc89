//! The driver of a test world: moves bytes, runs actions, replies for the disk, advances time, and checks
//! every write of payload.

use super::{Job, TestPeer, TestWorld, content_byte};
use crate::engine::{Action, HashVerdict, Want};
use crate::units::{BLOCK_LEN, BlockSpan, PeerKey, PieceIndex};
use crate::wire::{Segment, WritePlan};
use std::time::Duration;

fn digest(block: &[u8]) -> u64 {
    block.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

impl TestWorld {
    // ---- bytes ----------------------------------------------------------------------------------------

    /// Delivers a peer's bytes to the engine as far as it wants them.
    pub fn deliver(&mut self, p: PeerKey) {
        loop {
            let Some(puppet) = self.puppets.get_mut(&p).filter(|p| p.closed.is_none() && p.connected) else {
                return;
            };
            let most = self.cut.map_or(usize::MAX, |cut| 1 + self.rng.below(cut)).min(puppet.to_engine.len());
            let mut write = None;
            let n = match self.engine.want(p) {
                Want::Pause | Want::Gone => return,
                Want::Copy { span, bytes, .. } => {
                    assert_eq!(bytes.len(), span.len() as usize);
                    write = Some((span, bytes.to_vec()));
                    bytes.len()
                }
                _ if most == 0 => return,
                Want::Control { room } => {
                    let n = room.len().min(most);
                    room.iter_mut().zip(puppet.to_engine.drain(..n)).for_each(|(to, b)| *to = b);
                    n
                }
                Want::Skip { len } => puppet.to_engine.drain(..most.min(len as usize)).count(),
                Want::Fill { span, spill, .. } => {
                    let filled: Vec<u8> = puppet.to_engine.drain(..most.min(span.len() as usize)).collect();
                    let spilled = (most - filled.len()).min(spill.len());
                    spill.iter_mut().zip(puppet.to_engine.drain(..spilled)).for_each(|(to, b)| *to = b);
                    let n = filled.len() + spilled;
                    write = Some((span.first(filled.len() as u32), filled));
                    n
                }
            };
            if let Some((span, bytes)) = write {
                self.write(p, span, &bytes);
            }
            if let Err(reason) = self.engine.got(self.now, p, n, &mut self.out) {
                self.puppets.get_mut(&p).unwrap().closed = Some(Some(reason));
            }
        }
    }

    /// Checks a write of payload and stores the bytes.
    fn write(&mut self, p: PeerKey, span: BlockSpan, bytes: &[u8]) {
        assert!(!self.hashing.contains(&span.piece()), "{span} is written while its piece is hashed");
        assert!(
            !self.engine.have(self.torrent).unwrap().has(span.piece()),
            "{span} is written although its piece is verified"
        );
        assert!(
            !self.jobs.contains(&Job::Prepare(span.piece())),
            "{span} is written before its piece is prepared"
        );
        let block = (span.piece(), span.begin() / BLOCK_LEN);
        let leased_to = self.engine.swarms.torrents.get(self.torrent).and_then(|t| t.pieces.writer(span));
        assert_eq!(leased_to, Some(p), "{span} is written without a lease");
        if span.begin() % BLOCK_LEN == 0 {
            self.writers.insert(block, p); // a peer that starts the block again takes it over
        }
        assert_eq!(self.writers.get(&block), Some(&p), "{span} has two writers");
        if span.end() == self.geometry.block(block.0, block.1).end() {
            self.writers.remove(&block);
        }
        let at = self.geometry.offset(span) as usize;
        self.content[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Runs actions of the engine until there are none.
    pub fn run_actions(&mut self) {
        loop {
            let actions: Vec<Action> = self.out.drain().collect();
            if actions.is_empty() {
                // The audit takes time proportional to the number of pieces.
                if self.geometry.pieces() <= 1000 {
                    self.engine.audit();
                }
                return;
            }
            actions.into_iter().for_each(|action| self.run_action(action));
        }
    }

    fn run_action(&mut self, action: Action) {
        match action {
            Action::Flush { peer } => self.flush(peer),
            Action::Wake { peer } => self.deliver(peer),
            Action::Close { peer } => {
                self.puppets.get_mut(&peer).unwrap().closed.get_or_insert(None);
            }
            Action::Dial { peer, addr, .. } => {
                self.puppets.insert(peer, TestPeer::new(false));
                self.dials.push((peer, addr));
            }
            Action::Prepare { piece, .. } => self.job(Job::Prepare(piece)),
            Action::Hash { piece, digests, .. } => {
                assert!(
                    !self.writers.keys().any(|(p, _)| *p == piece),
                    "piece {piece} is hashed while a peer writes to it"
                );
                self.hashing.insert(piece);
                self.job(Job::Hash(piece, digests));
            }
            Action::Save { .. } => {
                self.job(Job::Save);
                self.log.push(action);
            }
            Action::Release { block, .. } => {
                self.writers.remove(&(block.piece(), block.begin() / BLOCK_LEN));
            }
            other => self.log.push(other),
        }
    }

    /// Reads what the engine plans to send, as far as the peer reads.
    pub fn flush(&mut self, p: PeerKey) {
        loop {
            let Some(puppet) =
                self.puppets.get_mut(&p).filter(|p| p.closed.is_none() && p.connected && p.reads)
            else {
                return;
            };
            let mut plan = WritePlan::default();
            self.engine.plan(p, 64 * 1024, &mut plan);
            let mut bytes = Vec::new();
            let Some(crate::engine::peer::Connection { peer, .. }) = self.engine.swarms.connections.get(p)
            else {
                return;
            };
            let spans = plan
                .segments
                .iter()
                .filter_map(|part| if let Segment::Payload(span) = part { Some(*span) } else { None });
            // The first span may be the rest of a block that was started before the choke.
            for span in spans.skip(1).filter(|_| peer.wire.we_choke) {
                assert!(
                    peer.wire.fast_to_them.iter().any(|(fast, _)| *fast == span.piece()),
                    "{span} is sent to a choked peer"
                );
            }
            for part in &plan.segments {
                match part {
                    Segment::Control(range) => bytes.extend_from_slice(&plan.control[range.clone()]),
                    Segment::Payload(span) => {
                        let at = self.geometry.offset(*span) as usize;
                        assert!(
                            self.engine.have(self.torrent).unwrap().has(span.piece()),
                            "{span} is served but not verified"
                        );
                        bytes.extend_from_slice(&self.content[at..at + span.len() as usize]);
                    }
                }
            }
            if bytes.is_empty() {
                return;
            }
            let n = self.cut.map_or(bytes.len(), |cut| 1 + self.rng.below(cut)).min(bytes.len());
            puppet.from_engine.extend(&bytes[..n]);
            self.engine.sent(self.now, p, n, &mut self.out);
        }
    }

    // ---- disk and time ------------------------------------------------------------------------------------

    fn job(&mut self, job: Job) {
        self.jobs.push_back(job);
        if !self.slow_disk {
            self.finish_disk_job();
        }
    }

    /// Completes the oldest disk job with its true result.
    pub fn finish_disk_job(&mut self) {
        let Some(job) = self.jobs.pop_front() else { return };
        match job {
            Job::Prepare(piece) => {
                self.engine.on_prepared(self.now, self.torrent, piece, true, &mut self.out);
            }
            Job::Save => {
                self.engine.on_saved(self.now, self.torrent, &mut self.out);
                self.engine.on_completed_saved(self.now, self.torrent, true, &mut self.out);
            }
            Job::Hash(piece, digests) => {
                let at = self.geometry.piece_offset(piece);
                let bytes = &self.content[at as usize..at as usize + self.geometry.piece_len(piece) as usize];
                let good = bytes.iter().enumerate().all(|(i, b)| *b == content_byte(at + i as u64));
                let blocks: Box<[u64]> = bytes.chunks(BLOCK_LEN as usize).map(digest).collect();
                self.hashed(
                    piece,
                    &if good {
                        HashVerdict::Good { digests: digests.then_some(blocks) }
                    } else {
                        HashVerdict::Bad { digests: blocks }
                    },
                );
            }
        }
        self.run_actions();
    }

    /// Delivers a hash verdict, whatever the disk holds.
    pub fn hashed(&mut self, piece: PieceIndex, verdict: &HashVerdict) {
        self.hashing.remove(&piece);
        self.engine.on_hashed(self.now, self.torrent, piece, verdict, &mut self.out);
        self.run_actions();
    }

    pub fn finish_disk_jobs(&mut self) {
        while !self.jobs.is_empty() {
            self.finish_disk_job();
        }
    }

    /// Advances time; the engine handles every deadline when it is due.
    pub fn advance(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        for turns in 0.. {
            assert!(turns < 1_000_000, "the engine has deadlines without end");
            let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.engine.on_deadline(self.now, &mut self.out);
            self.run_actions();
        }
        self.now = end;
    }
}
