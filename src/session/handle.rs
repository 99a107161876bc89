//! The handle of a session: sends commands and questions, receives events.
//!
//! The loop thread answers commands and questions within a turn, which never waits for a disk or a name
//! server. Only [`Session::next_event`] and [`Session::stop`] wait, up to their timeout.

use super::command::{Command, Question, Reply, Setting};
use super::config::{AddTorrent, Config, TorrentSource};
use super::error::{CommandError, StartError};
use super::event::{Event, TorrentId};
use super::event_loop::EventLoop;
use super::event_queue::{EventSender, Events, OnEvent};
use super::metadata::kept_metadata;
use super::status::{FilePriority, FileStatus, PieceStatus, SessionStats, TorrentStatus};
use crate::engine::{PeerStatus, TrackerStatus};
use mio::Waker;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a session stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Whether every record was written and every stop announced to its trackers in time.
    pub clean: bool,
}

/// A running session: a handle that is cheap to clone and may be shared by threads. When the last handle is
/// dropped the session stops, without waiting for trackers.
#[derive(Clone, Debug)]
pub struct Session(Arc<Shared>);

struct Shared {
    commands: Sender<Command>,
    events: Events,
    subscribers: EventSender,
    waker: Arc<Waker>,
    thread: Mutex<Option<JoinHandle<bool>>>,
    /// Not atomic, since 32-bit MIPS and PowerPC have no 64-bit atomics.
    next_id: Mutex<u64>,
    port: u16,
    state_dir: Option<PathBuf>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Session {
    /// Binds the listening sockets and starts the loop.
    ///
    /// # Errors
    /// [`StartError`]: no port is free, or the system refuses threads, descriptors or memory.
    pub fn start(config: Config) -> Result<Session, StartError> {
        let (commands, inbox) = channel();
        let subscribers = EventSender::default();
        let events = subscribers.subscribe(None);
        let state_dir = config.state_dir.clone();
        let event_loop = EventLoop::new(config, inbox, subscribers.clone())?;
        let waker = event_loop.waker();
        let port = event_loop.port();
        let sender = subscribers.clone();
        let thread = std::thread::Builder::new().name("rill-loop".into()).spawn(move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event_loop.run()));
            let reason = match ended {
                Ok(Ok(clean)) => {
                    sender.close();
                    return clean;
                }
                Ok(Err(e)) => e.to_string(),
                Err(_) => "a bug in rill".to_string(),
            };
            sender.send(Event::Died { reason });
            sender.close();
            false
        })?;
        Ok(Session(Arc::new(Shared {
            commands,
            events,
            subscribers,
            waker,
            thread: Mutex::new(Some(thread)),
            next_id: Mutex::new(1),
            port,
            state_dir,
        })))
    }

    /// Returns the port of the listening sockets.
    pub fn local_port(&self) -> u16 {
        self.0.port
    }

    /// Adds a torrent. Its content is opened later: [`Event::Opened`] or [`Event::Failed`] follows, for a magnet
    /// link [`Event::Metadata`] before them.
    ///
    /// # Errors
    /// [`CommandError::Duplicate`], [`CommandError::NoSuchFile`], [`CommandError::NotATracker`],
    /// [`CommandError::NotAName`], [`CommandError::Gone`].
    pub fn add(&self, torrent: AddTorrent) -> Result<TorrentId, CommandError> {
        let id = self.new_id();
        let kept = match &torrent.source {
            TorrentSource::Magnet(magnet) => {
                self.0.state_dir.as_deref().and_then(|dir| kept_metadata(dir, magnet))
            }
            TorrentSource::Metainfo(_) => None,
        };
        self.ask(|reply| Command::Add(id, Box::new(torrent), kept, reply))?;
        Ok(id)
    }

    fn new_id(&self) -> TorrentId {
        let mut next = self.0.next_id.lock().unwrap_or_else(PoisonError::into_inner);
        let id = TorrentId(*next);
        *next += 1;
        id
    }

    /// Chooses the files of a magnet link's torrent by index, after [`Event::Metadata`] of a torrent with
    /// [`AddTorrent::choose_later`]; `None` chooses those that the link selects.
    ///
    /// # Errors
    /// [`CommandError`]: no such torrent or file, no metadata yet, or nothing to choose.
    pub fn choose(&self, id: TorrentId, files: Option<Vec<usize>>) -> Result<(), CommandError> {
        self.ask(|reply| Command::Choose(id, files, reply))
    }

    /// Removes a torrent: its record is written, its stop announced, its content kept. [`Event::Removed`]
    /// follows.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn remove(&self, id: TorrentId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Remove(id, reply))
    }

    /// Pauses a torrent: its connections are closed, its record is written.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn pause(&self, id: TorrentId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Pause(id, reply))
    }

    /// Resumes a torrent that the user or a disk fault paused.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn resume(&self, id: TorrentId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Resume(id, reply))
    }

    /// Scrapes the torrent's trackers and the DHT: the counts of its swarm, without an announce (BEP 48, 33).
    /// The torrent may be paused. Each answer is an [`Event::Scraped`]; [`Event::ScrapeDone`] follows the
    /// last one within half a minute.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn scrape(&self, id: TorrentId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Scrape(id, reply))
    }

    /// Sets the limits that all torrents share, in bytes a second; `None` is unlimited, 0 counts as 1.
    ///
    /// # Errors
    /// [`CommandError::Gone`].
    pub fn set_limits(&self, download: Option<u64>, upload: Option<u64>) -> Result<(), CommandError> {
        self.ask(|reply| Command::SetLimits { download, upload, reply })
    }

    /// Sets the limits of one torrent, in bytes a second; `None` is unlimited, 0 counts as 1.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn set_torrent_limits(
        &self,
        id: TorrentId,
        download: Option<u64>,
        upload: Option<u64>,
    ) -> Result<(), CommandError> {
        self.set(id, Setting::Limits { download, upload })
    }

    /// Sets the priority of each file, one entry a file. Partial pieces are completed.
    ///
    /// # Errors
    /// [`CommandError`]: no such torrent, no metadata yet, content being checked, only seeded, or another number of files.
    pub fn set_files(&self, id: TorrentId, priorities: Vec<FilePriority>) -> Result<(), CommandError> {
        self.set(id, Setting::Files(priorities))
    }

    /// Sets whether a torrent's pieces are requested in order rather than rarest first.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn set_sequential(&self, id: TorrentId, sequential: bool) -> Result<(), CommandError> {
        self.set(id, Setting::Sequential(sequential))
    }

    /// Replaces a torrent's trackers, in tiers (BEP 12). Trackers in both lists keep their state; the stop is
    /// announced to those that are removed.
    ///
    /// # Errors
    /// [`CommandError::NotATracker`], [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn set_trackers(&self, id: TorrentId, tiers: Vec<Vec<String>>) -> Result<(), CommandError> {
        self.set(id, Setting::Trackers(tiers))
    }

    /// Adds addresses of peers to a torrent. Addresses to which no connection can lead, such as those with port
    /// 0, are ignored.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn add_peers(&self, id: TorrentId, peers: Vec<SocketAddr>) -> Result<(), CommandError> {
        self.set(id, Setting::Peers(peers))
    }

    /// Hashes a torrent's content again and ignores its record; [`Event::Opened`] reports the result.
    ///
    /// # Errors
    /// [`CommandError`]: no such torrent, no metadata yet, or being checked already.
    pub fn recheck(&self, id: TorrentId) -> Result<(), CommandError> {
        self.set(id, Setting::Recheck)
    }

    /// Announces a torrent as soon as its trackers' minimum intervals allow.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn reannounce(&self, id: TorrentId) -> Result<(), CommandError> {
        self.set(id, Setting::Reannounce)
    }

    // ---- questions ------------------------------------------------------------------------------------------------

    /// Returns every torrent with its state, in the order of their ids.
    ///
    /// # Errors
    /// [`CommandError::Gone`].
    pub fn torrents(&self) -> Result<Vec<TorrentStatus>, CommandError> {
        self.ask(|reply| Command::Ask(Question::Torrents(reply)))
    }

    /// Returns figures of the whole session.
    ///
    /// # Errors
    /// [`CommandError::Gone`].
    pub fn stats(&self) -> Result<SessionStats, CommandError> {
        self.ask(|reply| Command::Ask(Question::Stats(reply)))
    }

    /// Returns a torrent's files with their progress, in the torrent's order.
    ///
    /// # Errors
    /// [`CommandError`]: no such torrent, or no metadata yet.
    pub fn files(&self, id: TorrentId) -> Result<Vec<FileStatus>, CommandError> {
        self.ask(|reply| Command::Ask(Question::Files(id, reply)))
    }

    /// Returns a torrent's peers that sent their handshakes.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn peers(&self, id: TorrentId) -> Result<Vec<PeerStatus>, CommandError> {
        self.ask(|reply| Command::Ask(Question::Peers(id, reply)))
    }

    /// Returns a torrent's trackers with their last result and next announce, tier by tier.
    ///
    /// # Errors
    /// [`CommandError::UnknownTorrent`], [`CommandError::Gone`].
    pub fn trackers(&self, id: TorrentId) -> Result<Vec<TrackerStatus>, CommandError> {
        self.ask(|reply| Command::Ask(Question::Trackers(id, reply)))
    }

    /// Returns a torrent's verified and partial pieces.
    ///
    /// # Errors
    /// [`CommandError`]: no such torrent, or no metadata yet.
    pub fn pieces(&self, id: TorrentId) -> Result<PieceStatus, CommandError> {
        self.ask(|reply| Command::Ask(Question::Pieces(id, reply)))
    }

    // ---- events ---------------------------------------------------------------------------------------------------

    /// Returns the next event of the session's own queue; `None` if none arrives within `timeout`. Handles
    /// that are clones share the queue.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        self.0.events.next(timeout)
    }

    /// Opens another queue, which gets every event from now on. The loop thread calls `on_event` when an
    /// event arrives in the empty queue and when the session ends; it must return at once and must not call
    /// the session; it may for example write to an eventfd that another loop waits for.
    pub fn subscribe(&self, on_event: Option<OnEvent>) -> Events {
        self.0.subscribers.subscribe(on_event)
    }

    /// Stops the session within the given time: writes the records, closes the connections, announces the
    /// stop to trackers. Other handles then get [`CommandError::Gone`].
    pub fn stop(self, within: Duration) -> Stopped {
        self.0.end(within)
    }

    fn set(&self, id: TorrentId, setting: Setting) -> Result<(), CommandError> {
        self.ask(|reply| Command::Set(id, setting, reply))
    }

    /// Sends a command and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, CommandError> {
        let (reply, answer) = sync_channel(1);
        self.0.command(command(reply))?;
        answer.recv().map_err(|_| CommandError::Gone)?
    }
}

impl Shared {
    fn end(&self, within: Duration) -> Stopped {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Stopped { clean: false } };
        // If the loop has ended already there is nothing to stop.
        let _ = self.command(Command::Stop { within });
        Stopped { clean: thread.join().unwrap_or(false) }
    }

    fn command(&self, command: Command) -> Result<(), CommandError> {
        self.commands.send(command).map_err(|_| CommandError::Gone)?;
        self.waker.wake().map_err(|_| CommandError::Gone)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
