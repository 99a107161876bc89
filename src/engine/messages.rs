//! What each message means: a peer's word against our books, and the answer to it.
//!
//! Everything here concerns one peer and its torrent; what follows for others leaves as an effect, done when the turn is over.

use super::changes::{anything_to_say, on_dont_have};
use super::conduct::{Close, Misconduct};
use super::core::Effect;
use super::early::{keep, on_metadata_message};
use super::exchanging::{introduce, on_pex};
use super::limits;
use super::peer::{Peer, Phase};
use super::stream::Cx;
use super::torrent::{Metadata, Torrent};
use crate::units::{Bitfield, Origin, PieceIndex};
use crate::wire::{ExtendedHandshake, ExtensionIds, HANDSHAKE_ID, MAX_BLOCK_LEN, Message, MetadataMessage, RawSpan};
use std::net::SocketAddr;

pub(super) fn on_message(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, message: Message<'_>) -> Result<(), Close> {
    if peer.phase != Phase::Up {
        return Ok(());
    }
    let of_fast = matches!(
        message,
        Message::HaveAll | Message::HaveNone | Message::Suggest { .. } | Message::Reject(_) | Message::AllowedFast { .. }
    );
    if of_fast && !peer.fast {
        return Err(Misconduct::NotFast.into());
    }
    let first = match message {
        // The extension handshake may come before the bitfield, and often does.
        Message::KeepAlive | Message::Extended { .. } | Message::Port { .. } => false,
        _ => !std::mem::replace(&mut peer.spoke, true),
    };
    if let Message::Port { port } = message {
        on_port(cx, t, peer, port);
    }
    if !t.open && !matches!(message, Message::Extended { .. }) {
        if let Message::Request(raw) = message {
            reject(cx, peer, raw);
        }
        keep(t, peer, &message, first);
        return Ok(());
    }
    match message {
        Message::KeepAlive | Message::Port { .. } => {}
        Message::Choke => on_choke(cx, t, peer),
        Message::Unchoke => peer.they_choke = false,
        Message::Interested => {
            peer.they_want = true;
            peer.last_wanted = cx.now;
            cx.effect(Effect::FillSlots { torrent: t.key });
        }
        Message::NotInterested => {
            peer.they_want = false;
            peer.last_wanted = cx.now;
            peer.set_we_choke(cx.now, true, cx.out);
            cx.effect(Effect::FillSlots { torrent: t.key });
        }
        Message::Have { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(Misconduct::NoSuchPiece(piece))?;
            on_have(cx, t, peer, piece)?;
        }
        // A second bitfield, or a late one, is not believed: what was counted would be counted twice.
        Message::Bitfield { bytes } if first => {
            if let Ok(has) = Bitfield::from_wire(bytes, t.pieces.geometry().pieces()) {
                on_has(cx, t, peer, has)?;
            }
        }
        Message::HaveAll if first => on_has(cx, t, peer, Bitfield::full(t.pieces.geometry().pieces()))?,
        Message::Bitfield { .. } | Message::HaveAll | Message::HaveNone => {}
        Message::Request(raw) => on_request(cx, t, peer, raw)?,
        Message::Cancel(raw) => {
            let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
            if let Some(span) = span.filter(|s| peer.outbox.take_back(*s)) {
                if peer.fast {
                    peer.say(&Message::Reject(span.into()), cx.out);
                }
            }
        }
        Message::Reject(raw) => {
            let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
            if let Some(block) = span.filter(|b| peer.window.rejected(*b)) {
                t.pieces.unask(block);
                peer.rejects += 1;
                if peer.rejects > limits::REJECTS_ONLY {
                    return Err(Misconduct::RejectsOnly(peer.rejects).into());
                }
                // What it rejects while choking us is not allowed fast after all.
                peer.fast_to_us.retain(|p| *p != block.piece());
                cx.effect(Effect::TopUp { torrent: t.key });
            }
        }
        Message::Suggest { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(Misconduct::NoSuchPiece(piece))?;
            remember(&mut peer.suggested, piece, limits::SUGGESTED_PIECES);
        }
        Message::AllowedFast { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(Misconduct::NoSuchPiece(piece))?;
            remember(&mut peer.fast_to_us, piece, limits::ALLOWED_FAST_REMEMBERED);
        }
        Message::Extended { id, payload } => on_extended(cx, t, peer, id, payload)?,
    }
    Ok(())
}

/// Keeps the first `limit` different pieces.
fn remember(list: &mut Vec<PieceIndex>, piece: PieceIndex, limit: usize) {
    if list.len() < limit && !list.contains(&piece) {
        list.push(piece);
    }
}

fn on_choke(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer) {
    peer.they_choke = true;
    let Peer { window, fast_to_us, .. } = peer;
    let given_up = window.give_up_all(|piece| fast_to_us.contains(&piece));
    for block in &given_up {
        t.pieces.unask(*block);
    }
    // What only this peer was to be asked for is everybody's, or it would hold up the torrent by choking us.
    if t.pieces.disown(peer.key) || !given_up.is_empty() {
        cx.effect(Effect::TopUp { torrent: t.key });
    }
}

