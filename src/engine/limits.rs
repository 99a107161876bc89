//! The engine's limits, intervals and time-outs. The unit of each constant is in its name or its type.

use std::time::Duration;

/// Requests in flight to one peer at the start, before its rate is known (libtorrent's slow start).
pub const WINDOW_START_BLOCKS: u32 = 4;
/// Fewest requests in flight to a peer that sends: one being answered, one under way.
pub const WINDOW_MIN_BLOCKS: u32 = 2;
/// Most requests in flight to one peer, 8 MiB: 3 s at 2.7 MiB/s, or 20 ms at 400 MiB/s.
pub const WINDOW_MAX_BLOCKS: u32 = 500;
/// Time that the window covers at the peer's rate.
pub const WINDOW_TIME: Duration = Duration::from_secs(3);
/// Requests that a peer queues if it does not announce `reqq` (BEP 10; libtorrent's default is 250).
pub const REQQ_DEFAULT_BLOCKS: u32 = 250;
/// Requests that we queue for one peer, and announce as `reqq`: 8 MiB.
pub const REQQ_OURS_BLOCKS: usize = 500;
/// Interval at which slow start checks whether the peer's rate still grows.
pub const WINDOW_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Lower bound of a request's time-out.
pub const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// Upper bound of a request's time-out.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Time without a block after which a peer with requests in flight is snubbing us (libtorrent: 60 s, too long
/// for a small swarm).
pub const SNUB_AFTER: Duration = Duration::from_secs(20);
/// Cancelled requests of one peer that may still be answered and are remembered.
pub const CANCELLED_REQUESTS: usize = 512;
/// Requests rejected one after another, without a block in between, before the peer is disconnected: such a
/// peer sends nothing, and every rejection is followed by a new request. An overloaded peer may reject a
/// whole window.
pub const REJECTS_ONLY: u32 = 1000;
/// Blocks without a request before the peer is disconnected: a block may cross our cancel on the wire, but
/// not this often.
pub const UNASKED_BLOCKS: u32 = 64;

/// Peers that may have the same block requested in endgame. An unbounded endgame wastes bandwidth; without
/// endgame the last blocks wait for the slowest peers.
pub const ENDGAME_HOLDERS: u8 = 3;
/// Requests in flight that endgame gives one peer: enough to keep it busy, few enough to waste little.
pub const ENDGAME_BLOCKS: usize = 4;
/// Blocks that a peer may have passed to its kernel already: they arrive, cancelled or not.
pub const QUEUED_BEYOND_RECALL: usize = 8;
/// A block that is being sent is requested once more in endgame if its rest takes this many times as long as
/// another peer's answer.
pub const TAKE_OVER_FACTOR: u32 = 4;
/// Interval of the search for late blocks in endgame.
pub const ENDGAME_INTERVAL: Duration = Duration::from_secs(1);
/// Pieces picked at random before rarest-first, so that we soon have pieces to upload (BEP 3).
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// A peer that can deliver a whole piece within this time gets pieces of its own.
pub const OWN_PIECE_WITHIN: Duration = Duration::from_secs(30);
/// Partial pieces at once, beyond two for each peer.
pub const PARTIAL_PIECES_SPARE: usize = 8;
/// Suggested pieces remembered for one peer (BEP 6).
pub const SUGGESTED_PIECES: usize = 16;
/// Size of the allowed-fast set that we grant (BEP 6).
pub const ALLOWED_FAST_PIECES: usize = 5;
/// Allowed-fast pieces remembered for one peer: some clients grant ten (BEP 6).
pub const ALLOWED_FAST_REMEMBERED: usize = 10;
/// How many times a choked peer may download the same allowed-fast piece.
pub const ALLOWED_FAST_TIMES: u32 = 3;

