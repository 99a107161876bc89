//! Named scenarios: swarms to look at, and trials with injected faults.
//!
//! A trial is a small swarm with every check of the oracle. With any seed every peer must complete, within
//! `Scenario::patience`, which is short where a stall would be the bug.

use super::faults::Faults;
use super::puppet::PuppetRole;
use super::scenario::{Line, MIB, Scenario};
use crate::engine::{Endgame, Policy, WindowRule};
use std::time::Duration;

/// Swarms to look at: name and description.
pub const NAMES: [(&str, &str); 6] = [
    ("flash", "fifty peers come at once to one seed, over asymmetric lines"),
    ("crowd", "the same with a thousand peers and 256 MiB"),
    ("multitude", "ten thousand peers and 64 MiB"),
    ("exchange", "no tracker and no DHT: each peer knows one earlier peer, and PEX spreads the others"),
    ("household", "a hundred machines of one private network, whose addresses differ in the last byte only"),
    (
        "dozen",
        "one seed and eleven peers on lines of 10 Gbit/s, held by their own limits, as processes on one machine are",
    ),
];

/// Trials: name, description, and the names of the faults that must have occurred.
pub const TRIALS: [(&str, &str, &[&str]); 22] = [
    ("plain", "nothing goes wrong", &[]),
    ("motley", "two of every kind of scripted peer are there", &["lies", "whims", "bans"]),
    ("lose", "connections are lost in the middle of blocks", &["lost connections", "lost mid-block"]),
    ("liars", "more liars than seeds", &["lies", "bans"]),
    ("storms", "half of the peers choke and unchoke in storms, hang up and come back", &["whims"]),
    ("silent", "as many snubbers as peers, and no endgame to help out", &[]),
    ("spikes", "a third of the verdicts come up to eight seconds late", &["hash spikes"]),
    ("unreadable", "the disk cannot be read now and then", &["unreadable pieces"]),
    (
        "full",
        "the disk is full now and then, and slow to say what it read before",
        &["disk full", "hash spikes"],
    ),
    ("silence", "the tracker answers every other question", &["tracker silence"]),
    (
        "datagrams",
        "the tracker is reached by datagrams that get lost and overtake one another",
        &["lost datagrams"],
    ),
    (
        "late",
        "actions are read_ahead out up to 200 ms after they were asked for, and connections are lost",
        &["late turns", "lost mid-block"],
    ),
    ("refused", "every other dial is refused", &["refused dials"]),
    ("clock", "the clock ends ten hours after the beginning", &[]),
    ("behind", "nobody but the seed can be dialed", &[]),
    ("limits", "the engines' own limits hold the rates", &[]),
    ("slots", "two upload slots each, so that most are choked most of the time", &[]),
    ("narrow", "four requests to one peer at most", &[]),
    ("greedy", "some take what they are allowed without being served, over and over", &["accusations"]),
    ("slow", "as many slow peers as others, and no other peer waits for them at the end", &[]),
    ("chain", "no tracker: each peer knows one earlier peer, and PEX spreads the others", &[]),
    ("suspects", "liars spoil pieces that the silent are then asked for alone", &["lies", "bans"]),
];

/// Returns the swarm or the trial of this name.
pub fn named(name: &str) -> Option<Scenario> {
    swarm(name).or_else(|| trial(name)).map(|s| Scenario { name: name.to_owned(), ..s })
}

fn swarm(name: &str) -> Option<Scenario> {
    let base = Scenario::default();
    Some(match name {
        "flash" => base,
        "crowd" => Scenario { peers: 1000, size: 256 * MIB, ..base },
        "multitude" => Scenario { peers: 10_000, ..base },
        "exchange" => {
            Scenario { pex: true, one_known_peer: true, arrive_within: Duration::from_secs(10), ..base }
        }
        "household" => {
            let cable = Line { latency: Duration::from_micros(200), ..Line::mbit(100, 100) };
            Scenario { peers: 100, seed_lines: vec![cable], lines: vec![cable], one_network: true, ..base }
        }
        "dozen" => {
            let own = |up: u64| Line { up: up * 1024, down: u64::MAX, ..Line::endless() };
            let lines = vec![own(512), own(768), own(1024)];
            Scenario {
                peers: 11,
                size: 32 * MIB,
                piece_len: 256 * 1024,
                seed_lines: vec![own(2048)],
                lines,
                limit_in_engine: true,
                // Linux grows a socket's send buffer with its use: from 30 KiB to 700 KiB of payload,
                // measured in this swarm as processes.
                send_buffer: 128 * 1024,
                ..base
            }
        }
        _ => return None,
    })
}

