//! Every number that the engine lives by: its unit is in its name or its type, its reason beside it.

use std::time::Duration;

/// Requests out to one peer at the start, before its speed is known (libtorrent's slow start).
pub const WINDOW_START_BLOCKS: u32 = 4;
/// Fewest requests out to a peer that serves: one being served, one on its way.
pub const WINDOW_MIN_BLOCKS: u32 = 2;
/// Most requests out to one peer, 8 MiB: 3 s at 2.7 MiB/s, or 20 ms at 400 MiB/s.
pub const WINDOW_MAX_BLOCKS: u32 = 500;
/// Time that the window covers at the peer's speed.
pub const WINDOW_TIME: Duration = Duration::from_secs(3);
/// What a peer that does not say is believed to queue (BEP 10 `reqq`; libtorrent's own default is 250).
pub const REQQ_DEFAULT_BLOCKS: u32 = 250;
/// Requests that we queue for one peer, and say so in `reqq`: 8 MiB.
pub const REQQ_OURS_BLOCKS: usize = 500;
/// How often the window looks whether slow start still makes the peer faster.
pub const WINDOW_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds of the time a single request may take.
pub const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// See [`REQUEST_TIMEOUT_MIN`].
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// A peer that owes blocks and sends none for this long is snubbing us (libtorrent: 60 s, too long for a
/// small swarm).
pub const SNUB_AFTER: Duration = Duration::from_secs(20);
/// Requests that were given up but may still be answered, remembered a peer.
pub const CANCELLED_REQUESTS: usize = 512;
/// Requests rejected one after another, without a block in between, before the peer is let go: it gives
/// nothing, and asking again goes round as fast as the line. A whole window may be rejected by a peer that
/// has just been overrun.
pub const REJECTS_ONLY: u32 = 1000;
/// Blocks without a request before the peer is disconnected: cancels cross blocks on the wire, but not this
/// often.
pub const UNASKED_BLOCKS: u32 = 64;

/// Peers that may owe us the same block in endgame. Unbounded endgame wastes, none leaves users at 99.9 %.
pub const ENDGAME_HOLDERS: u8 = 3;
/// Blocks that endgame lets one peer owe us: enough to keep it busy, few enough to waste little.
pub const ENDGAME_BLOCKS: usize = 4;
/// Blocks that a peer may have handed to its system already: they come, cancelled or not.
pub const QUEUED_BEYOND_RECALL: usize = 8;
/// A block that is being sent is asked for once more in endgame if the rest of it takes so many times as long
/// as another peer's answer.
pub const TAKE_OVER_FACTOR: u32 = 4;
/// How often peers with nothing to do look who is late in endgame.
pub const ENDGAME_INTERVAL: Duration = Duration::from_secs(1);
/// Pieces picked at random before rarest-first: something to trade soon (BEP 3).
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// A peer that can deliver a whole piece in this time gets pieces of its own.
pub const OWN_PIECE_WITHIN: Duration = Duration::from_secs(30);
/// Pieces that are asked for in part at once, beyond two for each peer: bounds what is half-done.
pub const PARTIAL_PIECES_SPARE: usize = 8;
/// Suggestions remembered a peer (BEP 6).
pub const SUGGESTED_PIECES: usize = 16;
/// Size of the allowed-fast set that we give (BEP 6).
pub const ALLOWED_FAST_PIECES: usize = 5;
/// Pieces remembered that a peer lets us have while choking us: some give ten (BEP 6).
pub const ALLOWED_FAST_REMEMBERED: usize = 10;
/// How often one allowed-fast block may be taken by a choked peer.
pub const ALLOWED_FAST_TIMES: u32 = 3;

/// Peers that we upload to at once in one torrent, besides the optimistic one.
pub const UPLOAD_SLOTS: usize = 8;
/// The most slots that unused upload may open.
pub const UPLOAD_SLOTS_MAX: usize = 24;
/// How often slots are given anew (BEP 3).
pub const CHOKE_ROUND: Duration = Duration::from_secs(10);
/// Rounds after which another peer gets the optimistic slot (BEP 3: 30 s).
pub const OPTIMISTIC_ROUNDS: u32 = 3;
/// A peer younger than this is three times as likely to get the optimistic slot (BEP 3).
pub const NEW_PEER: Duration = Duration::from_secs(60);
/// When seeding, bytes that one peer gets before others have their turn.
pub const SEED_TURN_BYTES: u64 = 64 * 1024 * 1024;
/// When seeding, the least time a slot is kept.
pub const SEED_TURN: Duration = Duration::from_secs(60);

