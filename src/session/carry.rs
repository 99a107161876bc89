//! Carrying out: the engine's actions, the user's commands, and the answers of disk and trackers.

use super::config::{AddTorrent, Source};
use super::event::{Event, Progress, TorrentId};
use super::event_loop::{ACCEPTS_PER_TURN, Command, EventLoop, NODES_FILE};
use super::torrents::{Content, Disk, Entry};
use crate::disk::DiskEvent;
use crate::engine::{Action, HashVerdict, Notice, SlowReason, TorrentSpec};
use crate::net::{Accepted, Done as NetDone, Socket, thread_cpu};
use crate::units::TorrentKey;
use crate::wire::{Metainfo, write_nodes};
use std::time::Duration;

/// What the progress of all torrents says alike: found out once for all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    dht_nodes: Option<usize>,
    loop_cpu: Duration,
    worker_cpu: Duration,
}

impl EventLoop {
    // ---- the engine's actions -------------------------------------------------------------------------------------

    /// Does everything that the engine wants, and what it wants because of that.
    pub(super) fn carry_out(&mut self) {
        let mut batch = Vec::new();
        while !self.actions.is_empty() {
            batch.extend(self.actions.drain());
            for action in batch.drain(..) {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Flush { peer } => self.write(peer),
            Action::Wake { peer } => {
                if let Some(line) = self.line(peer) {
                    line.parked = false;
                    self.enter_ring(peer);
                }
            }
            Action::Dial { peer, addr } => self.dial(peer, addr),
            Action::Close { peer } => self.drop_line(peer),
            Action::Prepare { torrent, piece } => self.store.prepare(torrent, piece),
            Action::Release { torrent, block } => self.store.abandon(torrent, block),
            Action::Hash { torrent, piece, digests } => self.store.hash(torrent, piece, digests),
            Action::Save { torrent } => {
                if let Some(have) = self.engine.have(torrent) {
                    self.store.checkpoint(torrent, have);
                }
            }
            Action::Announce { id, url, timeout } => self.announcer.announce(id, url, timeout),
            Action::Scrape { id, url, info_hash, timeout } => self.announcer.scrape(id, url, info_hash, timeout),
            Action::Resolve { id, host, port } => self.announcer.resolve(id, host, port),
            Action::Datagram { to, bytes } => self.listeners.send(to, &bytes),
            Action::Call { group, bytes } => self.groups.send(group, &bytes),
            Action::KeepNodes { nodes } => self.store.write_state_file(NODES_FILE, write_nodes(&nodes)),
            Action::Metadata { torrent, info } => self.on_metadata(torrent, &info),
            Action::Notice(notice) => self.pass_on(notice),
        }
    }

    fn pass_on(&mut self, notice: Notice) {
        match notice {
            Notice::Verified { .. } => {}
            Notice::Complete { torrent } => {
                if let Some(entry) = self.entries.get_mut(torrent) {
                    entry.tell_complete = true;
                }
            }
            Notice::Banned { torrent, addr } => self.tell_of(torrent, |torrent| Event::PeerBanned { torrent, addr }),
            Notice::TrackerReplied { torrent, url, peers, warning } => {
                self.tell_of(torrent, |torrent| Event::TrackerReplied { torrent, url: url.to_string(), peers, warning });
            }
            Notice::TrackerFailed { torrent, url, error } => {
                self.tell_of(torrent, |torrent| Event::TrackerFailed { torrent, url: url.to_string(), error: error.to_string() });
            }
            Notice::Scraped { torrent, url, result } => self.tell_of(torrent, |torrent| Event::Scraped {
                torrent,
                url: url.to_string(),
                result: result.map_err(|error| error.to_string()),
            }),
            Notice::ScrapeDone { torrent } => self.tell_of(torrent, |torrent| Event::ScrapeDone { torrent }),
        }
    }

    fn tell_of(&self, torrent: TorrentKey, event: impl FnOnce(TorrentId) -> Event) {
        if let Some(id) = self.id_of(torrent) {
            self.tell(event(id));
        }
    }

    // ---- the user's commands --------------------------------------------------------------------------------------

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Add(id, torrent, kept) => self.add(id, torrent, kept),
            Command::Choose(id, files) => self.choose(id, files),
            Command::Remove(id) => {
                let Some(key) = self.entries.key_of(id) else { return };
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.removing = true;
                }
                self.let_go(key);
            }
            Command::Pause(id) => {
                let Some(key) = self.entries.key_of(id) else { return };
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.paused = true;
                }
                self.engine.pause(self.now, key, &mut self.actions);
            }
            Command::Resume(id) => self.resume(id),
            Command::Scrape(id) => {
                if let Some(key) = self.entries.key_of(id) {
                    self.engine.scrape(self.now, key, &mut self.actions);
                }
            }
            Command::SetLimits { download, upload } => self.engine.set_limits(self.now, download, upload, &mut self.actions),
            Command::Stop { within } => {
                self.deadline = Some(self.now + within);
                self.engine.shut_down(self.now, &mut self.actions);
                self.carry_out();
                for key in self.entries.keys() {
                    if let Some(entry) = self.entries.get_mut(key) {
                        // Nothing is opened again, whether for room or after a fault.
                        (entry.full, entry.reopen) = (None, false);
                    }
                    self.let_go(key);
                }
            }
        }
    }

    fn add(&mut self, id: TorrentId, torrent: Box<AddTorrent>, kept: Option<Metainfo>) {
        let metainfo = if let Source::Metainfo(metainfo) = &torrent.source { Some(metainfo) } else { None };
        let spec = TorrentSpec {
            info_hash: torrent.info_hash(),
            shape: metainfo.map(|m| torrent.shape(m)),
            trackers: torrent.all_trackers(),
            peers: torrent.all_peers(),
            sequential: torrent.sequential,
            download_limit: torrent.download_limit,
            upload_limit: torrent.upload_limit,
        };
        let Some(key) = self.engine.add_torrent(self.now, spec) else { return self.tell(Event::Duplicate { torrent: id }) };
        if let Some(metainfo) = metainfo.filter(|m| !m.private()) {
            self.engine.add_nodes(metainfo.nodes(), &mut self.actions);
        }
        let paused = torrent.paused;
        let (content, disk) = match metainfo.map(|m| torrent.to_open(m)) {
            Some(open) => {
                self.store.open(key, open.clone());
                (Content::Known(open), Disk::Opening)
            }
            None => {
                if !paused {
                    self.engine.resume(self.now, key);
                }
                (Content::Awaited(torrent), Disk::Closed)
            }
        };
        self.entries.insert(
            key,
            Entry { id, content, disk, tell_complete: false, paused, removing: false, failed: false, full: None, reopen: false },
        );
        if let Some(metainfo) = kept {
            self.learn(key, metainfo);
        }
    }

    fn resume(&mut self, id: TorrentId) {
        let Some(key) = self.entries.key_of(id) else { return };
        if let Some(entry) = self.entries.get_mut(key) {
            entry.paused = false;
        }
        self.go_on(key);
    }

    /// Goes on; after a fault everything is looked at anew, because what was not yet safe is unknown.
    pub(super) fn go_on(&mut self, key: TorrentKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match entry.disk {
            Disk::Open if entry.failed => {
                entry.reopen = true;
                self.let_go(key);
            }
            Disk::Closed if !matches!(entry.content, Content::Known(_)) => self.engine.resume(self.now, key),
            Disk::Closed => self.open_again(key),
            Disk::Open => self.engine.resume(self.now, key),
            Disk::Opening | Disk::Closing => {}
        }
    }

    fn open_again(&mut self, key: TorrentKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Content::Known(content) = &entry.content else { return };
        (entry.disk, entry.failed, entry.reopen) = (Disk::Opening, false, false);
        self.store.open(key, content.clone());
    }

    /// Stops the torrent's traffic and has the disk write its record and let it go.
    fn let_go(&mut self, key: TorrentKey) {
        self.engine.pause(self.now, key, &mut self.actions);
        self.carry_out();
        let Some(entry) = self.entries.get_mut(key) else { return };
        match (entry.disk, self.engine.have(key)) {
            (Disk::Opening | Disk::Open, Some(have)) => {
                entry.disk = Disk::Closing;
                self.store.close(key, have);
            }
            (Disk::Closed, _) if entry.removing => self.forget(key),
            _ => {}
        }
    }

    fn forget(&mut self, key: TorrentKey) {
        self.engine.remove_torrent(self.now, key, &mut self.actions);
        if let Some(entry) = self.entries.remove(key) {
            self.tell(Event::Removed { torrent: entry.id });
        }
    }

    // ---- answers --------------------------------------------------------------------------------------------------

    pub(super) fn hear_answers(&mut self) {
        while let Some(done) = self.store.next_event() {
            self.on_disk(done);
        }
        while let Some(done) = self.announcer.next_done() {
            match done {
                NetDone::Announced { id, result } => self.engine.on_announced(self.now, id, result, &mut self.actions),
                NetDone::Scraped { id, result } => self.engine.on_scraped(self.now, id, result, &mut self.actions),
                NetDone::Resolved { id, result } => self.engine.on_resolved(self.now, id, result, &mut self.actions),
            }
        }
    }

    fn on_disk(&mut self, done: DiskEvent) {
        match done {
            DiskEvent::Opened { torrent, result: Ok(opened) } => {
                let Some(entry) = self.entries.get_mut(torrent).filter(|e| e.disk == Disk::Opening) else { return };
                entry.disk = Disk::Open;
                let (torrent_id, have, pieces, paused) = (entry.id, opened.have.ones(), opened.have.pieces(), entry.paused);
                self.engine.on_opened(self.now, torrent, opened.have, &mut self.actions);
                if paused {
                    self.engine.pause(self.now, torrent, &mut self.actions);
                }
                self.tell(Event::Opened { torrent: torrent_id, have, pieces, notes: opened.notes });
                if self.engine.stats(self.now, torrent).is_some_and(|s| s.complete) {
                    self.tell_progress_of(torrent, self.common());
                    self.tell(Event::Completed { torrent: torrent_id });
                }
            }
            DiskEvent::Opened { torrent, result: Err(fault) } => {
                if let Some(entry) = self.entries.get_mut(torrent) {
                    entry.disk = Disk::Closed;
                }
                self.fail(torrent, fault);
            }
            DiskEvent::Checking { torrent, checked, pieces } => {
                self.tell_of(torrent, |torrent| Event::Checking { torrent, checked, pieces })
            }
            DiskEvent::Prepared { torrent, piece, result } => {
                self.engine.on_prepared(self.now, torrent, piece, result.is_ok(), &mut self.actions);
                if let Err(fault) = result {
                    self.fail(torrent, fault);
                }
            }
            DiskEvent::Hashed { torrent, piece, result } => {
                let (verdict, fault) = match result {
                    Ok(verdict) => (verdict, None),
                    Err(fault) => (HashVerdict::Unreadable, Some(fault)),
                };
                self.engine.on_hashed(self.now, torrent, piece, &verdict, &mut self.actions);
                if let Some(fault) = fault {
                    self.fail(torrent, fault);
                }
            }
            DiskEvent::Loaded { torrent, span, result } => {
                self.on_fetched(torrent, span);
                if let Err(fault) = result {
                    self.fail(torrent, fault);
                }
            }
            DiskEvent::Saved { torrent, result, .. } => self.on_saved(torrent, result),
            DiskEvent::Closed { torrent, result } => self.on_closed(torrent, result.is_ok()),
            DiskEvent::BufferFreed => {
                for key in std::mem::take(&mut self.hungry) {
                    if let Some(line) = self.line(key) {
                        line.parked = false;
                    }
                    self.enter_ring(key);
                }
            }
            DiskEvent::Fault { torrent, fault } => self.fail(torrent, fault),
            DiskEvent::FreeSpace { torrent, bytes } => self.on_space(torrent, bytes),
        }
    }

    fn on_saved(&mut self, torrent: TorrentKey, result: Result<(), crate::disk::DiskFault>) {
        self.engine.on_saved(self.now, torrent, &mut self.actions);
        match result {
            Ok(()) => {
                let complete = self.engine.stats(self.now, torrent).is_some_and(|s| s.complete);
                let told = self.entries.get_mut(torrent).is_some_and(|e| complete && std::mem::take(&mut e.tell_complete));
                if told {
                    self.tell_progress_of(torrent, self.common());
                    self.tell_of(torrent, |torrent| Event::Completed { torrent });
                }
            }
            Err(fault) => self.fail(torrent, fault),
        }
    }

    fn on_closed(&mut self, torrent: TorrentKey, saved: bool) {
        let Some(entry) = self.entries.get_mut(torrent) else { return };
        entry.disk = Disk::Closed;
        // Whoever opens it again will write another record.
        self.clean &= saved || entry.reopen;
        match () {
            () if entry.removing => self.forget(torrent),
            () if entry.reopen => self.open_again(torrent),
            () => {}
        }
    }

    // ---- connections that come to us ------------------------------------------------------------------------------

    pub(super) fn accept(&mut self) {
        match self.accept_again {
            Some(at) if at > self.now => return,
            _ => self.accept_again = None,
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listeners.accept() {
                Accepted::Nobody => return,
                Accepted::OutOfResources => return self.rest_accepting(),
                Accepted::Stream(stream, addr) => {
                    // A connection that is not let in is closed by being dropped.
                    let Some(key) = self.engine.on_accepted(self.now, addr, &mut self.actions) else { continue };
                    let token = self.token_of(key);
                    match Socket::register(stream, self.poll.registry(), token) {
                        Ok(socket) => self.add_line(key, socket, false),
                        Err(_) => self.engine.on_lost(self.now, key, &mut self.actions),
                    }
                }
            }
        }
    }

    // ---- what the user sees ---------------------------------------------------------------------------------------

    /// As it is now.
    pub(super) fn common(&self) -> Common {
        Common {
            dht_nodes: self.engine.dht_stats(self.now).map(|s| s.nodes_v4 + s.nodes_v6),
            loop_cpu: thread_cpu(),
            worker_cpu: Duration::from_micros(self.store.stats().worker_cpu_us),
        }
    }

    pub(super) fn tell_progress_of(&self, key: TorrentKey, common: Common) {
        let (Some(s), Some(torrent)) = (self.engine.stats(self.now, key), self.id_of(key)) else { return };
        let left = s.wanted_bytes - s.have_bytes;
        let disk = !self.hungry.is_empty() && s.slow.is_none();
        self.tell(Event::Progress(Box::new(Progress {
            torrent,
            wanted_bytes: s.wanted_bytes,
            have_bytes: s.have_bytes,
            pieces_have: s.pieces_have,
            pieces: s.pieces,
            downloaded: s.downloaded,
            uploaded: s.uploaded,
            wasted: s.wasted,
            download_rate: s.download_rate,
            upload_rate: s.upload_rate,
            peers: s.peers,
            seeds: s.seeds,
            peers_by_origin: s.peers_by_origin,
            dht_nodes: common.dht_nodes,
            known_peers: s.known_peers,
            eta: (s.download_rate > 0 && left > 0).then(|| Duration::from_secs(left / s.download_rate)),
            complete: s.complete,
            slow: if disk { Some(SlowReason::Disk) } else { s.slow },
            loop_cpu: common.loop_cpu,
            worker_cpu: common.worker_cpu,
        })));
    }
}
