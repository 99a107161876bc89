//! Handling of peer messages (BEP 3, 6, 10): checks each message against the state of its peer and torrent,
//! and answers it.
//!
//! The functions change one peer and its torrent only; effects on other connections are queued and applied at
//! the end of the turn.

use super::deferred::defer;
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::dont_have::on_dont_have;
use super::effects::Effect;
use super::holepunch::on_holepunch;
use super::limits;
use super::metadata_exchange::on_metadata_message;
use super::peer::{Peer, Phase, Source};
use super::pex::{advertise, on_pex};
use super::torrent::{Metadata, Torrent};
use super::turn::Turn;
use super::upload_only::check_mutual_interest;
use crate::units::{Bitfield, Origin, PieceIndex};
use crate::wire::{
    ExtendedHandshake, ExtensionIds, HANDSHAKE_ID, MAX_BLOCK_LEN, Message, MetadataMessage, RawSpan,
};
use std::net::SocketAddr;

/// Handles a message. Messages about pieces are deferred while the torrent's pieces are unknown.
///
/// # Errors
/// The reason to close the connection.
pub(super) fn on_message(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    message: Message<'_>,
) -> Result<(), DisconnectReason> {
    if peer.wire.phase != Phase::Up {
        return Ok(());
    }
    let of_fast = matches!(
        message,
        Message::HaveAll
            | Message::HaveNone
            | Message::Suggest { .. }
            | Message::Reject(_)
            | Message::AllowedFast { .. }
    );
    if of_fast && !peer.wire.fast {
        return Err(ProtocolViolation::NotFast.into());
    }
    let first = match message {
        Message::Bitfield { .. } | Message::HaveAll | Message::HaveNone => {
            !std::mem::replace(&mut peer.wire.sent_have_set, true)
        }
        _ => false,
    };
    if let Message::Port { port } = message {
        on_port(turn, t, peer, port);
    }
    if !t.open && !matches!(message, Message::Extended { .. }) {
        if let Message::Request(raw) = message {
            reject(turn, peer, raw);
        }
        defer(t, peer, &message, first);
        return Ok(());
    }
    match message {
        Message::KeepAlive | Message::Port { .. } => {}
        Message::Choke => on_choke(turn, t, peer),
        Message::Unchoke => peer.source.they_choke = false,
        Message::Interested => {
            peer.wire.they_want = true;
            peer.wire.last_wanted = turn.now;
            turn.effects.push_once(Effect::FillSlots { torrent: t.key });
        }
        Message::NotInterested => {
            peer.wire.they_want = false;
            peer.wire.last_wanted = turn.now;
            peer.set_we_choke(turn.now, true, turn.out);
            turn.effects.push_once(Effect::FillSlots { torrent: t.key });
        }
        Message::Have { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(ProtocolViolation::NoSuchPiece(piece))?;
            on_have(turn, t, peer, piece)?;
        }
        // A second one is ignored. A late one counts, as in other clients, whatever came before it.
        Message::Bitfield { bytes } if first => {
            if let Ok(has) = Bitfield::from_wire(bytes, t.pieces.geometry().pieces()) {
                on_have_set(turn, t, peer, has)?;
            }
        }
        Message::HaveAll if first => {
            on_have_set(turn, t, peer, Bitfield::full(t.pieces.geometry().pieces()))?;
        }
        Message::Bitfield { .. } | Message::HaveAll | Message::HaveNone => {}
        Message::Request(raw) => on_request(turn, t, peer, raw)?,
        Message::Cancel(raw) => {
            let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
            if let Some(span) = span.filter(|s| peer.wire.encoder.take_back(*s)) {
                if peer.wire.fast {
                    peer.send(&Message::Reject(span.into()), turn.out);
                }
            }
        }
        Message::Reject(raw) => {
            let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
            if let Some(block) = span.filter(|b| peer.source.requests.rejected(*b)) {
                t.pieces.cancel_request(block);
                peer.source.rejects += 1;
                if peer.source.rejects > limits::REJECTS_ONLY {
                    return Err(ProtocolViolation::RejectsOnly(peer.source.rejects).into());
                }
                // A piece that the peer rejects is not allowed fast.
                peer.source.fast_to_us.retain(|p| *p != block.piece());
                turn.effects.push_once(Effect::TopUp { torrent: t.key });
            }
        }
        Message::Suggest { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(ProtocolViolation::NoSuchPiece(piece))?;
            remember(&mut peer.source.suggested, piece, limits::SUGGESTED_PIECES);
        }
        Message::AllowedFast { piece } => {
            let piece = t.pieces.geometry().piece(piece).ok_or(ProtocolViolation::NoSuchPiece(piece))?;
            remember(&mut peer.source.fast_to_us, piece, limits::ALLOWED_FAST_REMEMBERED);
        }
        Message::Extended { id, payload } => on_extended(turn, t, peer, id, payload)?,
    }
    Ok(())
}

