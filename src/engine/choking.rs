//! Who may download from us: the choker is asked every ten seconds, and a slot that falls free is given at once.

use super::action::Actions;
use super::engine::Engine;
use super::limits;
use super::peer::{Connection, Phase};
use super::timers::Timer;
use super::torrent::{Activity, ChokeCandidate};
use crate::units::{Instant, TorrentKey};

impl Engine {
    pub(super) fn choke_round(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) else { return };
        let mut applicants = Vec::new();
        let (mut served, mut waiting_for_requests) = (0, 0);
        for key in &t.peers {
            if let Some(c) = self.connections.get_mut(*key).filter(|c| now.since(c.peer.last_in) >= limits::CHOKE_ROUND) {
                c.decoder.release_memory();
                c.peer.encoder.release_memory();
            }
        }
        for peer in &t.peers {
            let Some(Connection { peer, .. }) = self.connections.get(*peer).filter(|c| c.peer.they_want) else { continue };
            if !peer.we_choke {
                served += 1;
                waiting_for_requests += usize::from(peer.encoder.blocks() == 0);
            }
            applicants.push(ChokeCandidate {
                peer: peer.key,
                gives: peer.down.per_second(now),
                we_choke: peer.we_choke,
                changed: peer.choke_changed,
                got: peer.sent_since_change,
                since: peer.since,
                snubs: peer.requests.is_snubbed(),
            });
        }
        let unused = served > 0 && waiting_for_requests * 2 > served;
        let chosen = t.choker.round(now, t.activity() == Activity::Seeding, &applicants, unused, &mut self.rng);
        for applicant in applicants {
            if let Some(c) = self.connections.get_mut(applicant.peer) {
                c.peer.set_we_choke(now, !chosen.contains(&applicant.peer), out);
            }
        }
        self.timers.arm(Timer::ChokeRound(key), now + limits::CHOKE_ROUND);
    }

    /// A slot that nobody has is not kept empty until the next round.
    pub(super) fn fill_slots(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(key).filter(|t| t.running) else { return };
        let served = |c: &Connection| c.peer.they_want && !c.peer.we_choke;
        let mut free =
            (t.choker.slots()).saturating_sub(t.peers.iter().filter(|p| self.connections.get(**p).is_some_and(served)).count());
        for peer in t.peers.clone() {
            let Some(Connection { peer, .. }) = self.connections.get_mut(peer) else { continue };
            if free > 0 && peer.they_want && peer.we_choke && peer.phase == Phase::Up {
                peer.set_we_choke(now, false, out);
                free -= 1;
            }
        }
    }
}
