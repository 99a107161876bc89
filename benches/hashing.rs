//! SHA-1 of payload, which every download needs. Run with `cargo bench --bench hashing`.
//!
//! A machine that shows 1 GB/s here spends at least a second of CPU time on each downloaded gigabyte.

use divan::{Bencher, counter::BytesCount};
use sha1::{Digest, Sha1};

fn main() {
    divan::main();
}

#[divan::bench(args = [16 * 1024, 1024 * 1024])]
fn sha1_of_bytes(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = vec![7u8; len];
    bencher.counter(BytesCount::new(len)).bench(|| Sha1::digest(divan::black_box(&bytes)));
}

/// Hashes a piece as a disk worker does, block after block with one hasher.
#[divan::bench]
fn sha1_of_a_piece_in_blocks(bencher: Bencher<'_, '_>) {
    let block = vec![7u8; 16 * 1024];
    bencher.counter(BytesCount::new(64 * block.len())).bench(|| {
        let mut h = Sha1::new();
        for _ in 0..64 {
            h.update(divan::black_box(&block));
        }
        h.finalize()
    });
}
