//! The negotiation of an encrypted connection (MSE/PE), for the dialing and the accepting side.
//!
//! ```text
//! dialer    Key → Sync → Select → Pad → done        accepter  Key → Sync → Torrent → Provide → Pad → Initial → done
//! ```
//!
//! Both take bytes in any portions with the same result, and keep fewer than [`MAX_INITIAL`] of them between two
//! calls. Key pairs and padding come from the caller; nothing here is random.
//!
//! An accepter computes a shared secret only when the caller allows it: until then it keeps what has arrived, and
//! the caller gives it no more ([`Accepter::waits_for_secret`]).

use sha1::{Digest, Sha1};
use std::fmt;
use thiserror::Error;

use super::diffie_hellman::{EXPONENT_LEN, KEY_LEN, public_key, shared_secret};
use super::handshake::Handshake;
use super::rc4::Rc4;

/// The bit of the plaintext method: only the negotiation is encrypted.
pub const PLAINTEXT: u32 = 1;
/// The bit of the RC4 method.
pub const RC4: u32 = 2;
/// The largest padding of each of the four messages, in bytes.
pub const MAX_PAD: usize = 512;
/// The largest initial payload that is accepted, in bytes. Known programs send none or a handshake.
pub const MAX_INITIAL: usize = 1_024;

/// Verification constant: eight zeros.
const VC: [u8; 8] = [0; 8];
/// Bytes of the accepter's synchronization mark. Without them the shared secret has no use.
const SYNC_LEN: usize = 20;
/// Bytes of the start of a plain handshake that tell it from a public key.
const PLAIN_PREFIX: usize = 20;

/// Why a negotiation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MseError {
    /// The peer answered with a plain handshake.
    #[error("a plain handshake where encryption was offered")]
    PlainPeer,
    /// The public key has no secret.
    #[error("a public key without a secret")]
    PublicKey,
    /// No synchronization within the largest padding.
    #[error("neither a handshake nor an encrypted connection")]
    NoSync,
    /// No running torrent has this key.
    #[error("an unknown torrent")]
    UnknownTorrent,
    /// The verification constant is wrong.
    #[error("a wrong verification constant")]
    Verification,
    /// No method that both sides allow, or one that was not offered.
    #[error("no common method of encryption")]
    Method,
    /// A padding above [`MAX_PAD`] or an initial payload above [`MAX_INITIAL`].
    #[error("a padding or an initial payload above the limit")]
    Length,
}

/// A secret exponent and its public key. Several negotiations may share it.
#[derive(Clone)]
pub struct KeyPair {
    exponent: [u8; EXPONENT_LEN],
    public: [u8; KEY_LEN],
}