/// Peers that we upload to at once in one torrent, besides the optimistic one.
pub const UPLOAD_SLOTS: usize = 8;
/// Upper bound of the upload slots when further slots open for unused upload.
pub const UPLOAD_SLOTS_MAX: usize = 24;
/// Interval of choking rounds (BEP 3).
pub const CHOKE_ROUND: Duration = Duration::from_secs(10);
/// Rounds after which another peer gets the optimistic slot (BEP 3: 30 s).
pub const OPTIMISTIC_ROUNDS: u32 = 3;
/// A peer younger than this is three times as likely to get the optimistic slot (BEP 3).
pub const NEW_PEER: Duration = Duration::from_secs(60);
/// When seeding, bytes sent to one peer before the slot passes to another peer.
pub const SEED_TURN_BYTES: u64 = 64 * 1024 * 1024;
/// When seeding, the least time that a peer keeps its slot.
pub const SEED_TURN: Duration = Duration::from_secs(60);

/// Invalid requests before a peer is disconnected (libtorrent).
pub const INVALID_REQUESTS: u32 = 300;
/// Time after a choke in which requests are valid: they may cross the choke on the wire.
pub const CHOKE_GRACE: Duration = Duration::from_secs(2);
/// Control bytes queued for a peer that does not read, 1 MiB, before it is disconnected: a bitfield of 2
/// million pieces is 256 KiB.
pub const ENCODER_CONTROL_BYTES: usize = 1024 * 1024;
/// Control bytes queued for a peer that does not read above which we stop reading from it.
pub const ENCODER_STOP_READING_BYTES: usize = 64 * 1024;

/// Requests for pieces of metadata in flight to one peer (BEP 9).
pub const METADATA_REQUESTS: usize = 4;
/// Time-out of a request for a piece of metadata; the peer is then skipped for [`METADATA_ASIDE`].
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a peer that timed out or rejected a request for metadata is skipped.
pub const METADATA_ASIDE: Duration = Duration::from_secs(60);
/// Connections of a torrent whose metadata is unknown: each may be receiving a bitfield of 256 KiB that
/// cannot be checked yet.
pub const METADATA_PEERS: usize = 20;
/// Verified pieces that each connected peer is sent as `have` messages, 9 bytes each, when the metadata
/// becomes known. If there are more, the connections are closed.
pub const REPLAYED_HAVES: u32 = 1024;
/// Bytes of deferred bitfields of one torrent, all peers together, 1 MiB: four of the longest bitfields, or
/// eighty of 100,000 pieces.
pub const DEFERRED_BITFIELDS_BYTES: usize = 1024 * 1024;
/// Deferred `have` messages of one peer, and deferred `lt_donthave` messages.
pub const DEFERRED_HAVES: usize = 1024;

/// Added peers in one PEX message, and dropped peers (BEP 11).
pub const PEX_PEERS: usize = 50;
/// Time between two PEX messages to one peer (BEP 11).
pub const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// Delay of a PEX message after the first change, so that several changes share a message.
pub const PEX_FIRST_DELAY: Duration = Duration::from_secs(1);
/// Joins and leaves in the PEX log of one torrent: a minute of a busy swarm, in 20 KB.
pub const PEX_TIMELINE: usize = 512;
/// PEX messages that are accepted from one peer at once: some clients send a second one soon after the first.
pub const PEX_ACCEPT_BURST: u32 = 2;
/// Time after which one more PEX message of a peer is accepted: a minute (BEP 11), less a margin for the
/// peer's clock.
pub const PEX_ACCEPT_INTERVAL: Duration = Duration::from_secs(55);

