//! A whole transfer: two sessions in one process, 64 MiB over loopback, in both storage modes. Run with
//! `cargo bench --bench loopback`; `TMPDIR` selects the file system.
//!
//! The time is from adding the torrent to its completion, with hashing and resume records, without creating
//! the content and starting the seed.

#[path = "../tests/support/mod.rs"]
mod support;

use divan::{Bencher, counter::BytesCount};
use rill::session::Event;
use rill::session::StorageMode;
use support::{download, seeder, session_with, single, wait};

const BYTES: usize = 64 << 20;

fn main() {
    divan::main();
}

#[divan::bench(args = [StorageMode::Plain, StorageMode::Mapped, StorageMode::Auto], sample_count = 5, sample_size = 1)]
fn one_seeder_one_downloader(bencher: Bencher<'_, '_>, mode: StorageMode) {
    let from = tempfile::tempdir().expect("a directory");
    let torrent = single(from.path(), "bench.bin", BYTES, 1 << 20);
    let (_seeder, addr) = seeder("127.0.0.1", &torrent, from.path());
    bencher
        .counter(BytesCount::new(BYTES))
        .with_inputs(|| {
            (tempfile::tempdir().expect("a directory"), session_with("127.0.0.2", |c| c.storage = mode))
        })
        .bench_local_values(|(to, session)| {
            download(&session, &torrent, to.path(), &[addr]);
            wait(&session, |e| matches!(e, Event::Completed { .. }));
            (to, session)
        });
}
