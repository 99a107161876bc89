//! The other half of the store: what workers answer, and the questions that take more than one answer.
//!
//! A checkpoint asks every worker to sync and writes the record only when all of them could; a torrent is closed when every
//! worker has let go of it, so that whoever hears of it finds the lock free. Answers for a torrent that is gone or going are
//! dropped.

use super::contract::{Done, Opened};
use super::fault::DiskFault;
use super::job::{Job, Reply};
use super::limits;
use super::store::{Saving, Store, Torrent, Way, costs};
use super::window::Window;
use crate::units::{Bitfield, PieceIndex, TorrentKey};
use std::sync::atomic::Ordering::SeqCst;

impl Store {
    pub(super) fn collect(&mut self) {
        self.bell.answered();
        self.drain();
        if self.starving && self.pool.free() < self.pool.total() / limits::REFILL_PART {
            // Not worth going back to the sockets yet. Slots that come from now on ring the bell again, those that came
            // before are found by looking once more.
            self.bell.starved.store(true, SeqCst);
            self.drain();
        }
        if self.starving && self.pool.free() >= self.pool.total() / limits::REFILL_PART {
            self.starving = false;
            self.done.push_back(Done::RoomFreed);
        }
    }

    fn drain(&mut self) {
        while let Ok(reply) = self.replies.try_recv() {
            self.take(reply);
        }
    }

    fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Slots(slots) => self.pool.give_back(slots),
            Reply::Checking(torrent, done, of) => self.tell(torrent, Done::Checking { torrent, done, of }),
            Reply::Opened(torrent, Ok(checked)) => {
                let Some(t) = self.live(torrent) else { return };
                t.content = Some(checked.content.clone());
                let home = t.home;
                for hand in (0..self.hands.len()).filter(|&h| h != home) {
                    self.ask(hand, Job::Attach(checked.content.clone()));
                }
                let result = Ok(Opened { have: checked.have, notes: checked.notes });
                self.done.push_back(Done::Opened { torrent, result });
            }
            Reply::Opened(torrent, Err(f)) => {
                if self.live(torrent).is_some() {
                    self.torrents.remove(&torrent);
                    self.done.push_back(Done::Opened { torrent, result: Err(f) });
                }
            }
            Reply::Mapped(torrent, piece, result) => self.mapped(torrent, piece, result),
            Reply::Hashed(torrent, piece, verdict) => self.tell(torrent, Done::Hashed { torrent, piece, verdict }),
            Reply::Loaded { torrent, span, result, files } => {
                if self.live(torrent).is_some() {
                    let (bytes, result) = match result {
                        Ok(bytes) => (bytes, Ok(())),
                        Err(f) => (None, Err(f)),
                    };
                    self.reads.loaded(torrent, span, files, bytes);
                    self.done.push_back(Done::Loaded { torrent, span, result });
                }
            }
            Reply::Seen(torrent, seen) => {
                if let Some(home) = self.torrents.get(&torrent).map(|t| t.home) {
                    self.ask(home, Job::Learn(torrent, seen));
                }
            }
            Reply::Synced(torrent, result) => self.synced(torrent, result),
            Reply::Recorded(torrent, have, result) => self.recorded(torrent, have, result),
            Reply::Detached(torrent) => self.detached(torrent),
            // Of a torrent that is not open, because its disk is full.
            Reply::Space(torrent, bytes) => self.done.push_back(Done::Space { torrent, bytes }),
            Reply::Fault(torrent, fault) => self.tell(torrent, Done::Fault { torrent, fault }),
        }
    }

    /// Passes an answer on unless its torrent is gone.
    fn tell(&mut self, torrent: TorrentKey, done: Done) {
        if self.live(torrent).is_some() {
            self.done.push_back(done);
        }
    }

    fn mapped(&mut self, torrent: TorrentKey, piece: PieceIndex, result: Result<Vec<Window>, DiskFault>) {
        let way = self.torrents.get_mut(&torrent).and_then(|t| t.pieces.get_mut(&piece));
        let Some(way @ Way::Mapping { .. }) = way else {
            // Closed meanwhile; the windows are let go by a worker.
            if let Ok(windows) = result {
                self.ask(self.hand_of(piece), Job::Unmap(windows, torrent, piece));
            }
            return;
        };
        let Way::Mapping { reserved } = *way else { return };
        let result = result.map(|windows| match windows.is_empty() {
            true => {
                self.stats.window_bytes -= reserved;
                self.ways.refused(costs(&self.hands, self.stats.plain_bytes));
                *way = Way::Plain;
            }
            false => *way = Way::Mapped { windows, reserved },
        });
        if result.is_err() {
            self.stats.window_bytes -= reserved;
            *way = Way::Plain;
        }
        self.done.push_back(Done::Prepared { torrent, piece, result });
    }

    pub(super) fn save(&mut self, key: TorrentKey, have: Bitfield, last: bool) {
        let awaited = self.hands.len();
        let Some(t) = self.live(key) else { return };
        if t.saving.is_some() {
            let last = last || t.next_save.as_ref().is_some_and(|n| n.1);
            t.next_save = Some((have, last));
            return;
        }
        t.saving = Some(Saving { have, last, awaited, failed: None });
        for hand in 0..self.hands.len() {
            self.ask(hand, Job::Sync(key));
        }
    }

    fn synced(&mut self, key: TorrentKey, result: Result<(), DiskFault>) {
        let Some(t) = self.torrents.get_mut(&key) else { return };
        let Some(s) = t.saving.as_mut() else { return };
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
                self.recorded(key, have, Err(fault));
            }
            None => {
                let (have, last, home) = (s.have.clone(), s.last, t.home);
                self.ask(home, Job::Record { torrent: key, have, last });
            }
        }
    }

    fn recorded(&mut self, key: TorrentKey, have: Bitfield, result: Result<(), DiskFault>) {
        let Some(t) = self.torrents.get_mut(&key) else { return };
        let Some(saving) = t.saving.take() else { return };
        let next = t.next_save.take();
        if saving.last {
            self.detach(key, result);
            return;
        }
        self.done.push_back(Done::Saved { torrent: key, have, result });
        if let Some((have, last)) = next {
            self.save(key, have, last);
        }
    }

    pub(super) fn detach(&mut self, key: TorrentKey, result: Result<(), DiskFault>) {
        for hand in 0..self.hands.len() {
            self.ask(hand, Job::Detach(key));
        }
        self.reads.forget(key);
        if let Some(t) = self.torrents.get_mut(&key) {
            t.content = None;
            t.closing = Some((self.hands.len(), result));
        }
    }

    fn detached(&mut self, key: TorrentKey) {
        let Some((awaited, _)) = self.torrents.get_mut(&key).and_then(|t| t.closing.as_mut()) else { return };
        *awaited -= 1;
        if *awaited == 0 {
            if let Some((_, result)) = self.torrents.remove(&key).and_then(|t| t.closing) {
                self.done.push_back(Done::Closed { torrent: key, result });
            }
        }
    }

    /// The torrent, unless it is gone or going.
    pub(super) fn live(&mut self, key: TorrentKey) -> Option<&mut Torrent> {
        self.torrents.get_mut(&key).filter(|t| t.closing.is_none())
    }
}