/// Dials a second in the long run: cheap routers fail at higher rates (Transmission: 18).
pub const DIALS_PER_SECOND: u32 = 20;
/// Dials in a burst after an idle time, so that the first peers of a swarm are dialed at once.
pub const DIALS_AT_ONCE: u32 = 40;
/// Dialed connections that are not established yet.
pub const HALF_OPEN: usize = 50;
/// Connections to one IP address at which a further incoming one is refused: enough for a household behind
/// one router.
pub const PEERS_PER_ADDRESS: usize = 8;
/// Shared secrets (MSE) computed for incoming connections a second, in the long run: 0.1 ms each, 2 ms on a
/// router.
pub const MSE_PER_SECOND: u32 = 50;
/// Shared secrets in a burst after an idle time.
pub const MSE_AT_ONCE: u32 = 50;
/// Age at which the key pair of incoming connections (MSE) is replaced.
pub const MSE_PAIR_AGE: Duration = Duration::from_secs(10);
/// Incoming connections without a handshake; one more evicts the oldest connection of the address that holds
/// most of them.
pub const INCOMING_WITHOUT_HANDSHAKE: usize = 32;
/// Addresses in the peer list of one torrent.
pub const KNOWN_ADDRESSES: usize = 1000;
/// Wait before an address is dialed again, times the number of its failures.
pub const REDIAL: Duration = Duration::from_secs(60);
/// Wait after the first failure: the peer may be starting.
pub const REDIAL_SOON: Duration = Duration::from_secs(5);
/// Longest wait before a peer is dialed again while pieces are missing and no other peer is connected.
pub const REDIAL_ONLY_MAX: Duration = Duration::from_secs(15);
/// Time in which a peer may have one more message of hole punching (BEP 55) handled, in the long run.
pub const HOLEPUNCH_STEP: Duration = Duration::from_secs(15);
/// Messages of hole punching handled at once for a peer that sent none for a while.
pub const HOLEPUNCH_AT_ONCE: u32 = 4;
/// Least time between two introductions of others to a peer.
pub const HOLEPUNCH_TARGET_INTERVAL: Duration = Duration::from_secs(10);
/// Least time between two requests to be introduced to an address.
pub const HOLEPUNCH_ASK_AGAIN: Duration = Duration::from_secs(300);
/// A connection that the peer closes sooner than this counts as failed.
pub const BRIEF_CONNECTION: Duration = Duration::from_secs(5);
/// Failures after which an address is removed from the peer list.
pub const DIAL_FAILURES: u32 = 8;
/// Banned addresses of one torrent; the oldest ban is dropped first.
pub const BANNED_ADDRESSES: usize = 500;
/// How long a ban lasts.
pub const BAN: Duration = Duration::from_secs(6 * 3600);
/// Failed pieces whose block digests are kept to find the peer that sent bad data.
pub const SUSPECT_PIECES: usize = 64;

/// Time to establish a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from the connection to the handshake's last byte.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one block from its header to its last byte: 140 bytes a second. The peer holds the only lease on
/// the block, so a slower peer would hold up the torrent.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Time without a byte from the peer after which it is disconnected.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Time after which a connection is closed if neither side is interested.
pub const UNINTERESTING_TIMEOUT: Duration = Duration::from_secs(600);
/// Time without a byte from us after which we send a keep-alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// Peers requested from a tracker (`numwant`).
pub const NUMWANT: u32 = 80;
/// Lower bound of the time between two announces.
pub const ANNOUNCE_MIN: Duration = Duration::from_secs(60);
/// Upper bound of the time between two announces.
pub const ANNOUNCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Time between two announces to a tracker that names no interval.
pub const ANNOUNCE_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// Wait after the n-th failed announce: this, plus n² times [`ANNOUNCE_RETRY_STEP`], at most
/// [`ANNOUNCE_RETRY_MAX`].
pub const ANNOUNCE_RETRY: Duration = Duration::from_secs(5);
/// See [`ANNOUNCE_RETRY`].
pub const ANNOUNCE_RETRY_STEP: Duration = Duration::from_millis(12_500);
/// See [`ANNOUNCE_RETRY`].
pub const ANNOUNCE_RETRY_MAX: Duration = Duration::from_secs(3600);
/// Time-out of an announce, name resolution and body included.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time-out of a scrape over HTTP from the moment that a thread begins it: a dead tracker must not use up the
/// time of the scrapes that wait for the thread.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time-out of a `stopped` announce, and of the shutdown's wait, for a tracker that answered before.
pub const STOPPED_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a tracker that never answered.
pub const UNANSWERED_STOPPED_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before an announce that is due is tried again, while an announce of an earlier entry of the same torrent
/// is under way to the tracker.
pub const ANNOUNCE_HELD: Duration = Duration::from_millis(250);
/// First wait before a datagram to a tracker is sent again; doubles (BEP 15).
pub const UDP_RESEND: Duration = Duration::from_secs(15);
/// Lifetime of a UDP tracker's connection id (BEP 15).
pub const UDP_CONNECTION: Duration = Duration::from_secs(60);
/// Requests to UDP trackers in flight at once.
pub const UDP_EXCHANGES: usize = 64;

