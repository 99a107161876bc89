//! The number of connections that leave enough descriptors for everything else.
//!
//! Peers open connections. They must not exhaust the descriptors that files, trackers and the poll need: a
//! download that cannot open its file fails.

use rustix::process::{Resource, getrlimit};

/// Descriptors for other purposes: 16 for listening sockets and pipes, 16 for files of the loop, 24 for each
/// of two workers, and 16 for trackers.
const OTHERS: usize = 96;

/// Returns the number of connections: `wanted`, or fewer if the process may not open as many descriptors.
pub fn connections_within(wanted: usize) -> usize {
    let limit =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    share_of(limit).min(wanted)
}

/// Returns the share of connections: all but [`OTHERS`], and at least half.
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
