//! The other half of [`Store`]: turns replies of workers into events, and drives what takes more than one
//! reply.
//!
//! ```text
//!   checkpoint   Sync to all workers ──all synced──► SaveRecord to the home ──► Saved
//!   close        the same with `closing`, then Detach to all workers ──all detached──► Closed: the lock is free
//! ```
//!
//! A reply for a torrent that is closed or being closed is dropped.

use super::api::DiskEvent;
use super::fault::DiskFault;
use super::job::{WorkerJob, WorkerReply};
use super::limits;
use super::mapped::{PieceMode, Window};
use super::store::{PendingCheckpoint, PendingClose, Store, StoredTorrent};
use crate::engine::Checkpoint;
use crate::units::{PieceIndex, TorrentKey};

impl Store {
    /// Reads all pending replies.
    pub(super) fn poll_replies(&mut self) {
        self.waker.acknowledge();
        self.drain_replies();
        let refilled = |store: &Store| store.pool.free() >= store.pool.total() / limits::REFILL_PART;
        if self.exhausted && !refilled(self) {
            // Too few slots to read from the sockets again. Slots returned from now on wake the
            // loop; reading once more finds those returned before.
            self.waker.request_slots();
            self.drain_replies();
        }
        if self.exhausted && refilled(self) {
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
            WorkerReply::FreedSlots(slots) => self.pool.release(slots),
            WorkerReply::Checking(torrent, checked, pieces) => {
                self.emit(torrent, DiskEvent::Checking { torrent, checked, pieces });
            }
            WorkerReply::Opened(torrent, Ok(content)) => {
                let Some(t) = self.active_torrent(torrent) else { return };
                t.files = Some(content.files.clone());
                let home = t.home;
                for worker in (0..self.workers.count()).filter(|&worker| worker != home) {
                    self.workers.queue(worker, WorkerJob::Attach(content.files.clone()));
                }
                self.events.push_back(DiskEvent::Opened { torrent, result: Ok(content.found) });
            }
            WorkerReply::Opened(torrent, Err(fault)) => {
                if self.active_torrent(torrent).is_some() {
                    self.torrents.remove(&torrent);
                    self.events.push_back(DiskEvent::Opened { torrent, result: Err(fault) });
                }
            }
            WorkerReply::Mapped(torrent, piece, result) => self.on_mapped(torrent, piece, result),
            WorkerReply::Hashed(torrent, piece, result) => {
                self.emit(torrent, DiskEvent::Hashed { torrent, piece, result });
            }
            WorkerReply::Loaded { torrent, span, result, files } => {
                if self.active_torrent(torrent).is_some() {
                    let (bytes, result) = match result {
                        Ok(bytes) => (bytes, Ok(())),
                        Err(fault) => (None, Err(fault)),
                    };
                    self.read_path.on_loaded(torrent, span, files, bytes);
                    self.events.push_back(DiskEvent::Loaded { torrent, span, result });
                }
            }
            WorkerReply::Stamps(torrent, stamps) => {
                if let Some(home) = self.torrents.get(&torrent).map(|t| t.home) {
                    self.workers.queue(home, WorkerJob::AddStamps(torrent, stamps));
                }
            }
            WorkerReply::Synced(torrent, result) => self.on_synced(torrent, result),
            WorkerReply::RecordSaved(torrent, result) => self.on_record_saved(torrent, result),
            WorkerReply::Detached(torrent) => self.on_detached(torrent),
            // Asked for a torrent that is not open, because its disk is full.
            WorkerReply::FreeSpace(torrent, bytes) => {
                self.events.push_back(DiskEvent::FreeSpace { torrent, bytes });
            }
            WorkerReply::Fault(torrent, fault) => self.emit(torrent, DiskEvent::Fault { torrent, fault }),
        }
    }

    /// Queues an event, unless its torrent is closed or being closed.
    fn emit(&mut self, torrent: TorrentKey, event: DiskEvent) {
        if self.active_torrent(torrent).is_some() {
            self.events.push_back(event);
        }
    }

