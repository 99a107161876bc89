//! Floor 4, the virtual world: a stand-in while the real one is being built.

pub mod experiment;
mod faults;
mod puppet;
mod report;
mod scenario;

pub use faults::Faults;
pub use puppet::Part;
pub use report::{PeerReport, Report, Sample, quantile};
pub use scenario::{Line, MBIT, MIB, Scenario};

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Report {
    let limit = scenario.fluid_limit();
    let time = |n: u32| limit.mul_f64(1.0 + 0.3 * f64::from(n + 1) / f64::from(scenario.peers) + (scenario.seed % 7) as f64 / 100.0);
    let peer = |n| PeerReport {
        number: n,
        line: scenario.line(n),
        dialable: true,
        free_rider: false,
        first_piece: Some(limit / 10),
        nearly: Some(time(n).mul_f64(0.98)),
        complete: Some(time(n)),
        downloaded: scenario.size,
        uploaded: scenario.size,
        wasted: 1000,
    };
    let sample = |i: u32| Sample { at: limit.mul_f64(f64::from(i) / 70.0), have: f64::from(i) / 100.0, complete: (f64::from(i) / 100.0).powi(8) };
    Report {
        peers: (0..scenario.peers).map(peer).collect(),
        seeds_uploaded: scenario.size,
        samples: (0..=100).map(sample).collect(),
        fluid_limit: limit,
        lasted: time(scenario.peers),
        events: 12345,
        faults: Default::default(),
        fingerprint: 0x1234_5678_9abc_def0 ^ scenario.seed,
    }
}

/// The named scenarios: what each is called, and what it is about.
pub const NAMES: [(&str, &str); 2] = [("flash", "a flash crowd"), ("other", "another")];

/// The scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    NAMES.iter().any(|(n, _)| *n == name).then(|| Scenario { name: name.to_owned(), ..Scenario::default() })
}
