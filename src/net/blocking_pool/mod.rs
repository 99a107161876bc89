//! Errands that block: announces and scrapes over HTTP(S) and lookups of host names, each on a thread of its
//! own, a few at a time.
//!
//! ```text
//!   announce, scrape, resolve ──▶ waiting ──▶ running (at most `workers`) ──channel, wake──▶ next_done
//!                                     └─ full: answered at once
//! ```
//!
//! A tracker is asked twice an hour, so a thread lives as long as its errand and an idle announcer has none.
//! Every errand ends in exactly one [`BlockingReply`], within its time: the deadline covers name lookup,
//! connection, TLS, redirects and body. Nothing joins a thread, so leaving never waits for a tracker.
//!
//! Proxies: the environment is obeyed (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, and lower case).
//! The proxy then looks up names, so the check of addresses below is its business. UDP trackers and peers
//! know no proxy.

mod http;
mod lookup;
#[cfg(test)]
mod tests;

use crate::units::InfoHash;
use crate::wire::{AnnounceError, AnnounceReply, SwarmCounts};
use lookup::Lookups;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Errands that may wait for a free worker; beyond it they are refused at once. Four torrents with full
/// tracker lists.
const WAITING: usize = 512;

/// Bytes of a worker's stack. Measured in a release build: 64 KiB are enough for HTTP and for a TLS
/// handshake, 48 are not; the rest is for long certificate chains and debug builds. What is not touched costs
/// no memory.
const STACK_BYTES: usize = 256 << 10;

/// Time that a lookup for a UDP tracker may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// Called when there is something for [`BlockingPool::next_done`]; any thread calls it.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// An errand that is over.
#[derive(Debug)]
pub enum BlockingReply {
    /// An HTTP tracker answered, or did not.
    Announced {
        /// As given to [`BlockingPool::announce`].
        id: u64,
        /// What came of it.
        result: Result<AnnounceReply, AnnounceError>,
    },
    /// An HTTP tracker said how many have a torrent, or did not.
    Scraped {
        /// As given to [`BlockingPool::scrape`].
        id: u64,
        /// What came of it.
        result: Result<SwarmCounts, AnnounceError>,
    },
    /// A host name was looked up.
    Resolved {
        /// As given to [`BlockingPool::resolve`].
        id: u64,
        /// At least one address, or why there is none.
        result: Result<Vec<SocketAddr>, String>,
    },
}

enum BlockingRequest {
    Announce { url: String, timeout: Duration },
    Scrape { url: String, info_hash: InfoHash, timeout: Duration },
    Resolve { host: String, port: u16 },
}

struct QueuedRequest {
    id: u64,
    errand: BlockingRequest,
}

/// Runs errands and hands back what came of them.
pub struct BlockingPool {
    workers: usize,
    running: usize,
    waiting: VecDeque<QueuedRequest>,
    /// Answers that needed no thread.
    refused: VecDeque<BlockingReply>,
    done: Receiver<BlockingReply>,
    report: Sender<BlockingReply>,
    wake: Wake,
    lookups: Arc<Lookups>,
    started: u64,
}

impl BlockingPool {
    /// An announcer that runs at most `workers` errands at once (at least one) and calls `wake` after each.
    pub fn new(workers: usize, wake: Arc<dyn Fn() + Send + Sync>) -> BlockingPool {
        let workers = workers.max(1);
        let (report, done) = channel();
        BlockingPool {
            workers,
            running: 0,
            waiting: VecDeque::new(),
            refused: VecDeque::new(),
            done,
            report,
            wake,
            lookups: Arc::new(Lookups::new(2 * workers)),
            started: 0,
        }
    }

    /// Asks the HTTP tracker with this complete URL; all of it takes at most `total_timeout` from when a
    /// worker is free.
    pub fn announce(&mut self, id: u64, url: String, total_timeout: Duration) {
        self.enqueue(QueuedRequest { id, errand: BlockingRequest::Announce { url, timeout: total_timeout } });
    }

