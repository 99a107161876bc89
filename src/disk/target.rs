//! Where payload lands: a receive buffer in memory, or a window of the file itself.
//!
//! A target borrows the store, so it is gone before the store can move, write or unmap the bytes behind it.

use super::memory::RawRange;

/// What writes the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A system call such as `readv`. A bad page makes it fail with `EFAULT`.
    Kernel,
    /// Code of this process, such as a cipher or a copy. A bad page would raise SIGBUS, so it never gets a
    /// window.
    Cpu,
}

/// Room for the next bytes of a block; never empty.
#[derive(Debug)]
pub enum Target<'a> {
    /// A receive buffer.
    Buffer(&'a mut [u8]),
    /// A window of the file, for system calls only. A read may stop before a bad page and then reports a
    /// short count.
    Mapped(RawRange<'a>),
}

impl Target<'_> {
    /// Bytes that fit, at least 1.
    #[allow(clippy::len_without_is_empty)] // a target is never empty
    pub fn len(&self) -> usize {
        match self {
            Target::Buffer(buffer) => buffer.len(),
            Target::Mapped(range) => range.len(),
        }
    }
}
