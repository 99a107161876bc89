//! The fetch of a magnet link's info dictionary from peers (BEP 9).
//!
//! A peer may lie about the length and about every byte, and only the complete dictionary can be verified. So
//! the length that most peers claim is fetched first, from all of them at once. If metadata from several
//! peers fails its hash, the culprit is unknown: from then on all pieces are requested from a single peer,
//! which is the culprit if the hash fails again. A silent peer is set aside for a while. No length claimed by
//! a peer sizes an allocation beyond the table of pieces: memory grows by the received pieces.

use crate::engine::limits;
use crate::units::{Instant, PeerKey};
use crate::wire::METADATA_PIECE_LEN;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of a torrent's info dictionary.
#[derive(Debug)]
pub enum Metadata {
    /// Known, and served to peers.
    Known(Arc<[u8]>),
    /// Known, and not served: it is private or too long to keep.
    Kept,
    /// Unknown: it is being fetched.
    Wanted(MetadataFetch),
    /// Fetched and handed to the caller, which parses it.
    HandedOn,
}

impl Metadata {
    /// Returns the state after parsing; `info` is the dictionary if it may be served.
    pub fn of(info: Option<Arc<[u8]>>) -> Metadata {
        info.map_or(Metadata::Kept, Metadata::Known)
    }

    /// Returns whether the metadata is unknown.
    pub fn is_wanted(&self) -> bool {
        matches!(self, Metadata::Wanted(_) | Metadata::HandedOn)
    }

    /// Returns its length in bytes, if it is served.
    pub fn len(&self) -> Option<u32> {
        if let Metadata::Known(info) = self { u32::try_from(info.len()).ok() } else { None }
    }

    /// Returns a piece of it, if it is served and has such a piece.
    pub fn piece(&self, piece: u32) -> Option<&[u8]> {
        let Metadata::Known(info) = self else { return None };
        info.chunks(METADATA_PIECE_LEN as usize).nth(piece as usize)
    }
}

/// A peer that claims to have the metadata.
#[derive(Debug)]
struct MetadataPeer {
    size: u32,
    /// Requested pieces, and when.
    requested: Vec<(u32, Instant)>,
    /// No request before this time: it was silent, or rejected a request.
    not_before: Instant,
    lied: bool,
    /// It disabled the extension: it is asked again once it enables it.
    disabled: bool,
}

/// A dictionary that is being assembled.
#[derive(Debug)]
struct Draft {
    size: u32,
    pieces: Vec<Option<(PeerKey, Box<[u8]>)>>,
    /// The only peer that pieces are requested from, after a failure.
    only: Option<PeerKey>,
}

/// The fetch of one torrent's metadata.
#[derive(Debug, Default)]
pub struct MetadataFetch {
    sources: BTreeMap<PeerKey, MetadataPeer>,
    draft: Option<Draft>,
    /// A dictionary from several peers failed its hash.
    one_at_a_time: bool,
}

impl MetadataFetch {
    /// Notes the length that a peer claims, bytes.
    pub fn claims(&mut self, peer: PeerKey, size: u32) {
        let source = MetadataPeer {
            size,
            requested: Vec::new(),
            not_before: Instant::ZERO,
            lied: false,
            disabled: false,
        };
        let known = self.sources.entry(peer).or_insert(source);
        known.disabled = false;
        if known.size != size {
            // At least one of its two claims is wrong.
            known.lied = true;
            self.abandon(peer);
        }
    }

