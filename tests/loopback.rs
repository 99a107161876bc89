//! Whole sessions over loopback: what one seeds, another gets, byte for byte, whichever way the bytes reach the disk.

mod support;

use rill::disk::StorageMode;
use rill::session::Event;
use support::{assert_same, download, multi, seeder, session_with, single, wait};

const MIB: usize = 1024 * 1024;

/// One seeder, one downloader, this torrent.
fn transfers(mode: StorageMode, torrent: impl Fn(&std::path::Path) -> rill::wire::Metainfo) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = torrent(from.path());
    let (_seeder, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session_with("127.0.0.2", |c| c.storage = mode);
    download(&s, &torrent, to.path(), &[addr]);
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(from.path(), to.path());
    assert!(s.stop(std::time::Duration::from_secs(5)).clean);
}

fn both_ways(torrent: impl Fn(&std::path::Path) -> rill::wire::Metainfo) {
    transfers(StorageMode::Plain, &torrent);
    transfers(StorageMode::Mapped, &torrent);
}

#[test]
fn a_single_file_arrives() {
    both_ways(|dir| single(dir, "one.bin", 40 * MIB, MIB as u32));
}

#[test]
fn a_file_of_one_byte_over_a_piece_arrives() {
    both_ways(|dir| single(dir, "over.bin", MIB + 1, 256 * 1024));
}

#[test]
fn a_piece_length_that_is_no_power_of_two_arrives() {
    both_ways(|dir| single(dir, "odd.bin", 3 * MIB + 77, 100_003));
}

#[test]
fn a_piece_of_sixteen_mebibytes_arrives() {
    both_ways(|dir| single(dir, "big.bin", 33 * MIB, 16 * MIB as u32));
}

#[test]
fn many_small_files_and_empty_ones_arrive() {
    let names: Vec<String> = (0..200).map(|i| format!("d{}/f{i}", i % 7)).collect();
    let files: Vec<(&str, usize)> =
        names.iter().enumerate().map(|(i, n)| (n.as_str(), if i % 10 == 3 { 0 } else { i * 331 })).collect();
    both_ways(|dir| multi(dir, "many", &files, 64 * 1024));
}
