//! Our side of the extension handshake (BEP 10): sent after the handshake, and again when we become
//! upload-only (BEP 21) or stop being it.

use super::limits;
use super::peer::Peer;
use super::torrent::Torrent;
use super::turn::Turn;
use crate::wire::{ExtendedHandshake, ExtensionIds, HANDSHAKE_ID, Message};
use std::net::IpAddr;

/// Sends our extension handshake, for the first time or again.
pub(super) fn send_extended_handshake(turn: &mut Turn<'_>, t: &Torrent, peer: &mut Peer) {
    let handshake = extended_handshake(turn, peer.source.addr.ip(), t);
    peer.wire.sent_upload_only = handshake.upload_only;
    peer.send(&Message::Extended { id: HANDSHAKE_ID, payload: &handshake.encode() }, turn.out);
}

/// Our extension handshake.
fn extended_handshake(turn: &Turn<'_>, their_ip: IpAddr, t: &Torrent) -> ExtendedHandshake {
    let port = turn.public_port(their_ip.is_ipv6());
    let ut_pex = if t.pex_enabled() { ExtensionIds::OURS.ut_pex } else { 0 };
    let ut_holepunch =
        if t.holepunch_enabled(turn.config.transports) { ExtensionIds::OURS.ut_holepunch } else { 0 };
    ExtendedHandshake {
        ids: ExtensionIds { ut_pex, ut_holepunch, ..ExtensionIds::OURS },
        client: Some(turn.config.version.clone()),
        port: (port != 0).then_some(port),
        reqq: Some(limits::REQQ_OURS_BLOCKS as u32),
        metadata_size: t.metadata.len(),
        encryption: turn.config.encryption.is_wanted().then_some(true),
        upload_only: Some(t.is_upload_only()),
        your_ip: Some(their_ip),
    }
}