    /// Handles that a peer disables the extension: its requests are taken back, and none is sent to it until it
    /// claims a length again.
    pub fn disabled(&mut self, peer: PeerKey) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.disabled = true;
            source.requested.clear();
        }
    }

    /// Removes a peer; its pieces are kept.
    pub fn gone(&mut self, peer: PeerKey) {
        self.sources.remove(&peer);
        self.abandon(peer);
    }

    /// Returns the piece to request from this peer now, and marks it as requested.
    pub fn ask(&mut self, now: Instant, peer: PeerKey) -> Option<u32> {
        self.choose_draft(now, peer);
        let source = self
            .sources
            .get(&peer)
            .filter(|s| s.is_usable(now) && s.requested.len() < limits::METADATA_REQUESTS)?;
        let draft =
            self.draft.as_ref().filter(|d| d.size == source.size && d.only.is_none_or(|p| p == peer))?;
        let holders = |piece: u32| {
            self.sources.values().flat_map(|s| &s.requested).filter(|(p, _)| *p == piece).count()
        };
        let missing = (0..).zip(&draft.pieces).filter(|(_, p)| p.is_none()).map(|(n, _)| n);
        let free = missing.filter(|n| !source.requested.iter().any(|(p, _)| p == n));
        // A piece is requested from at most two peers: the last pieces do not wait for the slowest peer.
        let piece = free.map(|n| (holders(n), n)).filter(|(holders, _)| *holders < 2).min()?.1;
        self.sources.get_mut(&peer)?.requested.push((piece, now));
        Some(piece)
    }

    /// Handles a rejected request.
    pub fn rejected(&mut self, now: Instant, peer: PeerKey, piece: u32) {
        let Some(source) = self.sources.get_mut(&peer) else { return };
        let before = source.requested.len();
        source.requested.retain(|(p, _)| *p != piece);
        if source.requested.len() < before {
            self.set_aside(now, peer);
        }
    }

    /// Handles a received piece; returns whether the dictionary is complete. A piece without a request is
    /// ignored.
    pub fn came(&mut self, peer: PeerKey, piece: u32, total_size: u32, bytes: &[u8]) -> bool {
        let Some(source) = self.sources.get_mut(&peer) else { return false };
        let Some(at) = source.requested.iter().position(|(p, _)| *p == piece) else { return false };
        source.requested.remove(at);
        if total_size != source.size || bytes.len() != piece_len(source.size, piece) {
            source.lied = true;
            self.abandon(peer);
            return false;
        }
        let size = source.size;
        let Some(draft) = self.draft.as_mut().filter(|d| d.size == size && d.only.is_none_or(|p| p == peer))
        else {
            return false;
        };
        if let Some(place) = draft.pieces.get_mut(piece as usize) {
            place.get_or_insert_with(|| (peer, bytes.into()));
        }
        draft.pieces.iter().all(Option::is_some)
    }

    /// Returns the dictionary once it is complete. Call [`wrong`](MetadataFetch::wrong) if it fails its hash.
    pub fn whole(&self) -> Option<Vec<u8>> {
        let pieces = self.draft.as_ref()?.pieces.iter();
        pieces
            .map(|p| p.as_ref().map(|(_, bytes)| &bytes[..]))
            .collect::<Option<Vec<_>>>()
            .map(|p| p.concat())
    }

    /// Discards a dictionary that failed its hash. Returns the culprit, if a single peer that is still
    /// connected sent all of it.
    pub fn wrong(&mut self) -> Option<PeerKey> {
        let draft = self.draft.take()?;
        let mut senders = draft.pieces.iter().flatten().map(|(peer, _)| *peer);
        let first = senders.next();
        self.sources.values_mut().for_each(|s| s.requested.clear());
        let Some(alone) = first.filter(|first| senders.all(|s| s == *first)) else {
            self.one_at_a_time = true;
            return None;
        };
        self.sources.get_mut(&alone)?.lied = true;
        Some(alone)
    }

    /// Sets silent peers aside; returns when to call it again, if a request is in flight or a peer set aside.
    pub fn look(&mut self, now: Instant) -> Option<Instant> {
        let late =
            |s: &MetadataPeer| s.requested.iter().any(|(_, at)| now.since(*at) >= limits::METADATA_TIMEOUT);
        let silent: Vec<PeerKey> = self.sources.iter().filter(|(_, s)| late(s)).map(|(p, _)| *p).collect();
        for peer in silent {
            self.set_aside(now, peer);
        }
        let requested =
            self.sources.values().flat_map(|s| &s.requested).map(|(_, at)| *at + limits::METADATA_TIMEOUT);
        let aside = self.sources.values().filter(|s| !s.lied && s.not_before > now).map(|s| s.not_before);
        requested.chain(aside).min()
    }

    fn set_aside(&mut self, now: Instant, peer: PeerKey) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.requested.clear();
            source.not_before = now + limits::METADATA_ASIDE;
        }
        self.abandon(peer);
    }

    /// Discards the dictionary that was fetched from this peer only.
    fn abandon(&mut self, peer: PeerKey) {
        self.draft = self.draft.take().filter(|d| d.only != Some(peer));
    }

    /// Chooses the length to fetch, of those that peers claim.
    fn choose_draft(&mut self, now: Instant, peer: PeerKey) {
        let may = |s: &&MetadataPeer| s.is_usable(now);
        let alive = |d: &Draft| self.sources.values().filter(may).any(|s| s.size == d.size);
        if self.draft.as_ref().is_some_and(alive) {
            return;
        }
        let votes = |size: u32| self.sources.values().filter(may).filter(|s| s.size == size).count();
        // Among lengths with as many votes the shorter one is sooner found out.
        let best = self
            .sources
            .values()
            .filter(may)
            .map(|s| s.size)
            .max_by_key(|size| (votes(*size), std::cmp::Reverse(*size)));
        let alone = self.sources.get(&peer).filter(|s| self.one_at_a_time && s.is_usable(now));
        let (size, only) = match (alone, best) {
            (Some(source), _) => (source.size, Some(peer)),
            (None, Some(size)) if !self.one_at_a_time => (size, None),
            _ => return,
        };
        let mut pieces = Vec::new();
        pieces.resize_with(size.div_ceil(METADATA_PIECE_LEN) as usize, || None);
        self.draft = Some(Draft { size, pieces, only });
    }
}

