//! Peer exchange (BEP 11): one log of joins and leaves a torrent, and for each peer a cursor into it.
//!
//! ```text
//!   joins and leaves   … +a +b −a +c −d │ +e
//!                          ▲            ▲
//!                          one cursor   another: all but the last event are sent
//! ```
//!
//! A new peer is sent the connected peers; later messages hold the changes since, without pairs that cancel
//! out. So a peer costs one number. The log has a maximum length; a peer whose cursor falls behind its
//! beginning starts over.

use crate::engine::limits;
use crate::units::Instant;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A peer in a PEX message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PexPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its flags (BEP 11).
    pub flags: u8,
}

#[derive(Clone, Copy, Debug)]
struct LogEntry {
    peer: PexPeer,
    joined: bool,
}

/// The PEX state of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PexCursor {
    /// The number of the first entry that is not sent yet; `None`: nothing is sent yet.
    upto: Option<u64>,
    /// When the next message may be sent to it.
    pub not_before: Instant,
    /// Messages received from it that were used.
    pub accepted: u32,
}

/// The content of a PEX message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexDelta {
    /// Peers that joined, with their flags.
    pub added: Vec<(SocketAddr, u8)>,
    /// Peers that left.
    pub dropped: Vec<SocketAddr>,
}

impl PexDelta {
    /// Returns whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }
}

/// The log of one torrent.
#[derive(Debug)]
pub struct PexLog {
    /// Whether PEX is enabled; a private torrent never uses it.
    pub enabled: bool,
    entries: VecDeque<LogEntry>,
    /// The number of the first entry.
    begins: u64,
}

impl PexLog {
    /// Returns an empty log.
    pub fn new(enabled: bool) -> PexLog {
        PexLog { enabled, entries: VecDeque::new(), begins: 0 }
    }

    /// Logs that a peer joined.
    pub fn joined(&mut self, peer: PexPeer) {
        self.note(LogEntry { peer, joined: true });
    }

    /// Logs that a peer left.
    pub fn left(&mut self, peer: PexPeer) {
        self.note(LogEntry { peer, joined: false });
    }

    fn note(&mut self, entry: LogEntry) {
        if !self.enabled {
            return;
        }
        if self.entries.len() >= limits::PEX_TIMELINE {
            self.entries.pop_front();
            self.begins += 1;
        }
        self.entries.push_back(entry);
    }

    fn ends(&self) -> u64 {
        self.begins + self.entries.len() as u64
    }

    /// Returns whether there are entries after the cursor.
    pub fn has_changes(&self, cursor: &PexCursor) -> bool {
        cursor.upto.is_none_or(|upto| upto < self.ends())
    }

    /// Returns the next message for the peer at `recipient` and advances its cursor. `present` are the
    /// connected peers, for its first message.
    pub fn next_message(
        &self,
        cursor: &mut PexCursor,
        recipient: Option<SocketAddr>,
        present: impl Iterator<Item = PexPeer>,
    ) -> PexDelta {
        match cursor.upto.and_then(|upto| upto.checked_sub(self.begins)) {
            None => {
                cursor.upto = Some(self.ends());
                let others = present.filter(|c| Some(c.addr) != recipient).take(limits::PEX_PEERS);
                PexDelta { added: others.map(|c| (c.addr, c.flags)).collect(), dropped: Vec::new() }
            }
            Some(from) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(self.entries.len());
                let to = (from + limits::PEX_PEERS).min(self.entries.len());
                cursor.upto = Some(self.begins + to as u64);
                since(self.entries.range(from..to), recipient)
            }
        }
    }
}

