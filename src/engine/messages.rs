//! What each message means: a peer's word against our books, and the answer to it.
//!
//! Everything here concerns one peer and its torrent; what follows for others leaves as an effect, done when the turn is over.

use super::deferred::{defer, on_metadata_message};
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::engine::Effect;
use super::limits;
use super::peer::{Peer, Phase};
use super::pex::{advertise, on_pex};
use super::stream::Cx;
use super::torrent::{Metadata, Torrent};
use super::upload_only::{check_mutual_interest, on_dont_have};
use crate::units::{Bitfield, Origin, PieceIndex};
use crate::wire::{ExtendedHandshake, ExtensionIds, HANDSHAKE_ID, MAX_BLOCK_LEN, Message, MetadataMessage, RawSpan};
use std::net::SocketAddr;

pub(super) fn on_message(
    cx: &mut Cx<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    message: Message<'_>,
) -> Result<(), DisconnectReason> {
    if peer.phase != Phase::Up {
        return Ok(());
    }
    let of_fast = matches!(
        message,
        Message::HaveAll | Message::HaveNone | Message::Suggest { .. } | Message::Reject(_) | Message::AllowedFast { .. }
    );
    if of_fast && !peer.fast {
        return Err(ProtocolViolation::NotFast.into());
    }
    let first = match message {
        // The extension handshake may come before the bitfield, and often does.
        Message::KeepAlive | Message::Extended { .. } | Message::Port { .. } => false,
        _ => !std::mem::replace(&mut peer.sent_have_info, true),
    };
    if let Message::Port { port } = message {
        on_port(cx, t, peer, port);
    }
    if !t.open && !matches!(message, Message::Extended { .. }) {
        if let Message::Request(raw) = message {
            reject(cx, peer, raw);
        }
        defer(t, peer, &message, first);
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
            let piece = t.pieces.geometry().piece(piece).ok_or(ProtocolViolation::NoSuchPiece(piece))?;
            on_have(cx, t, peer, piece)?;
        }
        // A second bitfield, or a late one, is not believed: what was counted would be counted twice.
        Message::Bitfield { bytes } if first => {
            if let Ok(has) = Bitfield::from_wire(bytes, t.pieces.geometry().pieces()) {
                on_have_set(cx, t, peer, has)?;
            }
        }
        Message::HaveAll if first => on_have_set(cx, t, peer, Bitfield::full(t.pieces.geometry().pieces()))?,
        Message::Bitfield { .. } | Message::HaveAll | Message::HaveNone => {}
        Message::Request(raw) => on_request(cx, t, peer, raw)?,
        Message::Cancel(raw) => {
            let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
            if let Some(span) = span.filter(|s| peer.encoder.take_back(*s)) {
                if peer.fast {
                    peer.say(&Message::Reject(span.into()), cx.out);
                }
            }
        }
        Message::Reject(raw) => {
            let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
            if let Some(block) = span.filter(|b| peer.requests.rejected(*b)) {
                t.pieces.cancel_request(block);
                peer.rejects += 1;
                if peer.rejects > limits::REJECTS_ONLY {
                    return Err(ProtocolViolation::RejectsOnly(peer.rejects).into());
                }
                // What it rejects while choking us is not allowed fast after all.
                peer.fast_to_us.retain(|p| *p != block.piece());
                cx.effect(Effect::TopUp { torrent: t.key });
            }
        }
        Message::Suggest { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(ProtocolViolation::NoSuchPiece(piece))?;
            remember(&mut peer.suggested, piece, limits::SUGGESTED_PIECES);
        }
        Message::AllowedFast { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(ProtocolViolation::NoSuchPiece(piece))?;
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
    let Peer { requests, fast_to_us, .. } = peer;
    let given_up = requests.give_up_all(|piece| fast_to_us.contains(&piece));
    for block in &given_up {
        t.pieces.cancel_request(*block);
    }
    // What only this peer was to be asked for is everybody's, or it would hold up the torrent by choking us.
    if t.pieces.clear_owner(peer.key) || !given_up.is_empty() {
        cx.effect(Effect::TopUp { torrent: t.key });
    }
}

/// The peer has one piece more.
fn on_have(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, piece: PieceIndex) -> Result<(), DisconnectReason> {
    if !peer.has.set(piece) {
        return Ok(());
    }
    if !peer.joined_as_seed {
        t.picker.availability.add(piece);
    }
    if t.pieces.is_missing(piece) {
        peer.wanted_pieces += 1;
        peer.set_we_want(cx.now, true, cx.out);
    }
    check_mutual_interest(t, peer)
}

/// The peer says all that it has.
fn on_have_set(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, has: Bitfield) -> Result<(), DisconnectReason> {
    peer.joined_as_seed = has.is_full();
    t.picker.availability.join(&has);
    peer.wanted_pieces = t.wanted_pieces(&has);
    peer.has = has;
    peer.set_we_want(cx.now, peer.wanted_pieces > 0, cx.out);
    check_mutual_interest(t, peer)
}

fn on_request(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, raw: RawSpan) -> Result<(), DisconnectReason> {
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
            return Err(ProtocolViolation::FastAbuse(limits::ALLOWED_FAST_TIMES + 1).into());
        }
    }
    if peer.encoder.contains(span) {
        return Ok(());
    }
    if peer.encoder.blocks() >= limits::REQQ_OURS_BLOCKS {
        reject(cx, peer, raw);
        return Ok(());
    }
    peer.encoder.push_block(span);
    peer.flush(cx.out);
    Ok(())
}

