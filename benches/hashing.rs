//! The floor under every download: SHA-1 of what comes in. Run with `cargo bench --bench hashing`.
//!
//! A machine that shows 1 GB/s here spends a second of some core on each downloaded gigabyte, whatever else
//! it does.

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

/// As a worker does it: block after block into one hasher.
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
