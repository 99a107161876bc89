//! The extension handshake (BEP 10): the extensions that a side supports, and their message ids.
//!
//! A peer may send it repeatedly: a later handshake replaces the fields that it contains and leaves the
//! others. A number out of range counts as absent, so a malformed handshake enables nothing. Reading
//! allocates only the client's name.

use super::bencode::{BencodeError, Bytes, Lenient, Rules, scan, to_bytes};
use super::limits::{CLIENT_CHARS, EXTENDED_TOKENS, MESSAGE_DEPTH, METADATA_BYTES, REQQ};
use super::printable;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The message id of the handshake itself, inside extension messages.
pub const HANDSHAKE_ID: u8 = 0;

/// Message ids of the extensions that rill supports; 0: not supported by that side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// Metadata from peers (BEP 9).
    pub ut_metadata: u8,
    /// Peer exchange (BEP 11).
    pub ut_pex: u8,
    /// The sender no longer has a piece (BEP 54).
    pub lt_donthave: u8,
    /// Hole punching (BEP 55).
    pub ut_holepunch: u8,
}

impl ExtensionIds {
    /// The ids that peers must use in messages to rill.
    pub const OURS: ExtensionIds =
        ExtensionIds { ut_metadata: 1, ut_pex: 2, lt_donthave: 3, ut_holepunch: 4 };
}

/// The handshake of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// The ids for messages to this side.
    pub ids: ExtensionIds,
    /// The client's name, sanitized for display (`v`).
    pub client: Option<String>,
    /// The port on which it listens (`p`).
    pub port: Option<u16>,
    /// Outstanding requests that it accepts (`reqq`), in 1…[`REQQ`].
    pub reqq: Option<u32>,
    /// Bytes of the info dictionary, in 1…[`METADATA_BYTES`]. Unverified until the metadata matches its hash.
    pub metadata_size: Option<u32>,
    /// Whether it prefers encrypted connections (`e`).
    pub encryption: Option<bool>,
    /// Whether it downloads nothing more (BEP 21).
    pub upload_only: Option<bool>,
    /// The receiver's address as the sender sees it (`yourip`).
    pub your_ip: Option<IpAddr>,
}

impl ExtendedHandshake {
    /// Returns the payload after the message id. It is the same for all peers of a torrent unless `your_ip`
    /// is set.
    pub fn encode(&self) -> Vec<u8> {
        let spoken = |id: u8| Lenient(Some(id).filter(|id| *id != 0));
        let ExtensionIds { ut_metadata, ut_pex, lt_donthave, ut_holepunch } = self.ids;
        let (v4, v6);
        let your_ip = match self.your_ip {
            Some(IpAddr::V4(ip)) => {
                v4 = ip.octets();
                Some(&v4[..])
            }
            Some(IpAddr::V6(ip)) => {
                v6 = ip.octets();
                Some(&v6[..])
            }
            None => None,
        };
        to_bytes(&HandshakeDictionary {
            e: self.encryption.map(|flag| Lenient(Some(i64::from(flag)))),
            m: Lenient(Some(IdDictionary {
                lt_donthave: spoken(lt_donthave),
                ut_holepunch: spoken(ut_holepunch),
                ut_metadata: spoken(ut_metadata),
                ut_pex: spoken(ut_pex),
            })),
            metadata_size: self.metadata_size.map(|size| Lenient(Some(size))),
            p: self.port.map(|port| Lenient(Some(port))),
            reqq: self.reqq.map(|reqq| Lenient(Some(i64::from(reqq)))),
            upload_only: self.upload_only.map(|flag| Lenient(Some(i64::from(flag)))),
            v: self.client.as_ref().map(|client| Lenient(Some(Bytes(client.as_bytes())))),
            yourip: your_ip.map(|ip| Lenient(Some(Bytes(ip)))),
        })
    }

