//! Transfers between two sessions over loopback, with plain and with mapped storage.

mod support;

use rill::session::StorageMode;
use rill::session::{AddTorrent, Event};
use rill::wire::Magnet;
use support::{assert_same, download, multi, seeder, session, session_with, single, wait};

const MIB: usize = 1024 * 1024;

/// Transfers this torrent from one seeder to one downloader and compares the content.
fn transfers(mode: StorageMode, torrent: impl Fn(&std::path::Path) -> rill::wire::Metainfo) {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = torrent(from.path());
    let (_seeder, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session_with("127.0.0.2", |c| c.storage = mode);
    download(&s, &torrent, to.path(), &[addr]);
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(from.path(), to.path());
    assert!(s.stop(std::time::Duration::from_secs(5)).clean);
}

fn transfers_in_both_modes(torrent: impl Fn(&std::path::Path) -> rill::wire::Metainfo) {
    transfers(StorageMode::Plain, &torrent);
    transfers(StorageMode::Mapped, &torrent);
}

#[test]
fn a_single_file_arrives() {
    transfers_in_both_modes(|dir| single(dir, "one.bin", 40 * MIB, MIB as u32));
}

#[test]
fn a_file_of_one_byte_over_a_piece_arrives() {
    transfers_in_both_modes(|dir| single(dir, "over.bin", MIB + 1, 256 * 1024));
}

#[test]
fn a_piece_length_that_is_no_power_of_two_arrives() {
    transfers_in_both_modes(|dir| single(dir, "odd.bin", 3 * MIB + 77, 100_003));
}

#[test]
fn a_piece_of_sixteen_mebibytes_arrives() {
    transfers_in_both_modes(|dir| single(dir, "big.bin", 33 * MIB, 16 * MIB as u32));
}

#[test]
fn many_small_files_and_empty_ones_arrive() {
    let names: Vec<String> = (0..200).map(|i| format!("d{}/f{i}", i % 7)).collect();
    let files: Vec<(&str, usize)> =
        names.iter().enumerate().map(|(i, n)| (n.as_str(), if i % 10 == 3 { 0 } else { i * 331 })).collect();
    transfers_in_both_modes(|dir| multi(dir, "many", &files, 64 * 1024));
}

// ---- links ------------------------------------------------------------------------------------------------------------

#[test]
fn a_magnet_link_with_one_peer_fetches_metadata_and_content() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    // 25 KiB of hashes: the metadata has two pieces (BEP 9).
    let torrent = single(from.path(), "a", 20 << 20, 16 << 10);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.1");
    s.add(AddTorrent::magnet(Magnet { peers: vec![addr], ..Magnet::new(torrent.info_hash()) }, to.path()))
        .unwrap();
    let Event::Metadata { metainfo, .. } = wait(&s, |e| matches!(e, Event::Metadata { .. })) else {
        unreachable!()
    };
    assert!(metainfo.info() == torrent.info());
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(&from.path().join("a"), &to.path().join("a"));
}

#[test]
fn a_magnet_link_downloads_only_the_files_that_it_selects() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let torrent = multi(from.path(), "t", &[("a", 200_000), ("b", 200_000), ("c", 200_000)], 16 << 10);
    let (_seed, addr) = seeder("127.0.0.1", &torrent, from.path());
    let s = session("127.0.0.1");
    let link = Magnet { peers: vec![addr], select_only: vec![2..=2], ..Magnet::new(torrent.info_hash()) };
    s.add(AddTorrent::magnet(link, to.path())).unwrap();
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(&from.path().join("t/c"), &to.path().join("t/c"));
    assert!(!to.path().join("t/a").exists());
}