impl KeyPair {
    /// Computes the public key of `exponent`.
    pub fn new(exponent: [u8; EXPONENT_LEN]) -> KeyPair {
        KeyPair { exponent, public: public_key(&exponent) }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// The result of a negotiation.
#[derive(Debug)]
pub struct Established {
    /// The torrent that the dialing side named.
    pub info_hash: [u8; 20],
    /// The keystreams of both directions; `None` for the plaintext method.
    pub ciphers: Option<Ciphers>,
    /// Decrypted bytes of the stream that have arrived.
    pub stream: Vec<u8>,
}

/// The keystreams of a connection.
#[derive(Clone, Debug)]
pub struct Ciphers {
    /// Decrypts what the peer sends.
    pub incoming: Rc4,
    /// Encrypts what the peer receives.
    pub outgoing: Rc4,
}

/// Returns the key under which a torrent is found: SHA1("req2" ‖ info hash).
pub fn torrent_key(info_hash: &[u8; 20]) -> [u8; 20] {
    digest(b"req2", info_hash, &[])
}

fn digest(name: &[u8; 4], first: &[u8], second: &[u8]) -> [u8; 20] {
    Sha1::new().chain_update(name).chain_update(first).chain_update(second).finalize().into()
}

fn xor(mut a: [u8; 20], b: [u8; 20]) -> [u8; 20] {
    a.iter_mut().zip(b).for_each(|(to, byte)| *to ^= byte);
    a
}

/// Removes the first `N` bytes, if that many have arrived.
fn take<const N: usize>(bytes: &mut Vec<u8>) -> Option<[u8; N]> {
    let first = *bytes.first_chunk::<N>()?;
    bytes.drain(..N);
    Some(first)
}

/// Removes all up to and with the first occurrence of `mark`, which at most [`MAX_PAD`] bytes may precede.
fn synchronize(bytes: &mut Vec<u8>, mark: &[u8]) -> Result<bool, MseError> {
    let found = bytes.windows(mark.len()).take(MAX_PAD.saturating_add(1)).position(|part| part == mark);
    match found {
        Some(at) => {
            bytes.drain(..at.saturating_add(mark.len()));
            Ok(true)
        }
        None if bytes.len() >= MAX_PAD.saturating_add(mark.len()) => Err(MseError::NoSync),
        None => Ok(false),
    }
}

/// Returns the ciphers of the stream under `method`, and decrypts `rest`, the bytes of it that have arrived.
fn begin_stream(mut ciphers: Ciphers, method: u32, rest: &mut [u8]) -> Option<Ciphers> {
    if method != RC4 {
        return None;
    }
    ciphers.incoming.apply(rest);
    Some(ciphers)
}

#[derive(Debug)]
enum Dialing {
    Key,
    Sync(Ciphers),
    Select(Ciphers),
    Pad { ciphers: Ciphers, method: u32, len: usize },
}

/// The negotiation of the side that dialed.
#[derive(Debug)]
pub struct Dialer {
    keys: KeyPair,
    info_hash: [u8; 20],
    provide: u32,
    initial: Vec<u8>,
    state: Option<Dialing>,
    kept: Vec<u8>,
}

impl Dialer {
    /// Starts a negotiation and appends the first message to `out`. `provide` has the offered methods, `initial`
    /// the first bytes of the stream.
    pub fn new(
        keys: KeyPair,
        info_hash: [u8; 20],
        provide: u32,
        pad: &[u8],
        initial: &[u8],
        out: &mut Vec<u8>,
    ) -> Dialer {
        out.extend(keys.public);
        out.extend(pad);
        let (initial, state) = (initial.to_vec(), Some(Dialing::Key));
        Dialer { keys, info_hash, provide, initial, state, kept: Vec::new() }
    }

    /// Returns whether the peer's public key has arrived and the shared secret is computed.
    pub fn has_secret(&self) -> bool {
        !matches!(self.state, Some(Dialing::Key))
    }

    /// Takes bytes of the peer and appends the answer to `out`. After a result or an error it takes no more.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Established>, MseError> {
        self.kept.extend(bytes);
        while let Some(state) = self.state.take() {
            let waiting = match state {
                Dialing::Key => {
                    if self.kept.len() >= PLAIN_PREFIX && Handshake::could_begin(&self.kept) {
                        return Err(MseError::PlainPeer);
                    }
                    let Some(theirs) = take::<KEY_LEN>(&mut self.kept) else {
                        self.state = Some(Dialing::Key);
                        return Ok(None);
                    };
                    self.state = Some(Dialing::Sync(self.offer(&theirs, out)?));
                    false
                }
                Dialing::Sync(mut ciphers) => {
                    let mut mark = VC;
                    ciphers.incoming.clone().apply(&mut mark);
                    let found = synchronize(&mut self.kept, &mark)?;
                    if found {
                        ciphers.incoming.advance(VC.len());
                    }
                    self.state = Some(if found { Dialing::Select(ciphers) } else { Dialing::Sync(ciphers) });
                    !found
                }
                Dialing::Select(mut ciphers) => match take::<6>(&mut self.kept) {
                    None => {
                        self.state = Some(Dialing::Select(ciphers));
                        true
                    }
                    Some(mut head) => {
                        ciphers.incoming.apply(&mut head);
                        let [a, b, c, d, e, f] = head;
                        let (method, len) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
                        if !matches!(method, PLAINTEXT | RC4) || method & self.provide == 0 {
                            return Err(MseError::Method);
                        }
                        let len = usize::from(len);
                        if len > MAX_PAD {
                            return Err(MseError::Length);
                        }
                        self.state = Some(Dialing::Pad { ciphers, method, len });
                        false
                    }
                },
                Dialing::Pad { ciphers, method, len } if self.kept.len() < len => {
                    self.state = Some(Dialing::Pad { ciphers, method, len });
                    true
                }
                Dialing::Pad { mut ciphers, method, len } => {
                    ciphers.incoming.advance(len);
                    let mut stream = self.kept.split_off(len);
                    let ciphers = begin_stream(ciphers, method, &mut stream);
                    return Ok(Some(Established { info_hash: self.info_hash, ciphers, stream }));
                }
            };
            if waiting {
                break;
            }
        }
        Ok(None)
    }

    /// Appends the third message to `out`.
    fn offer(&self, theirs: &[u8; KEY_LEN], out: &mut Vec<u8>) -> Result<Ciphers, MseError> {
        let secret = shared_secret(&self.keys.exponent, theirs).ok_or(MseError::PublicKey)?;
        let mut outgoing = Rc4::new(&digest(b"keyA", &secret, &self.info_hash));
        let incoming = Rc4::new(&digest(b"keyB", &secret, &self.info_hash));
        let len = u16::try_from(self.initial.len()).map_err(|_| MseError::Length)?;
        let provide = self.provide.to_be_bytes();
        let mut message = [&VC[..], &provide, &[0, 0], &len.to_be_bytes(), &self.initial].concat();
        outgoing.apply(&mut message);
        out.extend(digest(b"req1", &secret, &[]));
        out.extend(xor(torrent_key(&self.info_hash), digest(b"req3", &secret, &[])));
        out.append(&mut message);
        Ok(Ciphers { incoming, outgoing })
    }
}

#[derive(Debug)]
enum Accepting {
    Key,
    Sync([u8; KEY_LEN]),
    Torrent([u8; KEY_LEN]),
    Provide(Ciphers),
    Pad { ciphers: Ciphers, method: u32, len: usize },
    Initial { ciphers: Ciphers, method: u32, len: usize },
}

/// The negotiation of the side that was dialed.
#[derive(Debug)]
pub struct Accepter {
    keys: KeyPair,
    answer: Vec<u8>,
    theirs: Option<[u8; KEY_LEN]>,
    methods: &'static [u32],
    /// Zeros until the peer has named a torrent.
    info_hash: [u8; 20],
    state: Option<Accepting>,
    kept: Vec<u8>,
}

impl Accepter {
    /// Starts a negotiation. Of `methods` the first one that the peer offers is selected.
    pub fn new(keys: KeyPair, pad: &[u8], methods: &'static [u32]) -> Accepter {
        let (answer, state) = ([&keys.public, pad].concat(), Some(Accepting::Key));
        Accepter { keys, answer, theirs: None, methods, info_hash: [0; 20], state, kept: Vec::new() }
    }