fn trial(name: &str) -> Option<Scenario> {
    let s = Duration::from_secs;
    let base = Scenario {
        size: 2 * MIB,
        piece_len: 64 * 1024,
        peers: 6,
        seed_lines: vec![Line::mbit(4, 8)],
        lines: vec![Line::mbit(1, 4), Line::mbit(2, 8), Line::mbit(4, 8)],
        strict: true,
        ..Scenario::default()
    };
    let with = |faults: Faults| Scenario { faults, ..base.clone() };
    let beside = |puppets: &[(PuppetRole, u32)]| Scenario { puppets: puppets.to_vec(), ..base.clone() };
    let none = Faults::default();
    Some(match name {
        "plain" => base,
        "motley" => {
            let all = [
                PuppetRole::Seed,
                PuppetRole::Slow,
                PuppetRole::Liar,
                PuppetRole::Snubber,
                PuppetRole::Flapper,
                PuppetRole::Leech,
                PuppetRole::Hoarder,
            ];
            beside(&all.map(|part| (part, 2)))
        }
        "lose" => with(Faults { lose_connections: Some(s(1)), ..none }),
        "liars" => beside(&[(PuppetRole::Liar, 3)]),
        // Chokes cancel requests whose blocks are on their way, so blocks arrive twice: at most a third of
        // the payload is wasted, because the engine keeps blocks that arrive after their request was
        // cancelled.
        "storms" => Scenario { most_waste: 0.33, ..beside(&[(PuppetRole::Flapper, 6)]) },
        "silent" => {
            let policy = Policy { endgame: Endgame::Off, ..Policy::default() };
            // Each snubber holds one block until the engine disconnects it, two minutes after its last
            // message. More blocks per snubber would take longer.
            Scenario { policy, patience: s(180), ..beside(&[(PuppetRole::Snubber, 6)]) }
        }
        "spikes" => with(Faults { hash_spikes: Some((0.3, s(8))), ..none }),
        "unreadable" => with(Faults { unreadable: 0.05, ..none }),
        "full" => with(Faults { disk_full: Some((0.05, s(5))), hash_spikes: Some((0.3, s(8))), ..none }),
        "silence" => with(Faults { tracker_silence: 0.5, ..none }),
        "datagrams" => {
            let faults = Faults { datagram_loss: 0.3, datagram_delay: s(1), ..none };
            Scenario { udp_tracker: true, ..with(faults) }
        }
        "late" => {
            let ms = Duration::from_millis;
            // With unbounded endgame many peers are asked for one block, so another peer may start it right
            // after a release.
            let policy = Policy { endgame: Endgame::Unbounded, ..Policy::default() };
            Scenario {
                policy,
                ..with(Faults { late_actions: Some(ms(200)), lose_connections: Some(ms(500)), ..none })
            }
        }
        "refused" => with(Faults { refused_dials: 0.5, ..none }),
        "clock" => with(Faults { clock_before_end: Some(s(36_000)), ..none }),
        "behind" => Scenario { undialable: 1.0, ..base },
        "limits" => {
            let lines = vec![Line::mbit(4, 2), Line::mbit(2, 8), Line::mbit(4, 8)];
            Scenario { limit_in_engine: true, lines, ..base }
        }
        "slots" => {
            let policy = Policy { upload_slots: 2, upload_slots_max: 2, ..Policy::default() };
            Scenario { policy, size: 8 * MIB, arrive_within: s(10), ..base }
        }
        "narrow" => {
            let policy = Policy { window: WindowRule::Fixed(4), ..Policy::default() };
            Scenario { policy, ..base }
        }
        "greedy" => Scenario { size: 8 * MIB, ..beside(&[(PuppetRole::Greedy, 2)]) },
        "slow" => beside(&[(PuppetRole::Slow, 6)]),
        // Without PEX the swarm would be a tree, in which the slowest line delays every peer below it: that
        // takes a minute. With PEX it takes 17 s at most.
        "chain" => Scenario {
            pex: true,
            one_known_peer: true,
            arrive_within: s(5),
            peers: 12,
            patience: s(25),
            ..base
        },
        // An engine that waited for snubbers would wait two minutes, until it disconnects them.
        "suspects" => {
            Scenario { patience: s(90), ..beside(&[(PuppetRole::Liar, 3), (PuppetRole::Snubber, 6)]) }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_scenario() {
        let names = NAMES.iter().map(|n| n.0).chain(TRIALS.iter().map(|t| t.0));
        for name in names {
            assert_eq!(named(name).map(|s| s.name).as_deref(), Some(name));
        }
        assert!(named("no such").is_none());
    }
}