/// The peer has one piece more.
fn on_have(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, piece: PieceIndex) -> Result<(), Close> {
    if !peer.has.set(piece) {
        return Ok(());
    }
    if !peer.joined_as_seed {
        t.picker.availability.add(piece);
    }
    if t.pieces.is_missing(piece) {
        peer.useful += 1;
        peer.set_we_want(cx.now, true, cx.out);
    }
    anything_to_say(t, peer)
}

/// The peer says all that it has.
fn on_has(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, has: Bitfield) -> Result<(), Close> {
    peer.joined_as_seed = has.is_full();
    t.picker.availability.join(&has);
    peer.useful = t.useful(&has);
    peer.has = has;
    peer.set_we_want(cx.now, peer.useful > 0, cx.out);
    anything_to_say(t, peer)
}

fn on_request(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, raw: RawSpan) -> Result<(), Close> {
    let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
    let span = span.filter(|s| s.len() <= MAX_BLOCK_LEN && t.pieces.have().has(s.piece()));
    let Some(span) = span else {
        reject(cx, peer, raw);
        return count_invalid(peer, raw);
    };
    if peer.we_choke {
        let allowed = peer.fast_to_them.iter_mut().find(|(p, _)| *p == span.piece());
        let Some((piece, taken)) = allowed else {
            reject(cx, peer, raw);
            // A request that crossed our choke on the wire is no offence.
            return if cx.now.since(peer.choke_changed) > limits::CHOKE_GRACE { count_invalid(peer, raw) } else { Ok(()) };
        };
        *taken += u64::from(span.len());
        if *taken > u64::from(limits::ALLOWED_FAST_TIMES) * u64::from(t.pieces.geometry().piece_len(*piece)) {
            return Err(Misconduct::FastAbuse(limits::ALLOWED_FAST_TIMES + 1).into());
        }
    }
    if peer.outbox.contains(span) {
        return Ok(());
    }
    if peer.outbox.blocks() >= limits::REQQ_OURS_BLOCKS {
        reject(cx, peer, raw);
        return Ok(());
    }
    peer.outbox.push_block(span);
    peer.flush(cx.out);
    Ok(())
}

/// The peer's node of the DHT, once a connection: it is asked whether it is there.
fn on_port(cx: &mut Cx<'_>, t: &Torrent, peer: &mut Peer, port: u16) {
    if t.allows(Origin::Dht) && port != 0 && !std::mem::replace(&mut peer.told_dht_port, true) {
        cx.effect(Effect::Node { addr: SocketAddr::new(peer.addr.ip(), port) });
    }
}

fn reject(cx: &mut Cx<'_>, peer: &mut Peer, raw: RawSpan) {
    if peer.fast {
        peer.say(&Message::Reject(raw), cx.out);
    }
}

fn count_invalid(peer: &mut Peer, last: RawSpan) -> Result<(), Close> {
    peer.invalid_requests += 1;
    let waiting = peer.outbox.control_bytes();
    match peer.invalid_requests {
        _ if waiting > limits::OUTBOX_CONTROL_BYTES => Err(Misconduct::NotReading(waiting).into()),
        count if count >= limits::INVALID_REQUESTS => Err(Misconduct::InvalidRequests { count, last }.into()),
        _ => Ok(()),
    }
}

fn on_extended(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, id: u8, payload: &[u8]) -> Result<(), Close> {
    match id {
        HANDSHAKE_ID => on_hello(cx, t, peer, payload)?,
        id if id == ExtensionIds::OURS.ut_pex => on_pex(cx, t, peer, payload),
        id if id == ExtensionIds::OURS.lt_donthave => on_dont_have(cx, t, peer, payload)?,
        id if id == ExtensionIds::OURS.ut_metadata => {
            if let Some(message) = MetadataMessage::parse(payload) {
                on_metadata_message(cx, t, peer, message);
            }
        }
        // Any other number is meant for nobody.
        _ => {}
    }
    Ok(())
}

fn on_hello(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) -> Result<(), Close> {
    let Some(hello) = ExtendedHandshake::parse(payload).ok() else { return Ok(()) };
    if let Some(reqq) = hello.reqq {
        peer.window.set_reqq(reqq);
    }
    peer.extensions = hello.ids;
    peer.listens_at = hello.port.or(peer.listens_at);
    peer.upload_only = hello.upload_only.unwrap_or(peer.upload_only);
    introduce(cx, t, peer);
    if hello.ids.ut_pex != 0 {
        cx.effect(Effect::Exchange { torrent: t.key });
    }
    if let (Metadata::Wanted(fetch), Some(size), true) = (&mut t.metadata, hello.metadata_size, hello.ids.ut_metadata != 0) {
        fetch.claims(peer.key, size);
        cx.effect(Effect::AskMetadata { torrent: t.key });
    }
    // Every change of it ranks a thousand addresses anew, so one opinion a connection is heard.
    if let Some(ip) = hello.your_ip.filter(|_| !std::mem::replace(&mut peer.told_our_ip, true)) {
        t.candidates.set_ours(SocketAddr::new(ip, 0));
    }
    anything_to_say(t, peer)
}
