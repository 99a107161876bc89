//! The rules from the environment: which call of a kind fails, and how.

use super::*;

macro_rules! kinds {
    ($($name:ident),*) => {
        #[derive(Clone, Copy)]
        pub(crate) enum Kind { $($name),* }
        pub(crate) const KINDS: &[&str] = &[$(stringify!($name)),*];
    };
}
kinds!(
    open,
    mkdir,
    rename,
    unlink,
    ftruncate,
    fallocate,
    mmap,
    madvise,
    pread,
    pwrite,
    fsync,
    fdatasync,
    flock,
    window,
    readv,
    recv,
    writev,
    preadv2,
    socket,
    bind,
    listen,
    connect,
    accept,
    epoll_create,
    epoll_ctl,
    epoll_wait,
    eventfd
);

pub(crate) const SLOTS: usize = 64;
pub(crate) const RULES: usize = 4;
pub(crate) const SHORT: i64 = 1 << 32;
pub(crate) const KILL: i64 = -1;

pub(crate) struct Rule {
    /// Kind plus one; 0 for no rule.
    kind: AtomicU32,
    from: AtomicU32,
    on: AtomicU8,
    /// An error number, `KILL`, or `SHORT` plus a length.
    what: AtomicI64,
}

pub(crate) static RULE: [Rule; RULES] =
    [const { Rule { kind: AtomicU32::new(0), from: AtomicU32::new(0), on: AtomicU8::new(0), what: AtomicI64::new(0) } }; RULES];
pub(crate) static OWN_COUNTS: [AtomicU32; 2 * SLOTS] = [const { AtomicU32::new(0) }; 2 * SLOTS];
/// The calls of each kind, then those that failed; in a shared file map if a file was given.
pub(crate) static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());
pub(crate) static LIE: AtomicU8 = AtomicU8::new(0);
pub(crate) static UNDER: AtomicPtr<c_char> = AtomicPtr::new(null_mut());

pub(crate) enum Fate {
    Pass,
    Short(usize),
    Fail(c_int),
}

pub(crate) fn count_of(at: usize) -> &'static AtomicU32 {
    let shared = COUNTS.load(SeqCst);
    if shared.is_null() { &OWN_COUNTS[at] } else { unsafe { &*shared.add(at) } }
}

pub(crate) fn fate(kind: Kind) -> Fate {
    let n = count_of(kind as usize).fetch_add(1, SeqCst) + 1;
    for rule in &RULE {
        let from = rule.from.load(SeqCst);
        let hit = rule.kind.load(SeqCst) == kind as u32 + 1 && (n == from || n > from && rule.on.load(SeqCst) == 1);
        if hit {
            count_of(SLOTS + kind as usize).fetch_add(1, SeqCst);
            return match rule.what.load(SeqCst) {
                KILL => {
                    unsafe { kill(getpid(), 9) };
                    loop {
                        std::hint::spin_loop();
                    }
                }
                what if what >= SHORT => Fate::Short((what - SHORT) as usize),
                errno => Fate::Fail(errno as c_int),
            };
        }
    }
    Fate::Pass
}

pub(crate) fn fail(errno: c_int) -> isize {
    unsafe { *__errno_location() = errno };
    -1
}

/// Makes the call, with a shorter length, or fails.
pub(crate) fn intercept(kind: Kind, len: usize, call: impl FnOnce(usize) -> isize) -> isize {
    match fate(kind) {
        Fate::Pass => call(len),
        Fate::Short(most) => call(len.min(most)),
        Fate::Fail(errno) => fail(errno),
    }
}

/// The same for a call without a length.
pub(crate) fn intercept_plain(kind: Kind, call: impl FnOnce() -> c_int) -> c_int {
    match fate(kind) {
        Fate::Fail(errno) => fail(errno) as c_int,
        Fate::Pass | Fate::Short(_) => call(),
    }
}

