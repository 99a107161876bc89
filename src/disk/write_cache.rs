//! The write cache of one worker: received blocks are hashed while they are in the CPU cache, held until a
//! run is worth a write, and then written.
//!
//! ```text
//!   block ──► held ──(next in order)──► hashed ──(run long enough, or slots needed)──► written
//!               └──(slots needed, out of order)──► written ──(its turn comes)──► read back, hashed
//! ```
//!
//! Invariants: a piece belongs to one worker; held bytes overlap neither each other nor written ones; the
//! bytes that were hashed are those that are written, else the hash starts over from the file; at most
//! `hold_max` slots stay here, so a pool cannot run dry for want of a write. A piece that met a disk fault
//! stays failed until its verdict is asked for.

use super::fault::DiskFault;
use super::hasher::{PieceHasher, block_digest};
use super::job::ReceivedBlock;
use super::limits;
use super::memory::Slot;
use super::open_files::OpenFiles;
use super::torrent_files::TorrentFiles;
use super::worker_stats::SharedWorkerStats;
use crate::engine::HashVerdict;
use crate::units::{PieceIndex, TorrentKey};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

struct CachedPiece {
    hasher: PieceHasher,
    /// Bytes from the start that are in the hasher.
    hashed: u32,
    /// Blocks in slots, by `begin`.
    held: Vec<ReceivedBlock>,
    /// Bytes that were written, merged and in order.
    written: Vec<Range<u32>>,
    fault: Option<DiskFault>,
}

impl CachedPiece {
    fn new(torrent: &TorrentFiles, piece: PieceIndex) -> CachedPiece {
        let hasher = torrent.expected(piece).hasher();
        CachedPiece { hasher, hashed: 0, held: Vec::new(), written: Vec::new(), fault: None }
    }

    fn overlaps(&self, begin: u32, end: u32) -> bool {
        begin < self.hashed
            || self.held.iter().any(|h| h.begin < end && begin < h.end)
            || self.written.iter().any(|w| w.start < end && begin < w.end)
    }

    fn mark_written(&mut self, begin: u32, end: u32) {
        let first = self.written.partition_point(|w| w.end < begin);
        let last = self.written.partition_point(|w| w.start <= end);
        let merged =
            self.written[first..last].iter().fold(begin..end, |m, w| m.start.min(w.start)..m.end.max(w.end));
        self.written.splice(first..last, [merged]);
    }

    /// The end of the written range that holds this byte.
    fn written_until(&self, at: u32) -> Option<u32> {
        let i = self.written.partition_point(|w| w.end <= at);
        self.written.get(i).filter(|w| w.start <= at).map(|w| w.end)
    }

    /// The indices of held blocks around block `i` that follow each other without a gap.
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

    /// Hashes held blocks that are next in order.
    fn hash_held(&mut self) {
        while let Ok(i) = self.held.binary_search_by_key(&self.hashed, |h| h.begin) {
            let block = &self.held[i];
            self.hasher.update(block.bytes());
            self.hashed = block.end;
        }
    }

    /// Hashes the piece's bytes from `hashed` to `end` out of the file.
    fn hash_from_file(
        &mut self,
        buf: &mut Vec<u8>,
        cx: &mut PieceContext<'_>,
        piece: PieceIndex,
        end: u32,
    ) -> Result<(), DiskFault> {
        while self.hashed < end {
            let n = (end - self.hashed).min(limits::READ_BYTES as u32);
            let part = scratch(buf, n as usize);
            let offset = cx.torrent.geometry.piece_offset(piece) + u64::from(self.hashed);
            cx.open_files.read(cx.torrent, offset, part)?;
            self.hasher.update(part);
            self.hashed += n;
            cx.stats.update(|stats| stats.reread_bytes += u64::from(n));
        }
        Ok(())
    }
}

/// The pieces that one worker receives.
pub(super) struct WriteCache {
    pieces: BTreeMap<(TorrentKey, PieceIndex), CachedPiece>,
    held: usize,
    hold_max: usize,
    /// For reading back; allocated at first need.
    scratch: Vec<u8>,
}

/// The surroundings of one piece.
pub(super) struct PieceContext<'a> {
    pub torrent: &'a Arc<TorrentFiles>,
    pub open_files: &'a mut OpenFiles,
    /// Gets the slots of written and dropped blocks.
    pub freed: &'a mut Vec<Slot>,
    pub stats: &'a SharedWorkerStats,
}

