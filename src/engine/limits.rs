//! The limits and intervals of the engine, each with its unit in the name or type, and its reason.

use std::time::Duration;

/// Requests in flight to a peer of unknown speed (the start of libtorrent's slow start).
pub const WINDOW_START_BLOCKS: u32 = 4;
/// The fewest requests in flight to a peer that serves: one being served, one in transit.
pub const WINDOW_MIN_BLOCKS: u32 = 2;
/// The most requests in flight to one peer, 8 MiB: 3 s at 2.7 MiB/s, or 20 ms at 400 MiB/s.
pub const WINDOW_MAX_BLOCKS: u32 = 500;
/// The time that the request window covers at the peer's rate.
pub const WINDOW_TIME: Duration = Duration::from_secs(3);
/// Requests that a peer without `reqq` is assumed to queue (BEP 10; libtorrent's default is 250).
pub const REQQ_DEFAULT_BLOCKS: u32 = 250;
/// Requests that we queue for one peer, sent as `reqq`: 8 MiB.
pub const REQQ_OURS_BLOCKS: usize = 500;
/// The interval of samples of the rate during slow start.
pub const WINDOW_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest timeout of a request.
pub const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The longest timeout of a request.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The time without a block, with requests in flight, after which a peer counts as snubbing us (libtorrent:
/// 60 s, too long for a small swarm).
pub const SNUB_AFTER: Duration = Duration::from_secs(20);
/// Cancelled requests that are remembered for each peer, because they may still be answered.
pub const CANCELLED_REQUESTS: usize = 512;
/// Rejected requests without a block in between before the peer is disconnected: requesting again would loop
/// at the speed of the link. A peer that is out of queue may reject a whole window.
pub const REJECTS_ONLY: u32 = 1000;
/// Blocks without a request before the peer is disconnected: a block may cross our cancel on the wire, but not this
/// often.
pub const UNASKED_BLOCKS: u32 = 64;

/// Peers that may have the same block in flight in endgame. Unbounded endgame wastes bandwidth; without
/// endgame downloads stall at 99.9 %.
pub const ENDGAME_HOLDERS: u8 = 3;
/// Blocks in flight that endgame gives one peer: enough to keep it busy, few enough to waste little.
pub const ENDGAME_BLOCKS: usize = 4;
/// Blocks that a peer may have written to its socket already, so that a cancel is too late.
pub const QUEUED_BEYOND_RECALL: usize = 8;
/// A block that is arriving is requested from another peer in endgame if its rest takes this many times as
/// long as that peer's response.
pub const TAKE_OVER_FACTOR: u32 = 4;
/// The interval at which endgame looks for late blocks again.
pub const ENDGAME_INTERVAL: Duration = Duration::from_secs(1);
/// Pieces picked at random before rarest first, to have complete pieces to trade soon (BEP 3).
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// A peer that can deliver a whole piece within this time gets pieces of its own.
pub const OWN_PIECE_WITHIN: Duration = Duration::from_secs(30);
/// Partial pieces with free blocks beyond two for each peer: bounds incomplete pieces.
pub const PARTIAL_PIECES_SPARE: usize = 8;
/// Suggested pieces remembered for one peer (BEP 6).
pub const SUGGESTED_PIECES: usize = 16;
/// The size of the allowed-fast set that we send (BEP 6).
pub const ALLOWED_FAST_PIECES: usize = 5;
/// Allowed-fast pieces remembered for each peer: some clients send ten (BEP 6).
pub const ALLOWED_FAST_REMEMBERED: usize = 10;
/// The number of times that a choked peer may download an allowed-fast piece.
pub const ALLOWED_FAST_TIMES: u32 = 3;

/// Upload slots of one torrent, besides the optimistic one.
pub const UPLOAD_SLOTS: usize = 8;
/// Upper bound of the upload slots when further slots open for unused upload.
pub const UPLOAD_SLOTS_MAX: usize = 24;
/// The interval of choking rounds (BEP 3).
pub const CHOKE_ROUND: Duration = Duration::from_secs(10);
/// Rounds after which another peer gets the optimistic slot (BEP 3: 30 s).
pub const OPTIMISTIC_ROUNDS: u32 = 3;
/// A peer younger than this is three times as likely to get the optimistic slot (BEP 3).
pub const NEW_PEER: Duration = Duration::from_secs(60);
/// While seeding, the bytes of one peer's turn.
pub const SEED_TURN_BYTES: u64 = 64 * 1024 * 1024;
/// While seeding, the time of one peer's turn.
pub const SEED_TURN: Duration = Duration::from_secs(60);

/// Invalid requests before a peer is disconnected (as libtorrent).
pub const INVALID_REQUESTS: u32 = 300;
/// The time after a choke in which requests are no violation: the choke may be in transit.
pub const CHOKE_GRACE: Duration = Duration::from_secs(2);
/// Control bytes queued for a peer that does not read before it is disconnected, 1 MiB: a bitfield of 2
/// million pieces is 256 KiB.
pub const ENCODER_CONTROL_BYTES: usize = 1024 * 1024;
/// Control bytes queued for a peer at which we pause reading from it.
pub const ENCODER_PAUSE_BYTES: usize = 64 * 1024;

/// Metadata pieces in flight from one peer (BEP 9).
pub const METADATA_REQUESTS: usize = 4;
/// The timeout of a metadata piece; its peer is then set aside.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(8);
/// The time for which a peer that was silent or rejected a metadata request is set aside.
pub const METADATA_ASIDE: Duration = Duration::from_secs(60);
/// Connections of a torrent without metadata: each may be receiving a bitfield of 256 KiB that cannot be
/// checked yet.
pub const METADATA_PEERS: usize = 20;
/// `have` messages, 9 bytes each, that a connected peer is sent for verified pieces when the metadata becomes
/// known.
pub const REPLAYED_HAVES: u32 = 1024;
/// Deferred bitfields of all peers of a torrent without metadata, 1 MiB: four of the longest, or eighty of
/// 100,000 pieces.
pub const DEFERRED_BITFIELDS_BYTES: usize = 1024 * 1024;
/// Deferred `have` messages, and deferred `lt_donthave` messages, of each peer; more are dropped.
pub const DEFERRED_HAVES: usize = 1024;

/// Peers added by one PEX message, and peers dropped by it (BEP 11).
pub const PEX_PEERS: usize = 50;
/// The time between two PEX messages to one peer (BEP 11).
pub const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// The delay of a PEX message, so that changes are sent together.
pub const PEX_FIRST_DELAY: Duration = Duration::from_secs(1);
/// Entries of the PEX log of a torrent: a minute of a busy swarm, in 20 KB.
pub const PEX_TIMELINE: usize = 512;
/// PEX messages of one peer that are accepted at once: some clients send a second one soon after the first.
pub const PEX_ACCEPT_BURST: u32 = 2;
/// The time after which one more PEX message is accepted: a minute (BEP 11) with tolerance for a fast clock.
pub const PEX_ACCEPT_INTERVAL: Duration = Duration::from_secs(55);

/// The average number of dials a second: cheap routers fail at more (Transmission: 18).
pub const DIALS_PER_SECOND: u32 = 20;
/// Dials that may begin at once after a pause, for the first peers of a swarm.
pub const DIALS_AT_ONCE: u32 = 40;
/// Half-open connections.
pub const HALF_OPEN: usize = 50;
/// Incoming connections from one address: enough for a household behind one router.
pub const PEERS_PER_ADDRESS: usize = 8;
/// Incoming connections without a handshake; one more evicts the oldest.
pub const INCOMING_WITHOUT_HANDSHAKE: usize = 32;
/// Known addresses of a torrent.
pub const KNOWN_ADDRESSES: usize = 1000;
/// The wait before an address is dialed again, times its failures.
pub const REDIAL: Duration = Duration::from_secs(60);
/// The wait after the first failure: short, for a user who has just started the other side.
pub const REDIAL_SOON: Duration = Duration::from_secs(5);
/// A connection that the peer closes sooner than this counts as failed.
pub const BRIEF_CONNECTION: Duration = Duration::from_secs(5);
/// Failures after which an address is removed.
pub const DIAL_FAILURES: u32 = 8;
/// Banned addresses of a torrent; the oldest is removed first.
pub const BANNED_ADDRESSES: usize = 500;
/// The duration of a ban.
pub const BAN: Duration = Duration::from_secs(6 * 3600);
/// Failed pieces whose block digests are kept for smart ban.
pub const SUSPECT_PIECES: usize = 64;

/// The timeout of a dial.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of the handshake, until its last byte.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a block from its header to its last byte. Only one peer has its lease, so a byte a minute
/// would hold up the whole torrent: a peer slower than 140 bytes a second is disconnected.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// The time without a received byte after which a peer is disconnected.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// The time after which a connection is closed if neither side is interested.
pub const UNINTERESTING_TIMEOUT: Duration = Duration::from_secs(600);
/// The time without a sent byte after which a keep-alive is sent.
pub const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// Peers requested from a tracker (BEP 3 `numwant`).
pub const NUMWANT: u32 = 80;
/// The shortest interval of announces.
pub const ANNOUNCE_MIN: Duration = Duration::from_secs(60);
/// The longest interval of announces.
pub const ANNOUNCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The interval of a tracker that gives none.
pub const ANNOUNCE_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// The wait after the n-th failure: this plus n² times [`ANNOUNCE_RETRY_STEP`], at most
/// [`ANNOUNCE_RETRY_MAX`].
pub const ANNOUNCE_RETRY: Duration = Duration::from_secs(5);
/// See [`ANNOUNCE_RETRY`].
pub const ANNOUNCE_RETRY_STEP: Duration = Duration::from_millis(12_500);
/// See [`ANNOUNCE_RETRY`].
pub const ANNOUNCE_RETRY_MAX: Duration = Duration::from_secs(3600);
/// The timeout of an announce, name lookup and body included.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The timeout of a scrape over HTTP on its thread: short, because other scrapes wait for the thread.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of an announce of `stopped`.
pub const STOPPED_TIMEOUT: Duration = Duration::from_secs(5);
/// The first wait before a tracker datagram is sent again; doubles (BEP 15).
pub const UDP_RESEND: Duration = Duration::from_secs(15);
/// The lifetime of a UDP tracker's connection id (BEP 15).
pub const UDP_CONNECTION: Duration = Duration::from_secs(60);
/// Concurrent UDP tracker transactions.
pub const UDP_EXCHANGES: usize = 64;

/// The delay of a torrent's first LSD announcement, so that torrents started together share a packet.
pub const LSD_FIRST_DELAY: Duration = Duration::from_millis(500);
/// The interval of LSD announcements of a torrent (BEP 14: five minutes).
pub const LSD_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The average time between two LSD announcements (BEP 14: one a minute), to not flood a large network.
pub const LSD_SPACING: Duration = Duration::from_secs(60);
/// LSD announcements that may be sent at once: 120 torrents at the start, or some that are added one by one.
pub const LSD_BURST: u32 = 5;
/// Addresses accepted from LSD announcements in [`LSD_INTERVAL`], for all torrents: hosts announce again, and
/// an attacker with forged senders cannot make us dial arbitrary addresses.
pub const LSD_PEERS_PER_INTERVAL: usize = 100;

/// The interval of checkpoints while pieces are verified.
pub const CHECKPOINT: Duration = Duration::from_secs(45);
/// Newly verified bytes that trigger an earlier checkpoint.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// The shortest time between two checkpoints, so that fast downloads do not sync all the time.
pub const CHECKPOINT_MIN: Duration = Duration::from_secs(10);

/// The burst of a rate limit, as a share of a second.
pub const BURST: Duration = Duration::from_millis(250);
/// The smallest burst of a rate limit: one block.
pub const BURST_MIN_BYTES: u64 = 16 * 1024;

// ---- DHT ------------------------------------------------------------------------------------------------------------

/// The interval of DHT searches of a torrent, each with an announce (BEP 5, libtorrent).
pub const DHT_SEARCH_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// The first interval while pieces or metadata are missing and no peer is connected: a peer may have
/// announced just after our search, or to nodes that we did not know yet. Doubles up to
/// [`DHT_SEARCH_INTERVAL`].
pub const DHT_SEARCH_RETRY: Duration = Duration::from_secs(5);
/// The shortest time between the starts of two searches: a thousand torrents take four minutes.
pub const DHT_SEARCH_SPACING: Duration = Duration::from_millis(250);
/// Nodes of an earlier run that are pinged at once.
pub const DHT_PINGS_AT_ONCE: usize = 16;
/// The time before the next of them are pinged.
pub const DHT_PING_INTERVAL: Duration = Duration::from_secs(2);
/// The first wait before bootstrap nodes are resolved again; doubles up to [`DHT_BOOTSTRAP_MAX`].
pub const DHT_BOOTSTRAP_RETRY: Duration = Duration::from_secs(30);
/// The fewest nodes saved for the next run: nodes of an earlier run are added if fewer have answered.
pub const DHT_SAVED_NODES_MIN: usize = 64;
/// The interval of saving nodes for the next run.
pub const DHT_SAVE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Nodes in a bucket, in a response, and for an announce: K of BEP 5.
pub const DHT_K: usize = 8;
/// Spare nodes of a full bucket.
pub const DHT_SPARE_NODES: usize = 8;
/// Nodes of one /24 (IPv6: /64) in a bucket or a lookup: one attacker may own a whole network.
pub const DHT_NODES_PER_NETWORK: usize = 2;
/// The time without a packet after which a node is questionable and a bucket is refreshed (BEP 5).
pub const DHT_QUIET: Duration = Duration::from_secs(15 * 60);
/// The shortest time between two pings of questionable nodes: a full table of 160 nodes takes 15 minutes at
/// one every 5.6 s.
pub const DHT_PING_EVERY: Duration = Duration::from_secs(5);
/// Unanswered queries in a row that make a node bad (BEP 5: "multiple").
pub const DHT_FAILURES: u8 = 2;
/// The time after which a lookup queries another node beside a slow one: three quarters of the responses take
/// less than a second.
pub const DHT_LATE: Duration = Duration::from_secs(2);
/// The timeout of a query.
pub const DHT_TIMEOUT: Duration = Duration::from_secs(12);
/// Queries of one lookup in flight, late ones not counted: alpha of Kademlia.
pub const DHT_ALPHA: usize = 3;
/// Candidate nodes of a lookup: the 8 nearest, and others to replace dead ones.
pub const DHT_LOOKUP_NODES: usize = 64;
/// The most queries of one lookup. A lookup in a healthy network needs 20 to 40.
pub const DHT_LOOKUP_QUERIES: usize = 120;
/// The most queries of a lookup to nodes whose id does not match their address (BEP 42), if there are enough
/// others.
pub const DHT_INSECURE_QUERIES: usize = 8;
/// Concurrent lookups, refreshes included; one more fails at once.
pub const DHT_LOOKUPS: usize = 64;
/// Concurrent searches; further ones wait for the caller's next attempt.
pub const DHT_SEARCHES: usize = 256;
/// The most peers reported by a search: as many as a torrent keeps.
pub const DHT_FOUND_PEERS: usize = 1_000;
/// Queries in flight, of all lookups and pings.
pub const DHT_PENDING: usize = 512;
/// Pings among them of nodes that are not in the routing table: as many nodes of an earlier run as are pinged
/// before the first times out.
pub const DHT_PROBES: usize = 96;
/// Bootstrap nodes that are queried when no node is known.
pub const DHT_ROUTERS: usize = 16;
/// The first wait before another bootstrap attempt; doubles up to [`DHT_BOOTSTRAP_MAX`].
pub const DHT_BOOTSTRAP: Duration = Duration::from_secs(5);
/// See [`DHT_BOOTSTRAP`].
pub const DHT_BOOTSTRAP_MAX: Duration = Duration::from_secs(5 * 60);
/// Votes about our external address that are kept, one a voter (BEP 42).
pub const DHT_VOTES: usize = 16;
/// Agreeing voters, a majority, that are needed before we use an id for that address.
pub const DHT_VOTES_NEEDED: usize = 4;

/// Torrents whose announced peers we store (libtorrent: 2,000).
pub const DHT_STORED_TORRENTS: usize = 2_000;
/// Stored peers of one torrent (libtorrent: 500).
pub const DHT_STORED_PEERS: usize = 500;
/// Stored peers of all torrents, 3 MB: 2,000 torrents of 500 peers would take 50 MB.
pub const DHT_STORED_IN_ALL: usize = 60_000;
/// The lifetime of a stored peer; announces repeat about every 15 minutes.
pub const DHT_PEER_EXPIRES: Duration = Duration::from_secs(30 * 60);
/// The shortest time between two sweeps of expired peers.
pub const DHT_SWEEP: Duration = Duration::from_secs(60);
/// The most peers in one response.
pub const DHT_PEERS_TOLD: usize = 50;
/// The lifetime of a token's secret; tokens of the previous one are accepted as well (BEP 5).
pub const DHT_SECRET: Duration = Duration::from_secs(5 * 60);

/// The most bytes of a response (BEP 32), so that no path fragments it.
pub const DHT_ANSWER_BYTES: usize = 1_024;
/// Bytes of responses a second (libtorrent: 8,000), so that queries with a forged sender cannot make us flood a host.
pub const DHT_ANSWERS_PER_SECOND_BYTES: u64 = 8_000;
/// The burst of responses after unused seconds, bytes.
pub const DHT_ANSWERS_BURST_BYTES: u64 = 3 * DHT_ANSWERS_PER_SECOND_BYTES;
/// The most bytes of a response to an unknown address, as a multiple of its query: enough for 4 to 8 nodes,
/// too little for an amplification attack.
pub const DHT_STRANGER_TIMES: usize = 3;
/// Bytes of scrape responses (BEP 33) a second to unknown addresses: a response is seven times its query.
pub const DHT_SCRAPES_PER_SECOND_BYTES: u64 = DHT_ANSWER_BYTES as u64;
/// The burst of scrape responses after unused seconds, bytes.
pub const DHT_SCRAPES_BURST_BYTES: u64 = 3 * DHT_SCRAPES_PER_SECOND_BYTES;
/// Addresses whose packets are counted for [`DHT_GUARD_PACKETS`].
pub const DHT_GUARDED_ADDRESSES: usize = 20;
/// Packets of one address in [`DHT_GUARD_TIME`] after which it is ignored for [`DHT_GUARD_SILENCE`].
pub const DHT_GUARD_PACKETS: u32 = 50;
/// See [`DHT_GUARD_PACKETS`].
pub const DHT_GUARD_TIME: Duration = Duration::from_secs(10);
/// See [`DHT_GUARD_PACKETS`].
pub const DHT_GUARD_SILENCE: Duration = Duration::from_secs(5 * 60);
