//! One peer and one seed: the utilization of a line under several request windows.
//!
//! Requests fill the line if the data in flight is bandwidth × round trip. Under any rule the requests in
//! flight are limited by [`CANCELLED_REQUESTS`](limits::CANCELLED_REQUESTS) and by the queue of the other
//! side ([`REQQ_OURS_BLOCKS`](limits::REQQ_OURS_BLOCKS)), so windows above 500 blocks are not tried. Above 4
//! MiB in flight the TCP window is the limit.

use super::{Arm, Experiment, metric, plain};
use crate::engine::{Policy, WindowRule, limits};
use crate::sim::{Line, MBIT, Scenario};
use std::time::Duration;

/// Rates of the lines, Mbit/s.
const RATES: [u64; 4] = [1, 10, 100, 1000];
/// Round-trip times, milliseconds. Each pair of rate and round trip has a different product.
const ROUND_TRIPS_MS: [u64; 4] = [5, 20, 80, 300];
/// Shortest duration of the download, seconds.
const TRANSFER_S: u64 = 20;

pub(super) const WINDOW: Experiment = Experiment {
    name: "window",
    question: "How many requests fill a line?",
    series: "window",
    x: "bandwidth x round trip, KiB",
    x_log: true,
    metrics: &[
        plain("link", "share of the line that was used", "%", |_, r| {
            100.0 / metric::times_fluid(r, metric::complete_s(r, 1.0))
        }),
        plain("wasted", "received in vain", "%", |_, r| metric::wasted_percent(r)),
    ],
    runs: 20,
    alone: false,
    arms: || {
        let adaptive =
            |s| WindowRule::Adaptive { time: Duration::from_secs(s), max: limits::WINDOW_MAX_BLOCKS };
        let series = [
            ("1 s of blocks", adaptive(1)),
            ("3 s of blocks", adaptive(3)),
            ("10 s of blocks", adaptive(10)),
            ("16 blocks", WindowRule::Fixed(16)),
            ("64 blocks", WindowRule::Fixed(64)),
            ("250 blocks", WindowRule::Fixed(250)),
            ("500 blocks", WindowRule::Fixed(limits::WINDOW_MAX_BLOCKS)),
        ];
        let mut pairs: Vec<(u64, u64)> =
            RATES.iter().flat_map(|rate| ROUND_TRIPS_MS.map(|ms| (*rate, ms))).collect();
        pairs.sort_by_key(|(rate, ms)| rate * ms);
        let arm = |name: &str, window, (rate, ms): (u64, u64)| Arm {
            series: name.to_owned(),
            x: (rate * MBIT * ms) as f64 / 1000.0 / 1024.0,
            at: format!("{rate} Mbit/s x {ms} ms"),
            scenario: scenario(window, rate * MBIT, Duration::from_millis(ms)),
        };
        series.iter().flat_map(|(name, window)| pairs.iter().map(|pair| arm(name, *window, *pair))).collect()
    },
};

fn scenario(window: WindowRule, rate: u64, round_trip: Duration) -> Scenario {
    let size = rate * TRANSFER_S;
    // A round trip passes between an end and the middle four times.
    let line = Line { up: rate, down: rate, latency: round_trip / 4 };
    Scenario {
        size,
        piece_len: (size / 256).next_power_of_two().clamp(16 << 10, 4 << 20) as u32,
        peers: 1,
        seed_lines: vec![line],
        lines: vec![line],
        policy: Policy { window, ..Policy::default() },
        // The send buffer keeps the line busy between two calls of the engine.
        send_buffer: (rate / 50).clamp(64 << 10, 4 << 20) as u32,
        patience: Duration::from_secs(3 * 3600),
        ..Scenario::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_x_belongs_to_one_pair_of_rate_and_round_trip() {
        let arms = WINDOW.arms();
        let first: Vec<_> = arms.iter().filter(|a| a.series == arms[0].series).collect();
        assert_eq!(first.len(), RATES.len() * ROUND_TRIPS_MS.len());
        for arm in &first {
            let line = arm.scenario.line(0);
            let product = line.up as f64 * 4.0 * line.latency.as_secs_f64() / 1024.0;
            assert!((product - arm.x).abs() < 1e-6, "{product} at {}", arm.x);
        }
        assert!(first.windows(2).all(|pair| pair[0].x < pair[1].x), "the arms are in ascending order of x");
    }
}