/// Delay of a resumed torrent's announcement to the local network, so that torrents that are resumed together
/// share a packet.
pub const LSD_FIRST_DELAY: Duration = Duration::from_millis(500);
/// Time between two announcements of the same torrent (BEP 14: five minutes).
pub const LSD_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Time between two announcement packets in the long run (BEP 14: one a minute), so that a large network is
/// not flooded.
pub const LSD_SPACING: Duration = Duration::from_secs(60);
/// Announcement packets in a burst: 120 torrents at the start, or a few torrents that are added one by one.
pub const LSD_BURST: u32 = 5;
/// Addresses accepted from announcements in [`LSD_INTERVAL`], all torrents together: bounds the dials that an
/// attacker with forged senders can cause. Other clients announce again in the next interval.
pub const LSD_PEERS_PER_INTERVAL: usize = 100;

/// Time between two checkpoints while pieces are verified.
pub const CHECKPOINT: Duration = Duration::from_secs(45);
/// Newly verified bytes that bring a checkpoint forward.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// Least time between two checkpoints, so that fast links do not sync all the time.
pub const CHECKPOINT_MIN: Duration = Duration::from_secs(10);

/// Burst of a rate limit: the bytes of this time.
pub const BURST: Duration = Duration::from_millis(250);
/// Time after which the tokens of a common limit are divided anew, if a torrent has spent its share and another
/// has not.
pub const SHARE_ROUND: Duration = Duration::from_millis(50);
/// Least burst of a rate limit: one block.
pub const BURST_MIN_BYTES: u64 = 16 * 1024;

// ---- DHT ------------------------------------------------------------------------------------------------------------

