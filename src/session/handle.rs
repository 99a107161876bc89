//! The session as its user holds it: a handle that sends commands and receives events.
//!
//! Every method returns at once but [`Session::next_event`] and [`Session::stop`], which wait as long as they are told.

use super::config::{AddTorrent, Config, TorrentSource};
use super::error::{SessionGone, StartError};
use super::event::{Event, TorrentId};
use super::event_loop::{Command, EventLoop};
use super::metadata::kept_metadata;
use mio::Waker;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a session stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Every torrent's record was written, and every tracker that knew us was told, in time.
    pub clean: bool,
}

/// A running session. Dropping it stops it, without waiting for trackers.
#[derive(Debug)]
pub struct Session {
    commands: Sender<Command>,
    events: Receiver<Event>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<bool>>,
    /// Not atomic, since 32-bit MIPS and PowerPC have no 64-bit atomics.
    next_id: Mutex<u64>,
    port: u16,
    state_dir: Option<PathBuf>,
}

impl Session {
    /// Binds the listening sockets and starts the loop.
    ///
    /// # Errors
    /// [`StartError`]: no port is free, or the system refuses threads, descriptors or memory.
    pub fn start(config: Config) -> Result<Session, StartError> {
        let (commands, inbox) = channel();
        let (event_sender, events) = channel();
        let state_dir = config.state_dir.clone();
        let event_loop = EventLoop::new(config, inbox, event_sender.clone())?;
        let (waker, port) = (event_loop.waker(), event_loop.port());
        let thread = std::thread::Builder::new().name("rill-loop".into()).spawn(move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event_loop.run()));
            let reason = match ended {
                Ok(Ok(clean)) => return clean,
                Ok(Err(e)) => e.to_string(),
                Err(_) => "a bug in rill".to_string(),
            };
            // If nobody listens, nobody wants to know.
            let _ = event_sender.send(Event::Died { reason });
            false
        })?;
        Ok(Session { commands, events, waker, thread: Some(thread), next_id: Mutex::new(1), port, state_dir })
    }

    /// The port that others reach us at.
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Adds a torrent. What becomes of it comes as events: `Opened`, or `Failed` or `Duplicate`.
    ///
    /// # Errors
    /// [`SessionGone`] if the loop has ended.
    pub fn add(&self, torrent: AddTorrent) -> Result<TorrentId, SessionGone> {
        let id = self.new_id();
        let kept = match &torrent.source {
            TorrentSource::Magnet(magnet) => self.state_dir.as_deref().and_then(|dir| kept_metadata(dir, magnet)),
            TorrentSource::Metainfo(_) => None,
        };
        self.command(Command::Add(id, Box::new(torrent), kept))?;
        Ok(id)
    }

    fn new_id(&self) -> TorrentId {
        let mut next = self.next_id.lock().unwrap_or_else(PoisonError::into_inner);
        let id = TorrentId(*next);
        *next += 1;
        id
    }

    /// Says which files of a link's torrent are wanted, by index; `None`: those that the link wants. Waited for after
    /// [`Event::Metadata`] if [`AddTorrent::choose_later`] says so, and meaningless otherwise.
    pub fn choose(&self, id: TorrentId, files: Option<Vec<usize>>) {
        let _ = self.command(Command::Choose(id, files));
    }

    /// Takes a torrent out: its record is written, trackers are told. Its content stays. Ends in `Removed`.
    pub fn remove(&self, id: TorrentId) {
        let _ = self.command(Command::Remove(id));
    }

    /// Lets a torrent rest: peers are let go, its record is written.
    pub fn pause(&self, id: TorrentId) {
        let _ = self.command(Command::Pause(id));
    }

    /// Lets a torrent that rests, by wish or by a disk fault, go on.
    pub fn resume(&self, id: TorrentId) {
        let _ = self.command(Command::Resume(id));
    }

    /// Asks the torrent's trackers how many have it; nobody is told of us, and the torrent may rest meanwhile. Every tracker's answer comes
    /// as `Scraped`, and `ScrapeDone` after the last, within half a minute.
    pub fn scrape(&self, id: TorrentId) {
        let _ = self.command(Command::Scrape(id));
    }

    /// New limits for all torrents together, in bytes a second; `None` for none.
    pub fn set_limits(&self, download: Option<u64>, upload: Option<u64>) {
        let _ = self.command(Command::SetLimits { download, upload });
    }

    /// The next event, or `None` if there is none in that time.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }

    /// Stops: records are written, peers let go, trackers told, all within the given time.
    pub fn stop(mut self, within: Duration) -> Stopped {
        self.end(within)
    }

    fn end(&mut self, within: Duration) -> Stopped {
        let _ = self.command(Command::Stop { within });
        let clean = self.thread.take().is_some_and(|t| t.join().unwrap_or(false));
        Stopped { clean }
    }

    fn command(&self, command: Command) -> Result<(), SessionGone> {
        self.commands.send(command).map_err(|_| SessionGone)?;
        self.waker.wake().map_err(|_| SessionGone)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Duration::ZERO);
        }
    }
}
