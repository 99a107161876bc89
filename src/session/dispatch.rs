//! Dispatch of the engine's actions, the user's commands, and the replies of disk and trackers.

use super::command::{Command, Setting};
use super::config::{AddTorrent, TorrentSource};
use super::error::CommandError;
use super::event::{Event, Progress, TorrentId};
use super::event_loop::{ACCEPTS_PER_TURN, EventLoop, NODES_FILE};
use super::registry::{ContentSource, DiskState, RegisteredTorrent};
use super::status::SessionStats;
use super::tokens::Owner;
use crate::disk::{DiskEvent, OpenTorrent};
use crate::engine::{Action, DisconnectReason, HashVerdict, Notice, SlowReason, TorrentSpec};
use crate::net::{Accepted, BlockingReply, Transport, gateways, thread_cpu};
use crate::units::{TorrentKey, TransportKind};
use crate::wire::{Metainfo, printable, write_nodes};
use std::time::Duration;

/// Longest displayed name of a torrent, characters.
pub(super) const NAME_CHARS: usize = 255;

impl EventLoop {
    // ---- the engine's actions -------------------------------------------------------------------------------------

    /// Carries out the engine's actions, and the actions that they cause.
    pub(super) fn run_actions(&mut self) {
        let mut batch = Vec::new();
        while !self.actions.is_empty() {
            batch.extend(self.actions.drain());
            for action in batch.drain(..) {
                self.run_action(action);
            }
        }
    }

    fn run_action(&mut self, action: Action) {
        match action {
            Action::Flush { peer } => self.write(peer),
            Action::Wake { peer } => {
                if let Some(connection) = self.connection(peer) {
                    connection.read_paused = false;
                    self.enqueue(peer);
                }
            }
            Action::Dial { peer, addr, over: TransportKind::Tcp } => self.dial(peer, addr),
            Action::Dial { peer, addr, over: TransportKind::Utp } => self.dial_utp(peer, addr),
            Action::Close { peer } => self.drop_connection(peer),
            Action::Prepare { torrent, piece } => self.store.prepare(torrent, piece),
            Action::Release { torrent, block } => self.store.abandon(torrent, block),
            Action::Hash { torrent, piece, digests } => self.store.hash(torrent, piece, digests),
            Action::Save { torrent } => {
                if let Some(checkpoint) = self.engine.checkpoint(torrent) {
                    self.store.checkpoint(torrent, checkpoint);
                }
            }
            Action::Announce { id, url, timeout } => self.blocking_pool.announce(id, url, timeout),
            Action::Scrape { id, url, info_hash, timeout } => {
                self.blocking_pool.scrape(id, url, info_hash, timeout);
            }
            Action::Resolve { id, host, port } => self.blocking_pool.resolve(id, host, port),
            Action::Datagram { to, bytes } => self.udp.send(to, bytes, self.poll.registry()),
            Action::DatagramFrom { from, to, bytes } => {
                let token = |index| Owner::BoundUdp(index).token();
                self.bound_udp.send(from, to, &bytes, &self.egress, self.poll.registry(), token);
            }
            Action::FindGateways => {
                let found = gateways(&self.listen_on, &self.egress);
                self.engine.on_gateways(self.now, found, &mut self.actions);
            }
            Action::RouterRequest { id, url, call, timeout } => {
                self.blocking_pool.ask_router(id, url, call, timeout);
            }
            Action::Multicast { group, bytes } => self.multicast.send(group, &bytes),
            Action::KeepNodes { nodes } => self.store.write_state_file(NODES_FILE, write_nodes(&nodes)),
            Action::Metadata { torrent, info } => self.on_metadata(torrent, &info),
            Action::Notice(notice) => self.publish(notice),
        }
    }

