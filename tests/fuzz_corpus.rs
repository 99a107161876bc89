//! The committed seeds of the fuzz targets, and what becomes of each when it is cut or a byte of it changes, keep every
//! promise that the targets check. So each `cargo test` fuzzes a little, without a fuzzer.

use rill::engine::{fuzzing as engine_fuzzing, fuzzing_dht};
use rill::wire::{fuzzing, fuzzing_peer};
use std::path::Path;

/// What a byte turns into: brackets of bencode, digits, a separator, and bytes that are no text.
const SPOILERS: [u8; 8] = [b'd', b'e', b'i', b'0', b'9', b'/', 0, 0xff];

fn run_corpus(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    // A packaged crate has no corpus.
    for entry in corpus.read_dir().into_iter().flatten().flatten() {
        let seed = std::fs::read(entry.path()).unwrap();
        body(&seed);
        for at in 0..seed.len().min(600) {
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
    run_corpus("metainfo", fuzzing::metainfo);
}

#[test]
fn no_tracker_reply_breaks_a_promise() {
    run_corpus("tracker_reply", fuzzing::tracker_reply);
}

#[test]
fn no_magnet_link_breaks_a_promise() {
    run_corpus("magnet", fuzzing::magnet);
}

#[test]
fn no_way_of_cutting_a_peers_stream_breaks_a_promise() {
    run_corpus("peer_stream", fuzzing_peer::peer_stream);
}

#[test]
fn nothing_that_happens_to_the_engine_breaks_a_promise() {
    run_corpus("engine", engine_fuzzing::engine);
}

#[test]
fn no_packets_of_strangers_break_a_promise_of_the_dht() {
    run_corpus("dht", fuzzing_dht::dht);
}