    fn on_mapped(&mut self, torrent: TorrentKey, piece: PieceIndex, result: Result<Vec<Window>, DiskFault>) {
        let mode = self.torrents.get_mut(&torrent).and_then(|t| t.pieces.get_mut(&piece));
        let Some(mode @ PieceMode::Mapping { .. }) = mode else {
            // The torrent was closed meanwhile.
            return self.unmap(torrent, piece, result.unwrap_or_default());
        };
        let costs = || self.workers.mode_costs(self.stats.plain_bytes);
        let result = self.mapper.on_mapped(mode, result, costs);
        self.events.push_back(DiskEvent::Prepared { torrent, piece, result });
    }

    pub(super) fn begin_checkpoint(&mut self, key: TorrentKey, checkpoint: Checkpoint, closing: bool) {
        let workers_left = self.workers.count();
        let Some(t) = self.active_torrent(key) else { return };
        if t.checkpoint.is_some() {
            let closing = closing || t.next_checkpoint.as_ref().is_some_and(|(_, closing)| *closing);
            t.next_checkpoint = Some((checkpoint, closing));
            return;
        }
        t.checkpoint = Some(PendingCheckpoint { checkpoint, closing, workers_left, failed: None });
        self.workers.queue_for_all(|| WorkerJob::Sync(key));
    }

    fn on_synced(&mut self, key: TorrentKey, result: Result<(), DiskFault>) {
        let Some(t) = self.torrents.get_mut(&key) else { return };
        let Some(checkpoint) = t.checkpoint.as_mut() else { return };
        checkpoint.workers_left -= 1;
        if let Err(fault) = result {
            checkpoint.failed = Some(fault);
        }
        if checkpoint.workers_left > 0 {
            return;
        }
        if let Some(fault) = checkpoint.failed.take() {
            return self.on_record_saved(key, Err(fault));
        }
        let closing = checkpoint.closing;
        let checkpoint = checkpoint.checkpoint.clone();
        self.workers.queue(t.home, WorkerJob::SaveRecord { torrent: key, checkpoint, closing });
    }

    fn on_record_saved(&mut self, key: TorrentKey, result: Result<(), DiskFault>) {
        let Some(t) = self.torrents.get_mut(&key) else { return };
        let Some(checkpoint) = t.checkpoint.take() else { return };
        let next = t.next_checkpoint.take();
        let completed = checkpoint.checkpoint.history.completed;
        let pieces = checkpoint.checkpoint.have.ones();
        if checkpoint.closing {
            self.begin_detach(key, completed, result);
            return;
        }
        self.events.push_back(DiskEvent::Saved { torrent: key, completed, pieces, result });
        if let Some((checkpoint, closing)) = next {
            self.begin_checkpoint(key, checkpoint, closing);
        }
    }

    pub(super) fn begin_detach(&mut self, key: TorrentKey, completed: bool, result: Result<(), DiskFault>) {
        self.workers.queue_for_all(|| WorkerJob::Detach(key));
        self.read_path.forget(key);
        if let Some(t) = self.torrents.get_mut(&key) {
            t.files = None;
            t.close = Some(PendingClose { workers_left: self.workers.count(), completed, result });
        }
    }

    fn on_detached(&mut self, key: TorrentKey) {
        let Some(close) = self.torrents.get_mut(&key).and_then(|t| t.close.as_mut()) else { return };
        close.workers_left -= 1;
        if close.workers_left == 0 {
            if let Some(close) = self.torrents.remove(&key).and_then(|t| t.close) {
                self.events.push_back(DiskEvent::Closed {
                    torrent: key,
                    completed: close.completed,
                    result: close.result,
                });
            }
        }
    }

    /// The torrent, unless it is closed or being closed.
    pub(super) fn active_torrent(&mut self, key: TorrentKey) -> Option<&mut StoredTorrent> {
        self.torrents.get_mut(&key).filter(|t| t.close.is_none())
    }
}
