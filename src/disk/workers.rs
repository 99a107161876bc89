//! The workers as the loop sees them: a queue of jobs for each, sent in batches.
//!
//! Invariants: the jobs of one piece go to one and the same worker, in order; a worker is woken only for a
//! full batch or for an awaited reply.

use super::api::StoreStats;
use super::fault::{DiskFault, FaultKind};
use super::job::{ReceivedBlock, WorkerJob};
use super::limits;
use super::storage_mode::{ModeCost, ModeCosts};
use super::worker::{self, WorkerConfig};
use super::worker_stats::SharedWorkerStats;
use crate::units::{PieceIndex, TorrentKey};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

struct WorkerHandle {
    /// `None` once the store ends.
    jobs: Option<Sender<Vec<WorkerJob>>>,
    queue: Vec<WorkerJob>,
    /// Received blocks in the queue.
    blocks: usize,
    /// A reply to a job in the queue is awaited.
    urgent: bool,
    stats: Arc<SharedWorkerStats>,
    thread: Option<JoinHandle<()>>,
}

/// All workers of a store. Dropping it runs the queued jobs and joins the threads.
pub(super) struct Workers(Vec<WorkerHandle>);

impl Workers {
    /// Starts `count` workers; `config` makes the configuration of each.
    pub fn start(count: usize, config: impl Fn() -> WorkerConfig) -> Result<Workers, DiskFault> {
        let mut workers = Workers(Vec::with_capacity(count));
        for n in 0..count {
            let (send, jobs) = channel();
            let stats = Arc::new(SharedWorkerStats::default());
            let config = config();
            let shared_stats = stats.clone();
            let thread = std::thread::Builder::new()
                .name(format!("rill-disk-{n}"))
                .stack_size(limits::WORKER_STACK)
                .spawn(move || worker::run(config, jobs, shared_stats))
                .map_err(|_| DiskFault::without_errno(FaultKind::Internal, Path::new("a new thread")))?;
            let queue = Vec::new();
            workers.0.push(WorkerHandle {
                jobs: Some(send),
                queue,
                blocks: 0,
                urgent: false,
                stats,
                thread: Some(thread),
            });
        }
        Ok(workers)
    }

    /// The number of workers.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The worker that this piece belongs to.
    pub fn of_piece(&self, piece: PieceIndex) -> usize {
        piece.as_usize() % self.0.len()
    }

    /// Queues a job with an awaited reply.
    pub fn queue(&mut self, worker: usize, job: WorkerJob) {
        let worker = &mut self.0[worker];
        worker.queue.push(job);
        worker.urgent = true;
    }

    /// Queues a job for the worker of this piece.
    pub fn queue_for_piece(&mut self, piece: PieceIndex, job: WorkerJob) {
        self.queue(self.of_piece(piece), job);
    }

    /// Queues a job for each worker.
    pub fn queue_for_all(&mut self, job: impl Fn() -> WorkerJob) {
        for worker in 0..self.0.len() {
            self.queue(worker, job());
        }
    }

    /// Queues a received block, which can wait for a full batch.
    pub fn queue_block(&mut self, torrent: TorrentKey, block: ReceivedBlock) {
        let worker = self.of_piece(block.piece);
        let worker = &mut self.0[worker];
        worker.queue.push(WorkerJob::Block(torrent, block));
        worker.blocks += 1;
    }

    /// Sends the batches that are full or urgent. Returns their number.
    pub fn submit(&mut self) -> u64 {
        let mut batches = 0;
        for worker in &mut self.0 {
            if worker.urgent || worker.blocks >= limits::BATCH_BLOCKS {
                let next = Vec::with_capacity(worker.queue.len());
                let batch = std::mem::replace(&mut worker.queue, next);
                worker.blocks = 0;
                worker.urgent = false;
                batches += 1;
                if let Some(jobs) = &worker.jobs {
                    // A worker never ends before its store; if it did, the verdicts of its pieces would be
                    // missing.
                    let _ = jobs.send(batch);
                }
            }
        }
        batches
    }

    /// The cost of both ways so far. All receiving that no window took is plain: `plain_bytes`.
    pub fn mode_costs(&self, plain_bytes: u64) -> ModeCosts {
        let mut costs =
            ModeCosts { plain: ModeCost { us: 0, bytes: plain_bytes }, mapped: ModeCost::default() };
        for worker in &self.0 {
            worker.stats.get().add_costs(&mut costs);
        }
        costs
    }

    /// Adds the counters of all workers.
    pub fn add_stats(&self, stats: &mut StoreStats) {
        for worker in &self.0 {
            let worker = worker.stats.get();
            stats.worker_cpu_us += worker.cpu_us;
            stats.written_bytes += worker.written_bytes;
            stats.writes += worker.writes;
            stats.reread_bytes += worker.reread_bytes;
            stats.panics += worker.panics;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            let last = std::mem::take(&mut worker.queue);
            if let Some(jobs) = worker.jobs.take() {
                let _ = jobs.send(last);
            }
        }
        for worker in &mut self.0 {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
