//! A library that is loaded before libc and makes system calls fail on purpose. Used by tests alone; `binary.rs` compiles it.
//!
//! ```text
//! RILL_FAULT=pwrite:3:ENOSPC             the third call fails; more rules after a comma, four at most
//! RILL_FAULT=pwrite:3+:EIO               the third and all later ones
//! RILL_FAULT=readv:2:short:1             the second is made, for one byte at most
//! RILL_FAULT=rename:1:KILL               the process dies in place of the call
//! RILL_FAULT_UNDER=/a/b                  files count from here down, and nothing else does; sockets always count
//! RILL_FAULT_COUNTS=FILE                 how many calls of each kind there were, and how many were spoilt
//! RILL_FAULT_JOURNAL=FILE                everything that is done to those files, see `journal.rs`
//! RILL_FAULT_LIE=1                       fdatasync does nothing and says that it did
//! ```
//!
//! The process sees its own calls through libc only (`--cfg rustix_use_libc`), so the symbols here stand in their way; the
//! real ones are the next of the same name. Nothing is allocated and nothing is locked: what is known of descriptors and
//! windows stands in fixed tables of atomics. A call of the journal carries two numbers of one counter, taken before and
//! after it, since threads call at the same time.

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

/// The next library's function of this name.
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

/// Functions that stand in the way of those of the same name.
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
