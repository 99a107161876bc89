//! The other half of the store: what workers answer, and the questions that take more than one answer.
//!
//! A checkpoint asks every worker to sync and writes the record only when all of them could; a torrent is closed when every
//! worker has let go of it, so that whoever hears of it finds the lock free. Answers for a torrent that is gone or going are
//! dropped.

use super::api::{DiskEvent, OpenedTorrent};
use super::fault::DiskFault;
use super::job::{WorkerJob, WorkerReply};
use super::limits;
use super::store::{PendingCheckpoint, PieceMode, Store, StoredTorrent, costs};
use super::window::Window;
use crate::units::{Bitfield, PieceIndex, TorrentKey};
use std::sync::atomic::Ordering::SeqCst;

impl Store {
    pub(super) fn poll_replies(&mut self) {
        self.waker.acknowledge();
        self.drain_replies();
        if self.exhausted && self.pool.free() < self.pool.total() / limits::REFILL_PART {
            // Not worth going back to the sockets yet. Slots that come from now on ring the bell again, those that came
            // before are found by looking once more.
            self.waker.wake_on_slots.store(true, SeqCst);
            self.drain_replies();
        }
        if self.exhausted && self.pool.free() >= self.pool.total() / limits::REFILL_PART {
            self.exhausted = false;
            self.events.push_back(DiskEvent::BufferFreed);
        }
    }

    fn drain_replies(&mut self) {
        while let Ok(reply) = self.replies.try_recv() {
            self.on_reply(reply);
        }
    }

    fn on_reply(&mut self, reply: WorkerReply) {
        match reply {
            WorkerReply::FreedSlots(slots) => self.pool.return_slots(slots),
            WorkerReply::Checking(torrent, done, of) => self.emit(torrent, DiskEvent::Checking { torrent, done, of }),
            WorkerReply::Opened(torrent, Ok(checked)) => {
                let Some(t) = self.active_torrent(torrent) else { return };
                t.content = Some(checked.content.clone());
                let home_worker = t.home_worker;
                for worker in (0..self.workers.len()).filter(|&h| h != home_worker) {
                    self.queue_urgent(worker, WorkerJob::Attach(checked.content.clone()));
                }
                let result = Ok(OpenedTorrent { have: checked.have, notes: checked.notes });
                self.events.push_back(DiskEvent::Opened { torrent, result });
            }
            WorkerReply::Opened(torrent, Err(f)) => {
                if self.active_torrent(torrent).is_some() {
                    self.torrents.remove(&torrent);
                    self.events.push_back(DiskEvent::Opened { torrent, result: Err(f) });
                }
            }
            WorkerReply::Mapped(torrent, piece, result) => self.on_mapped(torrent, piece, result),
            WorkerReply::Hashed(torrent, piece, verdict) => self.emit(torrent, DiskEvent::Hashed { torrent, piece, verdict }),
            WorkerReply::Loaded { torrent, span, result, files } => {
                if self.active_torrent(torrent).is_some() {
                    let (bytes, result) = match result {
                        Ok(bytes) => (bytes, Ok(())),
                        Err(f) => (None, Err(f)),
                    };
                    self.read_path.loaded(torrent, span, files, bytes);
                    self.events.push_back(DiskEvent::Loaded { torrent, span, result });
                }
            }
            WorkerReply::Stamps(torrent, seen) => {
                if let Some(home_worker) = self.torrents.get(&torrent).map(|t| t.home_worker) {
                    self.queue_urgent(home_worker, WorkerJob::AddStamps(torrent, seen));
                }
            }
            WorkerReply::Synced(torrent, result) => self.on_synced(torrent, result),
            WorkerReply::RecordSaved(torrent, have, result) => self.on_record_saved(torrent, have, result),
            WorkerReply::Detached(torrent) => self.on_detached(torrent),
            // Of a torrent that is not open, because its disk is full.
            WorkerReply::FreeSpace(torrent, bytes) => self.events.push_back(DiskEvent::FreeSpace { torrent, bytes }),
            WorkerReply::Fault(torrent, fault) => self.emit(torrent, DiskEvent::Fault { torrent, fault }),
        }
    }

    /// Passes an answer on unless its torrent is gone.
    fn emit(&mut self, torrent: TorrentKey, done: DiskEvent) {
        if self.active_torrent(torrent).is_some() {
            self.events.push_back(done);
        }
    }