    fn publish(&mut self, notice: Notice) {
        match notice {
            Notice::Verified { torrent, piece } => log::trace!("{torrent:?}: piece {piece} is verified"),
            Notice::Complete { torrent } => {
                if let Some(entry) = self.registry.get_mut(torrent) {
                    entry.announce_completion = true;
                }
            }
            Notice::Banned { torrent, addr } => {
                self.emit_for(torrent, |torrent| Event::PeerBanned { torrent, addr });
            }
            // A connection that we closed says nothing about the peer.
            Notice::GivenPeerFailed {
                why: DisconnectReason::Stopped | DisconnectReason::NetworkChanged,
                ..
            } => {}
            // The proxy is the cause, and it was said.
            Notice::GivenPeerFailed { why: DisconnectReason::OutOfResources, .. }
                if self.egress.proxy.is_some() => {}
            Notice::GivenPeerFailed { torrent, addr, why } => {
                let error = match why {
                    DisconnectReason::Lost => "closed the connection before its handshake".to_string(),
                    why => why.to_string(),
                };
                self.emit_for(torrent, |torrent| Event::GivenPeerFailed { torrent, addr, error });
            }
            Notice::TrackerReplied { torrent, url, peers, warning } => {
                self.emit_for(torrent, |torrent| Event::TrackerReplied {
                    torrent,
                    url: url.to_string(),
                    peers,
                    warning,
                });
            }
            Notice::TrackerFailed { torrent, url, error } => {
                self.emit_for(torrent, |torrent| Event::TrackerFailed {
                    torrent,
                    url: url.to_string(),
                    error: error.to_string(),
                });
            }
            Notice::Scraped { torrent, source, result } => self.emit_for(torrent, |torrent| Event::Scraped {
                torrent,
                source,
                result: result.map_err(|error| error.to_string()),
            }),
            Notice::PortMapping(mapping) => self.emit(Event::PortMapping(mapping)),
            Notice::ScrapeDone { torrent } => self.emit_for(torrent, |torrent| Event::ScrapeDone { torrent }),
        }
    }

    fn emit_for(&self, torrent: TorrentKey, event: impl FnOnce(TorrentId) -> Event) {
        if let Some(id) = self.id_of(torrent) {
            self.emit(event(id));
        }
    }

    // ---- the user's commands --------------------------------------------------------------------------------------

    pub(super) fn handle_command(&mut self, command: Command) {
        // Sending a reply fails if the caller has stopped waiting.
        match command {
            Command::Add(id, torrent, kept, reply) => _ = reply.send(self.add(id, torrent, kept)),
            Command::Choose(id, files, reply) => _ = reply.send(self.choose(id, files)),
            Command::Remove(id, reply) => _ = reply.send(self.key(id).map(|key| self.remove(key))),
            Command::Pause(id, reply) => _ = reply.send(self.key(id).map(|key| self.pause(key))),
            Command::Resume(id, reply) => _ = reply.send(self.key(id).map(|key| self.resume(key))),
            Command::Scrape(id, reply) => {
                let known = self.key(id).map(|key| self.engine.scrape(self.now, key, &mut self.actions));
                _ = reply.send(known);
            }
            Command::Set(id, setting, reply) => _ = reply.send(self.set(id, setting)),
            Command::Ask(question) => self.answer(question),
            Command::SetLimits { download, upload, reply } => {
                self.engine.set_limits(self.now, download, upload, &mut self.actions);
                _ = reply.send(Ok(()));
            }
            Command::Stop { within } => self.stop(within),
        }
    }

    fn stop(&mut self, within: Duration) {
        self.deadline = Some(self.now + within);
        self.engine.shut_down(self.now, &mut self.actions);
        self.run_actions();
        for key in self.registry.keys() {
            if let Some(entry) = self.registry.get_mut(key) {
                // Cancels reopening, after a full disk and after a fault.
                entry.full = None;
                entry.reopen = false;
            }
            self.close_torrent(key);
        }
    }

    fn remove(&mut self, key: TorrentKey) {
        if let Some(entry) = self.registry.get_mut(key) {
            entry.removing = true;
        }
        self.close_torrent(key);
    }

    fn pause(&mut self, key: TorrentKey) {
        if let Some(entry) = self.registry.get_mut(key) {
            entry.paused = true;
        }
        self.engine.pause(self.now, key, &mut self.actions);
    }

    fn set(&mut self, id: TorrentId, setting: Setting) -> Result<(), CommandError> {
        let key = self.key(id)?;
        match setting {
            Setting::Limits { download, upload } => {
                self.engine.set_torrent_limits(self.now, key, download, upload, &mut self.actions);
            }
            Setting::Files(priorities) => self.set_files(id, priorities)?,
            Setting::Sequential(sequential) => self.engine.set_sequential(key, sequential),
            Setting::Trackers(tiers) => self.set_trackers(id, tiers)?,
            Setting::Peers(peers) => self.engine.add_peers(self.now, key, &peers),
            Setting::Recheck => self.recheck(id)?,
            Setting::Reannounce => self.engine.reannounce(self.now, key, &mut self.actions),
        }
        Ok(())
    }