impl WriteCache {
    /// An empty cache that holds at most `hold_max` slots.
    pub fn new(hold_max: usize) -> WriteCache {
        WriteCache { pieces: BTreeMap::new(), held: 0, hold_max: hold_max.max(1), scratch: Vec::new() }
    }

    /// Takes a block in. Returns only the first fault of a piece.
    pub fn insert(&mut self, cx: &mut PieceContext<'_>, block: ReceivedBlock) -> Result<(), DiskFault> {
        let key = (cx.torrent.key, block.piece);
        let piece = self.pieces.entry(key).or_insert_with(|| CachedPiece::new(cx.torrent, block.piece));
        if piece.fault.is_some() {
            cx.freed.push(block.slot);
            return Ok(());
        }
        if piece.overlaps(block.begin, block.end) {
            return self.insert_overlapping(cx, key, block);
        }
        let i = piece.held.partition_point(|h| h.begin < block.begin);
        piece.held.insert(i, block);
        self.held += 1;
        piece.hash_held();
        let run = piece.run_around(i);
        let end = piece.held[run.end - 1].end;
        let bytes = end - piece.held[run.start].begin;
        if end <= piece.hashed && bytes >= limits::RUN_BYTES {
            self.write_run(cx, key, run)?;
        }
        self.hash_written(cx, key)?;
        while self.held > self.hold_max && self.write_longest_run(cx)? {}
        Ok(())
    }

    /// Takes in bytes that arrived before, from a peer that did not finish its block: they are written, and
    /// the hash starts over.
    fn insert_overlapping(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
        block: ReceivedBlock,
    ) -> Result<(), DiskFault> {
        self.write_all_held(cx, key)?;
        let Some(piece) = self.pieces.get_mut(&key) else { return Ok(()) };
        if block.begin < piece.hashed {
            piece.hashed = 0;
            piece.hasher.reset();
        }
        piece.held.push(block);
        self.held += 1;
        self.write_run(cx, key, 0..1)
    }

    /// Reads back and hashes written bytes that are next in order.
    fn hash_written(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
    ) -> Result<(), DiskFault> {
        let Some(piece) = self.pieces.get_mut(&key) else { return Ok(()) };
        while let Some(end) = piece.written_until(piece.hashed) {
            if let Err(fault) = piece.hash_from_file(&mut self.scratch, cx, key.1, end) {
                return Err(self.failed(cx, key.1, fault));
            }
            piece.hash_held();
        }
        Ok(())
    }

