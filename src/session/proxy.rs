//! Connections to peers through the proxy: one that the proxy does not take in time says nothing about its peer.

use super::event_loop::EventLoop;
use crate::units::{Instant, PeerKey};
use std::time::Duration;

/// How long the proxy may take to accept a connection and its login: less than the engine's limit for a dial, after
/// which it blames the peer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(8);

impl EventLoop {
    /// Notes a dial through the proxy.
    pub(super) fn watch_proxied_dial(&mut self, key: PeerKey) {
        if self.egress.proxy.is_some() {
            self.proxied_dials.push_back((self.now + PROXY_TIMEOUT, key));
        }
    }

    /// Returns when the next dial through the proxy is overdue.
    pub(super) fn next_proxied_dial(&self) -> Option<Instant> {
        self.proxied_dials.front().map(|(at, _)| *at)
    }

    /// Gives up the dials that the proxy has not taken in time.
    pub(super) fn check_proxied_dials(&mut self) {
        while self.proxied_dials.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, key)) = self.proxied_dials.pop_front() else { return };
            let Some(connection) = self.connection(key).filter(|connection| connection.connecting) else {
                continue;
            };
            if let Some(error) = connection.transport.proxy_overdue() {
                self.drop_connection(key);
                self.engine.on_dial_failed(self.now, key, error.failure(), &mut self.actions);
            }
        }
    }
}
