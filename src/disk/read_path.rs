//! The loop's way to bytes for upload: straight from the page cache, or through a worker that fetches them first.
//!
//! The loop asks with `RWF_NOWAIT`, so it never waits for a device. What is not cached becomes a job, once; after its
//! answer the same question finds the bytes. Where the system cannot answer without waiting (an old kernel, some file
//! systems) the worker sends the bytes along and they wait here for the asker.

use super::dir::FsKind;
use super::fault::{DiskFault, FaultKind, Operation};
use super::files::TorrentFiles;
use super::limits;
use crate::units::{BlockSpan, TorrentKey};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::{BTreeSet, VecDeque};
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What came of a wish to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// The bytes are there.
    Ready,
    /// A worker fetches them; ask again after `Done::Loaded`.
    Later,
    /// They cannot be read.
    Fault(DiskFault),
}

/// What a worker must do for a load.
pub(super) enum WorkerLoad {
    /// Nothing: it does already, or the queue is full.
    No,
    /// Bring the span into the page cache, or (true) send its bytes.
    Yes(bool),
}

/// The loop's descriptors, the loads under way, and the bytes that were sent along.
#[derive(Default)]
pub(super) struct ReadPath {
    files: Vec<(TorrentKey, usize, Arc<OwnedFd>)>,
    under_way: Vec<(TorrentKey, BlockSpan)>,
    sent: VecDeque<(TorrentKey, BlockSpan, Box<[u8]>)>,
    /// Torrents whose file system does not know `RWF_NOWAIT`.
    waits: BTreeSet<TorrentKey>,
}

enum Miss {
    NotCached,
    Fault(DiskFault),
}

impl ReadPath {
    /// Reads the span if that needs no waiting; else says what a worker has to do.
    pub fn load(&mut self, c: &TorrentFiles, span: BlockSpan, into: &mut [u8]) -> (Load, WorkerLoad) {
        if let Some(i) = self.sent.iter().position(|(t, s, _)| (*t, *s) == (c.key, span)) {
            if let Some((.., bytes)) = self.sent.remove(i) {
                into[..bytes.len()].copy_from_slice(&bytes);
                return (Load::Ready, WorkerLoad::No);
            }
        }
        match self.try_now(c, span, into, &mut 0) {
            Ok(()) => (Load::Ready, WorkerLoad::No),
            Err(Miss::Fault(f)) => (Load::Fault(f), WorkerLoad::No),
            Err(Miss::NotCached) => {
                let known = self.under_way.contains(&(c.key, span));
                if known || self.under_way.len() >= limits::LOADS_WAITING {
                    return (Load::Later, WorkerLoad::No);
                }
                self.under_way.push((c.key, span));
                (Load::Later, WorkerLoad::Yes(self.waits.contains(&c.key)))
            }
        }
    }

    /// Reads as much of the span, from its start, as needs no waiting; how many bytes that was.
    pub fn load_cached(&mut self, c: &TorrentFiles, span: BlockSpan, into: &mut [u8]) -> usize {
        let mut done = 0;
        // What is in the way is found again by whoever asks for the first byte that is missing.
        let _ = self.try_now(c, span, into, &mut done);
        done
    }

    /// `done` grows by the bytes that are in place.
    fn try_now(&mut self, c: &TorrentFiles, span: BlockSpan, into: &mut [u8], done: &mut usize) -> Result<(), Miss> {
        if self.waits.contains(&c.key) {
            return Err(Miss::NotCached);
        }
        for s in c.segments(span) {
            let part = &mut into[*done..*done + s.len as usize];
            if s.pad {
                part.fill(0);
                *done += part.len();
                continue;
            }
            let Some((.., fd)) = self.files.iter().find(|(t, f, _)| *f == s.file && *t == c.key) else {
                return Err(Miss::NotCached);
            };
            let mut got = 0;
            while got < part.len() {
                match read_now(c, fd, &mut part[got..], s.at + got as u64) {
                    Ok(0) => return Err(Miss::Fault(c.fault_plain(FaultKind::Changed, s.file))),
                    Ok(n) => {
                        got += n;
                        *done += n;
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Err(Miss::NotCached),
                    Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {
                        self.waits.insert(c.key);
                        return Err(Miss::NotCached);
                    }
                    Err(e) => return Err(Miss::Fault(c.fault(Operation::Read, s.file, e))),
                }
            }
        }
        Ok(())
    }

    /// A worker answered: its descriptors are kept for the next loads, its bytes until they are asked for.
    pub fn loaded(&mut self, key: TorrentKey, span: BlockSpan, files: Vec<(usize, Arc<OwnedFd>)>, bytes: Option<Box<[u8]>>) {
        self.under_way.retain(|u| *u != (key, span));
        for (file, fd) in files {
            if !self.files.iter().any(|(t, f, _)| (*t, *f) == (key, file)) {
                if self.files.len() >= limits::LOOP_FILES {
                    self.files.remove(0);
                }
                self.files.push((key, file, fd));
            }
        }
        if let Some(bytes) = bytes {
            // Nobody may have come for the oldest: its asker went away.
            if self.sent.len() >= limits::LOADS_WAITING {
                self.sent.pop_front();
            }
            self.sent.push_back((key, span, bytes));
        }
    }

    /// Whether this system can say nothing without waiting.
    #[cfg(test)]
    pub fn always_waits(&self, key: TorrentKey) -> bool {
        self.waits.contains(&key)
    }

    /// What a file system that does not know the flag makes of a torrent.
    #[cfg(test)]
    pub fn waits_for(&mut self, key: TorrentKey) {
        self.waits.insert(key);
        self.files.clear();
    }

    /// The torrent is closed.
    pub fn forget(&mut self, key: TorrentKey) {
        self.files.retain(|(t, ..)| *t != key);
        self.under_way.retain(|(t, _)| *t != key);
        self.sent.retain(|(t, ..)| *t != key);
        self.waits.remove(&key);
    }
}

fn read_now(c: &TorrentFiles, fd: &OwnedFd, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    match c.fs {
        // Memory is never far away, and tmpfs does not know the flag.
        FsKind::Memory => rustix::io::pread(fd, into, at),
        _ => rustix::io::preadv2(fd, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT),
    }
}
