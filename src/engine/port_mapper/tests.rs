//! Routers that keep to the RFCs, and routers that lie.

use super::*;
use crate::engine::{Actions, Engine, EngineConfig, Policy, RouterCall};
use crate::units::PeerId;
use std::time::Duration;

pub(super) const ROUTER: ([u8; 4], u16) = ([192, 168, 1, 1], 5351);
const OUTSIDE: [u8; 4] = [203, 0, 113, 5];

/// A machine with one router.
pub(super) struct World {
    pub engine: Engine,
    pub now: Instant,
    pub out: Actions,
    /// Datagrams to the router that were not looked at.
    sent: Vec<(SocketAddr, Vec<u8>)>,
    pub said: Vec<PortMapping>,
    looks: usize,
    /// Packets of UPnP searches.
    pub searches: usize,
    /// HTTP requests that were not looked at: id, URL, call.
    pub requests: Vec<(u64, String, Option<RouterCall>)>,
    /// Seconds that a UPnP router lists as the rest of a lease; `None` if it lists no mapping.
    pub listed: Option<u32>,
}

fn home() -> Gateway {
    Gateway { addr: ROUTER.into(), local: [192, 168, 1, 7].into() }
}

fn v6_home() -> Gateway {
    let router = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5351, 0, 2);
    Gateway { addr: router.into(), local: "2001:db8::7".parse().unwrap() }
}

impl World {
    fn new(found: Gateways) -> World {
        let engine = Engine::new(EngineConfig {
            peer_id: PeerId([7; 20]),
            port: 6881,
            max_peers: 10,
            max_peers_per_torrent: 10,
            download_limit: None,
            upload_limit: None,
            seed: 1,
            version: "rill".into(),
            policy: Policy::default(),
            pex: true,
            lsd: false,
            transports: crate::units::Transports::Tcp,
            encryption: crate::engine::Encryption::Off,
            secret: [0; 32],
        });
        let now = Instant::from_micros(1_000_000);
        let mut world = World {
            engine,
            now,
            out: Actions::default(),
            sent: Vec::new(),
            said: Vec::new(),
            looks: 0,
            searches: 0,
            requests: Vec::new(),
            listed: None,
        };
        let setup = MappingSetup { tcp_port: 6881, udp_port: 6882, seed: 9 };
        world.engine.map_ports(now, setup, &mut world.out);
        world.drain();
        world.engine.on_gateways(now, found, &mut world.out);
        world.drain();
        world
    }

    /// Returns a world whose router refuses by PCP.
    pub fn refused_by_pcp() -> World {
        let mut world = World::at_home();
        world.serve(&Router { result: 2, ..PCP });
        world
    }

    pub fn at_home() -> World {
        World::new(Gateways { v4: Some(home()), v6: None })
    }

    pub fn drain(&mut self) {
        for action in self.out.drain() {
            match action {
                Action::DatagramFrom { to, .. } if to == crate::wire::ssdp::GROUP => self.searches += 1,
                Action::RouterRequest { id, url, call, .. } => self.requests.push((id, url, call)),
                Action::Datagram { to, bytes } | Action::DatagramFrom { to, bytes, .. } => {
                    self.sent.push((to, bytes));
                }
                Action::FindGateways => self.looks += 1,
                Action::Notice(Notice::PortMapping(mapping)) => self.said.push(mapping),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets time pass, with every deadline on time.
    pub fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= until) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = self.now.max(at);
            self.engine.on_deadline(self.now, &mut self.out);
            self.drain();
        }
        self.now = until;
    }

    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.engine.on_datagram(self.now, from, bytes, &mut self.out);
        self.drain();
    }

    /// Receives a datagram at the socket that searched.
    pub fn receive_bound(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.engine.on_bound_datagram(self.now, from, bytes, &mut self.out);
        self.drain();
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.receive(ROUTER.into(), bytes);
    }

    fn questions(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Answers every open question as a router of this protocol does.
    pub fn serve(&mut self, router: &Router) -> usize {
        let questions = self.questions();
        questions
            .iter()
            .filter_map(|question| router.answer(question))
            .for_each(|answer| self.answer(&answer));
        questions.len()
    }

    pub fn tcp(&self) -> u16 {
        self.engine.port_mapper.as_ref().unwrap().outside().tcp(false, 6881)
    }

    pub fn udp(&self) -> u16 {
        self.engine.port_mapper.as_ref().unwrap().outside().udp(false, 6882)
    }
}