/// Combines entries: the last one of each address, unless it cancels the first.
fn since<'a>(entries: impl Iterator<Item = &'a LogEntry>, recipient: Option<SocketAddr>) -> PexDelta {
    // The first and the last entry of each address, in the order of the first ones.
    let mut changes: Vec<(bool, LogEntry)> = Vec::new();
    for entry in entries.filter(|m| Some(m.peer.addr) != recipient) {
        match changes.iter_mut().find(|(_, last)| last.peer.addr == entry.peer.addr) {
            Some((_, last)) => *last = *entry,
            None => changes.push((entry.joined, *entry)),
        }
    }
    let mut delta = PexDelta::default();
    for (_, LogEntry { peer, joined }) in changes.into_iter().filter(|(first, last)| *first == last.joined) {
        if joined {
            delta.added.push((peer.addr, peer.flags));
        } else {
            delta.dropped.push(peer.addr);
        }
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(n: u16) -> PexPeer {
        PexPeer { addr: SocketAddr::from(([8, 8, 8, 8], n)), flags: n as u8 }
    }

    fn names(delta: &PexDelta) -> (Vec<u16>, Vec<u16>) {
        (
            delta.added.iter().map(|(a, _)| a.port()).collect(),
            delta.dropped.iter().map(SocketAddr::port).collect(),
        )
    }

    fn sent(x: &PexLog, cursor: &mut PexCursor, recipient: u16, present: &[u16]) -> (Vec<u16>, Vec<u16>) {
        names(&x.next_message(cursor, Some(contact(recipient).addr), present.iter().map(|n| contact(*n))))
    }

    #[test]
    fn a_new_peer_is_sent_the_connected_peers_and_then_changes() {
        let mut x = PexLog::new(true);
        let mut cursor = PexCursor::default();
        [1, 2, 3].into_iter().for_each(|n| x.joined(contact(n)));
        assert!(x.has_changes(&cursor));
        assert_eq!(sent(&x, &mut cursor, 3, &[1, 2, 3]), (vec![1, 2], vec![]));
        assert!(!x.has_changes(&cursor));
        x.joined(contact(4));
        x.left(contact(1));
        assert_eq!(sent(&x, &mut cursor, 3, &[]), (vec![4], vec![1]));
        assert_eq!(sent(&x, &mut cursor, 3, &[]), (vec![], vec![]));
    }

    #[test]
    fn changes_that_cancel_out_are_not_sent_and_no_peer_is_added_and_dropped_at_once() {
        let mut x = PexLog::new(true);
        let mut cursor = PexCursor::default();
        x.joined(contact(1));
        sent(&x, &mut cursor, 9, &[1]);
        x.joined(contact(2));
        x.left(contact(2));
        x.left(contact(1));
        x.joined(contact(1));
        x.left(contact(1));
        x.joined(contact(9));
        assert_eq!(sent(&x, &mut cursor, 9, &[]), (vec![], vec![1]), "the recipient itself is left out");
    }

    #[test]
    fn p15_a_message_has_a_limit_and_the_rest_is_sent_in_the_next() {
        let mut x = PexLog::new(true);
        let mut cursor = PexCursor::default();
        sent(&x, &mut cursor, 9999, &[]);
        (0..120).for_each(|n| x.joined(contact(n + 1)));
        let counts: Vec<usize> = (0..4).map(|_| sent(&x, &mut cursor, 9999, &[]).0.len()).collect();
        assert_eq!(counts, [50, 50, 20, 0]);
        let present: Vec<u16> = (1..200).collect();
        assert_eq!(sent(&x, &mut PexCursor::default(), 9999, &present).0.len(), 50);
    }

    #[test]
    fn the_log_has_a_maximum_length_and_a_cursor_before_it_starts_over() {
        let mut x = PexLog::new(true);
        let mut cursor = PexCursor::default();
        sent(&x, &mut cursor, 9999, &[]);
        (0..5000).for_each(|n| x.joined(contact(n + 1)));
        assert_eq!(x.entries.len(), limits::PEX_TIMELINE);
        assert_eq!(sent(&x, &mut cursor, 9999, &[7, 8]), (vec![7, 8], vec![]));
        assert!(!x.has_changes(&cursor));
    }

    #[test]
    fn a_disabled_log_keeps_nothing() {
        let mut x = PexLog::new(false);
        x.joined(contact(1));
        assert_eq!(x.entries.len(), 0);
    }
}
