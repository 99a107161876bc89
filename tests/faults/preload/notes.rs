//! The journal: one entry for each call that changed a file of the box.

use super::*;

pub(crate) static JOURNAL: AtomicI32 = AtomicI32::new(-1);
pub(crate) static MOMENT: AtomicU64 = AtomicU64::new(1);

pub(crate) fn moment() -> u64 {
    MOMENT.fetch_add(1, SeqCst)
}

#[repr(u32)]
pub(crate) enum Entry {
    Open = 1,
    Close,
    Mkdir,
    Rename,
    Unlink,
    Truncate,
    Allocate,
    Write,
    Map,
    Unmap,
    Land,
    Sync,
}

#[repr(C)]
pub(crate) struct Head {
    entry: u32,
    len: u32,
    begin: u64,
    end: u64,
    a: i64,
    b: i64,
    c: i64,
}

pub(crate) const SLICES: usize = 1024;

/// Writes one entry; its payload is the first `len` bytes of `parts`.
pub(crate) fn note(entry: Entry, begin: u64, [a, b, c]: [i64; 3], parts: &[iovec], len: usize) {
    let fd = JOURNAL.load(SeqCst);
    if fd < 0 {
        return;
    }
    let head = Head { entry: entry as u32, len: len as u32, begin, end: moment(), a, b, c };
    let mut all = [iovec { base: null_mut(), len: 0 }; SLICES];
    all[0] = iovec { base: (&raw const head).cast_mut().cast(), len: size_of::<Head>() };
    let mut used = 1;
    let mut left = len;
    for part in parts.iter().take(SLICES - 1) {
        let n = part.len.min(left);
        all[used] = iovec { base: part.base, len: n };
        used += 1;
        left -= n;
    }
    unsafe { real!(writev(c_int, *const iovec, c_int) -> isize)(fd, all.as_ptr(), used as c_int) };
}

pub(crate) fn path_part(path: *const c_char) -> iovec {
    iovec { base: path.cast_mut().cast(), len: bytes(path).len() }
}