/// What a router answers.
#[derive(Clone, Copy)]
pub(super) struct Router {
    pcp: bool,
    result: u8,
    /// The port outside is the wished one plus this.
    shift: u16,
    lifetime_s: u32,
    epoch_s: u32,
    outside: [u8; 4],
}

pub(super) const PCP: Router =
    Router { pcp: true, result: 0, shift: 0, lifetime_s: 7200, epoch_s: 100, outside: OUTSIDE };
const NAT_PMP: Router = Router { pcp: false, ..PCP };

impl Router {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let epoch = self.epoch_s.to_be_bytes();
        let lifetime = self.lifetime_s.to_be_bytes();
        let external =
            |at: usize| (u16::from_be_bytes([question[at], question[at + 1]]) + self.shift).to_be_bytes();
        match question {
            [2, ..] if self.pcp => {
                let mut answer = question.to_vec();
                answer[1] |= 0x80;
                answer[3] = self.result;
                answer[4..8].copy_from_slice(&lifetime);
                answer[8..12].copy_from_slice(&epoch);
                answer[42..44].copy_from_slice(&external(42));
                answer[44..].copy_from_slice(&Ipv4Addr::from(self.outside).to_ipv6_mapped().octets());
                Some(answer)
            }
            [2, ..] => Some([&[0, 0x81, 0, 1][..], &epoch].concat()),
            [0, 0] => Some([&[0, 0x80, 0, 0][..], &epoch, &self.outside].concat()),
            [0, opcode, _, _, a, b, ..] => {
                let head = [0, opcode | 0x80, 0, self.result];
                Some([&head[..], &epoch, &[*a, *b], &external(6), &lifetime].concat())
            }
            _ => None,
        }
    }
}

fn open(by: MappingProtocol) -> PortMapping {
    PortMapping::Open { address: Some(OUTSIDE.into()), tcp: 6881, udp: Some(6882), by }
}

#[test]
fn a_pcp_router_maps_tcp_and_udp() {
    let mut w = World::at_home();
    assert_eq!(w.sent.len(), 2);
    assert!(w.sent.iter().all(|(to, bytes)| *to == ROUTER.into() && bytes.len() == 60));
    w.serve(&PCP);
    assert_eq!(w.said, [open(MappingProtocol::Pcp)]);
    assert_eq!(
        w.said[0].to_string(),
        "203.0.113.5:6881 is open to peers outside (TCP, and UDP at port 6882, by PCP)"
    );
}

#[test]
fn a_nat_pmp_router_is_asked_in_its_own_version() {
    let mut w = World::at_home();
    w.serve(&NAT_PMP);
    assert_eq!(w.sent.len(), 3, "address, TCP, UDP");
    w.serve(&NAT_PMP);
    assert_eq!(w.said, [open(MappingProtocol::NatPmp)]);
}

#[test]
fn g3_a_silent_router_gets_few_packets_and_one_line() {
    let mut w = World::at_home();
    w.wait(Duration::from_secs(3600));
    // Six times two of PCP, six times three of NAT-PMP.
    assert_eq!(w.sent.len(), 30);
    assert_eq!(w.said, [PortMapping::Silent { router: ROUTER.0.into() }]);
    w.wait(Duration::from_secs(3600 + 60));
    assert_eq!(w.sent.len(), 60, "asked again after two hours");
    assert_eq!(w.said.len(), 1, "said again");
    assert!((120..130).contains(&w.looks), "looked {} times for a router in two hours", w.looks);
}

#[test]
fn g3_a_machine_without_a_router_or_with_a_public_address_sends_nothing() {
    let public = Gateway { addr: ([198, 51, 100, 1], 5351).into(), local: [198, 51, 100, 7].into() };
    for found in [Gateways::default(), Gateways { v4: Some(public), v6: None }] {
        let mut w = World::new(found);
        w.wait(Duration::from_secs(3 * 3600));
        assert!(w.sent.is_empty() && w.said.is_empty());
    }
}

#[test]
fn a_new_router_is_asked_at_once_and_an_unchanged_one_is_not() {
    let mut w = World::at_home();
    w.serve(&PCP);
    let same = Gateways { v4: Some(home()), v6: None };
    w.engine.on_gateways(w.now, same, &mut w.out);
    w.drain();
    assert!(w.sent.is_empty());
    let other = Gateway { addr: ([10, 0, 0, 1], 5351).into(), local: [10, 0, 0, 7].into() };
    w.engine.on_gateways(w.now, Gateways { v4: Some(other), v6: None }, &mut w.out);
    w.drain();
    assert!(w.sent.len() == 2 && w.sent.iter().all(|(to, _)| *to == other.addr));
}

