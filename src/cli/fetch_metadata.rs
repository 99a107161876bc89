//! Fetches a magnet link's metadata from peers, in a session of its own.

use super::exit::{Exit, Failure};
use super::format;
use super::get::start_failure;
use super::out::{self, Terminal};
use super::peer_names::{PeerNames, Peers};
use super::progress::{Glyphs, Row};
use super::signals::StopFlag;
use crate::session::{AddTorrent, Config, Event, Progress, Session};
use crate::wire::{Magnet, Metainfo};
use std::time::{Duration, Instant};

/// Longest delay before a signal is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit of the last announces.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Sources of peers beside those in the link, and the time limit.
pub(crate) struct MetadataRequest {
    pub(crate) config: Config,
    pub(crate) peers: Peers,
    pub(crate) trackers: Vec<String>,
    pub(crate) timeout: Duration,
    /// Shows no progress, not even on a terminal.
    pub(crate) silent: bool,
}

/// Asks peers for the metadata until one has sent it.
pub(crate) fn metadata(magnet: &Magnet, request: MetadataRequest) -> Result<Metainfo, Failure> {
    let MetadataRequest { config, peers, trackers, timeout, silent } = request;
    let stop = StopFlag::on_signals(Exit::Stopped)
        .map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    // The port closes again within a minute: no peer would learn of it in time.
    let config = Config { port_mapping: false, ..config };
    let proxied = config.proxy.is_some();
    let session = Session::start(config).map_err(start_failure)?;
    // The session awaits a choice of files that is never made, so it opens no content.
    let request = AddTorrent {
        choose_later: true,
        peers: peers.addrs,
        trackers,
        ..AddTorrent::magnet(magnet.clone(), "")
    };
    let id = session.add(request).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
    let mut names = PeerNames::resolve(&peers.names, proxied);
    let begun = Instant::now();
    let mut wait = WaitDisplay::new(magnet, silent);
    let answer = loop {
        match session.next_event(POLL_INTERVAL) {
            Some(Event::Metadata { metainfo, .. }) => break Ok(metainfo),
            Some(Event::BadMetadata { error, .. }) => {
                break Err(Failure::new(Exit::Torrent, error.to_string()));
            }
            Some(Event::Progress(progress)) => wait.show(&progress),
            Some(Event::Died { reason }) => break Err(Failure::new(Exit::Other, reason)),
            _ => {}
        }
        let found = names.take();
        if !found.is_empty() {
            // The torrent cannot be gone; if the session is, the next event says so.
            let _ = session.add_peers(id, found);
        }
        if stop.requested() {
            break Err(Failure::new(Exit::Stopped, "stopped before a peer sent the metadata"));
        }
        if begun.elapsed() >= timeout {
            break Err(Failure::new(
                Exit::TimedOut,
                format!("no metadata within {}", format::duration(timeout)),
            ));
        }
    };
    drop(wait);
    session.stop(STOP_TIMEOUT);
    answer
}

/// Live display while no peer has sent the metadata.
struct WaitDisplay {
    row: Row,
    terminal: Terminal,
}

impl WaitDisplay {
    fn new(magnet: &Magnet, silent: bool) -> WaitDisplay {
        let terminal = Terminal::of_stdout();
        WaitDisplay {
            row: Row::of_link(magnet),
            terminal: Terminal { live: terminal.live && !silent, ..terminal },
        }
    }

    fn show(&mut self, progress: &Progress) {
        self.row.peers = progress.peers;
        self.row.dht_nodes = progress.dht_nodes;
        if self.terminal.live {
            let width = Terminal::extent().0.saturating_sub(1);
            out::redraw(self.row.live(width, Glyphs::new(self.terminal.utf8)).into());
        }
    }
}

impl Drop for WaitDisplay {
    fn drop(&mut self) {
        // The answer is printed in the place of the live display.
        if self.terminal.live {
            out::redraw(Vec::new());
        }
    }
}
