//! The fuzz target of a peer's stream: the decoder neither panics nor gives other frames when the stream is
//! cut in another way.

use super::decoder::{Decoder, Frame, ReadAhead};
use super::message::FrameError;

/// What the decoder returned, owned so that two runs can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodedFrame {
    /// A frame, formatted with `Debug`.
    Frame(String),
    /// A block: piece, first byte, and the payload received.
    Block(u32, u32, Vec<u8>),
    /// An error, which ends the stream.
    Error(FrameError),
}

/// Decodes `stream`, read in pieces of the lengths in `cuts`, which repeat.
pub fn decode_cut(stream: &[u8], cuts: &[usize], ahead: ReadAhead) -> Vec<DecodedFrame> {
    let mut d = Decoder::default();
    d.set_bitfield_len(3);
    let mut seen = Vec::new();
    let mut rest = stream;
    let mut cut = cuts.iter().cycle();
    while !rest.is_empty() {
        let available = (*cut.next().unwrap_or(&usize::MAX)).max(1).min(rest.len());
        let payload = (d.payload_left() as usize).min(available);
        if payload > 0 {
            take(&mut seen, &rest[..payload]);
            if payload == d.payload_left() as usize {
                let spill = d.spill(ahead);
                let n = spill.len().min(available - payload);
                spill[..n].copy_from_slice(&rest[payload..payload + n]);
                d.payload_taken(payload as u32);
                d.advance(n);
                rest = &rest[payload + n..];
            } else {
                d.payload_taken(payload as u32);
                rest = &rest[payload..];
            }
        } else if d.skip_left() > 0 {
            let n = (d.skip_left() as usize).min(available);
            d.payload_taken(n as u32);
            rest = &rest[n..];
        } else {
            let room = d.room(ahead);
            let n = room.len().min(available);
            room[..n].copy_from_slice(&rest[..n]);
            d.advance(n);
            rest = &rest[n..];
        }
        loop {
            match d.next_frame() {
                Ok(None) => {}
                Ok(Some(Frame::Block { piece, begin, .. })) => {
                    seen.push(DecodedFrame::Block(piece, begin, Vec::new()));
                    continue;
                }
                Ok(Some(frame)) => {
                    seen.push(DecodedFrame::Frame(format!("{frame:?}")));
                    continue;
                }
                Err(e) => {
                    seen.push(DecodedFrame::Error(e));
                    return seen;
                }
            }
            let came_along = d.buffered().to_vec();
            if came_along.is_empty() {
                break;
            }
            take(&mut seen, &came_along);
            d.buffered_taken(came_along.len() as u32);
        }
    }
    seen
}

fn take(seen: &mut [DecodedFrame], bytes: &[u8]) {
    match seen.last_mut() {
        Some(DecodedFrame::Block(_, _, payload)) => payload.extend_from_slice(bytes),
        other => panic!("payload after {other:?}"),
    }
}

/// Runs the fuzz target: the first 8 bytes choose the cuts, the rest is the stream.
pub fn peer_stream(data: &[u8]) {
    let (cuts, stream) = data.split_at(data.len().min(8));
    let cuts: Vec<usize> = cuts.iter().map(|&b| usize::from(b) * 37 + 1).collect();
    let mut with_handshake = crate::wire::Handshake {
        info_hash: crate::units::InfoHash([1; 20]),
        peer_id: crate::units::PeerId([2; 20]),
        fast: true,
        extended: true,
        dht: false,
    }
    .to_bytes()
    .to_vec();
    with_handshake.extend_from_slice(stream);
    for bytes in [stream, &with_handshake] {
        let whole = decode_cut(bytes, &[], ReadAhead::Full);
        assert_eq!(decode_cut(bytes, &cuts, ReadAhead::Full), whole);
        assert_eq!(decode_cut(bytes, &cuts, ReadAhead::Header), whole);
    }
}