#[test]
fn a_mapping_is_renewed_at_half_of_the_granted_lifetime_with_its_nonce() {
    let mut w = World::at_home();
    let first = w.sent.clone();
    w.serve(&Router { lifetime_s: 600, ..PCP });
    w.wait(Duration::from_secs(299));
    assert!(w.sent.is_empty());
    w.wait(Duration::from_secs(1));
    assert_eq!(w.sent, first, "the same nonces and ports");
    w.serve(&Router { lifetime_s: 600, epoch_s: 400, ..PCP });
    assert_eq!(w.said.len(), 1);
}

#[test]
fn a_refused_renewal_is_repeated_when_the_mapping_has_ended() {
    let mut w = World::at_home();
    w.serve(&Router { lifetime_s: 600, ..PCP });
    w.wait(Duration::from_secs(300));
    assert_eq!(w.serve(&Router { result: 8, ..PCP }), 2);
    w.wait(Duration::from_secs(299));
    assert!(w.sent.is_empty());
    w.wait(Duration::from_secs(1));
    assert_eq!(w.sent.len(), 2);
}

#[test]
fn the_granted_port_is_used_and_asked_for_again() {
    let mut w = World::at_home();
    w.serve(&Router { shift: 1000, lifetime_s: 600, ..PCP });
    assert_eq!((w.tcp(), w.udp()), (7881, 7882));
    assert_eq!(w.engine.context.outside.tcp(false, 6881), 7881, "announced");
    assert_eq!(w.engine.context.outside.tcp(true, 6881), 6881, "over IPv6 it is our own");
    w.wait(Duration::from_secs(300));
    assert!(w.questions().iter().all(|question| u16::from_be_bytes([question[42], question[43]]) > 7880));
}

#[test]
fn a_router_that_lost_its_table_is_asked_at_once() {
    for (router, questions) in [(PCP, 2), (NAT_PMP, 3)] {
        let mut w = World::at_home();
        while w.serve(&Router { lifetime_s: 600, epoch_s: 5000, ..router }) > 0 {}
        w.wait(Duration::from_secs(300));
        let renewal = w.questions();
        let restarted = Router { lifetime_s: 600, epoch_s: 3, ..router };
        w.answer(&restarted.answer(&renewal[0]).unwrap());
        assert_eq!(w.sent.len(), questions);
        w.serve(&restarted);
        assert!(w.sent.is_empty());
        assert_eq!(w.said.len(), 1);
    }
}

#[test]
fn g4_a_clock_that_always_runs_backwards_causes_no_flood() {
    let mut w = World::at_home();
    let mut epoch_s = 4_000_000;
    let mut packets = 0;
    for _ in 0..600 {
        while !w.sent.is_empty() {
            packets += w.sent.len();
            assert!(packets < 2000, "a flood");
            epoch_s -= 100;
            w.serve(&Router { epoch_s, lifetime_s: 1, ..PCP });
        }
        w.wait(Duration::from_secs(1));
    }
    // Two every ten seconds for renewals, two a minute for lost tables.
    assert!(packets <= 2 * 60 + 2 * 10 + 4, "{packets} packets in ten minutes");
}

#[test]
fn g1_only_the_router_can_answer() {
    let mut w = World::at_home();
    let questions = w.questions();
    let answer = PCP.answer(&questions[0]).unwrap();
    for from in [([192, 168, 1, 1], 5352), ([192, 168, 1, 2], 5351), (OUTSIDE, 5351)] {
        w.receive(from.into(), &answer);
    }
    let mut forged = answer.clone();
    forged[30] ^= 1;
    w.answer(&forged);
    let mut other_port = answer.clone();
    other_port[41] ^= 1;
    w.answer(&other_port);
    assert_eq!(w.tcp(), 6881);
    assert!(
        w.engine.port_mapper.as_ref().unwrap().clients[0]
            .as_ref()
            .unwrap()
            .outside(MappedProtocol::Tcp)
            .is_none()
    );
    w.answer(&answer);
    assert!(
        w.engine.port_mapper.as_ref().unwrap().clients[0]
            .as_ref()
            .unwrap()
            .outside(MappedProtocol::Tcp)
            .is_some()
    );
}

