//! Discovery: passes peers and counts from trackers, the DHT and the local network to the torrents, and the
//! torrents' requests to these sources.

use super::action::{Action, Actions, Notice, RouterReply, ScrapeSource};
use super::config::DhtSetup;
use super::dht::DhtStats;
use super::dht_client::{DhtClient, DhtOutcome};
use super::engine::Engine;
use super::lsd::is_announced;
use super::peer::Phase;
use super::port_mapper::{Gateways, MappingSetup, PortMapper};
use super::timers::Timer;
use super::torrent::Torrent;
use super::tracker_client::{TrackerOutcome, arm_announce};
use crate::units::{Instant, Origin, PeerKey, TorrentKey};
use crate::wire::{AnnounceError, AnnounceReply, Datagram, SwarmCounts};
use std::net::SocketAddr;
use std::sync::Arc;

impl Engine {
    // ---- packets and names ----------------------------------------------------------------------------------------

    /// A datagram arrived at a socket of [`Action::DatagramFrom`]. Answers to UPnP searches are accepted here alone:
    /// peers outside know the port of no such socket.
    pub fn on_bound_datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8], out: &mut Actions) {
        match (Datagram::of(packet), &mut self.port_mapper) {
            (Datagram::Ssdp, Some(mapper)) => {
                mapper.on_search_response(&mut self.context.turn(now, out), from, packet);
            }
            _ => self.on_datagram(now, from, packet, out),
        }
    }

    /// A datagram arrived at one of our UDP sockets.
    pub fn on_datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8], out: &mut Actions) {
        match Datagram::of(packet) {
            Datagram::Dht => {
                if let Some(dht) = &mut self.dht {
                    dht.on_datagram(&mut self.context.turn(now, out), from, packet);
                    self.on_dht_outcomes(now, out);
                }
            }
            Datagram::UdpTracker => {
                self.trackers.on_datagram(&mut self.context.turn(now, out), from, packet);
                self.on_tracker_outcomes(now, out);
            }
            Datagram::PortMapping => {
                if let Some(mapper) = &mut self.port_mapper {
                    mapper.on_datagram(&mut self.context.turn(now, out), from, packet);
                    self.on_outside_ports(now, out);
                }
            }
            Datagram::Ssdp | Datagram::Utp | Datagram::Unknown => {}
        }
    }

    /// A host name was resolved, or its resolution failed.
    pub fn on_resolved(
        &mut self,
        now: Instant,
        id: u64,
        result: Result<Vec<SocketAddr>, String>,
        out: &mut Actions,
    ) {
        if let Some(dht) = &mut self.dht {
            dht.on_resolved(&mut self.context.turn(now, out), id, result.as_deref().unwrap_or_default());
            self.on_dht_outcomes(now, out);
        }
        self.trackers.on_resolved(&mut self.context.turn(now, out), id, result);
        self.on_tracker_outcomes(now, out);
    }

    // ---- trackers -------------------------------------------------------------------------------------------------

    /// Sends the announce of a torrent that is due.
    pub(super) fn announce(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        if let Some(t) = self.swarms.torrents.get_mut(key).filter(|t| t.running) {
            self.trackers.announce(&mut self.context.turn(now, out), t);
            self.on_tracker_outcomes(now, out);
        }
    }

    /// Announces a torrent as soon as its trackers' minimum intervals allow.
    pub fn reannounce(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        if let Some(t) = self.swarms.torrents.get_mut(key) {
            t.trackers.reannounce(now);
            arm_announce(&mut self.context.turn(now, out), t);
        }
    }

    /// Replaces a torrent's trackers, in tiers; a removed tracker that knows us is sent `stopped`.
    pub fn set_trackers(
        &mut self,
        now: Instant,
        key: TorrentKey,
        tiers: Vec<Vec<String>>,
        out: &mut Actions,
    ) {
        if let Some(t) = self.swarms.torrents.get_mut(key) {
            self.trackers.replace(&mut self.context.turn(now, out), t, tiers);
            self.on_tracker_outcomes(now, out);
        }
    }

    /// An announce over HTTP was answered, or failed.
    pub fn on_announced(
        &mut self,
        now: Instant,
        id: u64,
        result: Result<AnnounceReply, AnnounceError>,
        out: &mut Actions,
    ) {
        self.trackers.on_announced(id, result);
        self.on_tracker_outcomes(now, out);
    }

    /// Requests the counts of a torrent's swarm from every tracker, and from the DHT unless the torrent is
    /// private. Each source results in one [`Notice::Scraped`], and [`Notice::ScrapeDone`] follows the last.
    /// A source whose answer is outstanding is not asked again. A scrape does not announce us.
    pub fn scrape(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.swarms.torrents.get(key) else { return };
        let info_hash = t.info_hash;
        let mut sources: Vec<ScrapeSource> = Vec::new();
        let trackers = t.trackers.urls().map(|url| ScrapeSource::Tracker(Arc::clone(url)));
        let dht = (self.dht.is_some() && t.allows(Origin::Dht)).then_some(ScrapeSource::Dht);
        for source in trackers.chain(dht) {
            if !sources.contains(&source) && !self.trackers.is_scraping(key, Some(&source)) {
                sources.push(source);
            }
        }
        if sources.is_empty() {
            return self.end_scrape(key, out);
        }
        let turn = &mut self.context.turn(now, out);
        // All scrapes are registered before the first one can fail: `ScrapeDone` follows the last one only.
        let registered: Vec<(u64, ScrapeSource)> = sources
            .into_iter()
            .map(|source| (self.trackers.begin_scrape(turn, key, info_hash, source.clone()), source))
            .collect();
        for (id, source) in registered {
            let turn = &mut self.context.turn(now, out);
            match (&source, &mut self.dht) {
                (ScrapeSource::Tracker(url), _) => self.trackers.send_scrape(turn, id, info_hash, url),
                (ScrapeSource::Dht, Some(dht)) => dht.scrape(turn, id, info_hash),
                (ScrapeSource::Dht, None) => {}
            }
            self.on_tracker_outcomes(now, out);
            self.on_dht_outcomes(now, out);
        }
    }

    /// A scrape over HTTP was answered, or failed.
    pub fn on_scraped(
        &mut self,
        now: Instant,
        id: u64,
        result: Result<SwarmCounts, AnnounceError>,
        out: &mut Actions,
    ) {
        self.trackers.on_scraped(id, result);
        self.on_tracker_outcomes(now, out);
    }

    pub(super) fn on_tracker_deadline(&mut self, now: Instant, timer: Timer, out: &mut Actions) {
        let turn = &mut self.context.turn(now, out);
        match timer {
            Timer::Scrape => self.trackers.on_scrape_deadline(turn),
            Timer::TrackerEnd => self.trackers.on_end_deadline(turn),
            _ => self.trackers.on_udp_deadline(turn),
        }
        self.on_tracker_outcomes(now, out);
    }

    /// Handles announces and scrapes that ended.
    pub(super) fn on_tracker_outcomes(&mut self, now: Instant, out: &mut Actions) {
        while let Some(outcome) = self.trackers.next_outcome() {
            match outcome {
                TrackerOutcome::Scraped { torrent, source, result } => {
                    if self.swarms.torrents.get(torrent).is_some() {
                        out.push(Action::Notice(Notice::Scraped { torrent, source, result }));
                        self.end_scrape(torrent, out);
                    }
                }
                TrackerOutcome::Announced { torrent, announce, result } => {
                    let Some(t) = self.swarms.torrents.get_mut(torrent) else {
                        let turn = &mut self.context.turn(now, out);
                        self.trackers.on_removed_result(turn, torrent, &announce, &result);
                        continue;
                    };
                    t.trackers.on_result(now, &announce, &result);
                    match result {
                        Ok(reply) => self.on_reply(now, torrent, announce.url, reply, out),
                        Err(error) => {
                            let url = announce.url;
                            out.push(Action::Notice(Notice::TrackerFailed { torrent, url, error }));
                        }
                    }
                    let Some(t) = self.swarms.torrents.get_mut(torrent) else { continue };
                    let turn = &mut self.context.turn(now, out);
                    self.trackers.send_last(turn, t);
                    arm_announce(turn, t);
                }
            }
        }
    }

    fn on_reply(
        &mut self,
        now: Instant,
        torrent: TorrentKey,
        url: Arc<str>,
        reply: AnnounceReply,
        out: &mut Actions,
    ) {
        let Some(t) = self.swarms.torrents.get_mut(torrent) else { return };
        if let Some(ip) = reply.external_ip {
            let port = self.context.outside.tcp(ip.is_ipv6(), self.context.config.port);
            t.peer_list.set_ours(SocketAddr::new(ip, port));
        }
        let running = t.running;
        let notice =
            Notice::TrackerReplied { torrent, url, peers: reply.peers.len(), warning: reply.warning };
        out.push(Action::Notice(notice));
        if running {
            self.swarms.learn_peers(&mut self.context.turn(now, out), torrent, &reply.peers, Origin::Tracker);
        }
    }

    /// Reports the end of a torrent's scrape, unless an answer is outstanding.
    fn end_scrape(&self, key: TorrentKey, out: &mut Actions) {
        if !self.trackers.is_scraping(key, None) {
            out.push(Action::Notice(Notice::ScrapeDone { torrent: key }));
        }
    }

    // ---- the DHT --------------------------------------------------------------------------------------------------

    /// Joins the DHT. Running torrents are searched for as soon as a node answers.
    pub fn join_dht(&mut self, now: Instant, setup: DhtSetup, out: &mut Actions) {
        let dht = DhtClient::join(&mut self.context.turn(now, out), setup);
        self.swarms.dht_port = dht.port();
        self.dht = Some(dht);
        self.on_dht_outcomes(now, out);
    }

    pub(super) fn leave_dht(&mut self, now: Instant, out: &mut Actions) {
        self.swarms.dht_port = None;
        if let Some(dht) = self.dht.take() {
            dht.leave(&mut self.context.turn(now, out));
        }
    }

    /// Returns the statistics of our DHT node; `None` outside the DHT.
    pub fn dht_stats(&self, now: Instant) -> Option<DhtStats> {
        self.dht.as_ref().map(|dht| dht.stats(now))
    }

    /// Adds DHT nodes that a torrent file names by host and port (BEP 5 `nodes`).
    pub fn add_nodes(&mut self, named: &[(String, u16)], out: &mut Actions) {
        if let Some(dht) = &mut self.dht {
            dht.add_nodes(&mut self.context.ids, named, out);
        }
    }

    pub(super) fn on_dht_port(&mut self, now: Instant, node: SocketAddr, out: &mut Actions) {
        if let Some(dht) = &mut self.dht {
            dht.on_port(&mut self.context.turn(now, out), node);
            self.on_dht_outcomes(now, out);
        }
    }

    pub(super) fn on_dht_deadline(&mut self, now: Instant, timer: Timer, out: &mut Actions) {
        let Some(dht) = &mut self.dht else { return };
        let turn = &mut self.context.turn(now, out);
        match timer {
            Timer::JoinDht => dht.bootstrap(turn),
            Timer::KeepNodes => dht.keep_nodes(turn),
            _ => dht.on_deadline(turn),
        }
        self.on_dht_outcomes(now, out);
    }

    /// Searches the DHT for a torrent's peers, if a search is due.
    pub(super) fn search_dht(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(dht) = &mut self.dht else { return };
        let torrents = self.swarms.torrents.len();
        let allowed = |t: &&mut Torrent| t.running && t.allows(Origin::Dht);
        let Some(t) = self.swarms.torrents.get_mut(key).filter(allowed) else { return };
        let is_up = |peer: &PeerKey| {
            self.swarms.connections.get(*peer).is_some_and(|c| c.peer.wire.phase == Phase::Up)
        };
        let alone = !t.is_upload_only() && !t.peers.iter().any(is_up);
        dht.search(&mut self.context.turn(now, out), t, alone, torrents);
        self.on_dht_outcomes(now, out);
    }

    /// Handles the outcomes of the DHT client.
    fn on_dht_outcomes(&mut self, now: Instant, out: &mut Actions) {
        while let Some(outcome) = self.dht.as_mut().and_then(DhtClient::next_outcome) {
            let turn = &mut self.context.turn(now, out);
            match outcome {
                DhtOutcome::Peers { info_hash, peers } => {
                    if let Some(key) = self.swarms.by_hash.get(&info_hash) {
                        self.swarms.learn_peers(turn, *key, &peers, Origin::Dht);
                    }
                }
                DhtOutcome::Scraped { id, counts } => self.on_scraped(now, id, Ok(counts), out),
                DhtOutcome::OurAddress(ip) => {
                    self.swarms.set_our_address(SocketAddr::new(ip, turn.public_port(ip.is_ipv6())));
                }
                DhtOutcome::Joined => {
                    for (key, t) in self.swarms.torrents.iter_mut() {
                        t.restart_search(now);
                        turn.timers.arm(Timer::Search(key), now);
                    }
                }
            }
        }
    }

    // ---- the router -----------------------------------------------------------------------------------------------

    /// Asks the default routers to open our ports; reports with [`Notice::PortMapping`].
    pub fn map_ports(&mut self, now: Instant, setup: MappingSetup, out: &mut Actions) {
        self.port_mapper = Some(PortMapper::start(&mut self.context.turn(now, out), setup));
    }

    /// These are the default routers now.
    pub fn on_gateways(&mut self, now: Instant, found: Gateways, out: &mut Actions) {
        if let Some(mapper) = &mut self.port_mapper {
            mapper.on_gateways(&mut self.context.turn(now, out), found);
            self.on_outside_ports(now, out);
        }
    }

    pub(super) fn on_mapping_deadline(&mut self, now: Instant, out: &mut Actions) {
        if let Some(mapper) = &mut self.port_mapper {
            mapper.on_deadline(&mut self.context.turn(now, out));
            self.on_outside_ports(now, out);
        }
    }

    /// A router answered an HTTP request; `None` if it failed.
    pub fn on_router_reply(&mut self, now: Instant, id: u64, reply: Option<&RouterReply>, out: &mut Actions) {
        if let Some(mapper) = &mut self.port_mapper {
            mapper.on_reply(&mut self.context.turn(now, out), id, reply);
            self.on_outside_ports(now, out);
        }
    }

    /// Deletes the mappings. Only the answers to UPnP requests are waited for, half a second.
    pub(super) fn unmap_ports(&mut self, now: Instant, out: &mut Actions) {
        if let Some(mapper) = &mut self.port_mapper {
            mapper.stop(&mut self.context.turn(now, out));
        }
    }

    /// If the router opened another port than before, has trackers and DHT told.
    fn on_outside_ports(&mut self, now: Instant, out: &mut Actions) {
        let Some(mapper) = self.port_mapper.as_ref().filter(|_| !self.swarms.stopping) else { return };
        let before = std::mem::replace(&mut self.context.outside, mapper.outside());
        let (port, after) = (self.context.config.port, self.context.outside);
        if [false, true].iter().all(|v6| before.tcp(*v6, port) == after.tcp(*v6, port)) {
            return;
        }
        for key in self.swarms.torrents.keys().collect::<Vec<_>>() {
            self.reannounce(now, key, out);
            if let Some(t) = self.swarms.torrents.get_mut(key).filter(|t| t.running) {
                t.restart_search(now);
                self.context.timers.arm(Timer::Search(key), now);
            }
        }
    }

    // ---- the local network ----------------------------------------------------------------------------------------

    /// A packet arrived at one of the multicast groups of local service discovery (BEP 14).
    pub fn on_multicast(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        if !self.context.config.lsd {
            return;
        }
        let Some(announcement) = self.lsd.parse(from, packet) else { return };
        let mut none = Actions::default();
        let turn = &mut self.context.turn(now, &mut none);
        for hash in &announcement.hashes {
            let Some(key) = self.swarms.by_hash.get(hash).copied() else { continue };
            let known_peers = |t: &Torrent| t.peer_list.len();
            let Some(before) = self.swarms.torrents.get(key).filter(|t| is_announced(t)).map(known_peers)
            else {
                continue;
            };
            if !self.lsd.has_room(now) {
                continue;
            }
            self.swarms.learn_peers(turn, key, &[announcement.addr], Origin::Lsd);
            let after = self.swarms.torrents.get(key).map_or(0, known_peers);
            self.lsd.count_accepted(after.saturating_sub(before));
        }
    }
}