    fn add(
        &mut self,
        id: TorrentId,
        mut torrent: Box<AddTorrent>,
        kept: Option<Metainfo>,
    ) -> Result<(), CommandError> {
        torrent.check()?;
        if let TorrentSource::Metainfo(metainfo) = &torrent.source {
            torrent.source = TorrentSource::Metainfo(torrent.named(metainfo.clone()));
        }
        torrent.trackers.iter().for_each(|url| self.blocking_pool.trust(url));
        let metainfo =
            if let TorrentSource::Metainfo(metainfo) = &torrent.source { Some(metainfo) } else { None };
        let spec = TorrentSpec {
            info_hash: torrent.info_hash(),
            torrent_info: metainfo.map(|m| torrent.torrent_info(m)),
            trackers: torrent.all_trackers(),
            peers: torrent.all_peers(),
            sequential: torrent.sequential,
            download_limit: torrent.download_limit,
            upload_limit: torrent.upload_limit,
        };
        let Some(key) = self.engine.add_torrent(self.now, spec) else {
            let torrent = self.registry.id_of(torrent.info_hash()).unwrap_or(id);
            return Err(CommandError::Duplicate { torrent });
        };
        if let Some(metainfo) = metainfo.filter(|m| !m.private()) {
            self.engine.add_nodes(metainfo.nodes(), &mut self.actions);
        }
        let paused = torrent.paused;
        let first_last = torrent.first_last;
        let info_hash = torrent.info_hash();
        let dir = torrent.dir.clone();
        let name = match &torrent.source {
            TorrentSource::Metainfo(metainfo) => Some(printable(metainfo.name(), NAME_CHARS)),
            TorrentSource::Magnet(magnet) => magnet.name.as_ref().map(|name| printable(name, NAME_CHARS)),
        };
        let (content, disk) = match metainfo.map(|m| torrent.to_open(m)) {
            Some(open) => {
                self.store.open(key, open.clone());
                (ContentSource::Known(open), DiskState::Opening)
            }
            None => {
                if !paused {
                    self.engine.resume(self.now, key);
                }
                (ContentSource::Awaited(torrent), DiskState::Closed)
            }
        };
        self.registry.insert(
            key,
            RegisteredTorrent {
                id,
                content,
                disk,
                announce_completion: false,
                paused,
                removing: false,
                fault: None,
                full: None,
                reopen: false,
                recheck: false,
                checking: (0, 0),
                priorities: None,
                first_last,
                info_hash,
                name,
                dir,
            },
        );
        if let Some(metainfo) = kept {
            self.on_metainfo(key, metainfo);
        }
        Ok(())
    }

    fn resume(&mut self, key: TorrentKey) {
        if let Some(entry) = self.registry.get_mut(key) {
            entry.paused = false;
        }
        self.restart(key);
    }

