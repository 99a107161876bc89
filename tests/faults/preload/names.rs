//! Calls that create, open, rename and remove files.

use super::*;

pub(crate) const O_DIRECTORY: c_int = 0o200000;
pub(crate) const AT_FDCWD: c_int = -100;
/// The same number on every architecture.
pub(crate) const SYS_OPENAT2: c_long = 437;

pub(crate) fn opens(dir: c_int, path: *const c_char, flags: c_int, call: impl FnOnce() -> c_int) -> c_int {
    if !counts(dir, path) {
        return call();
    }
    let begin = moment();
    let fd = intercept_plain(Kind::open, call);
    if fd >= 0 {
        classify(fd, if flags & O_DIRECTORY != 0 { DIR } else { FILE });
        note(Entry::Open, begin, [dir.into(), flags.into(), fd.into()], &[path_part(path)], bytes(path).len());
    }
    fd
}

#[repr(C)]
pub struct open_how {
    flags: u64,
    mode: u64,
    resolve: u64,
}

export! {
    fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        opens(AT_FDCWD, path, flags, || unsafe { real!(open(*const c_char, c_int, c_uint) -> c_int)(path, flags, mode) })
    }
    fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        opens(AT_FDCWD, path, flags, || unsafe { real!(open64(*const c_char, c_int, c_uint) -> c_int)(path, flags, mode) })
    }
    fn openat(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        opens(dir, path, flags, || unsafe { real!(openat(c_int, *const c_char, c_int, c_uint) -> c_int)(dir, path, flags, mode) })
    }
    fn openat64(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        opens(dir, path, flags, || unsafe { real!(openat64(c_int, *const c_char, c_int, c_uint) -> c_int)(dir, path, flags, mode) })
    }
    // Calls without a libc function. Arguments beyond those of the call are undefined and passed on.
    fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
        let call = || unsafe {
            real!(syscall(c_long, usize, usize, usize, usize, usize, usize) -> c_long)(number, a, b, c, d, e, f)
        };
        if number == SYS_OPENAT2 {
            let flags = unsafe { (*(c as *const open_how)).flags } as c_int;
            return opens(a as c_int, b as *const c_char, flags, || call() as c_int).into();
        }
        call()
    }
    fn close(fd: c_int) -> c_int {
        if matches!(class(fd), FILE | DIR) {
            note(Entry::Close, moment(), [fd.into(), 0, 0], &[], 0);
        }
        classify(fd, 0);
        unsafe { real!(close(c_int) -> c_int)(fd) }
    }
    fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
        unsafe { mkdirat(AT_FDCWD, path, mode) }
    }
    fn mkdirat(dir: c_int, path: *const c_char, mode: c_uint) -> c_int {
        let call = || unsafe { real!(mkdirat(c_int, *const c_char, c_uint) -> c_int)(dir, path, mode) };
        if !counts(dir, path) {
            return call();
        }
        let begin = moment();
        let done = intercept_plain(Kind::mkdir, call);
        if done == 0 {
            note(Entry::Mkdir, begin, [dir.into(), 0, 0], &[path_part(path)], bytes(path).len());
        }
        done
    }
    fn renameat(from: c_int, old: *const c_char, to: c_int, new: *const c_char) -> c_int {
        unsafe { renameat2(from, old, to, new, 0) }
    }
    fn renameat2(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_uint) -> c_int {
        let call = || unsafe {
            real!(renameat2(c_int, *const c_char, c_int, *const c_char, c_uint) -> c_int)(from, old, to, new, flags)
        };
        if !counts(from, old) {
            return call();
        }
        let begin = moment();
        let done = intercept_plain(Kind::rename, call);
        if done == 0 {
            // The old name with its final zero, then the new one.
            let parts = [iovec { base: old.cast_mut().cast(), len: bytes(old).len() + 1 }, path_part(new)];
            note(Entry::Rename, begin, [from.into(), to.into(), 0], &parts, parts[0].len + parts[1].len);
        }
        done
    }
    fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
        let call = || unsafe { real!(unlinkat(c_int, *const c_char, c_int) -> c_int)(dir, path, flags) };
        if !counts(dir, path) {
            return call();
        }
        let begin = moment();
        let done = intercept_plain(Kind::unlink, call);
        if done == 0 {
            note(Entry::Unlink, begin, [dir.into(), 0, 0], &[path_part(path)], bytes(path).len());
        }
        done
    }
    fn flock(fd: c_int, what: c_int) -> c_int {
        intercept_plain(Kind::flock, || unsafe { real!(flock(c_int, c_int) -> c_int)(fd, what) })
    }
}