/// Appends a piece, unless the list holds it already or has `limit` pieces.
fn remember(list: &mut Vec<PieceIndex>, piece: PieceIndex, limit: usize) {
    if list.len() < limit && !list.contains(&piece) {
        list.push(piece);
    }
}

fn on_choke(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer) {
    peer.source.they_choke = true;
    let Source { requests, fast_to_us, .. } = &mut peer.source;
    let cancelled = requests.give_up_all(|piece| fast_to_us.contains(&piece));
    for block in &cancelled {
        t.pieces.cancel_request(*block);
    }
    // Free the pieces reserved for this peer; otherwise it could hold up the torrent by choking us.
    if t.pieces.clear_owner(peer.source.key) || !cancelled.is_empty() {
        turn.effects.push_once(Effect::TopUp { torrent: t.key });
    }
}

/// The peer has got another piece.
fn on_have(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    piece: PieceIndex,
) -> Result<(), DisconnectReason> {
    if !peer.source.has.set(piece) {
        return Ok(());
    }
    if !peer.wire.joined_as_seed {
        t.picker.availability.add(piece);
    }
    if t.pieces.is_missing(piece) {
        peer.source.wanted_pieces += 1;
        peer.set_we_want(turn.now, true, turn.out);
    }
    check_mutual_interest(t, peer)
}

/// The peer sent the set of its pieces. Pieces of earlier `have` messages are added to it.
fn on_have_set(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    mut has: Bitfield,
) -> Result<(), DisconnectReason> {
    if !peer.source.has.is_empty() {
        t.picker.availability.leave(&peer.source.has, peer.wire.joined_as_seed);
        for piece in peer.source.has.iter() {
            has.set(piece);
        }
    }
    peer.wire.joined_as_seed = has.is_full();
    t.picker.availability.join(&has);
    peer.source.wanted_pieces = t.wanted_pieces(&has);
    peer.source.has = has;
    peer.set_we_want(turn.now, peer.source.wanted_pieces > 0, turn.out);
    check_mutual_interest(t, peer)
}

fn on_request(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    raw: RawSpan,
) -> Result<(), DisconnectReason> {
    let span = t.pieces.geometry().span(raw.piece, raw.begin, raw.len).ok();
    let span = span.filter(|s| s.len() <= MAX_BLOCK_LEN && t.pieces.have().has(s.piece()));
    let Some(span) = span else {
        reject(turn, peer, raw);
        return count_invalid(peer, raw);
    };
    if peer.wire.we_choke {
        let allowed = peer.wire.fast_to_them.iter_mut().find(|(p, _)| *p == span.piece());
        let Some((piece, taken)) = allowed else {
            reject(turn, peer, raw);
            // A request that crossed our choke on the wire is no violation.
            return if turn.now.since(peer.wire.choke_changed) > limits::CHOKE_GRACE {
                count_invalid(peer, raw)
            } else {
                Ok(())
            };
        };
        *taken += u64::from(span.len());
        if *taken > u64::from(limits::ALLOWED_FAST_TIMES) * u64::from(t.pieces.geometry().piece_len(*piece)) {
            return Err(ProtocolViolation::FastAbuse(limits::ALLOWED_FAST_TIMES + 1).into());
        }
    }
    if peer.wire.encoder.contains(span) {
        return Ok(());
    }
    if peer.wire.encoder.blocks() >= limits::REQQ_OURS_BLOCKS {
        reject(turn, peer, raw);
        return Ok(());
    }
    peer.wire.encoder.push_block(span);
    peer.flush(turn.out);
    Ok(())
}

