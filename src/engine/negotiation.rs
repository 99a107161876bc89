//! Encrypted connections (MSE): which connections negotiate, with which methods, and what an attempt says about
//! an address.
//!
//! ```text
//!   dialed   ── Dialer ──┐                              ┌─▶ ciphers for the caller (RC4)
//!   incoming ── first byte is no handshake ─ Accepter ──┴─▶ the decoder goes on with the decrypted bytes
//! ```
//!
//! The negotiation's bytes are read to the decoder's buffer, as those of a handshake. The stream that follows is
//! encrypted and decrypted by the caller: the engine sees plain bytes only.

use super::disconnect::DisconnectReason;
use super::key_exchange::KeyExchange;
use super::peer::{Connection, Peer, Phase};
use super::swarms::Swarms;
use super::timers::Timer;
use super::torrent::PeerList;
use super::turn::Turn;
use crate::units::PeerKey;
use crate::wire::mse::{Accepter, Ciphers, Dialer, Established, MseError, PLAINTEXT, RC4};
use crate::wire::{HANDSHAKE_LEN, Handshake};

/// When connections are encrypted (MSE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// Never: a connection that begins with anything but a handshake is closed.
    Off,
    /// Addresses are dialed without it first, and with it if the peer insists. Both are accepted.
    #[default]
    Allow,
    /// Addresses are dialed with it first, and without it if the peer does not know it. Both are accepted. The whole
    /// stream is encrypted wherever the peer can.
    Prefer,
    /// Always, and the whole stream: peers without encryption are refused.
    Require,
}

impl Encryption {
    /// Returns the methods to offer to a peer. With [`Encryption::Prefer`] only RC4 is: Transmission 3.00 loses the
    /// handshake that comes with the offer if it selects plaintext.
    fn offers(self) -> u32 {
        match self {
            Encryption::Prefer | Encryption::Require => RC4,
            Encryption::Off | Encryption::Allow => PLAINTEXT | RC4,
        }
    }

    /// Returns the methods to select of what a caller offers, in this order.
    fn selects(self) -> &'static [u32] {
        match self {
            Encryption::Require => &[RC4],
            Encryption::Prefer => &[RC4, PLAINTEXT],
            Encryption::Off | Encryption::Allow => &[PLAINTEXT, RC4],
        }
    }

    /// Returns whether to dial an address with encryption; `known` is what its last attempt showed.
    pub(super) fn dials(self, known: Option<bool>) -> bool {
        match self {
            Encryption::Off => false,
            Encryption::Allow => known.unwrap_or(false),
            Encryption::Prefer => known.unwrap_or(true),
            Encryption::Require => true,
        }
    }

    /// Returns what trackers are told: whether peers without encryption are of no use; `None` for nothing.
    pub(super) fn asks_trackers(self) -> Option<bool> {
        self.is_wanted().then_some(self == Encryption::Require)
    }

    /// Returns whether peers are told that this side wants encryption.
    pub(super) fn is_wanted(self) -> bool {
        matches!(self, Encryption::Prefer | Encryption::Require)
    }
}

/// How a connection is encrypted (MSE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEncryption {
    /// Not at all.
    Plain,
    /// Its beginning: both sides agreed on the plaintext method.
    Negotiation,
    /// All of it, with RC4.
    Rc4,
}

/// What the caller has to do with the bytes of a connection.
#[derive(Debug)]
pub enum StreamCipher {
    /// The connection has no handshake yet: ask again after the next bytes.
    Undecided,
    /// Nothing: the stream is plain.
    Plain,
    /// Encrypt what is written, except the next `clear` bytes, and decrypt what is read.
    Rc4 {
        /// The keystreams of both directions.
        ciphers: Box<Ciphers>,
        /// Bytes of the negotiation that are queued already.
        clear: usize,
    },
}

/// The negotiation of a connection.
#[derive(Debug)]
pub enum Negotiation {
    /// Of a connection that we dialed.
    Dialer(Dialer),
    /// Of a connection that came in.
    Accepter(Accepter),
    /// It is over; the caller takes the ciphers before it reads or writes again.
    Established {
        /// `None` for the plaintext method.
        ciphers: Option<Box<Ciphers>>,
        /// See [`StreamCipher::Rc4`].
        clear: usize,
    },
}