/// Invalid requests before a peer is let go (libtorrent).
pub const INVALID_REQUESTS: u32 = 300;
/// Requests that may come after a choke, while the choke is on its way.
pub const CHOKE_GRACE: Duration = Duration::from_secs(2);
/// Control bytes queued to a peer that does not read, 1 MiB, before it is let go: a bitfield of 2 million
/// pieces is 256 KiB.
pub const ENCODER_CONTROL_BYTES: usize = 1024 * 1024;
/// Control bytes queued at which we stop reading from a peer that does not read.
pub const ENCODER_STOP_READING_BYTES: usize = 64 * 1024;

/// Pieces of metadata that one peer owes us at once (BEP 9).
pub const METADATA_REQUESTS: usize = 4;
/// How long a piece of metadata may take before the peer is left aside.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(8);
/// How long who was silent or refused is left aside.
pub const METADATA_ASIDE: Duration = Duration::from_secs(60);
/// Connections of a torrent whose metadata is not here: each may be in the middle of a bitfield of 256 KiB
/// that cannot be checked yet.
pub const METADATA_PEERS: usize = 20;
/// Pieces that turn out to be here when a torrent's shape becomes known, and that a connected peer is told of
/// one by one, 9 bytes each.
pub const REPLAYED_HAVES: u32 = 1024;
/// Bitfields kept of a torrent whose shape is not known, all peers together, 1 MiB: four of the longest, or
/// eighty of 100,000 pieces.
pub const DEFERRED_BITFIELDS_BYTES: usize = 1024 * 1024;
/// Pieces that a peer says it has got, or lost, before the torrent's shape is known; more are forgotten.
pub const DEFERRED_HAVES: usize = 1024;

/// Peers that one message of peer exchange adds, and that it drops (BEP 11).
pub const PEX_PEERS: usize = 50;
/// Time between two messages of peer exchange to one peer (BEP 11).
pub const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// How long news waits for more of it, and a newcomer for its first message.
pub const PEX_FIRST_DELAY: Duration = Duration::from_secs(1);
/// Joins and leaves that are remembered a torrent: a minute of a busy swarm, in 20 KB.
pub const PEX_TIMELINE: usize = 512;
/// Messages of peer exchange that count at once: some programs send a second one soon after the first.
pub const PEX_ACCEPT_BURST: u32 = 2;
/// Time in which one more message counts: a minute (BEP 11), on a clock that is a little fast.
pub const PEX_ACCEPT_INTERVAL: Duration = Duration::from_secs(55);

/// New connections a second in the long run: cheap routers choke on more (Transmission: 18).
pub const DIALS_PER_SECOND: u32 = 20;
/// New connections that may be begun at once after a rest: a swarm's first peers need not wait for each
/// other.
pub const DIALS_AT_ONCE: u32 = 40;
/// Connections being established at once.
pub const HALF_OPEN: usize = 50;
/// Connections from one address: a household behind one router, not a flood.
pub const PEERS_PER_ADDRESS: usize = 8;
/// Incoming connections that have not said yet who they are: one more, and the one that has had its chance
/// for longest goes.
pub const INCOMING_WITHOUT_HANDSHAKE: usize = 32;
/// Addresses known a torrent.
pub const KNOWN_ADDRESSES: usize = 1000;
/// Wait before dialing an address again, times its failures.
pub const REDIAL: Duration = Duration::from_secs(60);
/// Wait after the first failure: the user that typed the address has perhaps just started the other side.
pub const REDIAL_SOON: Duration = Duration::from_secs(5);
/// A connection that the other side ends sooner than this has come to nothing.
pub const BRIEF_CONNECTION: Duration = Duration::from_secs(5);
/// Failures after which an address is forgotten.
pub const DIAL_FAILURES: u32 = 8;
/// Addresses banned a torrent, the oldest forgotten first.
pub const BANNED_ADDRESSES: usize = 500;
/// How long a ban lasts.
pub const BAN: Duration = Duration::from_secs(6 * 3600);
/// Failed pieces whose block digests are kept for finding the liar.
pub const SUSPECT_PIECES: usize = 64;

