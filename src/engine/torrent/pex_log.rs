//! What peers are told of a torrent's other peers (BEP 11): one timeline for all, and for each peer only how
//! far it has heard it.
//!
//! ```text
//!   joins and leaves   … +a +b −a +c −d │ +e
//!                          ▲            ▲
//!                          one peer     another: has heard all but the last
//! ```
//!
//! A newcomer hears who is there; later messages are what has happened since, without what undid itself. So a
//! peer costs one number here, whichever peers come and go. The timeline has a length; a peer that has been
//! told too little of it begins anew.

use crate::engine::limits;
use crate::units::Instant;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A peer that others may be told of: where it listens, and what BEP 11 calls its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PexPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// BEP 11's flags.
    pub flags: u8,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    contact: PexPeer,
    joined: bool,
}

/// What one peer has heard, and said.
#[derive(Clone, Copy, Debug, Default)]
pub struct PexCursor {
    /// The first moment that it has not heard of; `None`: not even who was there.
    upto: Option<u64>,
    /// When the next message may go to it.
    pub not_before: Instant,
    /// Messages of its own that counted.
    pub told_us: u32,
}

/// A message that is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexDelta {
    /// Who is there.
    pub added: Vec<(SocketAddr, u8)>,
    /// Who is no longer.
    pub dropped: Vec<SocketAddr>,
}

impl PexDelta {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }
}

/// The timeline of one torrent.
#[derive(Debug)]
pub struct PexLog {
    /// Whether peers are told at all, if the torrent is not private.
    pub enabled: bool,
    timeline: VecDeque<Moment>,
    /// The number of its first moment.
    begins: u64,
}

impl PexLog {
    /// An empty log.
    pub fn new(enabled: bool) -> PexLog {
        PexLog { enabled, timeline: VecDeque::new(), begins: 0 }
    }

    /// A peer is advertised from now on.
    pub fn joined(&mut self, contact: PexPeer) {
        self.note(Moment { contact, joined: true });
    }

    /// A peer is gone.
    pub fn left(&mut self, contact: PexPeer) {
        self.note(Moment { contact, joined: false });
    }

    fn note(&mut self, moment: Moment) {
        if !self.enabled {
            return;
        }
        if self.timeline.len() >= limits::PEX_TIMELINE {
            self.timeline.pop_front();
            self.begins += 1;
        }
        self.timeline.push_back(moment);
    }

    fn ends(&self) -> u64 {
        self.begins + self.timeline.len() as u64
    }

    /// Whether something has happened that the peer has not heard of.
    pub fn has_news(&self, heard: &PexCursor) -> bool {
        heard.upto.is_none_or(|upto| upto < self.ends())
    }

    /// What the peer, reached at `me`, is to be told now, of those who are `present`; it has heard it when
    /// this returns.
    pub fn news(
        &self,
        heard: &mut PexCursor,
        me: Option<SocketAddr>,
        present: impl Iterator<Item = PexPeer>,
    ) -> PexDelta {
        match heard.upto.and_then(|upto| upto.checked_sub(self.begins)) {
            None => {
                heard.upto = Some(self.ends());
                let others = present.filter(|c| Some(c.addr) != me).take(limits::PEX_PEERS);
                PexDelta { added: others.map(|c| (c.addr, c.flags)).collect(), dropped: Vec::new() }
            }
            Some(from) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(self.timeline.len());
                let to = (from + limits::PEX_PEERS).min(self.timeline.len());
                heard.upto = Some(self.begins + to as u64);
                since(self.timeline.range(from..to), me)
            }
        }
    }
}