/// Time between two searches for one torrent, each an announce (BEP 5, libtorrent).
pub const DHT_SEARCH_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// First wait before the next search while pieces or metadata are missing and no peer is connected; doubles
/// up to
/// [`DHT_SEARCH_INTERVAL`]. A peer may have announced just after our search, or to nodes that we did not know yet.
pub const DHT_SEARCH_RETRY: Duration = Duration::from_secs(5);
/// Least time between the starts of two searches: a thousand torrents take four minutes.
pub const DHT_SEARCH_SPACING: Duration = Duration::from_millis(250);
/// Nodes of an earlier run that are pinged at once.
pub const DHT_PINGS_AT_ONCE: usize = 16;
/// Time before the next nodes of an earlier run are pinged.
pub const DHT_PING_INTERVAL: Duration = Duration::from_secs(2);
/// First wait before the bootstrap nodes' names are resolved again; doubles up to [`DHT_BOOTSTRAP_MAX`].
pub const DHT_BOOTSTRAP_RETRY: Duration = Duration::from_secs(30);
/// Nodes that are saved for the next run at least; nodes of an earlier run are added if fewer have answered.
pub const DHT_SAVED_NODES_MIN: usize = 64;
/// Interval at which nodes are saved for the next run.
pub const DHT_SAVE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Nodes in a bucket, nodes in a response, nodes that are announced to: K of BEP 5.
pub const DHT_K: usize = 8;
/// Replacement nodes of a full bucket.
pub const DHT_SPARE_NODES: usize = 8;
/// Nodes of one /24 (IPv6: /64) in a bucket or a lookup: the owner of a network has 256 addresses cheaply.
pub const DHT_NODES_PER_NETWORK: usize = 2;
/// Time without a packet after which a node is questionable and a bucket is refreshed (BEP 5).
pub const DHT_QUIET: Duration = Duration::from_secs(15 * 60);
/// Least time between two pings of questionable nodes: a full table of 160 nodes takes 15 minutes at one ping
/// every 5.6 s.
pub const DHT_PING_EVERY: Duration = Duration::from_secs(5);
/// Queries in a row without an answer that make a node bad (BEP 5: "multiple").
pub const DHT_FAILURES: u8 = 2;
/// Time after which a lookup queries another node besides the one that has not answered: three quarters of
/// all responses arrive within a second.
pub const DHT_LATE: Duration = Duration::from_secs(2);
/// Time-out of a query; a later response is ignored.
pub const DHT_TIMEOUT: Duration = Duration::from_secs(12);
/// Queries of one lookup in flight, late ones not counted: Kademlia's alpha.
pub const DHT_ALPHA: usize = 3;
/// Nodes that a lookup remembers: the 8 closest, and replacements if these are dead.
pub const DHT_LOOKUP_NODES: usize = 64;
/// Queries of one lookup. A lookup in a healthy network needs 20 to 40.
pub const DHT_LOOKUP_QUERIES: usize = 120;
/// Queries that a lookup sends to nodes whose id does not match their address (BEP 42), if it knows enough
/// other nodes.
pub const DHT_INSECURE_QUERIES: usize = 8;
/// Lookups at once, refreshes included; a further lookup ends at once without a result.
pub const DHT_LOOKUPS: usize = 64;
/// Torrents that are searched for at once; a further search has to wait.
pub const DHT_SEARCHES: usize = 256;
/// Peers reported by one search: as many as the peer list of a torrent holds.
pub const DHT_FOUND_PEERS: usize = 1_000;
/// Queries in flight, of all lookups and pings together.
pub const DHT_PENDING: usize = 512;
/// Of [`DHT_PENDING`], pings of nodes that have not answered us yet: as many nodes of an earlier run as are
/// pinged before the first one times out.
pub const DHT_PROBES: usize = 96;
/// Bootstrap nodes that are queried when no node is known.
pub const DHT_ROUTERS: usize = 16;
/// First wait before the bootstrap is repeated; doubles up to [`DHT_BOOTSTRAP_MAX`].
pub const DHT_BOOTSTRAP: Duration = Duration::from_secs(5);
/// See [`DHT_BOOTSTRAP`].
pub const DHT_BOOTSTRAP_MAX: Duration = Duration::from_secs(5 * 60);
/// Votes on our own address that are kept, one for each voter (BEP 42).
pub const DHT_VOTES: usize = 16;
/// Voters that must agree on our address before we take a node id for it; they must also outnumber all other
/// voters.
pub const DHT_VOTES_NEEDED: usize = 4;

/// Torrents whose announced peers our node stores (libtorrent: 2,000).
pub const DHT_STORED_TORRENTS: usize = 2_000;
/// Announced peers that our node stores for one torrent (libtorrent: 500).
pub const DHT_STORED_PEERS: usize = 500;
/// Announced peers that our node stores for all torrents, 3 MB; 2,000 torrents of 500 peers would take 50 MB.
pub const DHT_STORED_IN_ALL: usize = 60_000;
/// Lifetime of an announced peer; clients announce about every 15 minutes.
pub const DHT_PEER_EXPIRES: Duration = Duration::from_secs(30 * 60);
/// Least time between two removals of expired peers.
pub const DHT_SWEEP: Duration = Duration::from_secs(60);
/// Peers in one response.
pub const DHT_PEERS_TOLD: usize = 50;
/// Lifetime of a token's secret; the previous secret is accepted as well (BEP 5).
pub const DHT_SECRET: Duration = Duration::from_secs(5 * 60);

