//! Who we are: our address as others see it, found by vote, and the id that belongs to it (BEP 42).
//!
//! Every answer says which address the question came from. One voter has one vote, the latest; when
//! [`DHT_VOTES_NEEDED`](limits::DHT_VOTES_NEEDED) agree and are more than all others together, they are believed.

use super::table::{is_secure, one_network};
use crate::engine::limits;
use crate::units::{NodeId, Rng};
use crate::wire::compact::is_local;
use std::collections::VecDeque;
use std::net::IpAddr;

/// What others say about our address in one family.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Voter and vote, oldest first.
    votes: VecDeque<(IpAddr, IpAddr)>,
}

impl Votes {
    /// `voter` saw us at `seen`. Returns the address that enough agree on, if this vote is one for it.
    pub(super) fn vote(&mut self, voter: IpAddr, seen: IpAddr) -> Option<IpAddr> {
        // Within a local network addresses are exempt, and another family's says nothing.
        if is_local(voter) || is_local(seen) || voter.is_ipv6() != seen.is_ipv6() {
            return None;
        }
        self.votes.retain(|(known, _)| *known != voter && !one_network(*known, voter));
        if self.votes.len() >= limits::DHT_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, seen));
        let agree = self.votes.iter().filter(|(_, s)| *s == seen).count();
        (agree >= limits::DHT_VOTES_NEEDED && 2 * agree > self.votes.len()).then_some(seen)
    }

    /// Votes kept.
    pub(super) fn len(&self) -> usize {
        self.votes.len()
    }
}

/// Another id, if `own` does not belong to `ip`.
pub(super) fn better_id(own: NodeId, ip: IpAddr, rng: &mut Rng) -> Option<NodeId> {
    (!is_secure(own, ip)).then(|| NodeId::random_for(ip, rng))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([8, 8, n, 8])
    }

    #[test]
    fn d5_four_voters_of_different_networks_are_believed_and_a_minority_is_not() {
        let (mut votes, ours, theirs) = (Votes::default(), ip(200), ip(201));
        assert_eq!(votes.vote(ip(1), ours), None);
        for n in 0..20 {
            assert_eq!(votes.vote(IpAddr::from([8, 8, 2, n]), theirs), None, "one network has one vote");
        }
        assert_eq!((votes.vote(ip(3), ours), votes.vote(ip(4), ours)), (None, None));
        assert_eq!(votes.vote(ip(5), ours), Some(ours));
        assert_eq!(votes.vote(ip(5), theirs), None, "who changes its mind has one vote still");
        for n in 6..9 {
            assert_eq!(votes.vote(ip(n), ours), Some(ours));
        }
        for n in 10..14 {
            assert_eq!(votes.vote(ip(n), theirs), None, "four, but no majority");
        }
        assert!((20..250).all(|n| votes.vote(ip(n), ip(n)).is_none()) && votes.len() == limits::DHT_VOTES);
    }

    #[test]
    fn d5_local_networks_have_no_vote() {
        let mut votes = Votes::default();
        for n in 0..9 {
            assert_eq!(votes.vote(IpAddr::from([192, 168, n, 1]), ip(7)), None);
            assert_eq!(votes.vote(ip(n), IpAddr::from([10, 0, 0, 1])), None);
            assert_eq!(votes.vote(ip(n), "2001:db8::1".parse().unwrap()), None);
        }
    }

    #[test]
    fn an_id_is_changed_only_if_it_does_not_belong() {
        let mut rng = Rng::new(4);
        let id = better_id(NodeId([0; 20]), ip(7), &mut rng).unwrap();
        assert_eq!(better_id(id, ip(7), &mut rng), None);
        assert_eq!(better_id(NodeId([0; 20]), IpAddr::from([127, 0, 0, 1]), &mut rng), None);
    }
}