impl Negotiation {
    /// Returns whether it waits for the permission to compute a secret; nothing is read until then.
    pub fn waits_for_secret(&self) -> bool {
        matches!(self, Negotiation::Accepter(accepter) if accepter.waits_for_secret())
    }

    /// Returns whether the peer has not sent its public key.
    fn is_unanswered(&self) -> bool {
        matches!(self, Negotiation::Dialer(dialer) if !dialer.has_secret())
    }
}

impl Swarms {
    /// Starts the negotiation of a dialed connection, with our handshake as the first bytes of the stream.
    pub(super) fn begin_negotiation(
        &mut self,
        turn: &mut Turn<'_>,
        key: PeerKey,
        ours: &[u8; HANDSHAKE_LEN],
        info_hash: [u8; 20],
    ) {
        let Some(c) = self.connections.get_mut(key) else { return };
        let mut out = Vec::new();
        let dialer = self.key_exchange.dialer(info_hash, turn.config.encryption.offers(), ours, &mut out);
        c.negotiation = Some(Box::new(Negotiation::Dialer(dialer)));
        c.peer.wire.encoder.push_bytes(&out);
        c.peer.flush(turn.out);
    }

    /// Handles the bytes of a connection without a handshake. Returns whether the decoder goes on with what it
    /// has: the stream is plain or established.
    ///
    /// # Errors
    /// The reason to close the connection.
    pub(super) fn negotiate(&mut self, turn: &mut Turn<'_>, key: PeerKey) -> Result<bool, DisconnectReason> {
        let Swarms { connections, torrents, by_mse_key, key_exchange, .. } = self;
        let Some(Connection { decoder, peer, negotiation }) = connections.get_mut(key) else {
            return Ok(false);
        };
        let policy = turn.config.encryption;
        if negotiation.is_none() {
            if peer.wire.dialed
                || peer.wire.negotiated.is_some()
                || policy == Encryption::Off
                || Handshake::could_begin(decoder.pending())
            {
                return Ok(true);
            }
            let accepter = key_exchange.accepter(turn.now, policy.selects());
            *negotiation = Some(Box::new(Negotiation::Accepter(accepter)));
        }
        let Some(state) = negotiation else { return Ok(true) };
        let mut out = Vec::new();
        let bytes = match **state {
            Negotiation::Established { .. } => return Ok(true),
            _ => decoder.take_pending(),
        };
        peer.wire.heard |= !bytes.is_empty();
        let result = match &mut **state {
            Negotiation::Dialer(dialer) => {
                let result = dialer_receives(key_exchange, dialer, &bytes, &mut out);
                if matches!(result, Err(MseError::PlainPeer)) {
                    peer.wire.plain_answer = true;
                }
                result
            }
            Negotiation::Accepter(accepter) => {
                let find = |mse_key: &[u8; 20]| {
                    let t = by_mse_key.get(mse_key).and_then(|t| torrents.get(*t)).filter(|t| t.running)?;
                    Some(t.info_hash.0)
                };
                accepter_receives(turn, key_exchange, accepter, &bytes, find, &mut out)
            }
            Negotiation::Established { .. } => return Ok(true),
        };
        if !out.is_empty() {
            peer.wire.encoder.push_bytes(&out);
            peer.flush(turn.out);
        }
        let established = result.map_err(|e| match e {
            MseError::UnknownTorrent => DisconnectReason::UnknownTorrent,
            e => DisconnectReason::Negotiation(e),
        })?;
        let Some(Established { info_hash, ciphers, stream }) = established else { return Ok(false) };
        decoder.preload(stream);
        peer.wire.negotiated = Some(info_hash);
        peer.wire.rc4 = ciphers.is_some();
        let clear = peer.wire.encoder.control_bytes();
        **state = Negotiation::Established { ciphers: ciphers.map(Box::new), clear };
        Ok(true)
    }