/// What these moments come to: of each address the last one, unless it undoes the first.
fn since<'a>(moments: impl Iterator<Item = &'a Moment>, me: Option<SocketAddr>) -> PexDelta {
    // First and last moment of each address, in the order of the first ones.
    let mut changes: Vec<(bool, Moment)> = Vec::new();
    for moment in moments.filter(|m| Some(m.contact.addr) != me) {
        match changes.iter_mut().find(|(_, last)| last.contact.addr == moment.contact.addr) {
            Some((_, last)) => *last = *moment,
            None => changes.push((moment.joined, *moment)),
        }
    }
    let mut news = PexDelta::default();
    for (_, Moment { contact, joined }) in changes.into_iter().filter(|(first, last)| *first == last.joined) {
        match joined {
            true => news.added.push((contact.addr, contact.flags)),
            false => news.dropped.push(contact.addr),
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(n: u16) -> PexPeer {
        PexPeer { addr: SocketAddr::from(([8, 8, 8, 8], n)), flags: n as u8 }
    }

    fn names(news: &PexDelta) -> (Vec<u16>, Vec<u16>) {
        (
            news.added.iter().map(|(a, _)| a.port()).collect(),
            news.dropped.iter().map(SocketAddr::port).collect(),
        )
    }

    fn told(x: &PexLog, heard: &mut PexCursor, me: u16, present: &[u16]) -> (Vec<u16>, Vec<u16>) {
        names(&x.news(heard, Some(contact(me).addr), present.iter().map(|n| contact(*n))))
    }

    #[test]
    fn a_newcomer_hears_who_is_there_and_then_what_changes() {
        let (mut x, mut heard) = (PexLog::new(true), PexCursor::default());
        [1, 2, 3].into_iter().for_each(|n| x.joined(contact(n)));
        assert!(x.has_news(&heard));
        assert_eq!(told(&x, &mut heard, 3, &[1, 2, 3]), (vec![1, 2], vec![]));
        assert!(!x.has_news(&heard));
        x.joined(contact(4));
        x.left(contact(1));
        assert_eq!(told(&x, &mut heard, 3, &[]), (vec![4], vec![1]));
        assert_eq!(told(&x, &mut heard, 3, &[]), (vec![], vec![]));
    }

    #[test]
    fn what_undid_itself_is_not_told_and_nobody_is_added_and_dropped_at_once() {
        let (mut x, mut heard) = (PexLog::new(true), PexCursor::default());
        x.joined(contact(1));
        told(&x, &mut heard, 9, &[1]);
        x.joined(contact(2));
        x.left(contact(2));
        x.left(contact(1));
        x.joined(contact(1));
        x.left(contact(1));
        x.joined(contact(9));
        assert_eq!(told(&x, &mut heard, 9, &[]), (vec![], vec![1]), "and nobody is told of itself");
    }

    #[test]
    fn p15_a_message_has_a_limit_and_the_rest_waits_for_the_next() {
        let (mut x, mut heard) = (PexLog::new(true), PexCursor::default());
        told(&x, &mut heard, 9999, &[]);
        (0..120).for_each(|n| x.joined(contact(n + 1)));
        let counts: Vec<usize> = (0..4).map(|_| told(&x, &mut heard, 9999, &[]).0.len()).collect();
        assert_eq!(counts, [50, 50, 20, 0]);
        let present: Vec<u16> = (1..200).collect();
        assert_eq!(told(&x, &mut PexCursor::default(), 9999, &present).0.len(), 50);
    }

    #[test]
    fn the_timeline_has_a_length_and_who_slept_through_it_begins_anew() {
        let (mut x, mut heard) = (PexLog::new(true), PexCursor::default());
        told(&x, &mut heard, 9999, &[]);
        (0..5000).for_each(|n| x.joined(contact(n + 1)));
        assert_eq!(x.timeline.len(), limits::PEX_TIMELINE);
        assert_eq!(told(&x, &mut heard, 9999, &[7, 8]), (vec![7, 8], vec![]));
        assert!(!x.has_news(&heard));
    }

    #[test]
    fn who_does_not_exchange_keeps_nothing() {
        let mut x = PexLog::new(false);
        x.joined(contact(1));
        assert_eq!(x.timeline.len(), 0);
    }
}
