//! Choking: the peers that get upload slots, chosen every ten seconds (BEP 3).
//!
//! While leeching, the peers with the highest upload rate to us get the slots. While seeding, peers take
//! turns: a peer keeps its slot for [`SEED_TURN_BYTES`](limits::SEED_TURN_BYTES) or
//! [`SEED_TURN`](limits::SEED_TURN), then the peer that has waited longest gets it. One more slot is
//! optimistic: every third round it goes to a random waiting peer, to a new one with three times the
//! probability. The [`Policy`] sets the number of slots, and whether there is an optimistic slot and tit for
//! tat.

use crate::engine::{Policy, limits};
use crate::units::{Instant, PeerKey, Rng};

/// The choker's view of one interested peer.
#[derive(Clone, Copy, Debug)]
pub struct ChokeCandidate {
    /// The peer.
    pub peer: PeerKey,
    /// Its upload rate to us, bytes a second.
    pub gives: u64,
    /// Whether we choke it now.
    pub we_choke: bool,
    /// When it was last choked or unchoked.
    pub changed: Instant,
    /// Bytes sent to it since it was unchoked.
    pub got: u64,
    /// When its connection began.
    pub since: Instant,
    /// Whether it snubs us.
    pub snubs: bool,
}

/// The choking of one torrent.
#[derive(Debug)]
pub struct Choker {
    least: usize,
    most: usize,
    has_optimistic: bool,
    tit_for_tat: bool,
    round: u32,
    optimistic: Option<PeerKey>,
    slots: usize,
}

impl Choker {
    /// Returns a choker before its first round.
    pub fn new(policy: &Policy) -> Choker {
        Choker {
            least: policy.upload_slots,
            most: policy.most_slots(),
            has_optimistic: policy.optimistic && policy.serves(),
            tit_for_tat: policy.tit_for_tat,
            round: 0,
            optimistic: None,
            slots: policy.upload_slots,
        }
    }

    /// Returns the number of slots without the optimistic one.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Returns the peer in the optimistic slot.
    #[cfg(test)]
    fn optimistic(&self) -> Option<PeerKey> {
        self.optimistic
    }

    /// Runs one round: returns the peers to unchoke, out of the interested ones. `upload_unused` says that
    /// upload bandwidth was left although every slot was taken: it opens one more slot.
    pub fn round(
        &mut self,
        now: Instant,
        seeding: bool,
        candidates: &[ChokeCandidate],
        upload_unused: bool,
        rng: &mut Rng,
    ) -> Vec<PeerKey> {
        let unchoked = candidates.iter().filter(|a| !a.we_choke).count();
        if upload_unused && unchoked >= self.slots && candidates.len() > unchoked {
            self.slots = (self.slots + 1).min(self.most);
        } else if unchoked + 1 < self.slots {
            self.slots = self.least;
        }
        let mut ranked: Vec<&ChokeCandidate> = candidates.iter().collect();
        if seeding || !self.tit_for_tat {
            ranked.sort_by_key(|a| seeding_rank(now, a));
        } else {
            ranked.sort_by_key(|a| (a.snubs, std::cmp::Reverse(a.gives), a.we_choke, a.changed));
        }
        let mut chosen: Vec<PeerKey> = ranked.iter().take(self.slots).map(|a| a.peer).collect();
        let waiting: Vec<&ChokeCandidate> = ranked.iter().skip(self.slots).copied().collect();
        let kept = self.optimistic.filter(|p| waiting.iter().any(|a| a.peer == *p));
        self.optimistic = match kept {
            Some(p) if self.round % limits::OPTIMISTIC_ROUNDS != 0 => Some(p),
            _ if self.has_optimistic => draw(now, &waiting, rng),
            _ => None,
        };
        self.round = self.round.wrapping_add(1);
        chosen.extend(self.optimistic);
        chosen
    }
}

/// Ranks peers during their turn first, then those that have waited longest.
fn seeding_rank(now: Instant, a: &ChokeCandidate) -> (bool, Instant) {
    let in_turn = !a.we_choke && a.got < limits::SEED_TURN_BYTES && now.since(a.changed) < limits::SEED_TURN;
    // A peer whose turn is over ranks after every choked peer.
    let waits_since = if a.we_choke { a.changed } else { now };
    (!in_turn, if in_turn { Instant::ZERO } else { waits_since })
}