    /// Resumes a torrent. After a fault the content is checked again, because the unsynced part is unknown.
    pub(super) fn restart(&mut self, key: TorrentKey) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        match entry.disk {
            DiskState::Open if entry.fault.is_some() => {
                entry.reopen = true;
                self.close_torrent(key);
            }
            DiskState::Closed if !matches!(entry.content, ContentSource::Known(_)) => {
                self.engine.resume(self.now, key);
            }
            DiskState::Closed => self.reopen_torrent(key),
            DiskState::Open => self.engine.resume(self.now, key),
            DiskState::Opening | DiskState::Closing => {}
        }
    }

    pub(super) fn reopen_torrent(&mut self, key: TorrentKey) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let ContentSource::Known(content) = &entry.content else { return };
        let content = OpenTorrent { check: content.check || entry.recheck, ..content.clone() };
        entry.disk = DiskState::Opening;
        entry.fault = None;
        entry.reopen = false;
        entry.recheck = false;
        entry.checking = (0, 0);
        self.store.open(key, content);
    }

    /// Stops the torrent's traffic and has the disk write its record and close it.
    pub(super) fn close_torrent(&mut self, key: TorrentKey) {
        self.engine.pause(self.now, key, &mut self.actions);
        self.run_actions();
        let Some(entry) = self.registry.get_mut(key) else { return };
        match (entry.disk, self.engine.checkpoint(key)) {
            (DiskState::Opening | DiskState::Open, Some(checkpoint)) => {
                entry.disk = DiskState::Closing;
                self.store.close(key, checkpoint);
            }
            (DiskState::Closed, _) if entry.removing => self.forget(key),
            _ => {}
        }
    }

    fn forget(&mut self, key: TorrentKey) {
        self.engine.remove_torrent(self.now, key, &mut self.actions);
        if let Some(entry) = self.registry.remove(key) {
            self.emit(Event::Removed { torrent: entry.id });
        }
    }

    // ---- answers --------------------------------------------------------------------------------------------------

    pub(super) fn poll_replies(&mut self) {
        while let Some(event) = self.store.next_event() {
            self.on_disk(event);
        }
        while let Some(done) = self.blocking_pool.next_done() {
            match done {
                BlockingReply::Announced { id, result } => {
                    self.engine.on_announced(self.now, id, result, &mut self.actions);
                }
                BlockingReply::Scraped { id, result } => {
                    self.engine.on_scraped(self.now, id, result, &mut self.actions);
                }
                BlockingReply::FromRouter { id, reply } => {
                    self.engine.on_router_reply(self.now, id, reply.as_ref(), &mut self.actions);
                }
                BlockingReply::Resolved { id, result } => {
                    self.engine.on_resolved(self.now, id, result, &mut self.actions);
                }
            }
        }
    }

    fn on_disk(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Opened { torrent, result: Ok(opened) } => {
                let Some(entry) = self.registry.get_mut(torrent).filter(|e| e.disk == DiskState::Opening)
                else {
                    return;
                };
                entry.disk = DiskState::Open;
                if let ContentSource::Known(content) = &mut entry.content {
                    // From now on the files are this torrent's, even if they are opened again without a record.
                    content.opened_before = true;
                }
                let priorities = entry.priorities_to_restore();
                let (torrent_id, have, pieces, paused) =
                    (entry.id, opened.have.ones(), opened.have.pieces(), entry.paused);
                self.engine.on_history(torrent, opened.history);
                self.engine.on_opened(self.now, torrent, opened.have, &mut self.actions);
                if paused {
                    self.engine.pause(self.now, torrent, &mut self.actions);
                }
                if let Some(priorities) = priorities {
                    // Opening reset them in the engine together with its verified pieces.
                    let _ = self.set_files(torrent_id, priorities);
                }
                let stats = self.engine.stats(self.now, torrent);
                let have_bytes = stats.as_ref().map_or(0, |s| s.have_bytes);
                let complete = stats.is_some_and(|s| s.complete);
                let (notes, space) = (opened.notes, opened.space);
                self.emit(Event::Opened {
                    torrent: torrent_id,
                    have,
                    have_bytes,
                    pieces,
                    complete,
                    notes,
                    space,
                });
                if complete {
                    self.emit_progress_of(torrent, self.session_stats());
                    self.emit(Event::Completed { torrent: torrent_id });
                }
            }
            DiskEvent::Opened { torrent, result: Err(fault) } => {
                if let Some(entry) = self.registry.get_mut(torrent) {
                    entry.disk = DiskState::Closed;
                }
                self.fail(torrent, fault);
            }
            DiskEvent::Checking { torrent, checked, pieces } => {
                if let Some(entry) = self.registry.get_mut(torrent) {
                    entry.checking = (checked, pieces);
                }
                self.emit_for(torrent, |torrent| Event::Checking { torrent, checked, pieces });
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
            DiskEvent::Saved { torrent, completed, pieces, result } => {
                self.on_completed_saved(torrent, completed, result.is_ok());
                self.on_saved(torrent, pieces, result);
            }
            DiskEvent::Closed { torrent, completed, result } => {
                self.on_completed_saved(torrent, completed, result.is_ok());
                self.on_closed(torrent, result.is_ok());
            }
            DiskEvent::BufferFreed => {
                for key in std::mem::take(&mut self.waiting_for_buffer) {
                    if let Some(connection) = self.connection(key) {
                        connection.read_paused = false;
                    }
                    self.enqueue(key);
                }
            }
            DiskEvent::Fault { torrent, fault } => self.fail(torrent, fault),
            DiskEvent::FreeSpace { torrent, bytes } => self.on_space(torrent, bytes),
        }
    }

    /// A checkpoint with so many pieces is over.
    fn on_saved(&mut self, torrent: TorrentKey, pieces: u32, result: Result<(), crate::disk::DiskFault>) {
        self.engine.on_saved(self.now, torrent, &mut self.actions);
        match result {
            Ok(()) => {
                // A checkpoint that began before the last piece was verified says nothing about it.
                let all_saved = self.engine.have(torrent).is_some_and(|have| have.ones() == pieces);
                let complete = all_saved && self.engine.stats(self.now, torrent).is_some_and(|s| s.complete);
                let announce = self
                    .registry
                    .get_mut(torrent)
                    .is_some_and(|e| complete && std::mem::take(&mut e.announce_completion));
                if announce {
                    self.emit_progress_of(torrent, self.session_stats());
                    self.emit_for(torrent, |torrent| Event::Completed { torrent });
                }
            }
            Err(fault) => self.fail(torrent, fault),
        }
    }

    /// A record was written, or could not be. `completed`: it says that `completed` is announced.
    fn on_completed_saved(&mut self, torrent: TorrentKey, completed: bool, saved: bool) {
        if completed {
            self.engine.on_completed_saved(self.now, torrent, saved, &mut self.actions);
        }
    }

    fn on_closed(&mut self, torrent: TorrentKey, saved: bool) {
        let Some(entry) = self.registry.get_mut(torrent) else { return };
        entry.disk = DiskState::Closed;
        // A torrent that is reopened writes another record.
        self.clean &= saved || entry.reopen;
        if entry.removing {
            self.forget(torrent);
        } else if entry.reopen {
            self.reopen_torrent(torrent);
        }
    }

    // ---- incoming connections ------------------------------------------------------------------------------

    pub(super) fn accept(&mut self) {
        match self.accept_retry_at {
            Some(at) if at > self.now => return,
            _ => self.accept_retry_at = None,
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listeners.accept() {
                Accepted::Empty => return,
                Accepted::OutOfResources => return self.pause_accepting(),
                Accepted::Stream(stream, addr) => {
                    // Dropping a refused connection closes its socket.
                    let over = TransportKind::Tcp;
                    let Some(key) = self.engine.on_accepted(self.now, addr, over, &mut self.actions) else {
                        continue;
                    };
                    let token = Owner::Connection(key.slot()).token();
                    match Transport::accepted(stream, &self.egress, self.poll.registry(), token) {
                        Ok(transport) => self.add_connection(key, transport, false),
                        Err(_) => self.engine.on_lost(self.now, key, &mut self.actions),
                    }
                }
            }
        }
    }

    // ---- progress ---------------------------------------------------------------------------------------

    /// Returns the figures of the whole session.
    pub(super) fn session_stats(&self) -> SessionStats {
        SessionStats {
            connections: self.engine.connection_counts(),
            dht_nodes: self.engine.dht_stats(self.now).map(|s| s.nodes_v4 + s.nodes_v6),
            loop_cpu: thread_cpu(),
            worker_cpu: Duration::from_micros(self.store.stats().worker_cpu_us),
        }
    }

    pub(super) fn emit_progress_of(&self, key: TorrentKey, session: SessionStats) {
        if let Some(progress) = self.progress(key, session) {
            self.emit(Event::Progress(Box::new(progress)));
        }
    }

    /// Returns a torrent's current figures.
    pub(super) fn progress(&self, key: TorrentKey, session: SessionStats) -> Option<Progress> {
        let s = self.engine.stats(self.now, key)?;
        let torrent = self.id_of(key)?;
        let left = s.wanted_bytes - s.have_bytes;
        let disk = !self.waiting_for_buffer.is_empty() && s.slow.is_none();
        Some(Progress {
            torrent,
            wanted_bytes: s.wanted_bytes,
            have_bytes: s.have_bytes,
            pieces_have: s.pieces_have,
            pieces: s.pieces,
            downloaded: s.downloaded,
            uploaded: s.uploaded,
            total_downloaded: s.total_downloaded,
            total_uploaded: s.total_uploaded,
            wasted: s.wasted,
            download_rate: s.download_rate,
            upload_rate: s.upload_rate,
            peers: s.peers,
            seeds: s.seeds,
            peers_by_origin: s.peers_by_origin,
            dht_nodes: session.dht_nodes,
            known_peers: s.known_peers,
            eta: (s.download_rate > 0 && left > 0).then(|| Duration::from_secs(left / s.download_rate)),
            complete: s.complete,
            slow: if disk { Some(SlowReason::Disk) } else { s.slow },
            loop_cpu: session.loop_cpu,
            worker_cpu: session.worker_cpu,
        })
    }
}
