//! The fuzz target of the negotiation of encrypted connections.
//!
//! The first bytes choose the side, whether the peer knows the torrent, and the portions; the others are what the
//! peer sends, encrypted if it knows the torrent. Both sides panic at no input, write a bounded answer, and give
//! the same result when the input is cut in another way.

use super::diffie_hellman::{public_key, shared_secret};
use super::mse::{
    Accepter, Dialer, Established, KeyPair, MAX_INITIAL, MAX_PAD, MseError, PLAINTEXT, RC4, torrent_key,
};
use super::rc4::Rc4;
use sha1::{Digest, Sha1};
use std::sync::LazyLock;

const HASH: [u8; 20] = [0xaa; 20];
const OUR_EXPONENT: [u8; 20] = [5; 20];
const THEIR_EXPONENT: [u8; 20] = [3; 20];

/// The most bytes that a side writes: two of its messages with their padding.
const MOST_WRITTEN: usize = 2 * (96 + MAX_PAD) + MAX_INITIAL;

static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::new(OUR_EXPONENT));
static THEIR_KEY: LazyLock<[u8; 96]> = LazyLock::new(|| public_key(&THEIR_EXPONENT));
static SECRET: LazyLock<[u8; 96]> =
    LazyLock::new(|| shared_secret(&OUR_EXPONENT, &THEIR_KEY).expect("a key with a secret"));

fn digest(parts: &[&[u8]]) -> [u8; 20] {
    Sha1::digest(parts.concat()).into()
}

/// Returns what a peer that knows the torrent sends, if its encrypted part is `plain`.
fn honest(to_accepter: bool, plain: &[u8]) -> Vec<u8> {
    let mut sent = THEIR_KEY.to_vec();
    let name: &[u8] = if to_accepter { b"keyA" } else { b"keyB" };
    if to_accepter {
        sent.extend(digest(&[b"req1", &*SECRET]));
        let mask = digest(&[b"req3", &*SECRET]);
        sent.extend(torrent_key(&HASH).iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    }
    let at = sent.len();
    sent.extend([0; 8]);
    sent.extend(plain);
    Rc4::new(&digest(&[name, &*SECRET, &HASH])).apply(&mut sent[at..]);
    sent
}

/// What a negotiation came to: the stream's first bytes, and whether it is encrypted.
type Outcome = Result<Option<(Vec<u8>, bool)>, MseError>;

/// Checks a negotiation with arbitrary bytes of the peer.
pub fn mse(input: &[u8]) {
    let [side, first, cut, bytes @ ..] = input else { return };
    let bytes = if side & 8 == 0 { bytes.to_vec() } else { honest(side & 1 != 0, bytes) };
    let bytes = bytes.as_slice();
    let (outcome, written) = run(*side, &[bytes]);
    assert!(written.len() <= MOST_WRITTEN);
    if let Ok(Some((stream, _))) = &outcome {
        assert!(stream.len() <= bytes.len());
    }
    let (head, rest) = bytes.split_at(usize::from(*first).min(bytes.len()));
    let portions: Vec<&[u8]> = std::iter::once(head).chain(rest.chunks(usize::from(*cut).max(1))).collect();
    let (again, written_again) = run(*side, &portions);
    assert_eq!(outcome, again, "another cut gives another result");
    // An error may show before the rest of an answer is written.
    assert!(outcome.is_err() || written == written_again);
}

/// Gives the portions to one side, and returns what it came to and what it wrote. Bytes after a result belong to
/// the stream.
fn run(side: u8, portions: &[&[u8]]) -> (Outcome, Vec<u8>) {
    let mut written = Vec::new();
    let mut side = Side::new(side, &mut written);
    let mut portions = portions.iter();
    while let Some(portion) = portions.next() {
        match side.receive(portion, &mut written) {
            Err(e) => return (Err(e), written),
            Ok(None) => {}
            Ok(Some(Established { mut ciphers, mut stream, info_hash })) => {
                assert_eq!(info_hash, HASH);
                for later in portions {
                    let mut later = later.to_vec();
                    ciphers.iter_mut().for_each(|ciphers| ciphers.incoming.apply(&mut later));
                    stream.append(&mut later);
                }
                return (Ok(Some((stream, ciphers.is_some()))), written);
            }
        }
    }
    (Ok(None), written)
}

enum Side {
    Dialer(Dialer),
    Accepter(Accepter, bool),
}

impl Side {
    /// Bit 0 selects the side, bit 1 the methods, bit 2 whether the accepter waits for the permission to
    /// compute. Bit 3 is [`mse`]'s.
    fn new(bits: u8, written: &mut Vec<u8>) -> Side {
        let methods: &'static [u32] = if bits & 2 == 0 { &[PLAINTEXT, RC4] } else { &[RC4] };
        if bits & 1 == 0 {
            let provide = methods.iter().fold(0, |all, bit| all | bit);
            Side::Dialer(Dialer::new(PAIR.clone(), HASH, provide, &[1; 9], &[2; 68], written))
        } else {
            Side::Accepter(Accepter::new(PAIR.clone(), &[1; 9], methods), bits & 4 != 0)
        }
    }

    fn receive(&mut self, bytes: &[u8], written: &mut Vec<u8>) -> Result<Option<Established>, MseError> {
        let find = |key: &[u8; 20]| (*key == torrent_key(&HASH)).then_some(HASH);
        match self {
            Side::Dialer(dialer) => dialer.receive(bytes, written),
            Side::Accepter(accepter, waits) => {
                let result = accepter.receive(bytes, !*waits, find, written)?;
                match result {
                    None if accepter.waits_for_secret() => accepter.receive(&[], true, find, written),
                    result => Ok(result),
                }
            }
        }
    }
}
