//! The committed seeds of the fuzz targets, and what becomes of each when it is cut or a byte of it changes,
//! keep every promise that the targets check. So each `cargo test` fuzzes a little, without a fuzzer.

use rill::disk::fuzzing as disk_fuzzing;
use rill::engine::{fuzz_dht, fuzz_engine};
use rill::wire::{fuzz_metainfo, fuzz_packets, fuzz_peer_stream};
use std::path::Path;

/// What a byte turns into: brackets of bencode, digits, a separator, and bytes that are no text.
const SPOILERS: [u8; 8] = [b'd', b'e', b'i', b'0', b'9', b'/', 0, 0xff];
/// Changes to one seed: a long one is changed here and there, so that a corpus takes seconds and not minutes.
const CHANGES: usize = 600;

fn run_corpus(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    // A packaged crate has no corpus.
    let seeds: Vec<_> = corpus.read_dir().into_iter().flatten().flatten().collect();
    let changes = CHANGES * 10 / seeds.len().max(10);
    for entry in &seeds {
        let seed = std::fs::read(entry.path()).unwrap();
        body(&seed);
        for at in (0..seed.len()).step_by(seed.len().div_ceil(changes).max(1)) {
            body(&seed[..at]);
            let mut spoiled = seed.clone();
            for byte in SPOILERS {
                spoiled[at] = byte;
                body(&spoiled);
            }
        }
    }
}

#[test]
fn no_torrent_breaks_a_promise() {
    run_corpus("metainfo", fuzz_metainfo::metainfo);
}

#[test]
fn no_bencode_is_read_in_two_ways() {
    run_corpus("bencode", fuzz_metainfo::bencode);
}

#[test]
fn no_magnet_link_breaks_a_promise() {
    run_corpus("magnet", fuzz_metainfo::magnet);
}

#[test]
fn no_reply_of_a_web_tracker_breaks_a_promise() {
    run_corpus("http_tracker", fuzz_packets::http_tracker);
}

#[test]
fn no_datagram_of_a_tracker_or_neighbour_breaks_a_promise() {
    run_corpus("datagrams", fuzz_packets::datagrams);
}

#[test]
fn no_extension_message_breaks_a_promise() {
    run_corpus("extended", fuzz_packets::extended);
}

#[test]
fn no_message_of_peer_exchange_breaks_a_promise() {
    run_corpus("pex", fuzz_packets::pex);
}

#[test]
fn no_packet_of_the_dht_breaks_a_promise() {
    run_corpus("krpc", fuzz_packets::krpc);
}

#[test]
fn no_way_of_cutting_a_peers_stream_breaks_a_promise() {
    run_corpus("peer_stream", fuzz_peer_stream::peer_stream);
}

#[test]
fn nothing_that_happens_to_the_engine_breaks_a_promise() {
    run_corpus("engine", fuzz_engine::engine);
}

#[test]
fn no_packets_of_strangers_break_a_promise_of_the_dht() {
    run_corpus("dht", fuzz_dht::dht);
}

#[test]
fn no_resume_record_claims_what_cannot_be() {
    run_corpus("resume", disk_fuzzing::resume);
}
