//! Pieces on their way through one worker: hashed while hot, held until a run is worth a write, then written.
//!
//! ```text
//!   block lands --> held --(next in order)--> hashed --(run long enough, or pressed for slots)--> stored
//!                     \---(pressed for slots, out of order)--> stored --(its turn comes)--> read back, hashed
//! ```
//!
//! Invariants: a piece belongs to one worker; held bytes never overlap each other or stored ones; what was hashed is what
//! is stored, byte for byte, else the hash starts over from the file; no more than `hold_max` slots stay here, so a pool
//! cannot run dry for want of a write. A piece that lost bytes to a fault is lost until its hash is asked for.

use super::api::Verdict;
use super::fault::DiskFault;
use super::files::{OpenFiles, TorrentFiles};
use super::job::{ReceivedBlock, WorkerStats};
use super::limits;
use super::window::Slot;
use crate::units::{PieceHash, PieceIndex, TorrentKey};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Default)]
struct CachedPiece {
    hasher: Sha1,
    /// Bytes from the start that went into the hasher.
    hashed: u32,
    /// In slots, by `begin`.
    held: Vec<ReceivedBlock>,
    /// Written out of here, merged and in order.
    written: Vec<Range<u32>>,
    fault: Option<DiskFault>,
}

impl CachedPiece {
    fn overlaps(&self, begin: u32, end: u32) -> bool {
        begin < self.hashed
            || self.held.iter().any(|h| h.begin < end && begin < h.end)
            || self.written.iter().any(|s| s.start < end && begin < s.end)
    }

    fn mark_written(&mut self, begin: u32, end: u32) {
        let first = self.written.partition_point(|s| s.end < begin);
        let last = self.written.partition_point(|s| s.start <= end);
        let merged = self.written[first..last].iter().fold(begin..end, |m, s| m.start.min(s.start)..m.end.max(s.end));
        self.written.splice(first..last, [merged]);
    }

    /// Where the stored run that holds this byte ends.
    fn written_until(&self, at: u32) -> Option<u32> {
        let i = self.written.partition_point(|s| s.end <= at);
        self.written.get(i).filter(|s| s.start <= at).map(|s| s.end)
    }

    fn held_at(&self, begin: u32) -> Option<usize> {
        self.held.binary_search_by_key(&begin, |h| h.begin).ok()
    }

    /// The run of held entries without gaps around entry `i`.
    fn run_around(&self, i: usize) -> Range<usize> {
        let mut from = i;
        while from > 0 && self.held[from - 1].end == self.held[from].begin {
            from -= 1;
        }
        let mut to = i + 1;
        while to < self.held.len() && self.held[to - 1].end == self.held[to].begin {
            to += 1;
        }
        from..to
    }

    fn hash_held(&mut self) {
        while let Some(i) = self.held_at(self.hashed) {
            let h = &self.held[i];
            self.hasher.update(bytes_of(h));
            self.hashed = h.end;
        }
    }
}

fn bytes_of(l: &ReceivedBlock) -> &[u8] {
    let from = l.begin as usize % limits::SLOT_LEN;
    &l.slot.bytes()[from..from + (l.end - l.begin) as usize]
}

/// All pieces that one worker has in hand.
pub(super) struct WriteCache {
    pieces: BTreeMap<(TorrentKey, PieceIndex), CachedPiece>,
    held: usize,
    hold_max: usize,
    /// For reading back; made at first need.
    scratch: Vec<u8>,
}

/// What the steps of a piece need besides the piece.
pub(super) struct PieceContext<'a> {
    pub content: &'a Arc<TorrentFiles>,
    pub files: &'a mut OpenFiles,
    pub free: &'a mut Vec<Slot>,
    pub stats: &'a WorkerStats,
}

impl WriteCache {
    /// No piece; at most `hold_max` slots will stay here.
    pub fn new(hold_max: usize) -> WriteCache {
        WriteCache { pieces: BTreeMap::new(), held: 0, hold_max: hold_max.max(1), scratch: Vec::new() }
    }

    /// Takes bytes in. A fault is the first one of its piece.
    pub fn insert(&mut self, cx: &mut PieceContext<'_>, l: ReceivedBlock) -> Result<(), DiskFault> {
        let key = (cx.content.key, l.piece);
        let p = self.pieces.entry(key).or_default();
        if p.fault.is_some() {
            cx.free.push(l.slot);
            return Ok(());
        }
        if p.overlaps(l.begin, l.end) {
            return self.insert_overlapping(cx, key, l);
        }
        let i = p.held.partition_point(|h| h.begin < l.begin);
        p.held.insert(i, l);
        self.held += 1;
        p.hash_held();
        let run = p.run_around(i);
        let bytes = p.held[run.end - 1].end - p.held[run.start].begin;
        let hashed = p.held[run.end - 1].end <= p.hashed;
        if hashed && bytes >= limits::RUN_BYTES {
            self.write_run(cx, key, run)?;
        }
        self.hash_written(cx, key)?;
        while self.held > self.hold_max && self.write_longest_run(cx)? {}
        Ok(())
    }

