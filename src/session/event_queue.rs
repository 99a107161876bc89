//! Event queues: each subscriber has one of its own, which is bounded and never makes the loop wait.
//!
//! A newer [`Event::Progress`] or [`Event::Checking`] of a torrent replaces the older one that still waits.
//! When [`CAPACITY`] events wait, events about single trackers and peers are dropped, and [`Event::Missed`]
//! counts them. Other events are always kept: their number is bounded by the commands and the changes of a
//! torrent's state.

use super::event::{Event, TorrentId};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Events that may wait before those about single trackers and peers are dropped.
const CAPACITY: usize = 1024;

/// A callback for the arrival of an event in an empty queue. The loop thread calls it, so it must return at
/// once and must not call the session, whose answers come from that thread.
pub type OnEvent = Box<dyn Fn() + Send + Sync>;

/// An event that waits, or the place of the latest progress of a torrent.
#[derive(Debug)]
enum Waiting {
    Event(Event),
    Progress(TorrentId),
    Checking(TorrentId),
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    progress: BTreeMap<TorrentId, Event>,
    checking: BTreeMap<TorrentId, Event>,
    missed: u64,
    closed: bool,
}

impl State {
    /// Queues an event; returns whether the queue was empty.
    fn push(&mut self, event: Event) -> bool {
        let was_empty = self.waiting.is_empty() && self.missed == 0;
        match event {
            Event::Progress(ref progress) => {
                let id = progress.torrent;
                if self.progress.insert(id, event).is_none() {
                    self.waiting.push_back(Waiting::Progress(id));
                }
            }
            Event::Checking { torrent, .. } => {
                if self.checking.insert(torrent, event).is_none() {
                    self.waiting.push_back(Waiting::Checking(torrent));
                }
            }
            Event::TrackerReplied { .. }
            | Event::TrackerFailed { .. }
            | Event::GivenPeerFailed { .. }
            | Event::PeerBanned { .. }
            | Event::PortMapping(_)
                if self.waiting.len() >= CAPACITY =>
            {
                self.missed += 1;
            }
            event => self.waiting.push_back(Waiting::Event(event)),
        }
        was_empty
    }

    fn pop(&mut self) -> Option<Event> {
        if self.missed > 0 {
            return Some(Event::Missed { events: std::mem::take(&mut self.missed) });
        }
        match self.waiting.pop_front()? {
            Waiting::Event(event) => Some(event),
            Waiting::Progress(id) => self.progress.remove(&id),
            Waiting::Checking(id) => self.checking.remove(&id),
        }
    }
}

struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    on_event: Option<OnEvent>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscriber's events.
pub struct Events(Arc<Queue>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.0.lock().waiting.len()).finish_non_exhaustive()
    }
}

impl Events {
    /// Returns the next event; `None` if none arrives within `timeout`, or the session has ended and every
    /// event was taken.
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.0.lock();
        loop {
            if let Some(event) = state.pop() {
                return Some(event);
            }
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if state.closed || left.is_zero() {
                return None;
            }
            state = self.0.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The sending end of every queue, held by the loop.
#[derive(Clone, Default)]
pub struct EventSender(Arc<Mutex<Vec<Weak<Queue>>>>);

impl EventSender {
    /// Opens a queue that gets every event from now on. The loop thread calls `on_event` when an event
    /// arrives in the empty queue.
    pub fn subscribe(&self, on_event: Option<OnEvent>) -> Events {
        let queue = Arc::new(Queue { state: Mutex::default(), arrived: Condvar::new(), on_event });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&queue));
        Events(queue)
    }

    /// Puts an event into every queue. Never waits for a subscriber.
    pub fn send(&self, event: Event) {
        self.each(
            |queue, event| {
                let was_empty = queue.lock().push(event);
                queue.arrived.notify_all();
                if let Some(on_event) = queue.on_event.as_ref().filter(|_| was_empty) {
                    on_event();
                }
            },
            event,
        );
    }

    /// Closes every queue: no event follows.
    pub fn close(&self) {
        for queue in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            queue.lock().closed = true;
            queue.arrived.notify_all();
            if let Some(on_event) = &queue.on_event {
                on_event();
            }
        }
    }

    fn each(&self, put: impl Fn(&Queue, Event), event: Event) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        for queue in queues.iter().filter_map(Weak::upgrade) {
            put(&queue, event.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn id(n: u64) -> TorrentId {
        TorrentId(n)
    }

    fn checking(n: u64, checked: u32) -> Event {
        Event::Checking { torrent: id(n), checked, pieces: 9 }
    }

    fn banned(n: u64) -> Event {
        Event::PeerBanned { torrent: id(n), addr: ([127, 0, 0, 1], 1).into() }
    }

    #[test]
    fn a_newer_figure_replaces_the_older_one_in_the_queue() {
        let sender = EventSender::default();
        let events = sender.subscribe(None);
        [checking(1, 1), Event::Removed { torrent: id(2) }, checking(1, 5), checking(3, 1)]
            .into_iter()
            .for_each(|e| sender.send(e));
        let next = || events.next(Duration::ZERO);
        assert!(matches!(next(), Some(Event::Checking { checked: 5, .. })));
        assert!(matches!(next(), Some(Event::Removed { .. })));
        assert!(matches!(next(), Some(Event::Checking { torrent, .. }) if torrent == id(3)));
        assert!(next().is_none());
    }

    #[test]
    fn a_slow_subscriber_misses_events_about_peers_and_never_a_completion() {
        let sender = EventSender::default();
        let slow = sender.subscribe(None);
        let quick = sender.subscribe(None);
        for n in 0..2 * CAPACITY as u64 {
            sender.send(banned(n));
            assert!(quick.next(Duration::ZERO).is_some(), "each subscriber has a queue of its own");
        }
        sender.send(Event::Completed { torrent: id(7) });
        assert!(
            matches!(slow.next(Duration::ZERO), Some(Event::Missed { events }) if events == CAPACITY as u64)
        );
        for _ in 0..CAPACITY {
            assert!(matches!(slow.next(Duration::ZERO), Some(Event::PeerBanned { .. })));
        }
        assert!(matches!(slow.next(Duration::ZERO), Some(Event::Completed { .. })));
    }

    #[test]
    fn the_callback_is_called_once_until_the_queue_is_empty_again() {
        let sender = EventSender::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let events = sender.subscribe(Some(Box::new(move || _ = counter.fetch_add(1, Ordering::Relaxed))));
        sender.send(banned(1));
        sender.send(banned(2));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        while events.next(Duration::ZERO).is_some() {}
        sender.send(banned(3));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_closed_queue_hands_out_its_events_and_then_returns_none_at_once() {
        let sender = EventSender::default();
        let events = sender.subscribe(None);
        sender.send(banned(1));
        sender.close();
        assert!(events.next(Duration::from_secs(60)).is_some());
        assert!(events.next(Duration::from_secs(60)).is_none());
    }
}
