//! Port mapping over UDP: PCP (RFC 6887) and its predecessor NAT-PMP (RFC 6886), both spoken to port
//! [`PORT`] of the router.
//!
//! ```text
//!   NAT-PMP  version 0, opcode, …                       answer: opcode + 128, result, epoch, …
//!   PCP      version 2, opcode, lifetime, our address,  answer: opcode + 128, result, lifetime, epoch,
//!            nonce, protocol, ports, address                    nonce, protocol, ports, address
//! ```
//!
//! Answers are untrusted: their sender, nonce and ports are compared with the question by the caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The router's port for both protocols.
pub const PORT: u16 = 5351;
/// Bytes of a PCP request or answer for a mapping.
const PCP_BYTES: usize = 60;
/// Bytes of the header of a PCP answer.
const PCP_HEADER_BYTES: usize = 24;
/// The opcode of a PCP mapping.
const PCP_MAP: u8 = 1;
/// The bit of an opcode that marks an answer.
const ANSWER: u8 = 0x80;

/// Identifies a PCP mapping: its renewal and its deletion repeat the nonce.
pub type Nonce = [u8; 12];

/// The transport protocol of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappedProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl MappedProtocol {
    /// Both protocols.
    pub const BOTH: [MappedProtocol; 2] = [MappedProtocol::Tcp, MappedProtocol::Udp];

    /// Returns the protocol's name in UPnP.
    pub const fn name(self) -> &'static str {
        match self {
            MappedProtocol::Tcp => "TCP",
            MappedProtocol::Udp => "UDP",
        }
    }

    /// Returns the protocol's number (IANA).
    const fn number(self) -> u8 {
        match self {
            MappedProtocol::Tcp => 6,
            MappedProtocol::Udp => 17,
        }
    }

    /// Returns the opcode of a NAT-PMP mapping.
    const fn opcode(self) -> u8 {
        match self {
            MappedProtocol::Udp => 1,
            MappedProtocol::Tcp => 2,
        }
    }
}

/// A mapping to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// The protocol.
    pub protocol: MappedProtocol,
    /// Our port.
    pub internal: u16,
    /// The wished port outside; 0 is any.
    pub external: u16,
    /// Seconds to keep the mapping; 0 deletes it.
    pub lifetime_s: u32,
}

/// Returns the NAT-PMP question for the router's external address.
pub fn nat_pmp_address() -> Vec<u8> {
    vec![0, 0]
}

/// Returns the NAT-PMP request of a mapping.
pub fn nat_pmp_map(request: &MapRequest) -> Vec<u8> {
    // A deletion names no external port (RFC 6886, 3.4).
    let external = if request.lifetime_s == 0 { 0 } else { request.external };
    let mut bytes = vec![0, request.protocol.opcode(), 0, 0];
    bytes.extend(request.internal.to_be_bytes());
    bytes.extend(external.to_be_bytes());
    bytes.extend(request.lifetime_s.to_be_bytes());
    bytes
}

/// Returns the PCP request of a mapping; `client` is the address that the packet is sent from.
pub fn pcp_map(request: &MapRequest, client: IpAddr, nonce: &Nonce) -> Vec<u8> {
    let any = if client.is_ipv4() { Ipv4Addr::UNSPECIFIED.to_ipv6_mapped() } else { Ipv6Addr::UNSPECIFIED };
    let client = match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = vec![2, PCP_MAP, 0, 0];
    bytes.extend(request.lifetime_s.to_be_bytes());
    bytes.extend(client.octets());
    bytes.extend(nonce);
    bytes.extend([request.protocol.number(), 0, 0, 0]);
    bytes.extend(request.internal.to_be_bytes());
    bytes.extend(request.external.to_be_bytes());
    bytes.extend(any.octets());
    bytes
}

/// The mapping in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The protocol.
    pub protocol: MappedProtocol,
    /// Our port.
    pub internal: u16,
    /// The port outside.
    pub external: u16,
    /// Seconds until the mapping ends.
    pub lifetime_s: u32,
    /// Of PCP: the nonce and the external address.
    pub pcp: Option<(Nonce, IpAddr)>,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The external address, of NAT-PMP.
    Address(Ipv4Addr),
    /// A mapping, granted or refused.
    Mapping(Mapped),
    /// Not said: the router did not understand the version, or refused without repeating the request.
    Nothing,
}

