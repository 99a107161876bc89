//! The cost of the picker: 4,000 pieces of 16 blocks, 50 peers with half of the pieces each. Run with `cargo
//! bench --bench picker`.
//!
//! `whole_download` counts every pick, lease and arrival of 64,000 blocks; `haves` one HAVE of each of 50
//! peers for one piece.

use divan::{Bencher, counter::ItemsCount};
use rill::engine::bench_support::Download;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 20)]
fn whole_download(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(64_000usize))
        .with_inputs(|| Download::new(4000, 50))
        .bench_values(|mut d| assert_eq!(d.run(), 64_000));
}

#[divan::bench]
fn haves(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(50usize * 1000))
        .with_inputs(|| Download::new(4000, 50))
        .bench_values(|mut d| (0..1000).for_each(|n| d.haves(n * 7 % 4000)));
}