pub(crate) fn errno_of(name: &[u8]) -> Option<i64> {
    Some(match name {
        b"EPERM" => 1,
        b"EINTR" => 4,
        b"EIO" => 5,
        b"EAGAIN" => 11,
        b"ENOMEM" => 12,
        b"EACCES" => 13,
        b"EFAULT" => 14,
        b"ENODEV" => 19,
        b"EINVAL" => 22,
        b"ENFILE" => 23,
        b"EMFILE" => 24,
        b"ENOSPC" => 28,
        b"EROFS" => 30,
        b"ENOSYS" => 38,
        b"EOPNOTSUPP" => 95,
        b"ENOBUFS" => 105,
        b"ECONNRESET" => 104,
        b"EDQUOT" => 122,
        b"KILL" => KILL,
        _ => return None,
    })
}

pub(crate) fn number(digits: &[u8]) -> u32 {
    digits.iter().filter(|d| d.is_ascii_digit()).fold(0, |n, d| n * 10 + u32::from(d - b'0'))
}

pub(crate) fn read_rule(slot: usize, text: &[u8]) -> Option<()> {
    let mut words = text.split(|c| *c == b':');
    let name = words.next()?;
    let kind = KINDS.iter().position(|k| k.as_bytes() == name)?;
    let from = words.next()?;
    let what = words.next()?;
    let what = if what == b"short" { SHORT + i64::from(number(words.next()?)) } else { errno_of(what)? };
    let rule = RULE.get(slot)?;
    rule.from.store(number(from), SeqCst);
    rule.on.store(u8::from(from.ends_with(b"+")), SeqCst);
    rule.what.store(what, SeqCst);
    rule.kind.store(kind as u32 + 1, SeqCst);
    Some(())
}

pub(crate) fn env(name: &[u8]) -> *const c_char {
    unsafe { getenv(name.as_ptr().cast()) }
}

pub(crate) fn bytes(text: *const c_char) -> &'static [u8] {
    if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text) }.to_bytes() }
}

pub(crate) extern "C" fn begin() {
    UNDER.store(env(b"RILL_FAULT_UNDER\0").cast_mut(), SeqCst);
    LIE.store(u8::from(!env(b"RILL_FAULT_LIE\0").is_null()), SeqCst);
    let counts = env(b"RILL_FAULT_COUNTS\0");
    if !counts.is_null() {
        const O_RDWR_CREAT: c_int = 2 | 0o100;
        unsafe {
            let fd = real!(open64(*const c_char, c_int, c_uint) -> c_int)(counts, O_RDWR_CREAT, 0o600);
            real!(ftruncate64(c_int, i64) -> c_int)(fd, (2 * SLOTS * 4) as i64);
            // PROT_READ | PROT_WRITE, MAP_SHARED
            let at = real!(mmap64(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void)(
                null_mut(),
                2 * SLOTS * 4,
                3,
                1,
                fd,
                0,
            );
            real!(close(c_int) -> c_int)(fd);
            if at as isize != -1 {
                COUNTS.store(at.cast(), SeqCst);
            }
        }
    }
    let journal = env(b"RILL_FAULT_JOURNAL\0");
    if !journal.is_null() {
        const O_APPEND_CREAT_WRITE: c_int = 0o2000 | 0o100 | 1 | 0o2000000;
        let fd = unsafe { real!(open64(*const c_char, c_int, c_uint) -> c_int)(journal, O_APPEND_CREAT_WRITE, 0o600) };
        JOURNAL.store(fd, SeqCst);
    }
    let rules = bytes(env(b"RILL_FAULT\0"));
    for (slot, text) in rules.split(|c| *c == b',').enumerate() {
        if !text.is_empty() && read_rule(slot, text).is_none() {
            // A rule with a mistake must not look like a rule that never applied.
            unsafe { kill(getpid(), 9) };
        }
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
pub(crate) static BEGIN: extern "C" fn() = begin;