/// The router's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterAnswer {
    /// The version that the router speaks: 0 for NAT-PMP, 2 for PCP.
    pub version: u8,
    /// 0 is success, 1 an unknown version; the others depend on the protocol.
    pub result: u16,
    /// Seconds since the router lost its mappings.
    pub epoch_s: u32,
    /// What the answer is about.
    pub subject: Subject,
}

/// Parses an answer; `None` if it is none.
pub fn parse_answer(bytes: &[u8]) -> Option<RouterAnswer> {
    match bytes {
        [0, opcode @ ANSWER..=0xff, ..] => parse_nat_pmp(*opcode, bytes),
        [2, opcode @ ANSWER..=0xff, ..] => parse_pcp(*opcode, bytes),
        _ => None,
    }
}

fn parse_nat_pmp(opcode: u8, bytes: &[u8]) -> Option<RouterAnswer> {
    let mut fields = Fields(bytes.get(2..)?);
    let result = fields.u16()?;
    let epoch_s = fields.u32()?;
    let answer = |subject| RouterAnswer { version: 0, result, epoch_s, subject };
    let protocol = MappedProtocol::BOTH.into_iter().find(|p| opcode == p.opcode() | ANSWER);
    let subject = match protocol {
        // A router that does not know the version answers with eight bytes (RFC 6886, 3.5).
        _ if fields.0.is_empty() && result != 0 => Subject::Nothing,
        Some(protocol) => Subject::Mapping(Mapped {
            protocol,
            internal: fields.u16()?,
            external: fields.u16()?,
            lifetime_s: fields.u32()?,
            pcp: None,
        }),
        None if opcode == ANSWER => Subject::Address(Ipv4Addr::from(fields.u32()?)),
        None if result != 0 => Subject::Nothing,
        None => return None,
    };
    Some(answer(subject))
}

fn parse_pcp(opcode: u8, bytes: &[u8]) -> Option<RouterAnswer> {
    let mut fields = Fields(bytes.get(3..)?);
    let result = u16::from(fields.bytes::<1>()?[0]);
    let lifetime_s = fields.u32()?;
    let epoch_s = fields.u32()?;
    let mut fields = Fields(bytes.get(PCP_HEADER_BYTES..)?);
    let answer = |subject| RouterAnswer { version: 2, result, epoch_s, subject };
    if opcode != PCP_MAP | ANSWER || bytes.len() < PCP_BYTES {
        return (result != 0).then(|| answer(Subject::Nothing));
    }
    let nonce = fields.bytes::<12>()?;
    let [number, ..] = fields.bytes::<4>()?;
    let protocol = MappedProtocol::BOTH.into_iter().find(|p| p.number() == number)?;
    let (internal, external) = (fields.u16()?, fields.u16()?);
    let address = IpAddr::from(fields.bytes::<16>()?).to_canonical();
    let mapped = Mapped { protocol, internal, external, lifetime_s, pcp: Some((nonce, address)) };
    Some(answer(Subject::Mapping(mapped)))
}

