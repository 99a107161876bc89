//! The cost of planning and accounting for outgoing bytes. Run with `cargo bench --bench encoder`.
//!
//! `upload`: 500 blocks with a `have` message after each, sent 64 KiB at a time.

use divan::{Bencher, counter::ItemsCount};
use rill::units::Geometry;
use rill::wire::{Encoder, Message, WritePlan};

fn main() {
    divan::main();
}

#[divan::bench]
fn upload(bencher: Bencher<'_, '_>) {
    let g = Geometry::new(1 << 30, 1 << 20).expect("a geometry");
    let spans: Vec<_> = (0..500).map(|n| g.block(g.piece(n / 64).expect("a piece"), n % 64)).collect();
    let mut plan = WritePlan::default();
    bencher.counter(ItemsCount::new(500usize)).bench_local(|| {
        let mut o = Encoder::default();
        for (n, span) in spans.iter().enumerate() {
            o.push_block(*span);
            o.push(&Message::Have { piece: n as u32 });
        }
        let mut payload = 0;
        while !o.is_empty() {
            plan.clear();
            o.plan(64 * 1024, &mut plan);
            payload += o.sent(plan.bytes()).payload;
        }
        payload
    });
}
