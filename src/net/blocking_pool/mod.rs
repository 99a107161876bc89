//! Requests that block: announces and scrapes over HTTP(S), requests to routers and lookups of host names, each
//! on a thread of its own, a few at a time.
//!
//! ```text
//!   announce, scrape, resolve ──▶ waiting ──▶ running (at most `workers`) ──channel, wake──▶ next_done
//!                                     └─ full: refused at once
//! ```
//!
//! A tracker gets about two announces an hour, so a thread lives as long as its request, and an idle pool has
//! none. Every request ends in exactly one [`BlockingReply`] by its deadline, which covers name lookup,
//! connection, TLS, redirects and body. No thread is joined, so dropping the pool never waits for a tracker.
//!
//! Proxies come from the environment (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, also in lower
//! case). A proxy resolves the names itself, so private addresses are not checked here then. UDP trackers and
//! peers are reached without them. With a proxy of the session ([`Proxy`](super::Proxy)) those of the environment
//! are ignored, and no name is looked up here.

mod http;
mod lookup;
mod router;
#[cfg(test)]
mod tests;

use super::web::HttpOptions;
use crate::engine::{RouterCall, RouterReply};
use crate::units::InfoHash;
use crate::wire::{AnnounceError, AnnounceReply, SwarmCounts, scrape_url};
use http::RequestLimits;
use lookup::Lookups;
pub use lookup::PrivateHosts;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Requests that may wait for a worker: the trackers of four torrents with full lists. More are refused at
/// once.
const WAITING: usize = 512;

/// Bytes of a worker's stack. Measured in a release build: 64 KiB suffice for HTTP and for a TLS handshake,
/// 48 do not; the rest is for long certificate chains and debug builds. Untouched pages cost no memory.
const STACK_BYTES: usize = 256 << 10;

/// The timeout of a lookup for a UDP tracker.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// Called by a worker when [`BlockingPool::next_done`] has a reply.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The result of a request.
#[derive(Debug)]
pub enum BlockingReply {
    /// Of an announce to an HTTP tracker.
    Announced {
        /// As given to [`BlockingPool::announce`].
        id: u64,
        /// The reply, or the reason of the failure.
        result: Result<AnnounceReply, AnnounceError>,
    },
    /// Of a scrape of an HTTP tracker.
    Scraped {
        /// As given to [`BlockingPool::scrape`].
        id: u64,
        /// The reply, or the reason of the failure.
        result: Result<SwarmCounts, AnnounceError>,
    },
    /// Of a request to a router.
    FromRouter {
        /// As given to [`BlockingPool::ask_router`].
        id: u64,
        /// The reply; `None` if the request failed.
        reply: Option<RouterReply>,
    },
    /// Of a lookup of a host name.
    Resolved {
        /// As given to [`BlockingPool::resolve`].
        id: u64,
        /// At least one address, or the reason of the failure, a sentence.
        result: Result<Vec<SocketAddr>, String>,
    },
}

enum BlockingRequest {
    Announce { url: String, trusted: bool, timeout: Duration },
    Scrape { url: String, trusted: bool, info_hash: InfoHash, timeout: Duration },
    AskRouter { url: String, call: Option<RouterCall>, timeout: Duration },
    Resolve { host: String, port: u16 },
}

struct QueuedRequest {
    id: u64,
    request: BlockingRequest,
}

/// Runs blocking requests on threads and returns their replies.
pub struct BlockingPool {
    workers: usize,
    running: usize,
    waiting: VecDeque<QueuedRequest>,
    /// Replies to refused requests.
    refused: VecDeque<BlockingReply>,
    done: Receiver<BlockingReply>,
    report: Sender<BlockingReply>,
    wake: Wake,
    lookups: Arc<Lookups>,
    private_hosts: PrivateHosts,
    http: HttpOptions,
    /// Announce URLs that the user named.
    trusted: BTreeSet<String>,
    started: u64,
}

impl BlockingPool {
    /// Returns a pool that runs at most `workers` requests at once (at least one) and calls `wake` after
    /// each. `private_hosts` are allowed to every tracker.
    pub fn new(
        workers: usize,
        private_hosts: PrivateHosts,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> BlockingPool {
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
            private_hosts,
            http: HttpOptions::default(),
            trusted: BTreeSet::new(),
            started: 0,
        }
    }

    /// Sets how HTTP trackers are reached.
    pub fn set_http(&mut self, http: HttpOptions) {
        self.http = http;
    }

    /// Allows any address to the tracker with this announce URL, because the user named it.
    pub fn trust(&mut self, tracker: &str) {
        self.trusted.insert(tracker.to_owned());
    }

    /// Announces to the HTTP tracker at this URL, query included. `total_timeout` runs from the start of the
    /// request on a worker.
    pub fn announce(&mut self, id: u64, url: String, total_timeout: Duration) {
        self.enqueue(QueuedRequest {
            id,
            request: BlockingRequest::Announce {
                trusted: self.trusted.iter().any(|tracker| is_announce_of(tracker, &url)),
                url,
                timeout: total_timeout,
            },
        });
    }