/// Most bytes of a response (BEP 32), so that no packet is fragmented.
pub const DHT_ANSWER_BYTES: usize = 1_024;
/// Bytes of responses a second (libtorrent: 8,000), so that queries with a forged sender cannot make us flood
/// a host.
pub const DHT_ANSWERS_PER_SECOND_BYTES: u64 = 8_000;
/// Burst of responses after an idle time.
pub const DHT_ANSWERS_BURST_BYTES: u64 = 3 * DHT_ANSWERS_PER_SECOND_BYTES;
/// Most bytes of a response to an unverified sender, as a multiple of the query's bytes: enough for 4 to 8
/// nodes, and too little amplification for a forged sender to pay.
pub const DHT_STRANGER_TIMES: usize = 3;
/// Bytes of scrape responses (BEP 33) a second to unverified senders: a response has seven times the bytes of
/// its query, so only about one a second is sent.
pub const DHT_SCRAPES_PER_SECOND_BYTES: u64 = DHT_ANSWER_BYTES as u64;
/// Burst of scrape responses after an idle time.
pub const DHT_SCRAPES_BURST_BYTES: u64 = 3 * DHT_SCRAPES_PER_SECOND_BYTES;
/// Addresses whose packets are counted for [`DHT_GUARD_PACKETS`].
pub const DHT_GUARDED_ADDRESSES: usize = 20;
/// Packets from one address in [`DHT_GUARD_TIME`] after which its packets are ignored for
/// [`DHT_GUARD_SILENCE`].
pub const DHT_GUARD_PACKETS: u32 = 50;
/// See [`DHT_GUARD_PACKETS`].
pub const DHT_GUARD_TIME: Duration = Duration::from_secs(10);
/// See [`DHT_GUARD_PACKETS`].
pub const DHT_GUARD_SILENCE: Duration = Duration::from_secs(5 * 60);

/// Lifetime of a port mapping that is asked for, seconds (RFC 6886, 3.3).
pub const MAPPING_LIFETIME_S: u32 = 7_200;
/// Longest lifetime that is believed: a router that restarts unseen is noticed at the next renewal.
pub const MAPPING_LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest wait before a renewal, however short the granted lifetime is.
pub const MAPPING_RENEW_MIN: Duration = Duration::from_secs(10);
/// Wait after the first packet of a question to the router; doubles with each packet (RFC 6886, 3.1).
pub const MAPPING_RESEND: Duration = Duration::from_millis(250);
/// Packets of one question: the last waits 8 s, all together 16 s.
pub const MAPPING_SENDS: u32 = 6;
/// Wait before a router is asked again that did not answer at all.
pub const MAPPING_RETRY_SILENT: Duration = Duration::from_secs(2 * 60 * 60);
/// Wait before a router is asked again that refused, or stopped answering.
pub const MAPPING_RETRY_KNOWN: Duration = Duration::from_secs(5 * 60);
/// Shortest interval of two questions for what the router holds or has just lost.
pub const MAPPING_RETRY_MIN: Duration = Duration::from_secs(60);
/// Seconds that a router's clock may run behind ours, besides a share of the time that passed.
pub const EPOCH_SLACK_S: u64 = 2;
/// Lease of a UPnP mapping that is asked for, seconds.
pub const UPNP_LEASE_S: u32 = 3_600;
/// Searches for a UPnP router.
pub const UPNP_SEARCHES: u32 = 4;
/// Wait after the first UPnP search; the second waits twice as long, and so on.
pub const UPNP_SEARCH_WAIT: Duration = Duration::from_secs(2);
/// Descriptions that are requested after one search.
pub const UPNP_DESCRIPTIONS: usize = 4;
/// Requests for one UPnP mapping, each with another port or lease.
pub const UPNP_TRIES: u32 = 4;
/// Shortest wait before a UPnP mapping is renewed, however short its lease is.
pub const UPNP_RENEW_MIN: Duration = Duration::from_secs(60);
/// Interval of asking a UPnP router whether it holds the mappings: it tells of no restart.
pub const UPNP_CHECK_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// Seconds that two answers about the end of one lease may differ.
pub const UPNP_LEASE_SLACK: Duration = Duration::from_secs(5);
/// Time-out of a request to a UPnP router.
pub const UPNP_TIMEOUT: Duration = Duration::from_secs(10);
/// Most time that the end waits for UPnP mappings to be deleted.
pub const UPNP_DELETE_TIMEOUT: Duration = Duration::from_millis(500);
/// Packets of a PCP or NAT-PMP question without an answer after which UPnP is tried as well. It is tried after a
/// refusal, too.
pub const UPNP_AFTER_SENDS: u32 = 3;
/// Interval of looking for the default routers.
pub const GATEWAY_INTERVAL: Duration = Duration::from_secs(60);
