//! Packets of the Micro Transport Protocol, uTP (BEP 29): a header of 20 bytes, a chain of extensions, payload.
//!
//! ```text
//!   0        1         2               4              8             12              16        18       20
//!   type<<4|1 extension connection id   timestamp µs   difference µs  window bytes   seq_nr   ack_nr
//!   then for each extension: type of the next one (0: none), length, that many bytes
//! ```
//!
//! The selective ack (extension 1) is read with any length: libtorrent writes lengths that are not a multiple
//! of 4. Other extensions are skipped by their length. None but the selective ack is written: libutp drops a
//! packet whose first extension is 3 or higher. A SYN with payload is refused: other protocols' packets look
//! like one.

use super::limits::UTP_SACK_BYTES;

/// Bytes of a header without extensions.
pub const UTP_HEADER_LEN: usize = 20;

/// The extension number of a selective ack.
const SELECTIVE_ACK: u8 = 1;

/// The type of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtpKind {
    /// Carries payload.
    Data,
    /// Ends the sender's stream.
    Fin,
    /// Carries an acknowledgement only, and takes no sequence number.
    State,
    /// Ends the connection at once.
    Reset,
    /// Begins a connection.
    Syn,
}

impl UtpKind {
    fn of(number: u8) -> Option<UtpKind> {
        [UtpKind::Data, UtpKind::Fin, UtpKind::State, UtpKind::Reset, UtpKind::Syn]
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    fn number(self) -> u8 {
        match self {
            UtpKind::Data => 0,
            UtpKind::Fin => 1,
            UtpKind::State => 2,
            UtpKind::Reset => 3,
            UtpKind::Syn => 4,
        }
    }
}

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtpHeader {
    /// The type.
    pub kind: UtpKind,
    /// The id under which the receiver knows the connection; in a SYN, the id under which the sender does.
    pub connection_id: u16,
    /// The sender's clock, in microseconds modulo 2³².
    pub timestamp_us: u32,
    /// The sender's clock less `timestamp_us` of the last packet that it received; 0 before the first.
    pub difference_us: u32,
    /// Bytes that the sender can still receive.
    pub window_bytes: u32,
    /// The sequence number of this packet; of a STATE, the next one.
    pub seq: u16,
    /// The last sequence number before which the sender has received every packet, itself included.
    pub ack: u16,
}

/// A received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtpPacket<'a> {
    /// The header.
    pub header: UtpHeader,
    /// The selective ack's bits, lowest bit of the first byte first: bit 0 is packet `ack + 2`. Empty without
    /// one.
    pub selective_ack: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> UtpPacket<'a> {
    /// Reads a packet; `None` if it is not a well-formed one of version 1.
    pub fn parse(bytes: &'a [u8]) -> Option<UtpPacket<'a>> {
        let (head, mut rest) = bytes.split_first_chunk::<UTP_HEADER_LEN>()?;
        let [kind, first, id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = head;
        if kind & 0x0f != 1 {
            return None;
        }
        let header = UtpHeader {
            kind: UtpKind::of(kind >> 4)?,
            connection_id: u16::from_be_bytes(*id),
            timestamp_us: u32::from_be_bytes(*head.get(4..)?.first_chunk()?),
            difference_us: u32::from_be_bytes(*head.get(8..)?.first_chunk()?),
            window_bytes: u32::from_be_bytes(*head.get(12..)?.first_chunk()?),
            seq: u16::from_be_bytes(*head.get(16..)?.first_chunk()?),
            ack: u16::from_be_bytes(*head.get(18..)?.first_chunk()?),
        };
        let mut selective_ack: &[u8] = &[];
        let mut extension = *first;
        while extension != 0 {
            let ([next, len], body) = rest.split_first_chunk()?;
            let (body, after) = body.split_at_checked(usize::from(*len))?;
            if extension == SELECTIVE_ACK {
                selective_ack = body;
            }
            (extension, rest) = (*next, after);
        }
        let empty = !matches!(header.kind, UtpKind::Data | UtpKind::Fin);
        (rest.is_empty() || !empty).then_some(UtpPacket { header, selective_ack, payload: rest })
    }

    /// Returns the sequence numbers that the selective ack names.
    pub fn selectively_acked(&self) -> impl Iterator<Item = u16> {
        let first = self.header.ack.wrapping_add(2);
        let bits = self.selective_ack.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        (0u16..).zip(bits).filter_map(move |(n, set)| set.then_some(first.wrapping_add(n)))
    }

    /// Appends the packet to `out`. The selective ack is cut after [`UTP_SACK_BYTES`] and padded with zeros to a
    /// multiple of 4 bytes; one without a bit is left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        let bits = self.selective_ack.get(..UTP_SACK_BYTES).unwrap_or(self.selective_ack);
        let used = bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        let header = &self.header;
        out.push(header.kind.number() << 4 | 1);
        out.push(if used > 0 { SELECTIVE_ACK } else { 0 });
        out.extend(header.connection_id.to_be_bytes());
        out.extend(header.timestamp_us.to_be_bytes());
        out.extend(header.difference_us.to_be_bytes());
        out.extend(header.window_bytes.to_be_bytes());
        out.extend(header.seq.to_be_bytes());
        out.extend(header.ack.to_be_bytes());
        if used > 0 {
            let len = used.next_multiple_of(4);
            out.extend([0, len as u8]);
            out.extend(bits.iter().copied().take(used).chain([0; 4]).take(len));
        }
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(kind: UtpKind) -> UtpHeader {
        UtpHeader {
            kind,
            connection_id: 0x3039,
            timestamp_us: 0x0102_0304,
            difference_us: 0,
            window_bytes: 0x0010_0000,
            seq: 0x1234,
            ack: 0,
        }
    }

    fn written(packet: &UtpPacket<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        packet.write(&mut out);
        out
    }

    #[test]
    fn writes_a_syn_as_in_bep_29() {
        let syn = UtpPacket { header: header(UtpKind::Syn), selective_ack: &[], payload: &[] };
        let bytes = [0x41, 0, 0x30, 0x39, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x12, 0x34, 0, 0];
        assert_eq!(written(&syn), bytes);
        assert_eq!(UtpPacket::parse(&bytes), Some(syn));
    }

    #[test]
    fn a_selective_ack_counts_from_the_second_packet_after_the_ack() {
        let mut header = header(UtpKind::State);
        header.ack = 100;
        let state = UtpPacket { header, selective_ack: &[0x0a], payload: &[] };
        assert_eq!(state.selectively_acked().collect::<Vec<_>>(), [103, 105]);
        let bytes = written(&state);
        assert_eq!(bytes[1], 1);
        assert_eq!(bytes[20..], [0, 4, 0x0a, 0, 0, 0]);
        header.ack = 65_533;
        let wrapping = UtpPacket { header, selective_ack: &[0x03], payload: &[] };
        assert_eq!(wrapping.selectively_acked().collect::<Vec<_>>(), [65_535, 0]);
    }

    /// libtorrent writes selective acks of any length, old µTorrent adds extension 2, libtorrent adds 3.
    #[test]
    fn u2_extensions_of_other_programs_are_read_or_skipped() {
        let mut bytes =
            written(&UtpPacket { header: header(UtpKind::State), selective_ack: &[], payload: &[] });
        bytes[1] = 2;
        bytes.extend([1, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([3, 5, 1, 0, 0, 0, 0x80]);
        bytes.extend([0, 4, 0, 0, 0, 9]);
        let packet = UtpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.selective_ack, [1, 0, 0, 0, 0x80]);
        bytes[0] = 0x41;
        assert_eq!(UtpPacket::parse(&bytes).map(|p| p.header.kind), Some(UtpKind::Syn));
    }

    #[test]
    fn u2_malformed_packets_are_refused() {
        let good = written(&UtpPacket {
            header: header(UtpKind::Data),
            selective_ack: &[1, 0, 0, 0],
            payload: b"payload",
        });
        for len in 0..26 {
            assert_eq!(UtpPacket::parse(&good[..len]), None, "cut after {len} bytes");
        }
        for first in [0x51, 0xf1, 0x00, 0x02, 0x12] {
            let mut bytes = good.clone();
            bytes[0] = first;
            assert_eq!(UtpPacket::parse(&bytes), None, "{first:#x}");
        }
        for kind in [0x21, 0x31, 0x41] {
            let mut bytes = good.clone();
            bytes[0] = kind;
            assert_eq!(UtpPacket::parse(&bytes), None, "{kind:#x} with payload");
        }
    }

    proptest! {
        #[test]
        fn u2_any_bytes_give_a_packet_that_reads_back_or_none(kind in 0u8..6, bytes: Vec<u8>) {
            let bytes = [&[kind << 4 | 1][..], &bytes].concat();
            if let Some(packet) = UtpPacket::parse(&bytes) {
                prop_assert!(packet.selective_ack.len() <= 255 && packet.payload.len() <= bytes.len() - 20);
                let again = written(&packet);
                let read = UtpPacket::parse(&again).unwrap();
                prop_assert_eq!((read.header, read.payload), (packet.header, packet.payload));
                let kept = packet.selectively_acked().filter(|seq| {
                    seq.wrapping_sub(packet.header.ack).wrapping_sub(2) < 8 * UTP_SACK_BYTES as u16
                });
                prop_assert_eq!(read.selectively_acked().collect::<Vec<_>>(), kept.collect::<Vec<_>>());
            }
        }
    }
}