/// The rest of a packet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: MapRequest =
        MapRequest { protocol: MappedProtocol::Tcp, internal: 6881, external: 6881, lifetime_s: 7200 };
    const NONCE: Nonce = *b"abcdefghijkl";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn writes_nat_pmp_requests_as_the_rfc_shows_them() {
        assert_eq!(nat_pmp_address(), hex("00 00"));
        assert_eq!(nat_pmp_map(&TCP), hex("00 02 0000 1ae1 1ae1 00001c20"));
        let delete = MapRequest { protocol: MappedProtocol::Udp, lifetime_s: 0, ..TCP };
        assert_eq!(
            nat_pmp_map(&delete),
            hex("00 01 0000 1ae1 0000 00000000"),
            "a deletion names no port outside"
        );
    }

    #[test]
    fn writes_pcp_requests_as_the_rfc_shows_them() {
        let client = "192.168.1.7".parse().unwrap();
        let expected = "02 01 0000 00001c20 00000000000000000000ffffc0a80107 6162636465666768696a6b6c 06 000000 1ae1 1ae1 \
                        00000000000000000000ffff00000000";
        assert_eq!(pcp_map(&TCP, client, &NONCE), hex(expected));
        let udp = MapRequest { protocol: MappedProtocol::Udp, external: 0, ..TCP };
        let over_v6 = pcp_map(&udp, "2001:db8::7".parse().unwrap(), &NONCE);
        let expected = "02 01 0000 00001c20 20010db8000000000000000000000007 6162636465666768696a6b6c 11 000000 1ae1 0000 \
                        00000000000000000000000000000000";
        assert_eq!(over_v6, hex(expected));
    }

    #[test]
    fn reads_nat_pmp_answers() {
        let address = parse_answer(&hex("00 80 0000 0000003c cb007105")).unwrap();
        assert_eq!((address.result, address.epoch_s), (0, 60));
        assert_eq!(address.subject, Subject::Address(Ipv4Addr::new(203, 0, 113, 5)));
        let mapped = parse_answer(&hex("00 82 0000 00000100 1ae1 9c40 00000e10")).unwrap();
        let expected = Mapped {
            protocol: MappedProtocol::Tcp,
            internal: 6881,
            external: 40_000,
            lifetime_s: 3600,
            pcp: None,
        };
        assert_eq!((mapped.version, mapped.subject), (0, Subject::Mapping(expected)));
        let refused = parse_answer(&hex("00 81 0002 00000100 1ae1 0000 00000000")).unwrap();
        assert_eq!(refused.result, 2);
    }

    #[test]
    fn a_router_that_knows_nat_pmp_only_answers_pcp_with_its_version() {
        let answer = parse_answer(&hex("00 81 0001 00000100")).unwrap();
        assert_eq!((answer.version, answer.result, answer.subject), (0, 1, Subject::Nothing));
    }

    #[test]
    fn reads_pcp_answers() {
        let bytes = hex(
            "02 81 00 00 00000e10 00000005 000000000000000000000000 6162636465666768696a6b6c 06 000000 1ae1 9c40 \
                         00000000000000000000ffffcb007105",
        );
        let answer = parse_answer(&bytes).unwrap();
        assert_eq!((answer.version, answer.result, answer.epoch_s), (2, 0, 5));
        let Subject::Mapping(mapped) = answer.subject else { panic!("{answer:?}") };
        assert_eq!((mapped.internal, mapped.external, mapped.lifetime_s), (6881, 40_000, 3600));
        assert_eq!(mapped.pcp, Some((NONCE, "203.0.113.5".parse().unwrap())));
        let mut refused = bytes;
        refused[3] = 8;
        assert_eq!(parse_answer(&refused).unwrap().result, 8);
    }

    #[test]
    fn g1_a_short_or_foreign_answer_is_refused() {
        let answer = hex(
            "02 81 00 00 00000e10 00000005 000000000000000000000000 6162636465666768696a6b6c 06 000000 1ae1 9c40 \
                          00000000000000000000ffffcb007105",
        );
        for len in 0..answer.len() {
            assert_eq!(parse_answer(&answer[..len]), None, "{len} bytes");
        }
        for len in 0..16 {
            assert_eq!(
                parse_answer(&hex("00 82 0000 00000100 1ae1 9c40 00000e10")[..len]),
                None,
                "{len} bytes"
            );
        }
        assert_eq!(
            parse_answer(&pcp_map(&TCP, "10.0.0.1".parse().unwrap(), &NONCE)),
            None,
            "our own request"
        );
        assert_eq!(parse_answer(&hex("01 81 0000 00000100 1ae1 9c40 00000e10")), None, "an unknown version");
        let mut sctp = answer;
        sctp[36] = 132;
        assert_eq!(parse_answer(&sctp), None, "a protocol that is not asked for");
    }
}