    /// Scrapes the HTTP tracker at this URL, query included, with the same timeout.
    pub fn scrape(&mut self, id: u64, url: String, info_hash: InfoHash, total_timeout: Duration) {
        self.enqueue(QueuedRequest {
            id,
            request: BlockingRequest::Scrape {
                trusted: self
                    .trusted
                    .iter()
                    .any(|tracker| scrape_url(tracker, &info_hash).as_ref() == Some(&url)),
                url,
                info_hash,
                timeout: total_timeout,
            },
        });
    }

    /// Requests the document at the URL of a router, or posts the call to it. The host must be an address. The
    /// request waits for no worker, so trackers that hang do not delay it: its caller has one or two at a time.
    pub fn ask_router(&mut self, id: u64, url: String, call: Option<RouterCall>, total_timeout: Duration) {
        let request = BlockingRequest::AskRouter { url, call, timeout: total_timeout };
        self.start(QueuedRequest { id, request });
    }

    /// Looks up the addresses of a host, within 15 s.
    pub fn resolve(&mut self, id: u64, host: String, port: u16) {
        self.enqueue(QueuedRequest { id, request: BlockingRequest::Resolve { host, port } });
    }

    /// Returns the next reply, if there is one; never waits.
    pub fn next_done(&mut self) -> Option<BlockingReply> {
        if let Some(done) = self.refused.pop_front() {
            return Some(done);
        }
        let done = self.done.try_recv().ok()?;
        self.running -= 1;
        self.start_waiting();
        Some(done)
    }

    /// Returns the number of requests without a reply from [`next_done`](BlockingPool::next_done) so far.
    #[cfg(test)]
    fn in_flight(&self) -> usize {
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
        let (lookups, private_hosts, http) = (self.lookups.clone(), self.private_hosts, self.http.clone());
        let spawned = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let mut report = report;
            report.done = Some(job.run(&lookups, private_hosts, http));
        });
        // If no thread starts, dropping the closure reports the failure through the same channel.
        self.running += 1;
        if let Err(error) = spawned {
            log::warn!("no thread for a tracker: {error}");
        }
    }
}

impl QueuedRequest {
    fn run(self, lookups: &Arc<Lookups>, private_hosts: PrivateHosts, http: HttpOptions) -> BlockingReply {
        let id = self.id;
        let limits = |trusted, timeout| RequestLimits {
            deadline: Instant::now() + timeout,
            lookups: lookups.clone(),
            trusted,
            private_hosts,
            http: http.clone(),
        };
        match self.request {
            BlockingRequest::Announce { url, trusted, timeout } => {
                BlockingReply::Announced { id, result: http::announce(&url, limits(trusted, timeout)) }
            }
            BlockingRequest::Scrape { url, trusted, info_hash, timeout } => BlockingReply::Scraped {
                id,
                result: http::scrape(&url, &info_hash, limits(trusted, timeout)),
            },
            BlockingRequest::Resolve { .. } if http.egress.proxy.is_some() => {
                BlockingReply::Resolved { id, result: Err("UDP does not go through the proxy".into()) }
            }
            // Nothing leaves beside a proxy, and a router is not behind it.
            BlockingRequest::AskRouter { .. } if http.egress.proxy.is_some() => {
                BlockingReply::FromRouter { id, reply: None }
            }
            BlockingRequest::AskRouter { url, call, timeout } => BlockingReply::FromRouter {
                id,
                reply: router::ask(&url, call.as_ref(), timeout, http.egress),
            },
            BlockingRequest::Resolve { host, port } => {
                let found = lookups.find(&host, port, Instant::now() + LOOKUP_TIMEOUT);
                let allowed = found.map_err(|e| e.to_string()).and_then(|mut found| {
                    found.retain(|addr| http.egress.allows(addr.ip()));
                    if found.is_empty() {
                        Err("it has no address that may be used".into())
                    } else {
                        Ok(found)
                    }
                });
                BlockingReply::Resolved { id, result: allowed }
            }
        }
    }

    fn failed(&self, error: AnnounceError) -> BlockingReply {
        let id = self.id;
        match self.request {
            BlockingRequest::Announce { .. } => BlockingReply::Announced { id, result: Err(error) },
            BlockingRequest::Scrape { .. } => BlockingReply::Scraped { id, result: Err(error) },
            BlockingRequest::AskRouter { .. } => BlockingReply::FromRouter { id, reply: None },
            BlockingRequest::Resolve { .. } => BlockingReply::Resolved { id, result: Err(error.to_string()) },
        }
    }
}

/// Returns whether the URL is an announce to this tracker.
fn is_announce_of(tracker: &str, url: &str) -> bool {
    url.strip_prefix(tracker).is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '&']))
}

fn worker_died() -> AnnounceError {
    AnnounceError::Connection("the worker died".into())
}

/// Sends its reply when it is dropped, so a request whose thread panics or never starts gets one too.
struct ReplyGuard {
    done: Option<BlockingReply>,
    to: Sender<BlockingReply>,
    wake: Wake,
}

impl Drop for ReplyGuard {
    fn drop(&mut self) {
        // If the pool is gone there is no receiver, and no loop to wake.
        if self.done.take().is_some_and(|done| self.to.send(done).is_ok()) {
            (self.wake)();
        }
    }
}
