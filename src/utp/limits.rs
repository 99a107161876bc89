//! The numbers of uTP, each with its unit and its reason.

/// UDP payload bytes of a packet over IPv4: below every common tunnel's MTU.
pub(super) const PACKET_V4_BYTES: usize = 1_280;
/// UDP payload bytes of a packet over IPv6: the least MTU of IPv6 without its and UDP's header.
pub(super) const PACKET_V6_BYTES: usize = 1_232;
/// Queuing delay that LEDBAT aims at (RFC 6817: at most 100 ms).
pub(super) const TARGET_US: i64 = 100_000;
/// Bytes that the window grows by in one round trip without queuing delay (libutp).
pub(super) const GAIN_BYTES: i64 = 3_000;
/// The window is halved at most once in this time (libutp).
pub(super) const CUT_INTERVAL_US: u64 = 100_000;
/// One bin of base delays; [`BASE_BINS`] of them are kept (RFC 6817: BASE_HISTORY).
pub(super) const BASE_BIN_US: u64 = 60_000_000;
/// Bins of base delays.
pub(super) const BASE_BINS: usize = 13;
/// Largest drift of the clocks that is corrected at once (libutp).
pub(super) const SKEW_STEP_US: u32 = 10_000;
/// Most bytes in flight of one stream.
pub(super) const SEND_BYTES: usize = 512 * 1024;
/// Bytes that a new stream holds for its reader; doubled while the peer fills them, up to [`RECEIVE_BYTES`].
pub(super) const FIRST_RECEIVE_BYTES: usize = 64 * 1024;
/// The window is doubled if half of it came within this time: a longer round trip gains nothing from it.
pub(super) const GROW_SPAN_US: u64 = 1_000_000;
/// Most bytes that one stream holds for its reader, in order and out of order.
pub(super) const RECEIVE_BYTES: usize = 1024 * 1024;
/// Bytes that a stream may hold for its reader whatever the others hold.
pub(super) const OWN_RECEIVE_BYTES: usize = 4 * 1024;
/// Most packets that one stream keeps out of order (libutp).
pub(super) const OUT_OF_ORDER: u16 = 1_024;
/// Bytes that a kept packet costs beside its payload: empty packets count too.
pub(super) const PACKET_COST_BYTES: usize = 64;
/// An answer to a SYN is good for this time at least and twice as long at most: a dialer that got the answer resends
/// its first DATA after 3 s and after 9 s.
pub(super) const ANSWER_US: u64 = 16_000_000;
/// Answers to SYNs that wait to be fetched; more SYNs get none.
pub(super) const ANSWERS: usize = 256;
/// A RESET may name a packet so many before the last acknowledged one (libutp).
pub(super) const LATE_ACKS: u16 = 3;
/// First timeout of a SYN.
pub(super) const FIRST_TIMEOUT_US: u64 = 3_000_000;
/// Least timeout of an open stream (libutp).
pub(super) const MIN_TIMEOUT_US: u64 = 1_000_000;
/// Longest timeout.
pub(super) const MAX_TIMEOUT_US: u64 = 60_000_000;
/// SYNs that a dial sends.
pub(super) const SYN_TRIES: u32 = 3;
/// Timeouts in a row that end an open stream: with 20 % loss each way a single packet fails so often once in
/// 3,500 times.
pub(super) const DATA_TRIES: u32 = 8;
/// Timeouts in a row that end a stream that its owner closed.
pub(super) const FIN_TRIES: u32 = 3;
/// After this time a closed window of the peer counts as one packet (libutp).
pub(super) const ZERO_WINDOW_US: u64 = 15_000_000;
/// An open stream that sent nothing for this time sends a STATE, which keeps a NAT's binding (libutp).
pub(super) const KEEPALIVE_US: u64 = 29_000_000;
/// Packets resent because of one acknowledgement (libutp).
pub(super) const FAST_RESENDS: usize = 4;
/// Later packets that were received after which a missing one counts as lost (libutp).
pub(super) const REORDER: usize = 3;
