//! How a worker wakes a sleeping loop: at most once until the loop has read the replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Wakes the loop.
pub(super) struct LoopWaker {
    callback: Arc<dyn Fn() + Send + Sync>,
    woken: AtomicBool,
    /// The pool is exhausted, so free slots alone are worth a wake-up.
    wake_on_slots: AtomicBool,
}

impl LoopWaker {
    /// A waker that calls this function, from any thread.
    pub fn new(callback: Arc<dyn Fn() + Send + Sync>) -> LoopWaker {
        LoopWaker { callback, woken: AtomicBool::new(false), wake_on_slots: AtomicBool::new(false) }
    }

    /// Wakes the loop. Called after a reply was sent.
    pub fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            (self.callback)();
        }
    }

    /// Wakes the loop if it waits for slots. Called after slots were sent.
    pub fn wake_for_slots(&self) {
        if self.wake_on_slots.swap(false, SeqCst) {
            self.wake();
        }
    }

    /// Asks to be woken for the next free slots.
    pub fn request_slots(&self) {
        self.wake_on_slots.store(true, SeqCst);
    }

    /// Notes that the loop is awake. Called before the replies are read: a worker that replies later wakes it
    /// again.
    pub fn acknowledge(&self) {
        if self.woken.load(SeqCst) {
            self.woken.store(false, SeqCst);
        }
    }
}
