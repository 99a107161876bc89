//! Disks as they may be after the power went: what was synced is there, and of the rest any part.
//!
//! Harsher than any file system that is in use. Every page of 4 KiB goes its own way: it has its last synced bytes, or those
//! of any later write, whatever became of its neighbours. So does every length, and every change of a directory's names.
//! Only two things are promised: what `fdatasync` or `fsync` of a file covered is in that file, and what `fsync` of a
//! directory covered is in that directory. A sync covers what was done when it began, and counts when it has returned.

use crate::journal::{Change, History, Moment, Naming, Node, Span, apply};
use crate::record::{Claims, Record, Truth, path};
use rill::disk::{Done, OpenTorrent, Store, StoreConfig};
use rill::units::{Rng, SlotMap, TorrentKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const PAGE: u64 = 4096;

/// A moment, and the luck of everything that was not safe then.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub at: Moment,
    /// Out of a hundred unsynced changes so many came through.
    pub luck: usize,
    pub seed: u64,
}

impl Crash {
    /// Any moment of a history, any luck.
    pub fn any(history: &History, rng: &mut Rng) -> Crash {
        let luck = [0, 10, 50, 90, 100][rng.below(5)];
        Crash { at: 1 + rng.below(history.end as usize) as u64, luck, seed: rng.u64() }
    }

    /// Makes the disk at `to`, which is empty.
    pub fn build(&self, history: &History, to: &Path) {
        self.build_node(history, 0, to, &mut Rng::new(self.seed));
    }

    fn came_through(&self, rng: &mut Rng) -> bool {
        rng.below(100) < self.luck
    }

    /// When the last sync began that had returned by then.
    fn safe_until(&self, syncs: &[Span]) -> Moment {
        syncs.iter().filter(|s| s.end <= self.at).map(|s| s.begin).max().unwrap_or(0)
    }

    fn build_node(&self, history: &History, node: usize, to: &Path, rng: &mut Rng) {
        match &history.nodes[node] {
            Node::File { changes, syncs } => fs::write(to, self.bytes(changes, syncs, rng)).unwrap(),
            Node::Dir { names, syncs, .. } => {
                fs::create_dir_all(to).unwrap();
                for (name, node) in self.names(names, syncs, rng) {
                    self.build_node(history, node, &to.join(name), rng);
                }
            }
        }
    }

    fn names(&self, names: &[(Span, Naming)], syncs: &[Span], rng: &mut Rng) -> BTreeMap<String, usize> {
        let safe = self.safe_until(syncs);
        let mut there = BTreeMap::new();
        for (span, naming) in names.iter().filter(|(span, _)| span.begin <= self.at) {
            if span.end < safe || self.came_through(rng) {
                apply(&mut there, naming);
            }
        }
        there
    }

    fn bytes(&self, changes: &[(Span, Change)], syncs: &[Span], rng: &mut Rng) -> Vec<u8> {
        let safe = self.safe_until(syncs);
        let done = || changes.iter().filter(|(span, _)| span.begin <= self.at);
        let mut len = 0;
        for (span, change) in done() {
            if span.end < safe || self.came_through(rng) {
                len = match change {
                    Change::Bytes { at, bytes } => len.max(at + bytes.len() as u64),
                    Change::Length(new) => *new,
                    Change::Reserved(least) => len.max(*least),
                };
            }
        }
        let mut file = vec![0; len as usize];
        // Each page takes part in the later writes up to one of them, as the dice say.
        let mut stopped = BTreeSet::new();
        for (span, change) in done() {
            let Change::Bytes { at, bytes } = change else { continue };
            let end = at + bytes.len() as u64;
            for page in at / PAGE..end.div_ceil(PAGE) {
                if span.end >= safe && (stopped.contains(&page) || !self.came_through(rng)) {
                    stopped.insert(page);
                    continue;
                }
                let (from, to) = ((page * PAGE).max(*at), ((page + 1) * PAGE).min(end).min(len));
                if from < to {
                    file[from as usize..to as usize].copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
                }
            }
        }
        file
    }
}

/// What rill itself believes of such a disk, and whether it is true. Its record is made to fit the files that were built, else
/// rill would see that somebody had been at them and hash everything.
pub fn rills_verdict(truth: &Truth, down: &Path, state: &Path) -> Claims {
    if let Some(record) = Record::read(state, &truth.torrent) {
        let files: Vec<_> = truth.torrent.files().iter().map(|file| fs::metadata(down.join(file.to_path())).ok()).collect();
        fs::write(path(state, &truth.torrent), record.adopt(&files)).unwrap();
    }
    let torrent = OpenTorrent {
        info_hash: truth.torrent.info_hash(),
        geometry: truth.torrent.geometry(),
        files: truth.torrent.files().clone(),
        hashes: truth.torrent.hashes(),
        dir: down.to_path_buf(),
        wanted: None,
        read_only: false,
        check: false,
    };
    let (wake, woken) = channel();
    let config = StoreConfig { workers: 1, state_dir: Some(state.to_path_buf()), ..StoreConfig::default() };
    let mut store = Store::new(config, Arc::new(move || wake.send(()).unwrap_or_default())).unwrap();
    let key: TorrentKey = SlotMap::<TorrentKey, ()>::default().insert(());
    store.open(key, torrent);
    loop {
        store.submit();
        woken.recv_timeout(Duration::from_secs(20)).expect("the store went quiet");
        while let Some(done) = store.next_done() {
            if let Done::Opened { result, .. } = done {
                let have = result.expect("nothing is wrong with this disk").have;
                let geometry = truth.torrent.geometry();
                return truth.verdict(down, |piece| geometry.all_pieces().nth(piece as usize).is_some_and(|p| have.has(p)));
            }
        }
    }
}