    /// Bytes that came before, from a writer who did not finish: they go to the file, and the hash starts over.
    fn insert_overlapping(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
        l: ReceivedBlock,
    ) -> Result<(), DiskFault> {
        self.write_all_held(cx, key)?;
        let Some(p) = self.pieces.get_mut(&key) else { return Ok(()) };
        if l.begin < p.hashed {
            p.hashed = 0;
            p.hasher = Sha1::new();
        }
        p.held.push(l);
        self.held += 1;
        self.write_run(cx, key, 0..1)
    }

    /// Reads back stored bytes whose turn in the hash has come.
    fn hash_written(&mut self, cx: &mut PieceContext<'_>, key: (TorrentKey, PieceIndex)) -> Result<(), DiskFault> {
        let Some(p) = self.pieces.get_mut(&key) else { return Ok(()) };
        while let Some(end) = p.written_until(p.hashed) {
            if let Err(fault) = hash_from_file(p, &mut self.scratch, cx, key.1, end) {
                return Err(self.fail_with(cx, key, fault));
            }
            p.hash_held();
        }
        Ok(())
    }

    /// Writes one run to get slots back; false if nothing is held.
    fn write_longest_run(&mut self, cx: &mut PieceContext<'_>) -> Result<bool, DiskFault> {
        // Among the pieces of this torrent: the longest hashed run, else the longest of all. Others have their own turn.
        let key = cx.content.key;
        let mut best: Option<((bool, u32), PieceIndex, Range<usize>)> = None;
        for (&(torrent, piece), p) in &self.pieces {
            let mut i = 0;
            while torrent == key && i < p.held.len() {
                let run = p.run_around(i);
                i = run.end;
                let (begin, end) = (p.held[run.start].begin, p.held[run.end - 1].end);
                let worth = (end <= p.hashed, end - begin);
                if best.as_ref().is_none_or(|(w, ..)| worth > *w) {
                    best = Some((worth, piece, run));
                }
            }
        }
        match best {
            Some((_, piece, run)) => self.write_run(cx, (key, piece), run).map(|()| true),
            None => Ok(false),
        }
    }

    fn write_run(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
        run: Range<usize>,
    ) -> Result<(), DiskFault> {
        let Some(p) = self.pieces.get_mut(&key) else { return Ok(()) };
        let (begin, end) = (p.held[run.start].begin, p.held[run.end - 1].end);
        let slices: Vec<&[u8]> = p.held[run.clone()].iter().map(bytes_of).collect();
        let offset = cx.content.geometry.piece_offset(key.1) + u64::from(begin);
        if let Err(fault) = cx.files.write(cx.content, offset, &slices) {
            return Err(self.fail_with(cx, key, fault));
        }
        cx.stats.writes.fetch_add(1, Relaxed);
        cx.stats.written_bytes.fetch_add(u64::from(end - begin), Relaxed);
        self.held -= run.len();
        cx.free.extend(p.held.drain(run).map(|l| l.slot));
        p.mark_written(begin, end);
        Ok(())
    }

    fn write_all_held(&mut self, cx: &mut PieceContext<'_>, key: (TorrentKey, PieceIndex)) -> Result<(), DiskFault> {
        while let Some(p) = self.pieces.get(&key).filter(|p| !p.held.is_empty()) {
            let run = p.run_around(0);
            self.write_run(cx, key, run)?;
        }
        Ok(())
    }

    /// Writes everything that is held for this torrent.
    pub fn flush(&mut self, cx: &mut PieceContext<'_>) -> Result<(), DiskFault> {
        while self.write_longest_run(cx)? {}
        Ok(())
    }

    fn fail_with(&mut self, cx: &mut PieceContext<'_>, key: (TorrentKey, PieceIndex), fault: DiskFault) -> DiskFault {
        self.fail_piece(cx.free, key, &fault);
        fault
    }