    /// Reads a peer's first handshake.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn parse(payload: &[u8]) -> Result<ExtendedHandshake, BencodeError> {
        let mut handshake = ExtendedHandshake::default();
        handshake.update(payload)?;
        Ok(handshake)
    }

    /// Applies another handshake. On an error nothing changes; a payload that is not a dictionary changes
    /// nothing either.
    pub fn update(&mut self, payload: &[u8]) -> Result<(), BencodeError> {
        const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: EXTENDED_TOKENS, strict: false };
        if let Ok(theirs) = scan(payload, &RULES)?.value.read() {
            self.apply(theirs);
        }
        Ok(())
    }

    fn apply(&mut self, theirs: HandshakeDictionary<'_>) {
        if let Some(m) = theirs.m.0 {
            let ids = &mut self.ids;
            let slots = [&mut ids.lt_donthave, &mut ids.ut_holepunch, &mut ids.ut_metadata, &mut ids.ut_pex];
            for (slot, id) in slots.into_iter().zip([m.lt_donthave, m.ut_holepunch, m.ut_metadata, m.ut_pex])
            {
                *slot = id.0.unwrap_or(*slot);
            }
        }
        if let Some(client) = theirs.v {
            self.client = client.bytes().map(|v| printable(v, CLIENT_CHARS)).filter(|v| !v.is_empty());
        }
        if let Some(port) = theirs.p {
            self.port = port.0.filter(|port| *port != 0);
        }
        if let Some(reqq) = theirs.reqq {
            self.reqq = reqq.0.filter(|n| *n >= 0).map(|n| n.clamp(1, i64::from(REQQ)) as u32);
        }
        if let Some(size) = theirs.metadata_size {
            self.metadata_size = size.0.filter(|size| (1..=METADATA_BYTES).contains(size));
        }
        if let Some(flag) = theirs.e {
            self.encryption = flag.0.map(|flag| flag != 0);
        }
        if let Some(flag) = theirs.upload_only {
            self.upload_only = flag.0.map(|flag| flag != 0);
        }
        if let Some(ip) = theirs.yourip {
            self.your_ip = ip.bytes().and_then(ip_from_bytes);
        }
    }
}

/// The dictionary of a handshake. A field with an invalid value resets what an earlier handshake set, except
/// for the ids in `m`.
#[derive(Deserialize, Serialize)]
struct HandshakeDictionary<'a> {
    e: Option<Lenient<i64>>,
    m: Lenient<IdDictionary>,
    metadata_size: Option<Lenient<u32>>,
    p: Option<Lenient<u16>>,
    reqq: Option<Lenient<i64>>,
    upload_only: Option<Lenient<i64>>,
    #[serde(borrow)]
    v: Option<Lenient<Bytes<'a>>>,
    yourip: Option<Lenient<Bytes<'a>>>,
}

/// The dictionary `m`: message ids by extension name.
#[derive(Deserialize, Serialize)]
struct IdDictionary {
    lt_donthave: Lenient<u8>,
    ut_holepunch: Lenient<u8>,
    ut_metadata: Lenient<u8>,
    ut_pex: Lenient<u8>,
}

fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{dict, i, list, s};

    fn parse(pairs: Vec<(&str, Vec<u8>)>) -> ExtendedHandshake {
        ExtendedHandshake::parse(&dict(pairs)).unwrap()
    }

    fn ids(id: Vec<u8>) -> ExtensionIds {
        parse(vec![("m", dict([("ut_pex", id), ("ut_metadata", i(3))]))]).ids
    }

    #[test]
    fn reads_what_it_wrote() {
        let ours = ExtendedHandshake {
            ids: ExtensionIds::OURS,
            client: Some("rill 0.1".into()),
            port: Some(6881),
            reqq: Some(500),
            metadata_size: Some(12_345),
            encryption: Some(true),
            upload_only: Some(true),
            your_ip: Some("1.2.3.4".parse().unwrap()),
        };
        assert_eq!(ExtendedHandshake::parse(&ours.encode()), Ok(ours));
        assert_eq!(ExtendedHandshake::default().encode(), b"d1:mdee");
    }

    #[test]
    fn accepts_unsorted_and_unknown_keys() {
        let got = parse(vec![
            ("v", s("x")),
            ("p", i(1)),
            ("m", dict([("ut_pex", i(9)), ("a", i(1))])),
            ("zz", list([])),
        ]);
        assert_eq!((got.client.as_deref(), got.port, got.ids.ut_pex), (Some("x"), Some(1), 9));
    }

    #[test]
    fn p16_garbage_is_an_error_or_changes_nothing() {
        for garbage in [&b""[..], b"garbage", b"d", b"d1:m", b"i"] {
            assert!(ExtendedHandshake::parse(garbage).is_err());
        }
        for nothing in [&b"le"[..], b"i5e", b"3:abc", b"de", b"d1:mi5ee"] {
            assert_eq!(ExtendedHandshake::parse(nothing), Ok(ExtendedHandshake::default()));
        }
    }

    #[test]
    fn p16_refuses_sixty_thousand_keys() {
        let many: String = (0..60_000).map(|n| format!("5:{n:05}i1e")).collect();
        let error = ExtendedHandshake::parse(format!("d1:md{many}ee").as_bytes()).unwrap_err();
        assert_eq!(error, BencodeError::TooManyTokens { limit: EXTENDED_TOKENS });
    }

    #[test]
    fn p16_refuses_fifty_thousand_levels_of_nesting() {
        let deep = format!("d1:m{}{}e", "l".repeat(50_000), "e".repeat(50_000));
        assert!(matches!(
            ExtendedHandshake::parse(deep.as_bytes()),
            Err(BencodeError::TooDeep { limit: 8, .. })
        ));
    }

    #[test]
    fn p16_ignores_ids_out_of_range() {
        for odd in [i(-1), i(300), i(256), s("1"), i("99999999999999999999")] {
            assert_eq!(ids(odd), ExtensionIds { ut_metadata: 3, ..ExtensionIds::default() });
        }
        assert_eq!(ids(i(255)).ut_pex, 255);
    }

    #[test]
    fn p16_clamps_or_ignores_numbers() {
        let reqq = |value| parse(vec![("reqq", value)]).reqq;
        assert_eq!(reqq(i(0)), Some(1));
        assert_eq!(reqq(i(250)), Some(250));
        assert_eq!(reqq(i(i64::MAX)), Some(REQQ));
        assert_eq!(reqq(i(1u64 << 63)), None);
        assert_eq!(reqq(i(-5)), None);
        let size = |value| parse(vec![("metadata_size", value)]).metadata_size;
        assert_eq!(size(i(METADATA_BYTES)), Some(METADATA_BYTES));
        for none in [0, -1, 1 << 31, i64::from(METADATA_BYTES) + 1, (1 << 32) + 5] {
            assert_eq!(size(i(none)), None);
        }
        for none in [0, -1, 65_536] {
            assert_eq!(parse(vec![("p", i(none))]).port, None);
        }
        assert!(
            parse(vec![("v", s("\x1b[2J".repeat(10_000)))]).client.unwrap().chars().count() <= CLIENT_CHARS
        );
        assert_eq!(parse(vec![("yourip", s([1; 7]))]).your_ip, None);
    }

    #[test]
    fn p16_a_repeated_handshake_changes_only_the_fields_that_it_contains() {
        let mut theirs = parse(vec![("m", dict([("ut_metadata", i(2)), ("ut_pex", i(1))])), ("v", s("x"))]);
        theirs.update(&dict([("m", dict([("ut_pex", i(0))])), ("upload_only", i(1))])).unwrap();
        assert_eq!(theirs.ids, ExtensionIds { ut_metadata: 2, ..ExtensionIds::default() });
        assert_eq!((theirs.client.as_deref(), theirs.upload_only), (Some("x"), Some(true)));
        let before = theirs.clone();
        assert!(theirs.update(b"d1:v1:y").is_err());
        assert_eq!(theirs, before);
    }
}
