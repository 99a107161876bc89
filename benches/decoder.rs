//! Decoding of a peer's stream into frames. Run with `cargo bench --bench decoder`.
//!
//! `blocks`: a download whose payload is discarded. `haves`: `have` messages of 9 bytes, as in a large swarm.

use divan::{Bencher, counter::BytesCount, counter::ItemsCount};
use rill::units::{InfoHash, PeerId};
use rill::wire::{Decoder, Frame, Handshake, Message, ReadAhead};

fn main() {
    divan::main();
}

fn handshake() -> Vec<u8> {
    let h = Handshake {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        fast: true,
        extended: true,
        dht: false,
    };
    h.to_bytes().to_vec()
}

/// Decodes a stream as the session does, with payload read past the decoder's buffer. Returns the number of
/// frames.
fn decode(stream: &[u8], ahead: ReadAhead) -> usize {
    let mut d = Decoder::default();
    let mut rest = stream;
    let mut frames = 0;
    loop {
        while let Some(frame) = d.next_frame().expect("a valid stream") {
            frames += 1;
            if let Frame::Block { .. } = frame {
                break;
            }
        }
        let buffered = d.buffered().len() as u32;
        d.buffered_taken(buffered);
        if rest.is_empty() {
            return frames;
        }
        let left = (d.payload_left() as usize).min(rest.len());
        if left > 0 {
            rest = &rest[left..];
            let spill = d.spill(ahead);
            let n = spill.len().min(rest.len());
            spill[..n].copy_from_slice(&rest[..n]);
            d.payload_taken(left as u32);
            d.advance(n);
            rest = &rest[n..];
        } else {
            let room = d.room(ahead);
            let n = room.len().min(rest.len());
            room[..n].copy_from_slice(&rest[..n]);
            d.advance(n);
            rest = &rest[n..];
        }
    }
}

#[divan::bench]
fn blocks(bencher: Bencher<'_, '_>) {
    let mut stream = handshake();
    for n in 0..1024u32 {
        stream.extend((9u32 + 16384).to_be_bytes());
        stream.push(7);
        stream.extend((n / 16).to_be_bytes());
        stream.extend((n % 16 * 16384).to_be_bytes());
        stream.resize(stream.len() + 16384, 0);
    }
    assert_eq!(decode(&stream, ReadAhead::Header), 1025);
    bencher
        .counter(ItemsCount::new(1024usize))
        .bench(|| decode(divan::black_box(&stream), ReadAhead::Header));
}

#[divan::bench]
fn haves(bencher: Bencher<'_, '_>) {
    let mut stream = handshake();
    for piece in 0..10_000 {
        Message::Have { piece }.write(&mut stream);
    }
    assert_eq!(decode(&stream, ReadAhead::Full), 10_001);
    let counter = BytesCount::new(stream.len());
    bencher
        .counter(counter)
        .counter(ItemsCount::new(10_000usize))
        .bench(|| decode(divan::black_box(&stream), ReadAhead::Full));
}
