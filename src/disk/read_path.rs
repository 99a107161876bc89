//! Reading blocks for upload on the loop: from the page cache, or through a worker that reads them first.
//!
//! The loop reads with `RWF_NOWAIT`, so it never waits for a device. A span that is not cached becomes one
//! job; after its reply the same call finds the bytes. Where a read cannot avoid waiting (old kernels, some
//! file systems) the worker sends the bytes along, and they are kept here until they are asked for.

use super::dir::FsKind;
use super::fault::{DiskFault, FaultKind, Operation};
use super::limits;
use super::torrent_files::TorrentFiles;
use crate::units::{BlockSpan, TorrentKey};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::{BTreeSet, VecDeque};
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The result of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// The bytes are in place.
    Ready,
    /// A worker reads them; call again after `DiskEvent::Loaded`.
    Later,
    /// They cannot be read.
    Fault(DiskFault),
}

/// The job that a load needs.
pub(super) enum LoadJob {
    /// None: the bytes are here, a job is under way, or there are too many.
    None,
    /// Read the span into the page cache.
    Cache,
    /// Read the span and send its bytes.
    Send,
}

/// The loop's descriptors, the loads under way, and bytes that workers sent.
#[derive(Default)]
pub(super) struct ReadPath {
    files: Vec<(TorrentKey, usize, Arc<OwnedFd>)>,
    under_way: Vec<(TorrentKey, BlockSpan)>,
    sent: VecDeque<(TorrentKey, BlockSpan, Box<[u8]>)>,
    /// Torrents on a file system without `RWF_NOWAIT`.
    without_nowait: BTreeSet<TorrentKey>,
}

enum Miss {
    NotCached,
    Fault(DiskFault),
}

impl ReadPath {
    /// Reads the span if that needs no waiting, else names the job that it needs.
    pub fn load(&mut self, torrent: &TorrentFiles, span: BlockSpan, into: &mut [u8]) -> (Load, LoadJob) {
        if let Some(i) = self.sent.iter().position(|(t, s, _)| (*t, *s) == (torrent.key, span)) {
            if let Some((.., bytes)) = self.sent.remove(i) {
                into[..bytes.len()].copy_from_slice(&bytes);
                return (Load::Ready, LoadJob::None);
            }
        }
        match self.read_cached(torrent, span, into, &mut 0) {
            Ok(()) => (Load::Ready, LoadJob::None),
            Err(Miss::Fault(fault)) => (Load::Fault(fault), LoadJob::None),
            Err(Miss::NotCached) => {
                let known = self.under_way.contains(&(torrent.key, span));
                if known || self.under_way.len() >= limits::LOADS_WAITING {
                    return (Load::Later, LoadJob::None);
                }
                self.under_way.push((torrent.key, span));
                let send = self.without_nowait.contains(&torrent.key);
                (Load::Later, if send { LoadJob::Send } else { LoadJob::Cache })
            }
        }
    }

    /// Reads the first bytes of the span, as far as they are cached. Returns their number.
    pub fn load_cached(&mut self, torrent: &TorrentFiles, span: BlockSpan, into: &mut [u8]) -> usize {
        let mut done = 0;
        // A fault is found again when the first missing byte is loaded.
        let _ = self.read_cached(torrent, span, into, &mut done);
        done
    }

    /// `done` grows by the bytes that are in place.
    fn read_cached(
        &mut self,
        torrent: &TorrentFiles,
        span: BlockSpan,
        into: &mut [u8],
        done: &mut usize,
    ) -> Result<(), Miss> {
        if self.without_nowait.contains(&torrent.key) {
            return Err(Miss::NotCached);
        }
        for span in torrent.file_spans(span) {
            let part = &mut into[*done..*done + span.len as usize];
            if span.pad {
                part.fill(0);
                *done += part.len();
                continue;
            }
            let Some((.., fd)) =
                self.files.iter().find(|(t, file, _)| *file == span.file && *t == torrent.key)
            else {
                return Err(Miss::NotCached);
            };
            let mut got = 0;
            while got < part.len() {
                match read_nowait(torrent.fs, fd, &mut part[got..], span.at + got as u64) {
                    Ok(0) => {
                        return Err(Miss::Fault(torrent.fault_without_errno(FaultKind::Changed, span.file)));
                    }
                    Ok(n) => {
                        got += n;
                        *done += n;
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Err(Miss::NotCached),
                    Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {
                        self.without_nowait.insert(torrent.key);
                        return Err(Miss::NotCached);
                    }
                    Err(e) => return Err(Miss::Fault(torrent.fault(Operation::Read, span.file, e))),
                }
            }
        }
        Ok(())
    }

    /// Ends a load under way. Its descriptors are kept for the next loads, its bytes until they are asked
    /// for.
    pub fn on_loaded(
        &mut self,
        key: TorrentKey,
        span: BlockSpan,
        files: Vec<(usize, Arc<OwnedFd>)>,
        bytes: Option<Box<[u8]>>,
    ) {
        self.under_way.retain(|load| *load != (key, span));
        for (file, fd) in files {
            if !self.files.iter().any(|(t, f, _)| (*t, *f) == (key, file)) {
                if self.files.len() >= limits::LOOP_FILES {
                    self.files.remove(0);
                }
                self.files.push((key, file, fd));
            }
        }
        if let Some(bytes) = bytes {
            // The oldest may never be asked for, because its connection is closed.
            if self.sent.len() >= limits::LOADS_WAITING {
                self.sent.pop_front();
            }
            self.sent.push_back((key, span, bytes));
        }
    }

    /// Whether the torrent's file system has no `RWF_NOWAIT`.
    #[cfg(test)]
    pub fn is_without_nowait(&self, key: TorrentKey) -> bool {
        self.without_nowait.contains(&key)
    }

    /// Takes the torrent's file system for one without `RWF_NOWAIT`.
    #[cfg(test)]
    pub fn set_without_nowait(&mut self, key: TorrentKey) {
        self.without_nowait.insert(key);
        self.files.clear();
    }

    /// Forgets a torrent.
    pub fn forget(&mut self, key: TorrentKey) {
        self.files.retain(|(t, ..)| *t != key);
        self.under_way.retain(|(t, _)| *t != key);
        self.sent.retain(|(t, ..)| *t != key);
        self.without_nowait.remove(&key);
    }
}

fn read_nowait(fs: FsKind, fd: &OwnedFd, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    match fs {
        // A read from memory does not wait, and tmpfs does not know the flag.
        FsKind::Memory => rustix::io::pread(fd, into, at),
        _ => rustix::io::preadv2(fd, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT),
    }
}
