//! Calls that move bytes between files, memory and the disk.

use super::*;

pub(crate) fn truncates(fd: c_int, len: i64) -> c_int {
    let call = || unsafe { real!(ftruncate64(c_int, i64) -> c_int)(fd, len) };
    if class(fd) != FILE {
        return call();
    }
    let begin = moment();
    let done = intercept_plain(Kind::ftruncate, call);
    if done == 0 {
        note(Entry::Truncate, begin, [fd.into(), len, 0], &[], 0);
    }
    done
}

pub(crate) fn allocates(fd: c_int, mode: c_int, at: i64, len: i64) -> c_int {
    let call = || unsafe { real!(fallocate64(c_int, c_int, i64, i64) -> c_int)(fd, mode, at, len) };
    if class(fd) != FILE {
        return call();
    }
    let begin = moment();
    let done = intercept_plain(Kind::fallocate, call);
    if done == 0 && mode == 0 {
        note(Entry::Allocate, begin, [fd.into(), at, len], &[], 0);
    }
    done
}

pub(crate) fn writes(fd: c_int, parts: &[iovec], at: i64) -> isize {
    let mut few = [iovec { base: null_mut(), len: 0 }; SLICES];
    let all: usize = parts.iter().map(|p| p.len).sum();
    let call = |len: usize| {
        let mut used = 0;
        let mut left = len;
        for part in parts.iter().take(SLICES).filter(|p| p.len > 0) {
            if left == 0 {
                break;
            }
            few[used] = iovec { base: part.base, len: part.len.min(left) };
            left -= few[used].len;
            used += 1;
        }
        unsafe { real!(pwritev64(c_int, *const iovec, c_int, i64) -> isize)(fd, few.as_ptr(), used as c_int, at) }
    };
    if class(fd) != FILE {
        let mut call = call;
        return call(all);
    }
    let begin = moment();
    let n = intercept(Kind::pwrite, all, call);
    if n > 0 {
        note(Entry::Write, begin, [fd.into(), at, 0], parts, n as usize);
    }
    n
}

pub(crate) fn reads(fd: c_int, into: *mut c_void, len: usize, at: i64) -> isize {
    let call = |len| unsafe { real!(pread64(c_int, *mut c_void, usize, i64) -> isize)(fd, into, len, at) };
    if class(fd) == FILE { intercept(Kind::pread, len, call) } else { call(len) }
}

pub(crate) fn maps(hint: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, at: i64) -> *mut c_void {
    let call =
        || unsafe { real!(mmap64(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void)(hint, len, prot, flags, fd, at) };
    if class(fd) != FILE {
        return call();
    }
    let begin = moment();
    if let Fate::Fail(errno) = fate(Kind::mmap) {
        return fail(errno) as *mut c_void;
    }
    let got = call();
    if got as isize != -1 {
        for (from, span) in &WINDOW {
            if from.compare_exchange(0, got as usize, SeqCst, SeqCst).is_ok() {
                span.store(len, SeqCst);
                break;
            }
        }
        let size = len as u64;
        let part = iovec { base: (&raw const size).cast_mut().cast(), len: 8 };
        note(Entry::Map, begin, [got as i64, fd.into(), at], &[part], 8);
    }
    got
}

pub(crate) fn syncs(kind: Kind, fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
    if !matches!(class(fd), FILE | DIR) {
        return call();
    }
    let begin = moment();
    let lies = matches!(kind, Kind::fdatasync) && LIE.load(SeqCst) == 1;
    let done = intercept_plain(kind, || if lies { 0 } else { call() });
    if done == 0 && !lies {
        note(Entry::Sync, begin, [fd.into(), 0, 0], &[], 0);
    }
    done
}

export! {
    fn ftruncate(fd: c_int, len: i64) -> c_int { truncates(fd, len) }
    fn ftruncate64(fd: c_int, len: i64) -> c_int { truncates(fd, len) }
    fn fallocate(fd: c_int, mode: c_int, at: i64, len: i64) -> c_int { allocates(fd, mode, at, len) }
    fn fallocate64(fd: c_int, mode: c_int, at: i64, len: i64) -> c_int { allocates(fd, mode, at, len) }
    fn pwrite(fd: c_int, from: *const c_void, len: usize, at: i64) -> isize {
        writes(fd, &[iovec { base: from.cast_mut(), len }], at)
    }
    fn pwrite64(fd: c_int, from: *const c_void, len: usize, at: i64) -> isize {
        writes(fd, &[iovec { base: from.cast_mut(), len }], at)
    }
    fn pwritev(fd: c_int, parts: *const iovec, count: c_int, at: i64) -> isize {
        writes(fd, unsafe { std::slice::from_raw_parts(parts, count as usize) }, at)
    }
    fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, at: i64) -> isize {
        writes(fd, unsafe { std::slice::from_raw_parts(parts, count as usize) }, at)
    }
    fn pread(fd: c_int, into: *mut c_void, len: usize, at: i64) -> isize { reads(fd, into, len, at) }
    fn pread64(fd: c_int, into: *mut c_void, len: usize, at: i64) -> isize { reads(fd, into, len, at) }
    fn preadv64v2(fd: c_int, parts: *const iovec, count: c_int, at: i64, flags: c_int) -> isize {
        let real = real!(preadv64v2(c_int, *const iovec, c_int, i64, c_int) -> isize);
        if class(fd) != FILE || count != 1 {
            return unsafe { real(fd, parts, count, at, flags) };
        }
        let first = unsafe { *parts };
        intercept(Kind::preadv2, first.len, |len| unsafe { real(fd, &iovec { base: first.base, len }, 1, at, flags) })
    }
    fn mmap(hint: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, at: i64) -> *mut c_void {
        maps(hint, len, prot, flags, fd, at)
    }
    fn mmap64(hint: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, at: i64) -> *mut c_void {
        maps(hint, len, prot, flags, fd, at)
    }
    fn munmap(at: *mut c_void, len: usize) -> c_int {
        for (from, span) in &WINDOW {
            if from.load(SeqCst) == at as usize {
                note(Entry::Unmap, moment(), [at as i64, len as i64, 0], &[], 0);
                span.store(0, SeqCst);
                from.store(0, SeqCst);
            }
        }
        unsafe { real!(munmap(*mut c_void, usize) -> c_int)(at, len) }
    }
    fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int {
        let call = || unsafe { real!(madvise(*mut c_void, usize, c_int) -> c_int)(at, len, advice) };
        if is_window(at as usize) { intercept_plain(Kind::madvise, call) } else { call() }
    }
    fn fsync(fd: c_int) -> c_int {
        syncs(Kind::fsync, fd, || unsafe { real!(fsync(c_int) -> c_int)(fd) })
    }
    fn fdatasync(fd: c_int) -> c_int {
        syncs(Kind::fdatasync, fd, || unsafe { real!(fdatasync(c_int) -> c_int)(fd) })
    }
}
