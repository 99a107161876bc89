//! Possible states of a disk after a power cut: synced changes are there, and any part of the others.
//!
//! The model is harsher than any file system in use. Every 4 KiB page is independent of its neighbours: it
//! has its last synced bytes, or those of any later write. So is every file length, and every change of a
//! directory's names. Only two things are guaranteed: changes that `fdatasync` or `fsync` of a file covered
//! are in that file, and changes that `fsync` of a directory covered are in that directory. A sync covers the
//! changes before it began, and counts once it has returned.

use crate::journal::{Change, History, Moment, Naming, Node, Span, apply};
use crate::record::{Claims, Record, Truth, path, path_of};
use crate::support::lies_at;
use rill::disk::{DiskEvent, FaultKind, OpenTorrent, Store, StoreConfig};
use rill::units::{Rng, SlotMap, TorrentKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const PAGE: u64 = 4096;

/// A power cut: its moment, and the chance of the changes that were not synced then.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub at: Moment,
    /// The percentage of unsynced changes that reached the disk.
    pub percent: usize,
    pub seed: u64,
}

impl Crash {
    /// A random power cut of a history.
    pub fn any(history: &History, rng: &mut Rng) -> Crash {
        let percent = [0, 10, 50, 90, 100][rng.below(5)];
        Crash { at: 1 + rng.below(history.end as usize) as u64, percent, seed: rng.u64() }
    }

    /// Builds the disk at `to`, which is empty.
    pub fn build(&self, history: &History, to: &Path) {
        self.build_node(history, 0, to, &mut Rng::new(self.seed));
    }

    /// Whether one unsynced change reached the disk.
    fn reached_disk(&self, rng: &mut Rng) -> bool {
        rng.below(100) < self.percent
    }

    /// The begin of the last sync that had returned at the power cut.
    fn synced_until(&self, syncs: &[Span]) -> Moment {
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
        let synced = self.synced_until(syncs);
        let mut there = BTreeMap::new();
        for (span, naming) in names.iter().filter(|(span, _)| span.begin <= self.at) {
            if span.end < synced || self.reached_disk(rng) {
                apply(&mut there, naming);
            }
        }
        there
    }

    fn bytes(&self, changes: &[(Span, Change)], syncs: &[Span], rng: &mut Rng) -> Vec<u8> {
        let synced = self.synced_until(syncs);
        let done = || changes.iter().filter(|(span, _)| span.begin <= self.at);
        let mut len = 0;
        for (span, change) in done() {
            if span.end < synced || self.reached_disk(rng) {
                len = match change {
                    Change::Bytes { at, bytes } => len.max(at + bytes.len() as u64),
                    Change::Length(new) => *new,
                    Change::Reserved(least) => len.max(*least),
                };
            }
        }
        let mut file = vec![0; len as usize];
        // Each page has all later writes up to a random one.
        let mut stopped = BTreeSet::new();
        for (span, change) in done() {
            let Change::Bytes { at, bytes } = change else { continue };
            let end = at + bytes.len() as u64;
            for page in at / PAGE..end.div_ceil(PAGE) {
                if span.end >= synced && (stopped.contains(&page) || !self.reached_disk(rng)) {
                    stopped.insert(page);
                    continue;
                }
                let from = (page * PAGE).max(*at);
                let to = ((page + 1) * PAGE).min(end).min(len);
                if from < to {
                    file[from as usize..to as usize]
                        .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
                }
            }
        }
        file
    }
}

/// The pieces that rill claims on such a disk, checked. The record gets the stamps of the files that were
/// built; otherwise rill would take them for changed and hash all content. `None`: rill finds neither a record nor
/// a good piece, and leaves the files alone.
pub fn claims_of_rill(truth: &Truth, down: &Path, state: &Path) -> Option<Claims> {
    if let Some(record) = Record::read(state, &truth.torrent) {
        let files: Vec<_> = truth
            .torrent
            .files()
            .iter()
            .map(|file| fs::metadata(lies_at(down, &file.to_path())).ok())
            .collect();
        // The record names the directory of the original by its path.
        fs::remove_file(path(state, &truth.torrent)).unwrap();
        fs::create_dir_all(down).unwrap();
        fs::write(path_of(state, &truth.torrent, down), record.adopt(&files)).unwrap();
    }
    let (files, hashes) = (truth.torrent.files().clone(), truth.torrent.hashes());
    let torrent = OpenTorrent {
        part_names: true,
        refetch: true, // the disk is another one than that of the original
        ..OpenTorrent::new(truth.torrent.info_hash().into(), truth.torrent.geometry(), files, hashes, down)
    };
    let (wake, woken) = channel();
    let config = StoreConfig { workers: 1, state_dir: Some(state.to_path_buf()), ..StoreConfig::default() };
    let mut store = Store::new(config, Arc::new(move || wake.send(()).unwrap_or_default())).unwrap();
    let key: TorrentKey = SlotMap::<TorrentKey, ()>::default().insert(());
    store.open(key, torrent);
    loop {
        store.submit();
        woken.recv_timeout(Duration::from_secs(20)).expect("the store has no event");
        while let Some(event) = store.next_event() {
            if let DiskEvent::Opened { result, .. } = event {
                let have = match result {
                    Ok(opened) => opened.have,
                    Err(fault) if fault.kind == FaultKind::NotOurs => return None,
                    Err(fault) => panic!("this disk has no fault: {fault}"),
                };
                let geometry = truth.torrent.geometry();
                let claims =
                    |piece: u32| geometry.all_pieces().nth(piece as usize).is_some_and(|p| have.has(p));
                return Some(truth.verdict(down, claims));
            }
        }
    }
}
