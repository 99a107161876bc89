//! Runs the fuzz targets with the committed seeds, with every seed truncated, and with single bytes of them
//! replaced. So `cargo test` runs every target without a fuzzer.

use rill::disk::fuzzing as disk_fuzzing;
use rill::engine::{fuzz_dht, fuzz_engine};
use rill::utp::fuzzing as utp_fuzzing;
use rill::wire::{fuzz_metainfo, fuzz_mse, fuzz_packets, fuzz_peer_stream, fuzz_socks5};
use std::path::Path;

/// Replacement bytes: bencode brackets, digits, a path separator, and bytes that are not text.
const SPOILERS: [u8; 8] = [b'd', b'e', b'i', b'0', b'9', b'/', 0, 0xff];
/// Positions of a seed that are changed. Long seeds are changed at some positions only, so that a corpus
/// takes seconds.
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
fn metainfo_parser_holds_its_invariants() {
    run_corpus("metainfo", fuzz_metainfo::metainfo);
}

#[test]
fn bencode_is_never_read_in_two_ways() {
    run_corpus("bencode", fuzz_metainfo::bencode);
}

#[test]
fn magnet_parser_holds_its_invariants() {
    run_corpus("magnet", fuzz_metainfo::magnet);
}

#[test]
fn http_tracker_parser_holds_its_invariants() {
    run_corpus("http_tracker", fuzz_packets::http_tracker);
}

#[test]
fn datagram_parsers_hold_their_invariants() {
    run_corpus("datagrams", fuzz_packets::datagrams);
}

#[test]
fn answers_of_routers_hold_their_invariants() {
    run_corpus("port_mapping", fuzz_packets::port_mapping);
}

#[test]
fn extension_message_parser_holds_its_invariants() {
    run_corpus("extended", fuzz_packets::extended);
}

#[test]
fn pex_parser_holds_its_invariants() {
    run_corpus("pex", fuzz_packets::pex);
}

#[test]
fn krpc_parser_holds_its_invariants() {
    run_corpus("krpc", fuzz_packets::krpc);
}

#[test]
fn peer_stream_decoder_holds_its_invariants_for_all_splits() {
    run_corpus("peer_stream", fuzz_peer_stream::peer_stream);
}

#[test]
fn the_answers_of_a_proxy_are_read_in_one_way_for_all_splits() {
    run_corpus("socks5", fuzz_socks5::socks5);
}

#[test]
fn the_engine_holds_its_invariants_for_all_inputs() {
    run_corpus("engine", fuzz_engine::engine);
}

#[test]
fn the_dht_node_holds_its_invariants_for_all_packets() {
    run_corpus("dht", fuzz_dht::dht);
}

#[test]
fn the_resume_record_parser_holds_its_invariants() {
    run_corpus("resume", disk_fuzzing::resume);
}

#[test]
fn the_negotiation_of_encrypted_connections_holds_its_invariants() {
    run_corpus("mse", fuzz_mse::mse);
}

#[test]
fn the_utp_packet_parser_holds_its_invariants() {
    run_corpus("utp_packet", fuzz_packets::utp_packet);
}

#[test]
fn utp_streams_hold_their_invariants_for_all_packets() {
    run_corpus("utp_stream", utp_fuzzing::utp_stream);
}