    /// Every block has arrived: stores what is left, says whether the piece is what it should be, and forgets it.
    pub fn finish_piece(&mut self, cx: &mut PieceContext<'_>, piece: PieceIndex, want_blocks: bool) -> Verdict {
        let key = (cx.content.key, piece);
        let result = self.check_piece(cx, key, want_blocks);
        self.drop_piece(cx.free, key);
        result.unwrap_or_else(Verdict::Fault)
    }

    fn check_piece(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
        want_blocks: bool,
    ) -> Result<Verdict, DiskFault> {
        let p = self.pieces.entry(key).or_default();
        if let Some(fault) = p.fault.take() {
            return Err(fault);
        }
        let len = cx.content.geometry.piece_len(key.1);
        // Whatever is not held here is in the file, be it that we wrote it or that it came through a window.
        p.hash_held();
        while p.hashed < len {
            let end = p.held.iter().find(|h| h.begin >= p.hashed).map_or(len, |h| h.begin);
            hash_from_file(p, &mut self.scratch, cx, key.1, end)?;
            p.hash_held();
        }
        let got: [u8; 20] = p.hasher.finalize_reset().into();
        self.write_all_held(cx, key)?;
        let good = PieceHash(got) == cx.content.expected(key.1);
        let blocks = match !good || want_blocks {
            true => Some(self.block_digests(cx, key.1)?),
            false => None,
        };
        Ok(match (good, blocks) {
            (true, blocks) => Verdict::Good { blocks },
            (false, blocks) => Verdict::Bad { blocks: blocks.unwrap_or_default() },
        })
    }

    /// The first eight bytes of each block's SHA-1, from the file.
    fn block_digests(&mut self, cx: &mut PieceContext<'_>, piece: PieceIndex) -> Result<Box<[u64]>, DiskFault> {
        let g = &cx.content.geometry;
        (0..g.blocks(piece))
            .map(|b| {
                let span = g.block(piece, b);
                let buf = scratch(&mut self.scratch, span.len() as usize);
                cx.files.read(cx.content, g.offset(span), buf)?;
                Ok(block_digest(buf))
            })
            .collect()
    }

    /// Gives up everything in hand of a torrent.
    pub fn fail_torrent(&mut self, free: &mut Vec<Slot>, torrent: TorrentKey, fault: &DiskFault) {
        let keys: Vec<_> = self.pieces.keys().filter(|k| k.0 == torrent).copied().collect();
        for k in keys {
            self.fail_piece(free, k, fault);
        }
    }

    /// Gives a piece up, whether anything of it is in hand or not: its slots go back, its verdict will be this fault.
    pub fn fail_piece(&mut self, free: &mut Vec<Slot>, key: (TorrentKey, PieceIndex), fault: &DiskFault) {
        let p = self.pieces.entry(key).or_default();
        self.held -= p.held.len();
        free.extend(p.held.drain(..).map(|l| l.slot));
        p.fault = Some(fault.clone());
    }

    fn drop_piece(&mut self, free: &mut Vec<Slot>, key: (TorrentKey, PieceIndex)) {
        if let Some(p) = self.pieces.remove(&key) {
            self.held -= p.held.len();
            free.extend(p.held.into_iter().map(|l| l.slot));
        }
    }

    /// Forgets the torrent's pieces, unwritten bytes included.
    pub fn drop_torrent(&mut self, free: &mut Vec<Slot>, torrent: TorrentKey) {
        let keys: Vec<_> = self.pieces.keys().filter(|k| k.0 == torrent).copied().collect();
        for k in keys {
            self.drop_piece(free, k);
        }
    }
}

/// Eight bytes that tell two versions of a block apart.
pub(super) fn block_digest(bytes: &[u8]) -> u64 {
    let d: [u8; 20] = Sha1::digest(bytes).into();
    u64::from_be_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
}

fn scratch(buf: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buf.len() < len {
        buf.resize(len.max(limits::READ_BYTES), 0);
    }
    &mut buf[..len]
}

/// Hashes the piece's bytes from where the hash stands to `end` out of the file.
fn hash_from_file(
    p: &mut CachedPiece,
    buf: &mut Vec<u8>,
    cx: &mut PieceContext<'_>,
    piece: PieceIndex,
    end: u32,
) -> Result<(), DiskFault> {
    while p.hashed < end {
        let n = (end - p.hashed).min(limits::READ_BYTES as u32);
        let part = scratch(buf, n as usize);
        cx.files.read(cx.content, cx.content.geometry.piece_offset(piece) + u64::from(p.hashed), part)?;
        p.hasher.update(part);
        p.hashed += n;
        cx.stats.reread_bytes.fetch_add(u64::from(n), Relaxed);
    }
    Ok(())
}
