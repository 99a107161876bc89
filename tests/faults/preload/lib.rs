//! A library that is preloaded before libc and makes system calls fail on purpose. Only tests use it;
//! `binary.rs` compiles it.
//!
//! ```text
//! RILL_FAULT=pwrite:3:ENOSPC             the third call fails; more rules after a comma, four at most
//! RILL_FAULT=pwrite:3+:EIO               the third and all later ones
//! RILL_FAULT=readv:2:short:1             the second is made for at most one byte
//! RILL_FAULT=rename:1:KILL               the process is killed in place of the call
//! RILL_FAULT_UNDER=/a/b                  only files below this directory count; sockets always count
//! RILL_FAULT_COUNTS=FILE                 the number of calls of each kind, and of those that failed
//! RILL_FAULT_JOURNAL=FILE                all calls that change those files, see `journal.rs`
//! RILL_FAULT_LIE=1                       fdatasync does nothing and succeeds
//! ```
//!
//! The process makes all calls through libc (`--cfg rustix_use_libc`), so the symbols here intercept them;
//! the real functions are the next ones of the same name. Nothing here allocates or locks: descriptors and
//! windows are in fixed tables of atomics. Each journal entry has two numbers of one counter, taken before
//! and after the call, since threads make calls at the same time.

#![allow(non_camel_case_types, unused_imports, unused_unsafe)]

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct iovec {
    base: *mut c_void,
    len: usize,
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
    fn getenv(name: *const c_char) -> *const c_char;
    fn getpid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

/// The function of this name in the next library.
macro_rules! real {
    ($name:ident($($t:ty),*) -> $r:ty) => {{
        static AT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        let mut at = AT.load(SeqCst);
        if at.is_null() {
            // RTLD_NEXT
            at = unsafe { dlsym(-1isize as *mut c_void, concat!(stringify!($name), "\0").as_ptr().cast()) };
            AT.store(at, SeqCst);
        }
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($t),*) -> $r>(at) }
    }};
}

/// Defines functions that intercept those of the same name.
macro_rules! export {
    ($(fn $name:ident($($arg:ident: $t:ty),*) -> $r:ty $body:block)*) => {
        $(#[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $t),*) -> $r $body)*
    };
}

mod bytes;
mod known;
mod names;
mod notes;
mod rules;
mod sockets;

use known::*;
use notes::*;
use rules::*;