/// The peer announced its DHT node (BEP 5 `port`). Only the first announcement of a connection counts.
fn on_port(turn: &mut Turn<'_>, t: &Torrent, peer: &mut Peer, port: u16) {
    if t.allows(Origin::Dht) && port != 0 && !std::mem::replace(&mut peer.wire.reported_dht_port, true) {
        turn.effects.push_once(Effect::Node { addr: SocketAddr::new(peer.source.addr.ip(), port) });
    }
}

fn reject(turn: &mut Turn<'_>, peer: &mut Peer, raw: RawSpan) {
    if peer.wire.fast {
        peer.send(&Message::Reject(raw), turn.out);
    }
}

fn count_invalid(peer: &mut Peer, last: RawSpan) -> Result<(), DisconnectReason> {
    peer.wire.invalid_requests += 1;
    let waiting = peer.wire.encoder.control_bytes();
    match peer.wire.invalid_requests {
        _ if waiting > limits::ENCODER_CONTROL_BYTES => Err(ProtocolViolation::NotReading(waiting).into()),
        count if count >= limits::INVALID_REQUESTS => {
            Err(ProtocolViolation::InvalidRequests { count, last }.into())
        }
        _ => Ok(()),
    }
}

fn on_extended(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    id: u8,
    payload: &[u8],
) -> Result<(), DisconnectReason> {
    match id {
        HANDSHAKE_ID => on_extended_handshake(turn, t, peer, payload)?,
        id if id == ExtensionIds::OURS.ut_pex => on_pex(turn, t, peer, payload),
        id if id == ExtensionIds::OURS.ut_holepunch => on_holepunch(turn, t, peer, payload),
        id if id == ExtensionIds::OURS.lt_donthave => on_dont_have(turn, t, peer, payload)?,
        id if id == ExtensionIds::OURS.ut_metadata => {
            if let Some(message) = MetadataMessage::parse(payload) {
                on_metadata_message(turn, t, peer, message);
            }
        }
        // We announced no extension with another id.
        _ => {}
    }
    Ok(())
}

fn on_extended_handshake(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    payload: &[u8],
) -> Result<(), DisconnectReason> {
    let mut theirs = ExtendedHandshake { ids: peer.wire.extensions, ..ExtendedHandshake::default() };
    if theirs.update(payload).is_err() {
        return Ok(());
    }
    if let Some(reqq) = theirs.reqq {
        peer.source.requests.set_reqq(reqq);
    }
    peer.wire.extensions = theirs.ids;
    if let Some(client) = theirs.client {
        if peer.wire.client.as_deref() != Some(&*client) {
            log::info!("{} runs {client}", peer.source.addr);
        }
        peer.wire.client = Some(client.into());
    }
    peer.wire.listen_port = theirs.port.or(peer.wire.listen_port);
    peer.wire.wants_encryption = theirs.encryption.unwrap_or(peer.wire.wants_encryption);
    peer.wire.upload_only = theirs.upload_only.unwrap_or(peer.wire.upload_only);
    advertise(turn, t, peer);
    if theirs.ids.ut_pex != 0 {
        turn.effects.push_once(Effect::Pex { torrent: t.key });
    }
    peer.wire.metadata_size = theirs.metadata_size.or(peer.wire.metadata_size);
    if let Metadata::Wanted(fetch) = &mut t.metadata {
        match peer.wire.metadata_size.filter(|_| theirs.ids.ut_metadata != 0) {
            Some(size) => fetch.claims(peer.source.key, size),
            None => fetch.disabled(peer.source.key),
        }
        turn.effects.push_once(Effect::AskMetadata { torrent: t.key });
    }
    // Each change of our address recomputes the rank of up to a thousand addresses, so only the first
    // `yourip` of a connection counts.
    if let Some(ip) = theirs.your_ip.filter(|_| !std::mem::replace(&mut peer.wire.reported_our_ip, true)) {
        t.peer_list.set_ours(SocketAddr::new(ip, 0));
    }
    check_mutual_interest(t, peer)
}