    /// Writes one run of this torrent to free slots; false if it holds none.
    fn write_longest_run(&mut self, cx: &mut PieceContext<'_>) -> Result<bool, DiskFault> {
        // The longest hashed run, else the longest of all. Other torrents write when a block of theirs
        // arrives.
        let key = cx.torrent.key;
        let mut best: Option<((bool, u32), PieceIndex, Range<usize>)> = None;
        for (&(torrent, index), piece) in &self.pieces {
            let mut i = 0;
            while torrent == key && i < piece.held.len() {
                let run = piece.run_around(i);
                i = run.end;
                let begin = piece.held[run.start].begin;
                let end = piece.held[run.end - 1].end;
                let worth = (end <= piece.hashed, end - begin);
                if best.as_ref().is_none_or(|(w, ..)| worth > *w) {
                    best = Some((worth, index, run));
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
        let Some(piece) = self.pieces.get_mut(&key) else { return Ok(()) };
        let begin = piece.held[run.start].begin;
        let end = piece.held[run.end - 1].end;
        let slices: Vec<&[u8]> = piece.held[run.clone()].iter().map(ReceivedBlock::bytes).collect();
        let offset = cx.torrent.geometry.piece_offset(key.1) + u64::from(begin);
        if let Err(fault) = cx.open_files.write(cx.torrent, offset, &slices) {
            return Err(self.failed(cx, key.1, fault));
        }
        cx.stats.update(|stats| {
            stats.writes += 1;
            stats.written_bytes += u64::from(end - begin);
        });
        self.held -= run.len();
        cx.freed.extend(piece.held.drain(run).map(|block| block.slot));
        piece.mark_written(begin, end);
        Ok(())
    }

    fn write_all_held(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
    ) -> Result<(), DiskFault> {
        while let Some(piece) = self.pieces.get(&key).filter(|piece| !piece.held.is_empty()) {
            let run = piece.run_around(0);
            self.write_run(cx, key, run)?;
        }
        Ok(())
    }

    /// Writes all that is held for this torrent.
    pub fn flush(&mut self, cx: &mut PieceContext<'_>) -> Result<(), DiskFault> {
        while self.write_longest_run(cx)? {}
        Ok(())
    }

    fn failed(&mut self, cx: &mut PieceContext<'_>, piece: PieceIndex, fault: DiskFault) -> DiskFault {
        self.fail_piece(cx, piece, &fault);
        fault
    }

    /// Every block has arrived: writes the rest, compares the hash, and forgets the piece. A digest of each
    /// block comes with a bad piece, and with `want_blocks` with a good one.
    pub fn finish_piece(
        &mut self,
        cx: &mut PieceContext<'_>,
        piece: PieceIndex,
        want_blocks: bool,
    ) -> Result<HashVerdict, DiskFault> {
        let key = (cx.torrent.key, piece);
        let result = self.check_piece(cx, key, want_blocks);
        self.drop_piece(cx.freed, key);
        result
    }

    fn check_piece(
        &mut self,
        cx: &mut PieceContext<'_>,
        key: (TorrentKey, PieceIndex),
        want_blocks: bool,
    ) -> Result<HashVerdict, DiskFault> {
        let piece = self.pieces.entry(key).or_insert_with(|| CachedPiece::new(cx.torrent, key.1));
        if let Some(fault) = piece.fault.take() {
            return Err(fault);
        }
        let len = cx.torrent.geometry.piece_len(key.1);
        // Bytes that are not held are in the file, written by this worker or received through a window.
        piece.hash_held();
        while piece.hashed < len {
            let end = piece.held.iter().find(|h| h.begin >= piece.hashed).map_or(len, |h| h.begin);
            piece.hash_from_file(&mut self.scratch, cx, key.1, end)?;
            piece.hash_held();
        }
        let digest = piece.hasher.finish();
        self.write_all_held(cx, key)?;
        if !cx.torrent.expected(key.1).matches(digest) {
            return Ok(HashVerdict::Bad { digests: self.block_digests(cx, key.1)? });
        }
        let digests = if want_blocks { Some(self.block_digests(cx, key.1)?) } else { None };
        Ok(HashVerdict::Good { digests })
    }

    /// The digest of each block, from the file.
    fn block_digests(
        &mut self,
        cx: &mut PieceContext<'_>,
        piece: PieceIndex,
    ) -> Result<Box<[u64]>, DiskFault> {
        let geometry = &cx.torrent.geometry;
        let digests = (0..geometry.blocks(piece)).map(|block| {
            let span = geometry.block(piece, block);
            let buf = scratch(&mut self.scratch, span.len() as usize);
            cx.open_files.read(cx.torrent, geometry.offset(span), buf)?;
            Ok(block_digest(buf))
        });
        digests.collect()
    }

    /// Fails a piece, whether it has blocks here or not: its slots are freed, and its verdict will be this
    /// fault.
    pub fn fail_piece(&mut self, cx: &mut PieceContext<'_>, piece: PieceIndex, fault: &DiskFault) {
        let key = (cx.torrent.key, piece);
        let piece = self.pieces.entry(key).or_insert_with(|| CachedPiece::new(cx.torrent, piece));
        self.held -= piece.held.len();
        cx.freed.extend(piece.held.drain(..).map(|block| block.slot));
        piece.fault = Some(fault.clone());
    }

    /// Fails all pieces of a torrent.
    pub fn fail_torrent(&mut self, freed: &mut Vec<Slot>, torrent: TorrentKey, fault: &DiskFault) {
        for (_, piece) in self.pieces.iter_mut().filter(|((t, _), _)| *t == torrent) {
            self.held -= piece.held.len();
            freed.extend(piece.held.drain(..).map(|block| block.slot));
            piece.fault = Some(fault.clone());
        }
    }

    fn drop_piece(&mut self, freed: &mut Vec<Slot>, key: (TorrentKey, PieceIndex)) {
        if let Some(piece) = self.pieces.remove(&key) {
            self.held -= piece.held.len();
            freed.extend(piece.held.into_iter().map(|block| block.slot));
        }
    }

    /// Forgets the torrent's pieces, unwritten bytes included.
    pub fn drop_torrent(&mut self, freed: &mut Vec<Slot>, torrent: TorrentKey) {
        let keys: Vec<_> = self.pieces.keys().filter(|(t, _)| *t == torrent).copied().collect();
        for key in keys {
            self.drop_piece(freed, key);
        }
    }
}

fn scratch(buf: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buf.len() < len {
        buf.resize(len.max(limits::READ_BYTES), 0);
    }
    &mut buf[..len]
}
