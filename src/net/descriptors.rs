//! How many connections this process may have beside everything else that needs a descriptor.
//!
//! Peers decide how many connections there are. They must never take the descriptors that files, trackers and
//! the poll itself need: a download that cannot open its file fails.

use rustix::process::{Resource, getrlimit};

/// Descriptors that are not for connections: 16 for standing sockets and pipes, 16 files of the loop, 24 for
/// each of two workers, and 16 for trackers.
const OTHERS: usize = 96;

/// As many connections as `wanted`, or fewer if the system does not let this process have so many
/// descriptors.
pub fn connections_within(wanted: usize) -> usize {
    let limit =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    share_of(limit).min(wanted)
}

/// All but those for others; of few descriptors, half.
fn share_of(limit: usize) -> usize {
    limit.saturating_sub(OTHERS).max(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_connections_leave_descriptors_to_others() {
        assert_eq!([32, 64, 256, 1024].map(share_of), [16, 32, 160, 928]);
        assert_eq!(share_of(usize::MAX), usize::MAX - OTHERS);
        assert!(connections_within(1) == 1 && connections_within(usize::MAX) > 1);
    }
}