/// Time to establish a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from the connection to the handshake's last byte.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one block from its header to its last byte. The lease on it is the peer's alone, so a byte a
/// minute would hold up the whole torrent: a peer slower than 140 bytes a second is not waited for.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Silence after which a peer is let go.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// The time that a peer in which neither side is interested is kept.
pub const UNINTERESTING_TIMEOUT: Duration = Duration::from_secs(600);
/// Our own silence after which we send a keep-alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// Peers asked of a tracker.
pub const NUMWANT: u32 = 80;
/// Bounds of the time between announces.
pub const ANNOUNCE_MIN: Duration = Duration::from_secs(60);
/// See [`ANNOUNCE_MIN`].
pub const ANNOUNCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The interval of a tracker that does not say one.
pub const ANNOUNCE_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// Wait after the n-th failure: this, plus n² times [`ANNOUNCE_RETRY_STEP`], at most [`ANNOUNCE_RETRY_MAX`].
pub const ANNOUNCE_RETRY: Duration = Duration::from_secs(5);
/// See [`ANNOUNCE_RETRY`].
pub const ANNOUNCE_RETRY_STEP: Duration = Duration::from_millis(12_500);
/// See [`ANNOUNCE_RETRY`].
pub const ANNOUNCE_RETRY_MAX: Duration = Duration::from_secs(3600);
/// Time for one announce in all, name look-up and body included.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for one scrape over HTTP, once it has a thread: a dead tracker must not use up the time of those that
/// wait behind it.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the last announce, at the end.
pub const STOPPED_TIMEOUT: Duration = Duration::from_secs(5);
/// First wait before a tracker datagram is sent again; doubles (BEP 15).
pub const UDP_RESEND: Duration = Duration::from_secs(15);
/// How long a UDP tracker's connection id is good (BEP 15).
pub const UDP_CONNECTION: Duration = Duration::from_secs(60);
/// Tracker conversations over UDP at once.
pub const UDP_EXCHANGES: usize = 64;

/// How long a torrent that begins waits before it is called out on the local network: others that begin with
/// it share the packet.
pub const LSD_FIRST_DELAY: Duration = Duration::from_millis(500);
/// Time between two calls for the same torrent (BEP 14: five minutes).
pub const LSD_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Calls in the long run: one in this time (BEP 14: one a minute), so that a large network is not flooded.
pub const LSD_SPACING: Duration = Duration::from_secs(60);
/// Calls that may go out at once before that holds: 120 torrents at a start, or some that are added one by
/// one.
pub const LSD_BURST: u32 = 5;
/// Addresses taken from calls of others in [`LSD_INTERVAL`], all torrents together: every neighbour announces
/// again, and an attacker that forges senders cannot make us dial the world.
pub const LSD_PEERS_PER_INTERVAL: usize = 100;

/// Time between checkpoints while pieces come in.
pub const CHECKPOINT: Duration = Duration::from_secs(45);
/// Newly verified bytes that bring a checkpoint forward.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// Least time between two checkpoints, so that fast links do not sync all the time.
pub const CHECKPOINT_MIN: Duration = Duration::from_secs(10);

/// What a rate limit lets through at once: this much of a second.
pub const BURST: Duration = Duration::from_millis(250);
/// The least that is let through at once: one block.
pub const BURST_MIN_BYTES: u64 = 16 * 1024;

// ---- DHT ------------------------------------------------------------------------------------------------------------

/// Time between two searches for one torrent, each an announce (BEP 5, libtorrent).
pub const DHT_SEARCH_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// The same while pieces or metadata are missing and no peer is connected: a peer that has them may have
/// announced a moment after we asked, or where we did not look because we knew few nodes yet. Doubles up to
/// [`DHT_SEARCH_INTERVAL`].
pub const DHT_SEARCH_RETRY: Duration = Duration::from_secs(5);
/// Least time between the beginnings of two searches: a thousand torrents take four minutes.
pub const DHT_SEARCH_SPACING: Duration = Duration::from_millis(250);
/// Nodes of an earlier run that are asked at a time.
pub const DHT_PINGS_AT_ONCE: usize = 16;
/// How long these have for answering before others are asked.
pub const DHT_PING_INTERVAL: Duration = Duration::from_secs(2);
/// First wait before routers are looked up again; doubles up to [`DHT_BOOTSTRAP_MAX`].
pub const DHT_BOOTSTRAP_RETRY: Duration = Duration::from_secs(30);
/// So many nodes are kept for the next run, some of an earlier one among them if fewer have answered.
pub const DHT_SAVED_NODES_MIN: usize = 64;
/// How often nodes are kept for the next run.
pub const DHT_SAVE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Nodes in a bucket, nodes in an answer, nodes that are announced to: BEP 5's K.
pub const DHT_K: usize = 8;
/// Nodes that wait for a place in a full bucket.
pub const DHT_SPARE_NODES: usize = 8;
/// Nodes of one /24 (IPv6: /64) in a bucket or a lookup: the owner of a network has 256 addresses cheaply.
pub const DHT_NODES_PER_NETWORK: usize = 2;
/// Silence after which a node is questionable and a bucket is refreshed (BEP 5).
pub const DHT_QUIET: Duration = Duration::from_secs(15 * 60);
/// Least time between two pings of nodes that fell silent: a full table of 160 nodes takes 15 minutes at one
/// every 5.6 s.
pub const DHT_PING_EVERY: Duration = Duration::from_secs(5);
/// Queries in a row without an answer that make a node bad (BEP 5: "multiple").
pub const DHT_FAILURES: u8 = 2;
/// A lookup stops waiting for a node, and asks another beside it: three quarters of all answers come within a
/// second.
pub const DHT_LATE: Duration = Duration::from_secs(2);
/// No answer is believed after this.
pub const DHT_TIMEOUT: Duration = Duration::from_secs(12);
/// Queries of one lookup on their way, late ones not counted: Kademlia's alpha.
pub const DHT_ALPHA: usize = 3;
/// Nodes that a lookup keeps in mind: the 8 nearest, and those who step in when these are dead.
pub const DHT_LOOKUP_NODES: usize = 64;
/// Queries of one lookup. A lookup in a healthy network needs 20 to 40.
pub const DHT_LOOKUP_QUERIES: usize = 120;
/// Queries that a lookup spends on nodes whose id does not belong to their address (BEP 42), if there are
/// enough others.
pub const DHT_INSECURE_QUERIES: usize = 8;
/// Lookups at once, refreshes included; one more ends at once.
pub const DHT_LOOKUPS: usize = 64;
/// Torrents that are searched for at once; the others wait for the caller's next round.
pub const DHT_SEARCHES: usize = 256;
/// Peers reported a search: as many as a torrent knows.
pub const DHT_FOUND_PEERS: usize = 1_000;
/// Queries on their way, of all lookups and pings together.
pub const DHT_PENDING: usize = 512;
/// Of these, pings of nodes that we heard of and do not know yet: as many of an earlier run as are tried
/// before the first is given up.
pub const DHT_PROBES: usize = 96;
/// Bootstrap nodes that are queried when no node is known.
pub const DHT_ROUTERS: usize = 16;
/// First wait before another try to find a node; doubles up to [`DHT_BOOTSTRAP_MAX`].
pub const DHT_BOOTSTRAP: Duration = Duration::from_secs(5);
/// See [`DHT_BOOTSTRAP`].
pub const DHT_BOOTSTRAP_MAX: Duration = Duration::from_secs(5 * 60);
/// Votes about our own address that are kept, one a voter (BEP 42).
pub const DHT_VOTES: usize = 16;
/// Voters that must agree before we take an id for that address; and they must be more than all others
/// together.
pub const DHT_VOTES_NEEDED: usize = 4;

