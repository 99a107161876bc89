//! Results of disk jobs on pieces: prepared, hashed, saved; and the ban of peers that sent bad data.

use super::action::{Action, HashVerdict, Notice};
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::effects::Effect;
use super::limits;
use super::peer::{Connection, Phase};
use super::swarms::Swarms;
use super::timers::Timer;
use super::turn::Turn;
use crate::units::{PieceIndex, TorrentKey};
use crate::wire::Message;
use std::net::IpAddr;
use std::ops::ControlFlow;

impl Swarms {
    /// Files and memory for a piece are ready.
    pub(super) fn on_prepared(&mut self, turn: &mut Turn<'_>, key: TorrentKey, piece: PieceIndex) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.pieces.prepared(piece);
        if t.pieces.close_if_untouched(piece) {
            t.picker.availability.restore(piece);
        }
        for peer in t.peers.clone() {
            self.wake(turn, peer);
        }
    }

    /// Every block of a piece has arrived: has the caller hash it.
    pub(super) fn hash(&mut self, turn: &mut Turn<'_>, key: TorrentKey, piece: PieceIndex) {
        let digests = self.torrents.get(key).is_some_and(|t| t.smart_ban.is_suspect(piece));
        turn.out.push(Action::Hash { torrent: key, piece, digests });
    }

    /// Handles the hasher's verdict on a piece, which counts for a paused torrent, too. Returns `Break` if
    /// the torrent has to be paused.
    pub(super) fn on_hashed(
        &mut self,
        turn: &mut Turn<'_>,
        key: TorrentKey,
        piece: PieceIndex,
        verdict: &HashVerdict,
    ) -> ControlFlow<()> {
        match verdict {
            HashVerdict::Good { digests } => self.on_good(turn, key, piece, digests.as_deref()),
            HashVerdict::Bad { digests } => self.on_bad(turn, key, piece, digests),
            HashVerdict::Unreadable => {
                let Some(t) = self.torrents.get_mut(key) else { return ControlFlow::Continue(()) };
                if t.pieces.spoiled(piece).is_some() {
                    t.reopen(piece);
                }
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn on_good(&mut self, turn: &mut Turn<'_>, key: TorrentKey, piece: PieceIndex, digests: Option<&[u64]>) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        if t.pieces.verified(piece).is_none() {
            return;
        }
        let culprits = t.smart_ban.verified(piece, digests);
        self.on_verified(turn, key, piece);
        for ip in culprits {
            self.ban(turn, key, ip);
        }
    }

    fn on_bad(&mut self, turn: &mut Turn<'_>, key: TorrentKey, piece: PieceIndex, digests: &[u64]) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        let Some(open) = t.pieces.spoiled(piece) else { return };
        t.wasted += u64::from(t.pieces.geometry().piece_len(piece));
        let culprit = t.smart_ban.failed(piece, &open, digests);
        t.reopen(piece);
        log::debug!("piece {piece} failed its hash, {} senders", open.senders().len());
        if let Some(ip) = culprit {
            self.ban(turn, key, ip);
        }
        self.top_up_all(turn, key);
    }

    fn on_verified(&mut self, turn: &mut Turn<'_>, key: TorrentKey, piece: PieceIndex) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.unsaved_bytes += u64::from(t.pieces.geometry().piece_len(piece));
        let due = if t.unsaved_bytes >= limits::CHECKPOINT_BYTES {
            (t.last_checkpoint + limits::CHECKPOINT_MIN).max(turn.now)
        } else {
            turn.now + limits::CHECKPOINT
        };
        turn.timers.arm(Timer::Checkpoint(key), due);
        turn.out.push(Action::Notice(Notice::Verified { torrent: key, piece }));
        let complete = t.pieces.missing() == 0;
        if t.pieces.have().is_full() && !std::mem::replace(&mut t.completed, true) {
            t.trackers.on_completed();
        }
        for key in t.peers.clone() {
            let Some(Connection { peer, .. }) =
                self.connections.get_mut(key).filter(|c| c.peer.wire.phase == Phase::Up)
            else {
                continue;
            };
            let waiting = peer.wire.encoder.control_bytes();
            if peer.source.has.has(piece) {
                peer.source.wanted_pieces = peer.source.wanted_pieces.saturating_sub(1);
                peer.set_we_want(turn.now, peer.source.wanted_pieces > 0, turn.out);
            } else if waiting > limits::ENCODER_CONTROL_BYTES {
                self.disconnect(turn, key, ProtocolViolation::NotReading(waiting).into());
            } else {
                peer.send(&Message::Have { piece: piece.get() }, turn.out);
            }
        }
        if complete {
            self.on_complete(turn, key);
        } else {
            // The limit of partial pieces allows another piece.
            turn.effects.push(Effect::TopUp { torrent: key });
        }
    }

    /// Every wanted piece is verified.
    pub(super) fn on_complete(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        self.save(turn, key);
        turn.out.push(Action::Notice(Notice::Complete { torrent: key }));
        self.update_upload_only(turn, key);
    }

    /// Begins a checkpoint, if pieces were verified since the last one.
    pub(super) fn save(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        if t.unsaved_bytes > 0 && !t.saving {
            t.saving = true;
            t.last_checkpoint = turn.now;
            t.unsaved_bytes = 0;
            turn.out.push(Action::Save { torrent: key });
        }
    }

    /// A checkpoint is on stable storage, or failed.
    pub(super) fn on_saved(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.saving = false;
        if t.unsaved_bytes > 0 && t.pieces.missing() == 0 {
            self.save(turn, key);
        } else if t.unsaved_bytes > 0 {
            turn.timers.arm(Timer::Checkpoint(key), turn.now + limits::CHECKPOINT_MIN);
        }
    }

    /// Bans an address from the torrent for [`limits::BAN`]: closes its connections and does not dial it.
    pub(super) fn ban(&mut self, turn: &mut Turn<'_>, key: TorrentKey, ip: IpAddr) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.peer_list.ban(turn.now, ip);
        for peer in t.peers.clone() {
            if let Some(addr) =
                self.connections.get(peer).map(|c| c.peer.source.addr).filter(|a| a.ip() == ip)
            {
                turn.out.push(Action::Notice(Notice::Banned { torrent: key, addr }));
                self.disconnect(turn, peer, DisconnectReason::Banned);
            }
        }
    }
}