impl MetadataPeer {
    fn is_usable(&self, now: Instant) -> bool {
        !self.lied && !self.disabled && self.not_before <= now
    }
}

/// Returns the length of a piece of metadata of `size` bytes; 0 if there is no such piece.
fn piece_len(size: u32, piece: u32) -> usize {
    let begin = u64::from(piece) * u64::from(METADATA_PIECE_LEN);
    u64::from(size).saturating_sub(begin).min(u64::from(METADATA_PIECE_LEN)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotMap;

    const PIECE: usize = METADATA_PIECE_LEN as usize;
    /// Three pieces, the last one short.
    const SIZE: u32 = 2 * METADATA_PIECE_LEN + 100;

    fn peers<const N: usize>() -> [PeerKey; N] {
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        std::array::from_fn(|_| t.insert(()))
    }

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    fn truth() -> Vec<u8> {
        (0..SIZE).map(|n| (n % 251) as u8).collect()
    }

    fn send(f: &mut MetadataFetch, peer: PeerKey, piece: u32, bytes: &[u8]) -> bool {
        let from = piece as usize * PIECE;
        f.came(peer, piece, bytes.len() as u32, &bytes[from..(from + PIECE).min(bytes.len())])
    }

    /// Answers every request at once, each peer with its own version of the metadata; returns the first
    /// complete dictionary.
    fn play(f: &mut MetadataFetch, now: Instant, bytes: &[(PeerKey, &[u8])]) -> Option<Vec<u8>> {
        for _ in 0..100 {
            for (peer, bytes) in bytes {
                if let Some(piece) = f.ask(now, *peer) {
                    if send(f, *peer, piece, bytes) {
                        return f.whole();
                    }
                }
            }
        }
        None
    }

    #[test]
    fn different_pieces_are_requested_from_several_peers() {
        let [a, b] = peers();
        let mut f = MetadataFetch::default();
        f.claims(a, SIZE);
        f.claims(b, SIZE);
        assert_eq!((f.ask(at(0), a), f.ask(at(0), b), f.ask(at(0), a)), (Some(0), Some(1), Some(2)));
        let truth = truth();
        assert!(!send(&mut f, a, 0, &truth) && !send(&mut f, b, 1, &truth));
        assert!(send(&mut f, a, 2, &truth));
        assert_eq!(f.whole(), Some(truth));
    }

    #[test]
    fn the_length_that_most_peers_claim_is_fetched_first() {
        let [a, b, c] = peers();
        let mut f = MetadataFetch::default();
        f.claims(a, 77);
        f.claims(b, SIZE);
        f.claims(c, SIZE);
        assert_eq!(f.ask(at(0), a), None);
        assert_eq!(f.ask(at(0), b), Some(0));
    }

    #[test]
    fn p17_a_lying_peer_is_found_beside_one_good_peer() {
        let [good, liar] = peers();
        let truth = truth();
        let mut lie = truth.clone();
        lie.iter_mut().for_each(|b| *b ^= 1);
        let mut f = MetadataFetch::default();
        f.claims(good, SIZE);
        f.claims(liar, SIZE);
        let mut tries = 0;
        loop {
            let whole = play(&mut f, at(0), &[(liar, &lie), (good, &truth)]).expect("complete metadata");
            tries += 1;
            if whole == truth {
                break;
            }
            f.wrong();
        }
        assert!(tries <= 3, "{tries} tries");
    }

    #[test]
    fn p17_a_wrong_length_costs_one_attempt() {
        for lied in [1, 100, SIZE - 1, SIZE + 1, crate::wire::limits::METADATA_BYTES] {
            let [good, liar] = peers();
            let mut f = MetadataFetch::default();
            f.claims(liar, lied);
            f.claims(good, SIZE);
            let (truth, lie) = (truth(), vec![0; lied as usize]);
            let mut whole = None;
            for _ in 0..3 {
                whole = (0..20).find_map(|_| play(&mut f, at(0), &[(liar, &lie), (good, &truth)]));
                if whole.as_ref() == Some(&truth) {
                    break;
                }
                f.wrong();
            }
            assert_eq!(whole, Some(truth), "{lied}");
        }
    }

    #[test]
    fn p17_a_silent_peer_is_set_aside_and_another_length_is_fetched() {
        let [silent, other, good] = peers();
        let mut f = MetadataFetch::default();
        f.claims(silent, 1000);
        f.claims(other, 1000);
        f.claims(good, SIZE);
        assert_eq!((f.ask(at(0), silent), f.ask(at(0), other), f.ask(at(0), good)), (Some(0), Some(0), None));
        let late = f.look(at(0)).unwrap();
        f.look(late);
        assert_eq!(f.ask(late, good), Some(0));
        assert_eq!(play(&mut f, late, &[(good, &truth())]), None, "the first piece is still requested");
        assert!(!send(&mut f, silent, 0, &[0; 1000]), "the piece is too late");
    }

    #[test]
    fn p17_a_piece_of_the_wrong_length_or_total_disqualifies_its_peer() {
        let truth = truth();
        for (total, bytes) in
            [(SIZE, &truth[..5]), (SIZE + 1, &truth[..PIECE]), (0, &truth[..PIECE]), (SIZE, &[])]
        {
            let [a] = peers();
            let mut f = MetadataFetch::default();
            f.claims(a, SIZE);
            assert_eq!(f.ask(at(0), a), Some(0));
            assert!(!f.came(a, 0, total, bytes));
            assert_eq!(f.ask(at(0), a), None);
        }
    }

    #[test]
    fn a_piece_without_a_request_is_ignored() {
        let [a, b] = peers();
        let mut f = MetadataFetch::default();
        assert!(!send(&mut f, a, 0, &truth()));
        f.claims(a, 100);
        assert!(!f.came(a, 0, 100, &[0; 100]) && f.whole().is_none());
        assert_eq!(f.ask(at(0), a), Some(0));
        assert!(
            !f.came(b, 0, 100, &[0; 100]) && !f.came(a, 9, 100, &[0; 100]) && !f.came(a, u32::MAX, 100, &[])
        );
        assert!(f.came(a, 0, 100, &[0; 100]));
    }

    #[test]
    fn the_pieces_of_a_peer_that_rejects_or_disconnects_are_requested_from_others() {
        let [a, b, c] = peers();
        let mut f = MetadataFetch::default();
        [a, b, c].iter().for_each(|p| f.claims(*p, SIZE));
        assert_eq!((f.ask(at(0), a), f.ask(at(0), b)), (Some(0), Some(1)));
        f.rejected(at(0), a, 0);
        f.gone(b);
        assert_eq!((f.ask(at(0), a), f.ask(at(0), b)), (None, None));
        let asked: Vec<_> = std::iter::from_fn(|| f.ask(at(0), c)).collect();
        assert_eq!(asked, [0, 1, 2]);
    }
}
