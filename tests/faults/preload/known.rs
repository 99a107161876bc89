//! Tables of descriptors and windows, of fixed length.

use super::*;

pub(crate) const FILE: u8 = 1;
pub(crate) const DIR: u8 = 2;
pub(crate) const SOCKET: u8 = 3;
pub(crate) const FDS: usize = 4096;
pub(crate) static CLASS: [AtomicU8; FDS] = [const { AtomicU8::new(0) }; FDS];

pub(crate) fn class(fd: c_int) -> u8 {
    CLASS.get(fd as usize).map_or(0, |c| c.load(SeqCst))
}

pub(crate) fn classify(fd: c_int, class: u8) {
    if let Some(c) = CLASS.get(fd as usize) {
        c.store(class, SeqCst);
    }
}

/// Whether calls on this path count.
pub(crate) fn counts(dir: c_int, path: *const c_char) -> bool {
    let path = bytes(path);
    let under = bytes(UNDER.load(SeqCst));
    match path.first() {
        Some(b'/') => !under.is_empty() && path.starts_with(under),
        _ => class(dir) == DIR,
    }
}

pub(crate) const WINDOWS: usize = 1024;
pub(crate) static WINDOW: [(AtomicUsize, AtomicUsize); WINDOWS] = [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; WINDOWS];

pub(crate) fn is_window(at: usize) -> bool {
    WINDOW.iter().any(|(from, len)| {
        let from = from.load(SeqCst);
        from != 0 && from <= at && at < from + len.load(SeqCst)
    })
}

/// Enters the class of a new descriptor, and returns the descriptor.
pub(crate) fn opened(fd: c_int, class: u8) -> c_int {
    if fd >= 0 {
        classify(fd, class);
    }
    fd
}
