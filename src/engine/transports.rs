//! The transports of an address, one after the other: TCP first, uTP if TCP cannot reach the peer.
//!
//! ```text
//!   TCP ── refused, unreachable, timed out, closed ──▶ uTP, at once ── the same ──▶ a failure is counted, TCP later
//!                                               └── connected ──▶ uTP first from then on
//! ```
//!
//! A program without TCP may accept its connections and close them before a byte, so that counts as well. A connection
//! over uTP that ends at once has the next attempt go over TCP: some networks let the first packets
//! of UDP pass only. An address that did not answer over uTP is not asked again, unless another peer says that it
//! speaks it.

use super::disconnect::DisconnectReason;
use super::limits;
use super::peer::{Peer, Phase};
use super::torrent::PeerList;
use crate::units::{Instant, TransportKind, Transports};

/// Returns the transport of the next attempt to connect to a peer, which its list may prefer.
pub(super) fn choose(transports: Transports, preferred: TransportKind) -> TransportKind {
    match transports {
        Transports::Tcp => TransportKind::Tcp,
        Transports::Utp => TransportKind::Utp,
        Transports::Both => preferred,
    }
}

/// Returns whether a dialed peer could not be reached over this transport. `heard`: it sent at least one byte.
pub(super) fn was_unreachable(peer: &Peer, heard: bool, why: DisconnectReason) -> bool {
    match peer.wire.phase {
        Phase::Connecting => matches!(
            why,
            DisconnectReason::Refused | DisconnectReason::Unreachable | DisconnectReason::ConnectTimeout
        ),
        Phase::Handshaking => {
            !heard && matches!(why, DisconnectReason::Lost | DisconnectReason::HandshakeTimeout)
        }
        Phase::Up => false,
    }
}

/// Notes what the end of a dialed connection shows about its address. Returns whether the address is dialed again
/// at once over the other transport.
pub(super) fn note_end(
    transports: Transports,
    now: Instant,
    list: &mut PeerList,
    peer: &Peer,
    heard: bool,
    why: DisconnectReason,
) -> bool {
    if transports != Transports::Both {
        return false;
    }
    let addr = peer.source.addr;
    let unreachable = was_unreachable(peer, heard, why);
    let brief = why == DisconnectReason::Lost && now.since(peer.wire.since) < limits::BRIEF_CONNECTION;
    match peer.wire.over {
        TransportKind::Tcp => unreachable && list.dial_over_utp(addr),
        TransportKind::Utp => {
            if unreachable || brief {
                list.on_utp_failed(addr);
            }
            false
        }
    }
}