    /// Returns whether the shared secret is computed.
    pub fn has_secret(&self) -> bool {
        !matches!(self.state, Some(Accepting::Key))
    }

    /// Returns whether the next step is the shared secret: its bytes have arrived.
    pub fn waits_for_secret(&self) -> bool {
        !self.has_secret() && self.theirs.is_some() && self.kept.len() >= SYNC_LEN
    }

    /// Takes bytes of the peer and appends the answer to `out`. Without `may_compute` it stops before the shared
    /// secret. `find` returns the info hash of a running torrent by its [`torrent_key`]. After a result or an
    /// error it takes no more.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        may_compute: bool,
        find: impl Fn(&[u8; 20]) -> Option<[u8; 20]>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, MseError> {
        self.kept.extend(bytes);
        while let Some(state) = self.state.take() {
            let (next, waiting) = match state {
                Accepting::Key => self.read_key(may_compute, out)?,
                Accepting::Sync(secret) => {
                    let found = synchronize(&mut self.kept, &digest(b"req1", &secret, &[]))?;
                    (if found { Accepting::Torrent(secret) } else { Accepting::Sync(secret) }, !found)
                }
                Accepting::Torrent(secret) => match take::<20>(&mut self.kept) {
                    None => (Accepting::Torrent(secret), true),
                    Some(masked) => {
                        let key = xor(masked, digest(b"req3", &secret, &[]));
                        let info_hash = find(&key).ok_or(MseError::UnknownTorrent)?;
                        let incoming = Rc4::new(&digest(b"keyA", &secret, &info_hash));
                        let outgoing = Rc4::new(&digest(b"keyB", &secret, &info_hash));
                        self.info_hash = info_hash;
                        (Accepting::Provide(Ciphers { incoming, outgoing }), false)
                    }
                },
                Accepting::Provide(ciphers) => match take::<14>(&mut self.kept) {
                    None => (Accepting::Provide(ciphers), true),
                    Some(head) => (self.read_provide(ciphers, head)?, false),
                },
                Accepting::Pad { ciphers, method, len } if self.kept.len() < len.saturating_add(2) => {
                    (Accepting::Pad { ciphers, method, len }, true)
                }
                Accepting::Pad { mut ciphers, method, len } => {
                    self.kept.drain(..len);
                    ciphers.incoming.advance(len);
                    let mut initial = take::<2>(&mut self.kept).unwrap_or_default();
                    ciphers.incoming.apply(&mut initial);
                    let len = usize::from(u16::from_be_bytes(initial));
                    if len > MAX_INITIAL {
                        return Err(MseError::Length);
                    }
                    (Accepting::Initial { ciphers, method, len }, false)
                }
                Accepting::Initial { ciphers, method, len } if self.kept.len() < len => {
                    (Accepting::Initial { ciphers, method, len }, true)
                }
                Accepting::Initial { mut ciphers, method, len } => {
                    let mut rest = self.kept.split_off(len);
                    let mut stream = std::mem::take(&mut self.kept);
                    ciphers.incoming.apply(&mut stream);
                    let mut message = [&VC[..], &method.to_be_bytes(), &[0, 0]].concat();
                    ciphers.outgoing.apply(&mut message);
                    out.append(&mut message);
                    let ciphers = begin_stream(ciphers, method, &mut rest);
                    stream.append(&mut rest);
                    return Ok(Some(Established { info_hash: self.info_hash, ciphers, stream }));
                }
            };
            self.state = Some(next);
            if waiting {
                break;
            }
        }
        Ok(None)
    }

