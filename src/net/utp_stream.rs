//! A uTP stream as a transport: the bytes go through the endpoint that all streams share.

use super::transfer::{DialError, Transfer};
use crate::disk::Target;
use crate::units::UtpKey;
use crate::utp::{Endpoint, UtpRead};
use std::io::{self, IoSlice};

/// Returns the result of dialing, `None` while it is pending.
pub(super) fn established(utp: &Endpoint, key: UtpKey) -> Option<Result<(), DialError>> {
    match utp.is_established(key) {
        Some(true) => Some(Ok(())),
        Some(false) => None,
        // The peer answered the SYN with a RESET, or not at all.
        None => Some(Err(DialError::Peer(io::Error::from_raw_os_error(libc::ECONNREFUSED)))),
    }
}

/// Reads control bytes.
pub(super) fn read(utp: &mut Endpoint, key: UtpKey, room: &mut [u8]) -> Transfer {
    match utp.read(key, room) {
        // Only the next read tells whether the stream has ended.
        UtpRead::Moved(bytes) => Transfer::Moved { bytes, drained: false },
        UtpRead::NotNow => Transfer::NotNow,
        UtpRead::Ended => Transfer::Ended,
    }
}

/// Reads payload into its target, and the bytes that follow it into `spill`. A window of a file is no target: only
/// the kernel may write to it.
pub(super) fn read_into(utp: &mut Endpoint, key: UtpKey, target: Target<'_>, spill: &mut [u8]) -> Transfer {
    let Target::Buffer(target) = target else { return Transfer::BadTarget };
    let len = target.len();
    match read(utp, key, target) {
        Transfer::Moved { bytes, drained } if bytes == len && !spill.is_empty() => {
            let more = if let Transfer::Moved { bytes, .. } = read(utp, key, spill) { bytes } else { 0 };
            Transfer::Moved { bytes: bytes + more, drained }
        }
        other => other,
    }
}

/// Writes as much of the slices as the stream takes.
pub(super) fn write(utp: &mut Endpoint, key: UtpKey, slices: &[IoSlice<'_>]) -> Transfer {
    match utp.write(key, slices) {
        0 => Transfer::NotNow,
        bytes => Transfer::Moved { bytes, drained: false },
    }
}