    fn on_mapped(&mut self, torrent: TorrentKey, piece: PieceIndex, result: Result<Vec<Window>, DiskFault>) {
        let way = self.torrents.get_mut(&torrent).and_then(|t| t.pieces.get_mut(&piece));
        let Some(way @ PieceMode::Mapping { .. }) = way else {
            // Closed meanwhile; the windows are let go by a worker.
            if let Ok(windows) = result {
                self.queue_urgent(self.worker_of(piece), WorkerJob::Unmap(windows, torrent, piece));
            }
            return;
        };
        let PieceMode::Mapping { reserved } = *way else { return };
        let result = result.map(|windows| match windows.is_empty() {
            true => {
                self.stats.window_bytes -= reserved;
                self.mode_chooser.on_refused(costs(&self.workers, self.stats.plain_bytes));
                *way = PieceMode::Plain;
            }
            false => *way = PieceMode::Mapped { windows, reserved },
        });
        if result.is_err() {
            self.stats.window_bytes -= reserved;
            *way = PieceMode::Plain;
        }
        self.events.push_back(DiskEvent::Prepared { torrent, piece, result });
    }

    pub(super) fn begin_checkpoint(&mut self, key: TorrentKey, have: Bitfield, last: bool) {
        let awaited = self.workers.len();
        let Some(t) = self.active_torrent(key) else { return };
        if t.checkpoint.is_some() {
            let last = last || t.next_checkpoint.as_ref().is_some_and(|n| n.1);
            t.next_checkpoint = Some((have, last));
            return;
        }
        t.checkpoint = Some(PendingCheckpoint { have, last, awaited, failed: None });
        for worker in 0..self.workers.len() {
            self.queue_urgent(worker, WorkerJob::Sync(key));
        }
    }

    fn on_synced(&mut self, key: TorrentKey, result: Result<(), DiskFault>) {
        let Some(t) = self.torrents.get_mut(&key) else { return };
        let Some(s) = t.checkpoint.as_mut() else { return };
        s.awaited -= 1;
        if let Err(f) = result {
            s.failed = Some(f);
        }
        if s.awaited > 0 {
            return;
        }
        match s.failed.take() {
            Some(fault) => {
                let have = s.have.clone();
                self.on_record_saved(key, have, Err(fault));
            }
            None => {
                let (have, last, home_worker) = (s.have.clone(), s.last, t.home_worker);
                self.queue_urgent(home_worker, WorkerJob::SaveRecord { torrent: key, have, last });
            }
        }
    }

    fn on_record_saved(&mut self, key: TorrentKey, have: Bitfield, result: Result<(), DiskFault>) {
        let Some(t) = self.torrents.get_mut(&key) else { return };
        let Some(checkpoint) = t.checkpoint.take() else { return };
        let next = t.next_checkpoint.take();
        if checkpoint.last {
            self.begin_detach(key, result);
            return;
        }
        self.events.push_back(DiskEvent::Saved { torrent: key, have, result });
        if let Some((have, last)) = next {
            self.begin_checkpoint(key, have, last);
        }
    }

    pub(super) fn begin_detach(&mut self, key: TorrentKey, result: Result<(), DiskFault>) {
        for worker in 0..self.workers.len() {
            self.queue_urgent(worker, WorkerJob::Detach(key));
        }
        self.read_path.forget(key);
        if let Some(t) = self.torrents.get_mut(&key) {
            t.content = None;
            t.closing = Some((self.workers.len(), result));
        }
    }

    fn on_detached(&mut self, key: TorrentKey) {
        let Some((awaited, _)) = self.torrents.get_mut(&key).and_then(|t| t.closing.as_mut()) else { return };
        *awaited -= 1;
        if *awaited == 0 {
            if let Some((_, result)) = self.torrents.remove(&key).and_then(|t| t.closing) {
                self.events.push_back(DiskEvent::Closed { torrent: key, result });
            }
        }
    }

    /// The torrent, unless it is gone or going.
    pub(super) fn active_torrent(&mut self, key: TorrentKey) -> Option<&mut StoredTorrent> {
        self.torrents.get_mut(&key).filter(|t| t.closing.is_none())
    }
}