#[test]
fn g1_an_answer_without_a_question_changes_nothing() {
    let mut w = World::at_home();
    let questions = w.questions();
    let answers: Vec<Vec<u8>> = questions.iter().filter_map(|question| PCP.answer(question)).collect();
    answers.iter().for_each(|answer| w.answer(answer));
    assert_eq!(w.said.len(), 1);
    let moved = Router { shift: 5, ..PCP };
    questions.iter().filter_map(|question| moved.answer(question)).for_each(|answer| w.answer(&answer));
    w.answer(&[0, 0x81, 0, 1, 0, 0, 0, 1]);
    w.answer(&[2, 0x81, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((w.tcp(), w.sent.len(), w.said.len()), (6881, 0, 1));
}

#[test]
fn g4_a_huge_lifetime_is_renewed_within_a_day_and_a_lifetime_of_0_is_a_refusal() {
    let mut w = World::at_home();
    w.serve(&Router { lifetime_s: u32::MAX, ..PCP });
    w.wait(Duration::from_secs(12 * 3600));
    assert_eq!(w.sent.len(), 2);

    let mut w = World::at_home();
    w.serve(&Router { lifetime_s: 0, ..PCP });
    w.wait(Duration::from_secs(60));
    assert_eq!(w.said, [PortMapping::Refused { router: ROUTER.0.into(), code: 0 }]);
    assert!(w.sent.is_empty());
    w.wait(Duration::from_secs(239));
    assert!(w.sent.is_empty());
    w.wait(Duration::from_secs(1));
    assert_eq!(w.serve(&PCP), 2, "asked again after five minutes");
    assert_eq!(w.said.len(), 2);
}

#[test]
fn a_router_that_refuses_is_named_with_its_code() {
    let mut w = World::at_home();
    w.serve(&Router { result: 2, ..PCP });
    w.wait(Duration::from_secs(60));
    assert_eq!(w.said, [PortMapping::Refused { router: ROUTER.0.into(), code: 2 }]);
}

#[test]
fn an_address_outside_that_is_not_public_is_said() {
    let of = |outside| {
        let mut w = World::at_home();
        w.serve(&Router { outside, ..PCP });
        w.said[0]
    };
    assert_eq!(
        of([10, 1, 2, 3]),
        PortMapping::BehindAnotherRouter { address: [10, 1, 2, 3].into(), tcp: 6881 }
    );
    assert!(of([192, 168, 8, 2]).to_string().contains("behind another router"));
    assert!(of([100, 64, 0, 9]).to_string().contains("the provider shares one address"));
    assert!(matches!(of([100, 128, 0, 9]), PortMapping::Open { .. }));
}

#[test]
fn mappings_are_deleted_at_the_end_with_one_packet_each() {
    for router in [PCP, NAT_PMP] {
        let mut w = World::at_home();
        while w.serve(&router) > 0 {}
        w.engine.shut_down(w.now, &mut w.out);
        assert!(w.engine.is_idle(), "nothing is waited for");
        w.drain();
        let lifetime = |bytes: &[u8]| if router.pcp { bytes[4..8].to_vec() } else { bytes[8..12].to_vec() };
        assert_eq!(w.sent.len(), 2);
        assert!(w.sent.iter().all(|(_, bytes)| lifetime(bytes) == [0; 4]));
        assert_eq!(w.engine.next_deadline(), None);
    }
}

#[test]
fn of_ipv6_a_pinhole_is_asked_for_and_a_silent_router_is_not_mentioned() {
    let mut w = World::new(Gateways { v4: None, v6: Some(v6_home()) });
    assert!(w.sent.iter().all(|(to, bytes)| *to == v6_home().addr
        && bytes[8..24] == [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]));
    let mut silent = World::new(Gateways { v4: None, v6: Some(v6_home()) });
    silent.wait(Duration::from_secs(600));
    assert_eq!((silent.sent.len(), silent.said.len()), (12, 0), "NAT-PMP has no IPv6");
    let questions = w.questions();
    for question in &questions {
        // The zone of the sender may be missing.
        let from = ("fe80::1".parse::<std::net::Ipv6Addr>().unwrap(), 5351).into();
        let mut answer = PCP.answer(question).unwrap();
        answer[44..].copy_from_slice(&"2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        w.receive(from, &answer);
    }
    assert!(
        matches!(w.said[..], [PortMapping::Open { address: Some(IpAddr::V6(_)), tcp: 6881, .. }]),
        "{:?}",
        w.said
    );
}
