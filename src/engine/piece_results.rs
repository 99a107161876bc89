//! Pieces' fates: made ready, judged, verified or spoiled, made durable; and what a spoiled one means for who sent it.

use super::action::{Action, Actions, HashVerdict, Notice};
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::engine::{Effect, Engine};
use super::limits;
use super::peer::{Connection, Phase};
use super::timers::Timer;
use crate::units::{Instant, PieceIndex, TorrentKey};
use crate::wire::Message;
use std::net::IpAddr;

impl Engine {
    /// Files and memory for a piece are ready, or cannot be had: then the torrent rests, and it is nobody's fault but ours.
    pub fn on_prepared(&mut self, now: Instant, key: TorrentKey, piece: PieceIndex, ready: bool, out: &mut Actions) {
        if !ready {
            return self.pause(now, key, out);
        }
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.pieces.prepared(piece);
        if t.pieces.close_if_untouched(piece) {
            t.picker.availability.restore(piece);
        }
        for peer in t.peers.clone() {
            self.wake(peer, out);
        }
    }

    /// The hasher's verdict on a piece.
    pub fn on_hashed(&mut self, now: Instant, key: TorrentKey, piece: PieceIndex, verdict: &HashVerdict, out: &mut Actions) {
        self.judge(now, key, piece, verdict, out);
        self.apply_effects(now, out);
    }

    fn judge(&mut self, now: Instant, key: TorrentKey, piece: PieceIndex, verdict: &HashVerdict, out: &mut Actions) {
        // A torrent that was paused meanwhile has its verdict all the same: what is good is good.
        let Some(t) = self.torrents.get_mut(key) else { return };
        match verdict {
            HashVerdict::Good { digests } => {
                if t.pieces.verified(piece).is_none() {
                    return;
                }
                let liars = t.smart_ban.verified(piece, digests.as_deref());
                self.on_verified(now, key, piece, out);
                for ip in liars {
                    self.ban(now, key, ip, out);
                }
            }
            HashVerdict::Bad { digests } => {
                let Some(open) = t.pieces.spoiled(piece) else { return };
                t.wasted += u64::from(t.pieces.geometry().piece_len(piece));
                let liar = t.smart_ban.failed(piece, &open, digests);
                t.reopen(piece);
                log::debug!("piece {piece} is bad, {} senders", open.senders().len());
                if let Some(ip) = liar {
                    self.ban(now, key, ip, out);
                }
                self.top_up_all(now, key, out);
            }
            HashVerdict::Unreadable => {
                if t.pieces.spoiled(piece).is_some() {
                    t.reopen(piece);
                }
                self.stop_torrent(now, key, out);
            }
        }
    }

    fn on_verified(&mut self, now: Instant, key: TorrentKey, piece: PieceIndex, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.unsaved_bytes += u64::from(t.pieces.geometry().piece_len(piece));
        let due = match t.unsaved_bytes >= limits::CHECKPOINT_BYTES {
            true => (t.last_checkpoint + limits::CHECKPOINT_MIN).max(now),
            false => now + limits::CHECKPOINT,
        };
        self.timers.arm(Timer::Checkpoint(key), due);
        out.push(Action::Notice(Notice::Verified { torrent: key, piece }));
        let complete = t.pieces.missing() == 0;
        for key in t.peers.clone() {
            let Some(Connection { peer, .. }) = self.connections.get_mut(key).filter(|c| c.peer.phase == Phase::Up) else {
                continue;
            };
            let waiting = peer.encoder.control_bytes();
            if peer.has.has(piece) {
                peer.wanted_pieces = peer.wanted_pieces.saturating_sub(1);
                peer.set_we_want(now, peer.wanted_pieces > 0, out);
            } else if waiting > limits::OUTBOX_CONTROL_BYTES {
                self.disconnect(now, key, ProtocolViolation::NotReading(waiting).into(), out);
            } else {
                peer.say(&Message::Have { piece: piece.get() }, out);
            }
        }
        match complete {
            true => self.on_complete(now, key, out),
            // A place among the open pieces is free.
            false => self.effects.push(Effect::TopUp { torrent: key }),
        }
    }

    fn on_complete(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.trackers.complete();
        self.timers.arm(Timer::Announce(key), now);
        self.save(now, key, out);
        out.push(Action::Notice(Notice::Complete { torrent: key }));
        self.update_upload_only(now, key, out);
    }

    /// Content of ours could not be read for an upload: the torrent rests, nobody is blamed.
    pub fn on_unreadable(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.pause(now, key, out);
    }

    pub(super) fn save(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        if t.unsaved_bytes > 0 && !t.saving {
            (t.saving, t.last_checkpoint, t.unsaved_bytes) = (true, now, 0);
            out.push(Action::Save { torrent: key });
        }
    }

    /// The checkpoint is on stable storage, or is not.
    pub fn on_saved(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.saving = false;
        if t.unsaved_bytes > 0 && t.pieces.missing() == 0 {
            self.save(now, key, out);
        } else if t.unsaved_bytes > 0 {
            self.timers.arm(Timer::Checkpoint(key), now + limits::CHECKPOINT_MIN);
        }
    }

    /// Nobody of this address is a peer of the torrent any more, for a while.
    pub(super) fn ban(&mut self, now: Instant, key: TorrentKey, ip: IpAddr, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.peer_list.ban(now, ip);
        for peer in t.peers.clone() {
            if let Some(addr) = self.connections.get(peer).map(|c| c.peer.addr).filter(|a| a.ip() == ip) {
                out.push(Action::Notice(Notice::Banned { torrent: key, addr }));
                self.disconnect(now, peer, DisconnectReason::Banned, out);
            }
        }
    }
}
