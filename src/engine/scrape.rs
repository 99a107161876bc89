//! How many have a torrent, asked of its trackers and the DHT: each once, whether the torrent runs or rests, and nobody learns of us
//! (BEP 48, 33).
//!
//! ```text
//!   scrape ──▶ one question a tracker ──answer, no, or 30 s──▶ Scraped … ──▶ ScrapeDone after the last
//! ```
//!
//! How a question travels is [`tracker_client`](super::tracker_client)'s business. Each tracker gets exactly one answer told; a second wish while
//! questions are out waits for those.

use super::action::{Action, Actions, Notice};
use super::engine::Engine;
use super::limits;
use super::timers::Timer;
use super::tracker_client::{PendingRequest, RequestKind, UdpRequest};
use crate::units::{Instant, TorrentKey};
use crate::wire::{AnnounceError, Scheme, SwarmCounts, scrape_url, url_parts};
use std::sync::Arc;

/// What stands for the DHT where a tracker's address would.
const DHT: &str = "DHT";

impl Engine {
    /// Asks every tracker of the torrent how many have it, and the DHT if we are in it and the torrent is not private. Changes nothing of what trackers know of us.
    pub fn scrape(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(key) else { return };
        let mut urls: Vec<Arc<str>> = Vec::new();
        for url in t.trackers.urls() {
            if !urls.contains(url) && !self.is_scraping(key, url) {
                urls.push(url.clone());
            }
        }
        let by_dht = self.can_scrape_dht(key) && !self.is_scraping(key, DHT);
        urls.extend(by_dht.then(|| DHT.into()));
        let until = now + limits::ANNOUNCE_TIMEOUT;
        if urls.is_empty() {
            return self.end_scrape(key, out);
        }
        // All are under way before the first can fail, so that none of them is taken for the last one.
        let ids: Vec<(u64, Arc<str>)> = urls.into_iter().map(|url| (self.tracker_client.new_id(), url)).collect();
        for (id, url) in &ids {
            self.tracker_client.ask(*id, PendingRequest { torrent: key, asked: RequestKind::Scrape { url: url.clone(), until } });
        }
        self.timers.arm(Timer::Scrape, until);
        for (id, url) in ids {
            self.send_scrape(now, id, key, &url, out);
        }
    }

    fn send_scrape(&mut self, now: Instant, id: u64, key: TorrentKey, url: &str, out: &mut Actions) {
        let Some(info_hash) = self.torrents.get(key).map(|t| t.info_hash) else { return };
        match url_parts(url) {
            _ if url == DHT => self.scrape_dht(now, id, info_hash, out),
            Some(parts) if parts.scheme == Scheme::Udp => {
                self.start_udp_transaction(now, id, &parts, UdpRequest::Scrape(info_hash), limits::ANNOUNCE_TIMEOUT, out);
            }
            _ => match scrape_url(url, &info_hash) {
                Some(url) => out.push(Action::Scrape { id, url, info_hash, timeout: limits::SCRAPE_TIMEOUT }),
                None => self.on_scraped(now, id, Err(AnnounceError::NotScrapable), out),
            },
        }
    }

    fn is_scraping(&self, key: TorrentKey, url: &str) -> bool {
        self.tracker_client.scrapes().any(|(_, torrent, asked, _)| torrent == key && **asked == *url)
    }

    /// A tracker has said how many there are, or has not.
    pub fn on_scraped(&mut self, _: Instant, id: u64, result: Result<SwarmCounts, AnnounceError>, out: &mut Actions) {
        let Some((torrent, url)) = self.tracker_client.take_scrape(id) else { return };
        if self.torrents.get(torrent).is_some() {
            out.push(Action::Notice(Notice::Scraped { torrent, url, result }));
            self.end_scrape(torrent, out);
        }
    }

    /// Tells that nothing is awaited any more, if that is so.
    fn end_scrape(&self, key: TorrentKey, out: &mut Actions) {
        if !self.tracker_client.scrapes().any(|(_, torrent, ..)| torrent == key) {
            out.push(Action::Notice(Notice::ScrapeDone { torrent: key }));
        }
    }

    /// Whoever has not answered by now does not count.
    pub(super) fn on_scrape_deadline(&mut self, now: Instant, out: &mut Actions) {
        let late: Vec<u64> = self.tracker_client.scrapes().filter(|(.., until)| *until <= now).map(|(id, ..)| id).collect();
        for id in late {
            self.on_scraped(now, id, Err(AnnounceError::Timeout), out);
        }
        if let Some(until) = self.tracker_client.scrapes().map(|(.., until)| until).min() {
            self.timers.arm(Timer::Scrape, until);
        }
    }

    /// Nobody waits for these answers any more: those about one torrent, or all.
    pub(super) fn withdraw_scrapes(&mut self, of: Option<TorrentKey>) {
        let scrapes = self.tracker_client.scrapes().filter(|(_, torrent, ..)| of.is_none_or(|key| key == *torrent));
        for id in scrapes.map(|(id, ..)| id).collect::<Vec<_>>() {
            self.tracker_client.take_scrape(id);
        }
    }
}
