//! Our external address, determined by votes of other nodes, and the node id that matches it (BEP 42).
//!
//! Every response contains the address that the query came from. Each voter has one vote, its latest. An
//! address is accepted when [`DHT_VOTES_NEEDED`](limits::DHT_VOTES_NEEDED) voters agree on it and they are
//! the majority.

use super::table::{is_secure, same_network};
use crate::engine::limits;
use crate::units::{NodeId, Rng};
use crate::wire::compact::is_local;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Votes on our address in one address family.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Voter and vote, oldest first.
    votes: VecDeque<(IpAddr, IpAddr)>,
}

impl Votes {
    /// Counts the vote of `voter` for our address `seen`. Returns `seen` if it is accepted with this vote.
    pub(super) fn vote(&mut self, voter: IpAddr, seen: IpAddr) -> Option<IpAddr> {
        // Local addresses are exempt (BEP 42), and a vote for the other family is invalid.
        if is_local(voter) || is_local(seen) || voter.is_ipv6() != seen.is_ipv6() {
            return None;
        }
        self.votes.retain(|(known, _)| *known != voter && !same_network(*known, voter));
        if self.votes.len() >= limits::DHT_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, seen));
        let agree = self.votes.iter().filter(|(_, s)| *s == seen).count();
        (agree >= limits::DHT_VOTES_NEEDED && 2 * agree > self.votes.len()).then_some(seen)
    }

    /// Returns the number of votes.
    pub(super) fn len(&self) -> usize {
        self.votes.len()
    }
}

/// Returns a new id for `ip` if `own` does not match it.
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
    fn d5_four_voters_of_different_networks_decide_and_a_minority_does_not() {
        let mut votes = Votes::default();
        let ours = ip(200);
        let theirs = ip(201);
        assert_eq!(votes.vote(ip(1), ours), None);
        for n in 0..20 {
            assert_eq!(votes.vote(IpAddr::from([8, 8, 2, n]), theirs), None, "one network has one vote");
        }
        assert_eq!((votes.vote(ip(3), ours), votes.vote(ip(4), ours)), (None, None));
        assert_eq!(votes.vote(ip(5), ours), Some(ours));
        assert_eq!(votes.vote(ip(5), theirs), None, "a voter that changes its vote still has one");
        for n in 6..9 {
            assert_eq!(votes.vote(ip(n), ours), Some(ours));
        }
        for n in 10..14 {
            assert_eq!(votes.vote(ip(n), theirs), None, "four votes are no majority");
        }
        assert!((20..250).all(|n| votes.vote(ip(n), ip(n)).is_none()) && votes.len() == limits::DHT_VOTES);
    }

    #[test]
    fn d5_local_addresses_have_no_vote() {
        let mut votes = Votes::default();
        for n in 0..9 {
            assert_eq!(votes.vote(IpAddr::from([192, 168, n, 1]), ip(7)), None);
            assert_eq!(votes.vote(ip(n), IpAddr::from([10, 0, 0, 1])), None);
            assert_eq!(votes.vote(ip(n), "2001:db8::1".parse().unwrap()), None);
        }
    }

    #[test]
    fn an_id_changes_only_if_it_does_not_match_the_address() {
        let mut rng = Rng::new(4);
        let id = better_id(NodeId([0; 20]), ip(7), &mut rng).unwrap();
        assert_eq!(better_id(id, ip(7), &mut rng), None);
        assert_eq!(better_id(NodeId([0; 20]), IpAddr::from([127, 0, 0, 1]), &mut rng), None);
    }
}