/// The peer's node of the DHT, once a connection: it is asked whether it is there.
fn on_port(cx: &mut Cx<'_>, t: &Torrent, peer: &mut Peer, port: u16) {
    if t.allows(Origin::Dht) && port != 0 && !std::mem::replace(&mut peer.reported_dht_port, true) {
        cx.effect(Effect::Node { addr: SocketAddr::new(peer.addr.ip(), port) });
    }
}

fn reject(cx: &mut Cx<'_>, peer: &mut Peer, raw: RawSpan) {
    if peer.fast {
        peer.say(&Message::Reject(raw), cx.out);
    }
}

fn count_invalid(peer: &mut Peer, last: RawSpan) -> Result<(), DisconnectReason> {
    peer.invalid_requests += 1;
    let waiting = peer.encoder.control_bytes();
    match peer.invalid_requests {
        _ if waiting > limits::OUTBOX_CONTROL_BYTES => Err(ProtocolViolation::NotReading(waiting).into()),
        count if count >= limits::INVALID_REQUESTS => Err(ProtocolViolation::InvalidRequests { count, last }.into()),
        _ => Ok(()),
    }
}

fn on_extended(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, id: u8, payload: &[u8]) -> Result<(), DisconnectReason> {
    match id {
        HANDSHAKE_ID => on_extended_handshake(cx, t, peer, payload)?,
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

fn on_extended_handshake(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) -> Result<(), DisconnectReason> {
    let Some(hello) = ExtendedHandshake::parse(payload).ok() else { return Ok(()) };
    if let Some(reqq) = hello.reqq {
        peer.requests.set_reqq(reqq);
    }
    peer.extensions = hello.ids;
    peer.listen_port = hello.port.or(peer.listen_port);
    peer.upload_only = hello.upload_only.unwrap_or(peer.upload_only);
    advertise(cx, t, peer);
    if hello.ids.ut_pex != 0 {
        cx.effect(Effect::Pex { torrent: t.key });
    }
    if let (Metadata::Wanted(fetch), Some(size), true) = (&mut t.metadata, hello.metadata_size, hello.ids.ut_metadata != 0) {
        fetch.claims(peer.key, size);
        cx.effect(Effect::AskMetadata { torrent: t.key });
    }
    // Every change of it ranks a thousand addresses anew, so one opinion a connection is heard.
    if let Some(ip) = hello.your_ip.filter(|_| !std::mem::replace(&mut peer.reported_our_ip, true)) {
        t.peer_list.set_ours(SocketAddr::new(ip, 0));
    }
    check_mutual_interest(t, peer)
}