/// Torrents whose peers we keep for others (libtorrent: 2,000).
pub const DHT_STORED_TORRENTS: usize = 2_000;
/// Peers that we keep of one torrent (libtorrent: 500).
pub const DHT_STORED_PEERS: usize = 500;
/// Peers that we keep in all, 3 MB: 2,000 torrents of 500 peers would be 50.
pub const DHT_STORED_IN_ALL: usize = 60_000;
/// How long an announce is good; announces come about every 15 minutes.
pub const DHT_PEER_EXPIRES: Duration = Duration::from_secs(30 * 60);
/// Least time between two sweeps for peers that expired.
pub const DHT_SWEEP: Duration = Duration::from_secs(60);
/// Peers in one answer.
pub const DHT_PEERS_TOLD: usize = 50;
/// How long a token's secret is used; the one before is accepted as well (BEP 5).
pub const DHT_SECRET: Duration = Duration::from_secs(5 * 60);

/// Bytes of an answer: what BEP 32 allows, so no packet is cut in two on any path.
pub const DHT_ANSWER_BYTES: usize = 1_024;
/// Bytes of responses a second (libtorrent: 8,000), so that forged senders cannot make us flood a host.
pub const DHT_ANSWERS_PER_SECOND_BYTES: u64 = 8_000;
/// Answers that unused seconds leave over.
pub const DHT_ANSWERS_BURST_BYTES: u64 = 3 * DHT_ANSWERS_PER_SECOND_BYTES;
/// What a stranger is sent, as times what came from there: enough for 4 to 8 nodes, too little to be worth
/// forging a sender.
pub const DHT_STRANGER_TIMES: usize = 3;
/// Bytes of counts (BEP 33) a second to strangers: one response is seven times its query, and one a second is
/// no flood.
pub const DHT_SCRAPES_PER_SECOND_BYTES: u64 = DHT_ANSWER_BYTES as u64;
/// Counts that unused seconds leave over.
pub const DHT_SCRAPES_BURST_BYTES: u64 = 3 * DHT_SCRAPES_PER_SECOND_BYTES;
/// Addresses whose packets are counted.
pub const DHT_GUARDED_ADDRESSES: usize = 20;
/// Packets of one address in [`DHT_GUARD_TIME`] after which it is not heard for [`DHT_GUARD_SILENCE`].
pub const DHT_GUARD_PACKETS: u32 = 50;
/// See [`DHT_GUARD_PACKETS`].
pub const DHT_GUARD_TIME: Duration = Duration::from_secs(10);
/// See [`DHT_GUARD_PACKETS`].
pub const DHT_GUARD_SILENCE: Duration = Duration::from_secs(5 * 60);