    /// Asks the HTTP tracker with this complete URL how many have the torrent; the same time.
    pub fn scrape(&mut self, id: u64, url: String, info_hash: InfoHash, total_timeout: Duration) {
        self.enqueue(QueuedRequest {
            id,
            errand: BlockingRequest::Scrape { url, info_hash, timeout: total_timeout },
        });
    }

    /// Looks up the addresses of a UDP tracker.
    pub fn resolve(&mut self, id: u64, host: String, port: u16) {
        self.enqueue(QueuedRequest { id, errand: BlockingRequest::Resolve { host, port } });
    }

    /// The next errand that is over, if one is; never waits.
    pub fn next_done(&mut self) -> Option<BlockingReply> {
        if let Some(done) = self.refused.pop_front() {
            return Some(done);
        }
        let done = self.done.try_recv().ok()?;
        self.running -= 1;
        self.start_waiting();
        Some(done)
    }

    /// Errands that [`next_done`](BlockingPool::next_done) has yet to hand back.
    pub fn in_flight(&self) -> usize {
        self.running + self.waiting.len() + self.refused.len()
    }

    fn enqueue(&mut self, job: QueuedRequest) {
        if self.waiting.len() == WAITING {
            return self.refuse(job.failed(AnnounceError::Busy));
        }
        self.waiting.push_back(job);
        self.start_waiting();
    }

    fn refuse(&mut self, done: BlockingReply) {
        self.refused.push_back(done);
        (self.wake)();
    }

    fn start_waiting(&mut self) {
        while self.running < self.workers {
            let Some(job) = self.waiting.pop_front() else { return };
            self.start(job);
        }
    }

    fn start(&mut self, job: QueuedRequest) {
        let name = format!("rill-tracker-{}", self.started % 1_000);
        self.started += 1;
        let report = ReplyGuard {
            done: Some(job.failed(worker_died())),
            to: self.report.clone(),
            wake: self.wake.clone(),
        };
        let lookups = self.lookups.clone();
        let spawned = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let mut report = report;
            report.done = Some(job.run(&lookups));
        });
        // If there is no thread, dropping the closure reports the failure through the same channel.
        self.running += 1;
        if let Err(error) = spawned {
            log::warn!("no thread for a tracker: {error}");
        }
    }
}

impl QueuedRequest {
    fn run(self, lookups: &Arc<Lookups>) -> BlockingReply {
        let id = self.id;
        match self.errand {
            BlockingRequest::Announce { url, timeout } => BlockingReply::Announced {
                id,
                result: http::announce(&url, Instant::now() + timeout, lookups),
            },
            BlockingRequest::Scrape { url, info_hash, timeout } => BlockingReply::Scraped {
                id,
                result: http::scrape(&url, &info_hash, Instant::now() + timeout, lookups),
            },
            BlockingRequest::Resolve { host, port } => {
                let found = lookups.find(&host, port, Instant::now() + LOOKUP_TIMEOUT);
                BlockingReply::Resolved { id, result: found.map_err(|e| e.to_string()) }
            }
        }
    }

    fn failed(&self, error: AnnounceError) -> BlockingReply {
        let id = self.id;
        match self.errand {
            BlockingRequest::Announce { .. } => BlockingReply::Announced { id, result: Err(error) },
            BlockingRequest::Scrape { .. } => BlockingReply::Scraped { id, result: Err(error) },
            BlockingRequest::Resolve { .. } => BlockingReply::Resolved { id, result: Err(error.to_string()) },
        }
    }
}

fn worker_died() -> AnnounceError {
    AnnounceError::Connection("the worker died".into())
}

/// Reports when it goes, whatever it holds then: so an errand whose thread panics, or never starts, is
/// reported too.
struct ReplyGuard {
    done: Option<BlockingReply>,
    to: Sender<BlockingReply>,
    wake: Wake,
}

impl Drop for ReplyGuard {
    fn drop(&mut self) {
        // Without a pool there is no receiver, and no loop to wake.
        if self.done.take().is_some_and(|done| self.to.send(done).is_ok()) {
            (self.wake)();
        }
    }
}