    /// Computes secrets of callers that wait for one, as many as the rate limit allows.
    pub(super) fn compute_secrets(&mut self, turn: &mut Turn<'_>) {
        let waits = |c: &Connection| c.negotiation.as_ref().is_some_and(|n| n.waits_for_secret());
        let waiting = self.connections.iter().filter(|(_, c)| waits(c));
        let mut waiting: Vec<_> = waiting.map(|(key, c)| (c.peer.wire.since, key)).collect();
        waiting.sort();
        for (_, key) in waiting {
            if let Some(at) = self.key_exchange.wait_until(turn.now) {
                return turn.timers.arm(Timer::KeyExchange, at);
            }
            if let Err(why) = self.got(turn, key, 0) {
                log::debug!("closing {key:?}: {why}");
                turn.out.push(super::action::Action::Close { peer: key });
            } else {
                self.wake(turn, key);
            }
        }
    }

    /// See [`Engine::take_cipher`](super::Engine::take_cipher).
    pub(super) fn take_cipher(&mut self, key: PeerKey) -> StreamCipher {
        let Some(c) = self.connections.get_mut(key) else { return StreamCipher::Plain };
        match c.negotiation.take().map(|negotiation| *negotiation) {
            Some(Negotiation::Established { ciphers: Some(ciphers), clear }) => {
                StreamCipher::Rc4 { ciphers, clear }
            }
            Some(Negotiation::Established { ciphers: None, .. }) => StreamCipher::Plain,
            Some(pending) => {
                c.negotiation = Some(Box::new(pending));
                StreamCipher::Undecided
            }
            None if c.peer.wire.phase == Phase::Up => StreamCipher::Plain,
            None => StreamCipher::Undecided,
        }
    }
}

fn dialer_receives(
    exchange: &mut KeyExchange,
    dialer: &mut Dialer,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<Established>, MseError> {
    let had_secret = dialer.has_secret();
    let result = dialer.receive(bytes, out);
    if dialer.has_secret() && !had_secret && !matches!(result, Err(MseError::PlainPeer)) {
        exchange.on_dialed_secret();
    }
    result
}

fn accepter_receives(
    turn: &mut Turn<'_>,
    exchange: &mut KeyExchange,
    accepter: &mut Accepter,
    bytes: &[u8],
    find: impl Fn(&[u8; 20]) -> Option<[u8; 20]>,
    out: &mut Vec<u8>,
) -> Result<Option<Established>, MseError> {
    let had_secret = accepter.has_secret();
    let wait = exchange.wait_until(turn.now);
    let result = accepter.receive(bytes, wait.is_none(), find, out);
    if accepter.has_secret() && !had_secret {
        exchange.on_caller_secret(turn.now);
    }
    if let Some(at) = wait.filter(|_| accepter.waits_for_secret()) {
        turn.timers.arm(Timer::KeyExchange, at);
    }
    if matches!(result, Ok(Some(_))) {
        exchange.on_accepted();
    }
    result
}

/// Notes what the end of a dialed connection without a handshake shows about its address. Returns whether the
/// address is dialed again at once, the other way.
pub(super) fn note_attempt(
    policy: Encryption,
    list: &mut PeerList,
    peer: &Peer,
    negotiation: Option<&Negotiation>,
    heard: bool,
    why: DisconnectReason,
) -> bool {
    let addr = peer.source.addr;
    if peer.wire.phase != Phase::Handshaking || !matches!(policy, Encryption::Allow | Encryption::Prefer) {
        return false;
    }
    let lost = why == DisconnectReason::Lost;
    match negotiation {
        _ if peer.wire.negotiated.is_some() => false,
        None if heard => false,
        None => {
            list.set_encrypted(addr, true);
            lost && list.dial_again(addr)
        }
        Some(negotiation) if peer.wire.plain_answer || negotiation.is_unanswered() => {
            list.set_encrypted(addr, false);
            (peer.wire.plain_answer || lost && policy == Encryption::Prefer) && list.dial_again(addr)
        }
        // It began the negotiation and did not end it: perhaps no method is common.
        Some(_) => {
            list.set_encrypted(addr, false);
            false
        }
    }
}