    /// Answers the peer's key at once, and computes the secret when the bytes of a synchronization follow it.
    fn read_key(&mut self, may_compute: bool, out: &mut Vec<u8>) -> Result<(Accepting, bool), MseError> {
        if self.theirs.is_none() {
            self.theirs = take::<KEY_LEN>(&mut self.kept);
            if self.theirs.is_some() {
                out.append(&mut self.answer);
            }
        }
        match self.theirs {
            Some(theirs) if may_compute && self.kept.len() >= SYNC_LEN => {
                let secret = shared_secret(&self.keys.exponent, &theirs).ok_or(MseError::PublicKey)?;
                Ok((Accepting::Sync(secret), false))
            }
            _ => Ok((Accepting::Key, true)),
        }
    }

    fn read_provide(&self, mut ciphers: Ciphers, mut head: [u8; 14]) -> Result<Accepting, MseError> {
        ciphers.incoming.apply(&mut head);
        let [vc @ .., a, b, c, d, e, f] = head;
        if vc != VC {
            return Err(MseError::Verification);
        }
        let offered = u32::from_be_bytes([a, b, c, d]);
        let method = *self.methods.iter().find(|bit| offered & **bit != 0).ok_or(MseError::Method)?;
        let len = usize::from(u16::from_be_bytes([e, f]));
        if len > MAX_PAD { Err(MseError::Length) } else { Ok(Accepting::Pad { ciphers, method, len }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: [u8; 20] = [0xaa; 20];

    /// Gives `bytes` to `receive` in portions of `cut` bytes, and returns what it established.
    fn portions(
        bytes: &[u8],
        cut: usize,
        mut receive: impl FnMut(&[u8]) -> Result<Option<Established>, MseError>,
    ) -> Result<Option<Established>, MseError> {
        let mut parts = bytes.chunks(cut);
        while let Some(part) = parts.next() {
            if let Some(mut done) = receive(part)? {
                let mut rest = parts.collect::<Vec<_>>().concat();
                if let Some(ciphers) = &mut done.ciphers {
                    ciphers.incoming.apply(&mut rest);
                }
                done.stream.extend(rest);
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    fn find(key: &[u8; 20]) -> Option<[u8; 20]> {
        (*key == torrent_key(&HASH)).then_some(HASH)
    }

    type Both = (Option<Established>, Option<Established>);

    /// Runs both sides until each has its result; the accepter's stream is followed by `tail`.
    fn negotiate(
        pads: (usize, usize),
        offer: (u32, &'static [u32]),
        initial: &[u8],
        cut: usize,
    ) -> Result<Both, MseError> {
        let (a, b) = (KeyPair::new([3; EXPONENT_LEN]), KeyPair::new([5; EXPONENT_LEN]));
        let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
        let mut dialer = Dialer::new(a, HASH, offer.0, &vec![1; pads.0], initial, &mut to_b);
        let mut accepter = Accepter::new(b, &vec![2; pads.1], offer.1);
        let none = portions(&to_b, cut, |part| accepter.receive(part, true, find, &mut to_a))?;
        assert!(none.is_none());
        to_b.clear();
        let none = portions(&to_a, cut, |part| dialer.receive(part, &mut to_b))?;
        assert!(none.is_none());
        to_a.clear();
        let accepted = portions(&to_b, cut, |part| accepter.receive(part, true, find, &mut to_a))?;
        let dialed = portions(&to_a, cut, |part| dialer.receive(part, &mut to_b))?;
        Ok((dialed, accepted))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_sides_agree_on_the_method_and_the_stream_at_any_cut(
            pad_a in prop::sample::select(vec![0, 1, 511, 512]),
            pad_b in prop::sample::select(vec![0, 1, 511, 512]),
            provide in prop::sample::select(vec![0, 1, 2, 3, 7]),
            methods in prop::sample::select(vec![&[RC4][..], &[RC4, PLAINTEXT], &[PLAINTEXT, RC4]]),
            initial in prop::sample::select(vec![0, 68, 1024]),
            cut in 1_usize..700,
        ) {
            let initial = vec![9; initial];
            let both = negotiate((pad_a, pad_b), (provide, methods), &initial, cut);
            let Some(method) = methods.iter().find(|bit| provide & **bit != 0) else {
                prop_assert_eq!(both.unwrap_err(), MseError::Method);
                return Ok(());
            };
            let (Some(mut dialed), Some(mut accepted)) = both.unwrap() else { panic!("no result") };
            prop_assert_eq!(&accepted.stream, &initial);
            prop_assert_eq!((dialed.info_hash, accepted.info_hash), (HASH, HASH));
            let encrypted = *method == RC4;
            prop_assert_eq!((dialed.ciphers.is_some(), accepted.ciphers.is_some()), (encrypted, encrypted));
            if let (Some(a), Some(b)) = (&mut dialed.ciphers, &mut accepted.ciphers) {
                let mut bytes = [4; 50];
                a.outgoing.apply(&mut bytes);
                b.incoming.apply(&mut bytes);
                b.outgoing.apply(&mut bytes);
                a.incoming.apply(&mut bytes);
                prop_assert_eq!(bytes, [4; 50]);
            }
        }
    }

    #[test]
    fn the_messages_are_those_of_an_independent_computation() {
        let (a, b) = ([1; 20], [0x40; 20]);
        let [a, b]: [[u8; 20]; 2] = [a, b].map(|first| std::array::from_fn(|i| first[i] + i as u8));
        let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
        let mut dialer = Dialer::new(KeyPair::new(a), HASH, 3, &[], &[], &mut to_b);
        let mut accepter = Accepter::new(KeyPair::new(b), &[], &[RC4]);
        assert!(accepter.receive(&to_b, true, find, &mut to_a).unwrap().is_none());
        to_b.clear();
        assert!(dialer.receive(&to_a, &mut to_b).unwrap().is_none());
        to_a.clear();
        assert!(accepter.receive(&to_b, true, find, &mut to_a).unwrap().is_some());
        let hex: String = to_b.iter().map(|byte| format!("{byte:02x}")).collect();
        let third = "17bc3c168a720fad332361fa38278ce884614930\
                     1fda84ea7b4e3443f4a1044845ed46c352fb9c96\
                     08336de442d6aa2a7aa13556179d1377";
        assert_eq!(hex, third);
        assert_eq!(to_a[..8], 0x3662_af43_17e9_64bf_u64.to_be_bytes());
    }

    #[test]
    fn a_padding_of_513_bytes_or_an_initial_payload_of_1025_is_refused() {
        assert_eq!(negotiate((513, 0), (3, &[RC4]), &[], 4_096).unwrap_err(), MseError::NoSync);
        assert_eq!(negotiate((0, 513), (3, &[RC4]), &[], 4_096).unwrap_err(), MseError::NoSync);
        assert_eq!(negotiate((0, 0), (3, &[RC4]), &[0; 1_025], 4_096).unwrap_err(), MseError::Length);
    }

    #[test]
    fn an_accepter_without_permission_keeps_what_arrived_and_goes_on_later() {
        let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
        let mut dialer = Dialer::new(KeyPair::new([3; 20]), HASH, 3, &[1; 9], &[7; 68], &mut to_b);
        let mut accepter = Accepter::new(KeyPair::new([5; 20]), &[], &[RC4]);
        assert!(accepter.receive(&to_b, false, find, &mut to_a).unwrap().is_none());
        assert!(!accepter.waits_for_secret(), "a key alone needs no secret");
        to_b.clear();
        assert!(dialer.receive(&to_a, &mut to_b).unwrap().is_none());
        to_a.clear();
        assert!(accepter.receive(&to_b, false, find, &mut to_a).unwrap().is_none());
        assert!(accepter.waits_for_secret() && to_a.is_empty());
        let done = accepter.receive(&[], true, find, &mut to_a).unwrap().unwrap();
        assert_eq!(done.stream, [7; 68]);
        assert!(dialer.receive(&to_a, &mut to_b).unwrap().is_some());
    }

    #[test]
    fn an_answer_that_is_a_plain_handshake_is_told_from_a_key() {
        let mut dialer = Dialer::new(KeyPair::new([3; EXPONENT_LEN]), HASH, 3, &[], &[], &mut Vec::new());
        let mut out = Vec::new();
        assert!(dialer.receive(b"\x13BitTorrent protoco", &mut out).unwrap().is_none());
        assert_eq!(dialer.receive(b"l", &mut out).unwrap_err(), MseError::PlainPeer);
    }
}
