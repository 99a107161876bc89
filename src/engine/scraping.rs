//! How many have a torrent, asked of its trackers and the DHT: each once, whether the torrent runs or rests, and nobody learns of us
//! (BEP 48, 33).
//!
//! ```text
//!   scrape ──▶ one question a tracker ──answer, no, or 30 s──▶ Scraped … ──▶ ScrapeDone after the last
//! ```
//!
//! How a question travels is [`tracking`](super::tracking)'s business. Each tracker gets exactly one answer told; a second wish while
//! questions are out waits for those.

use super::action::{Action, Actions, Notice};
use super::core::Engine;
use super::limits;
use super::timers::Timer;
use super::tracking::{Asked, Pending, Request};
use crate::units::{Now, TorrentKey};
use crate::wire::{AnnounceError, Scheme, SwarmCounts, scrape_url, url_parts};
use std::sync::Arc;

/// What stands for the DHT where a tracker's address would.
const DHT: &str = "DHT";

impl Engine {
    /// Asks every tracker of the torrent how many have it, and the DHT if we are in it and the torrent is not private. Changes nothing of what trackers know of us.
    pub fn scrape(&mut self, now: Now, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(key) else { return };
        let mut urls: Vec<Arc<str>> = Vec::new();
        for url in t.trackers.urls() {
            if !urls.contains(url) && !self.is_scraping(key, url) {
                urls.push(url.clone());
            }
        }
        let by_dht = self.is_counted_in_dht(key) && !self.is_scraping(key, DHT);
        urls.extend(by_dht.then(|| DHT.into()));
        let until = now + limits::ANNOUNCE_TIMEOUT;
        if urls.is_empty() {
            return self.end_scrape(key, out);
        }
        // All are under way before the first can fail, so that none of them is taken for the last one.
        let ids: Vec<(u64, Arc<str>)> = urls.into_iter().map(|url| (self.tracking.new_id(), url)).collect();
        for (id, url) in &ids {
            self.tracking.ask(*id, Pending { torrent: key, asked: Asked::Scrape { url: url.clone(), until } });
        }
        self.timers.arm(Timer::Scrape, until);
        for (id, url) in ids {
            self.put_scrape(now, id, key, &url, out);
        }
    }

    fn put_scrape(&mut self, now: Now, id: u64, key: TorrentKey, url: &str, out: &mut Actions) {
        let Some(info_hash) = self.torrents.get(key).map(|t| t.info_hash) else { return };
        match url_parts(url) {
            _ if url == DHT => self.count_in_dht(now, id, info_hash, out),
            Some(parts) if parts.scheme == Scheme::Udp => {
                self.converse(now, id, &parts, Request::Scrape(info_hash), limits::ANNOUNCE_TIMEOUT, out);
            }
            _ => match scrape_url(url, &info_hash) {
                Some(url) => out.push(Action::Scrape { id, url, info_hash, timeout: limits::SCRAPE_TIMEOUT }),
                None => self.on_scraped(now, id, Err(AnnounceError::NotScrapable), out),
            },
        }
    }

    fn is_scraping(&self, key: TorrentKey, url: &str) -> bool {
        self.tracking.scrapes().any(|(_, torrent, asked, _)| torrent == key && **asked == *url)
    }

    /// A tracker has said how many there are, or has not.
    pub fn on_scraped(&mut self, _: Now, id: u64, result: Result<SwarmCounts, AnnounceError>, out: &mut Actions) {
        let Some((torrent, url)) = self.tracking.take_scrape(id) else { return };
        if self.torrents.get(torrent).is_some() {
            out.push(Action::Notice(Notice::Scraped { torrent, url, result }));
            self.end_scrape(torrent, out);
        }
    }

    /// Tells that nothing is awaited any more, if that is so.
    fn end_scrape(&self, key: TorrentKey, out: &mut Actions) {
        if !self.tracking.scrapes().any(|(_, torrent, ..)| torrent == key) {
            out.push(Action::Notice(Notice::ScrapeDone { torrent: key }));
        }
    }

    /// Whoever has not answered by now does not count.
    pub(super) fn on_scrape_deadline(&mut self, now: Now, out: &mut Actions) {
        let late: Vec<u64> = self.tracking.scrapes().filter(|(.., until)| *until <= now).map(|(id, ..)| id).collect();
        for id in late {
            self.on_scraped(now, id, Err(AnnounceError::Timeout), out);
        }
        if let Some(until) = self.tracking.scrapes().map(|(.., until)| until).min() {
            self.timers.arm(Timer::Scrape, until);
        }
    }

    /// Nobody waits for these answers any more: those about one torrent, or all.
    pub(super) fn withdraw_scrapes(&mut self, of: Option<TorrentKey>) {
        let scrapes = self.tracking.scrapes().filter(|(_, torrent, ..)| of.is_none_or(|key| key == *torrent));
        for id in scrapes.map(|(id, ..)| id).collect::<Vec<_>>() {
            self.tracking.take_scrape(id);
        }
    }
}