fn draw(now: Instant, waiting: &[&ChokeCandidate], rng: &mut Rng) -> Option<PeerKey> {
    let weight = |a: &&ChokeCandidate| if now.since(a.since) < limits::NEW_PEER { 3 } else { 1 };
    let mut ticket = rng.below(waiting.iter().map(weight).sum());
    waiting
        .iter()
        .find(|a| {
            let hit = ticket < weight(a);
            ticket = ticket.saturating_sub(weight(a));
            hit
        })
        .map(|a| a.peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotMap;
    use std::time::Duration;

    /// Returns a choker with the default policy.
    fn choker() -> Choker {
        Choker::new(&Policy::default())
    }

    fn crowd(n: usize) -> Vec<ChokeCandidate> {
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        (0..n)
            .map(|i| ChokeCandidate {
                peer: t.insert(()),
                gives: i as u64,
                we_choke: true,
                changed: Instant::ZERO,
                got: 0,
                since: Instant::ZERO,
                snubs: false,
            })
            .collect()
    }

    fn apply(crowd: &mut [ChokeCandidate], chosen: &[PeerKey], now: Instant) {
        for a in crowd {
            let choke = !chosen.contains(&a.peer);
            if a.we_choke != choke {
                a.we_choke = choke;
                a.changed = now;
                a.got = 0;
            }
        }
    }

    #[test]
    fn while_leeching_the_fastest_uploaders_get_the_slots() {
        let crowd = crowd(20);
        let chosen = choker().round(Instant::ZERO, false, &crowd, false, &mut Rng::new(1));
        assert_eq!(chosen.len(), limits::UPLOAD_SLOTS + 1);
        for a in &crowd[12..] {
            assert!(chosen.contains(&a.peer));
        }
    }

    #[test]
    fn a_snubbing_peer_gets_no_regular_slot() {
        let mut crowd = crowd(20);
        crowd[19].snubs = true;
        let mut choker = choker();
        let chosen = choker.round(Instant::ZERO, false, &crowd, false, &mut Rng::new(1));
        assert!(!chosen.contains(&crowd[19].peer) || choker.optimistic() == Some(crowd[19].peer));
    }

    #[test]
    fn while_seeding_every_peer_has_a_turn() {
        let mut crowd = crowd(40);
        let mut choker = choker();
        let mut rng = Rng::new(1);
        let mut served = std::collections::BTreeSet::new();
        let mut now = Instant::ZERO;
        for _ in 0..40 {
            now = now + limits::CHOKE_ROUND;
            let chosen = choker.round(now, true, &crowd, false, &mut rng);
            served.extend(chosen.iter().copied());
            apply(&mut crowd, &chosen, now);
        }
        assert_eq!(served.len(), 40);
    }

    #[test]
    fn the_optimistic_slot_moves_every_thirty_seconds_and_new_peers_are_favoured() {
        let mut hits = 0;
        let rounds = 3000;
        let mut crowd = crowd(20);
        let now = Instant::ZERO + Duration::from_secs(1000);
        crowd[0].since = now;
        let mut choker = choker();
        let mut rng = Rng::new(1);
        for _ in 0..rounds {
            let before = choker.optimistic();
            let _ = choker.round(now, false, &crowd, false, &mut rng);
            if choker.round % limits::OPTIMISTIC_ROUNDS == 1 {
                hits += usize::from(choker.optimistic() == Some(crowd[0].peer));
            } else {
                assert_eq!(choker.optimistic(), before, "moved too early");
            }
        }
        // Twelve peers wait; the new one has 3 of 14 tickets.
        let expected = rounds / 3 * 3 / 14;
        assert!((expected * 8 / 10..expected * 12 / 10).contains(&hits), "{hits} of about {expected}");
    }

    #[test]
    fn unused_upload_opens_one_slot_a_round_up_to_the_maximum() {
        let mut crowd = crowd(60);
        let mut choker = choker();
        let mut rng = Rng::new(1);
        for i in 0..40 {
            let before = choker.slots();
            let chosen = choker.round(Instant::ZERO, false, &crowd, true, &mut rng);
            apply(&mut crowd, &chosen, Instant::ZERO);
            assert!(choker.slots() <= before + 1, "round {i}");
        }
        assert_eq!(choker.slots(), limits::UPLOAD_SLOTS_MAX);
    }
}
