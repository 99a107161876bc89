//! Values of `rill sim`'s options, parsed and formatted: rates, scripted peers, faults, parts of the engine
//! to turn off.
//!
//! A formatted value parses to the same value, so that the printed command repeats the run.

use crate::cli::format::{parse_duration, parse_size};
use crate::engine::{Endgame, Picking};
use crate::sim::{PuppetRole, Scenario};
use clap::ValueEnum;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Rates in bytes a second, assigned to the peers in turn; at least one, none of them 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rates(pub(crate) Vec<u64>);

impl Rates {
    /// Parses rates such as `512K,10Mbit`.
    pub(crate) fn parse(text: &str) -> Result<Rates, String> {
        text.split(',').map(|word| parse_rate(word.trim())).collect::<Result<_, _>>().map(Rates)
    }
}

fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = match text.strip_suffix("bit") {
        Some(bits) => parse_bits(bits),
        None => parse_size(text).ok(),
    };
    rate.filter(|r| *r > 0).ok_or_else(|| format!("'{text}' is not a rate like 512K, 2M or 10Mbit"))
}

/// Parses bits with a suffix k, m or g, which are powers of 1000, and returns bytes.
fn parse_bits(text: &str) -> Option<u64> {
    let unit = ["k", "m", "g"].iter().position(|unit| text.to_ascii_lowercase().ends_with(unit));
    let number = &text[..text.len() - usize::from(unit.is_some())];
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let bits: f64 = number.parse().ok().filter(|_| plain)?;
    let bytes = bits * 1000f64.powi(unit.map_or(0, |u| u as i32 + 1)) / 8.0;
    (bytes < 1e15).then_some(bytes.round() as u64)
}

impl Display for Rates {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|r| rate_word(*r)).collect();
        f.write_str(&words.join(","))
    }
}

/// Formats a rate as `10Mbit` if that is exact, else in bytes.
pub(crate) fn rate_word(bytes_per_s: u64) -> String {
    match bytes_per_s {
        r if r % 125_000_000 == 0 => format!("{}Gbit", r / 125_000_000),
        r if r % 125_000 == 0 => format!("{}Mbit", r / 125_000),
        r => size_word(r),
    }
}

/// Formats bytes as `64M` if that is exact, else as a plain number.
pub(crate) fn size_word(bytes: u64) -> String {
    let whole = [(30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes % (1 << shift) == 0);
    whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Formats a time as `90s`, `20ms` or `0.05ms`.
pub(crate) fn time_word(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_nanos() as f64 / 1e6),
    }
}

/// A share in percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percent(pub(crate) f64);

impl Percent {
    /// Parses `30` or `30%`.
    pub(crate) fn parse(text: &str) -> Result<Percent, String> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent = number.parse().ok().filter(|p| plain && *p <= 100.0);
        percent.map(Percent).ok_or_else(|| format!("'{text}' is not a percentage from 0 to 100"))
    }

    /// Returns the share as a number from 0 to 1.
    pub(crate) fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl Display for Percent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names of the roles of scripted peers.
const PARTS: [(&str, PuppetRole); 8] = [
    ("seed", PuppetRole::Seed),
    ("slow", PuppetRole::Slow),
    ("liar", PuppetRole::Liar),
    ("snubber", PuppetRole::Snubber),
    ("flapper", PuppetRole::Flapper),
    ("leech", PuppetRole::Leech),
    ("hoarder", PuppetRole::Hoarder),
    ("greedy", PuppetRole::Greedy),
];

/// A role and the number of scripted peers that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartCount(pub(crate) PuppetRole, pub(crate) u32);

impl PartCount {
    /// Parses a role and a number, as in `slow=3`.
    pub(crate) fn parse(text: &str) -> Result<PartCount, String> {
        let (name, count) =
            text.split_once('=').ok_or_else(|| format!("'{text}' is not a role and a number like slow=3"))?;
        let names = || PARTS.map(|(name, _)| name).join(", ");
        let part = PARTS.iter().find(|(known, _)| *known == name);
        let (_, part) = part.ok_or_else(|| format!("'{name}' is none of the roles {}", names()))?;
        let count = count.parse().map_err(|_| format!("'{count}' is not a number of peers"))?;
        Ok(PartCount(*part, count))
    }
}

impl Display for PartCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = PARTS.iter().find(|(_, part)| *part == self.0).map_or("?", |(name, _)| name);
        write!(f, "{name}={}", self.1)
    }
}

/// A part of the engine that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Without {
    /// No block is requested from a second peer
    Endgame,
    /// No peer is ever treated as a snubber
    Snub,
    /// Pieces are picked at random
    Rarest,
    /// No optimistic unchoke: upload slots go only to peers that upload to us
    Optimistic,
    /// The Fast extension (BEP 6) is not used
    Fast,
    /// Peers do not exchange addresses (BEP 11)
    Pex,
}

impl Without {
    /// Turns the part off in a scenario.
    pub(crate) fn apply(self, scenario: &mut Scenario) {
        let policy = &mut scenario.policy;
        match self {
            Without::Endgame => policy.endgame = Endgame::Off,
            Without::Snub => policy.snub_after = None,
            Without::Rarest => policy.picking = Picking::Random,
            Without::Optimistic => policy.optimistic = false,
            Without::Fast => policy.fast = false,
            Without::Pex => scenario.pex = false,
        }
    }
}

impl Display for Without {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Without::Endgame => "endgame",
            Without::Snub => "snub",
            Without::Rarest => "rarest",
            Without::Optimistic => "optimistic",
            Without::Fast => "fast",
            Without::Pex => "pex",
        })
    }
}

/// One injected fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Lose(Duration),
    Refuse(f64),
    Late(Duration),
    Spikes(f64, Duration),
    Unreadable(f64),
    Full(f64, Duration),
    Silence(f64),
    Loss(f64),
    Delay(Duration),
    Clock(Duration),
}

impl Fault {
    /// Parses a fault, as in `lose=5s` or `full=0.1,10s`.
    pub(crate) fn parse(text: &str) -> Result<Fault, String> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let share = |value: &str| {
            let plain = value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let share = value.parse().ok().filter(|s| plain && *s <= 1.0);
            share.ok_or_else(|| format!("'{name}={value}': '{value}' is not a share from 0 to 1"))
        };
        let both = || {
            let (first, second) = value
                .split_once(',')
                .ok_or_else(|| format!("'{text}' is not a share and a time like {name}=0.1,10s"))?;
            Ok::<_, String>((share(first)?, parse_duration(second)?))
        };
        Ok(match name {
            "lose" => Fault::Lose(parse_duration(value)?),
            "refuse" => Fault::Refuse(share(value)?),
            "late" => Fault::Late(parse_duration(value)?),
            "spikes" => both().map(|(s, t)| Fault::Spikes(s, t))?,
            "unreadable" => Fault::Unreadable(share(value)?),
            "full" => both().map(|(s, t)| Fault::Full(s, t))?,
            "silence" => Fault::Silence(share(value)?),
            "loss" => Fault::Loss(share(value)?),
            "delay" => Fault::Delay(parse_duration(value)?),
            "clock" => Fault::Clock(parse_duration(value)?),
            _ => {
                let known = "lose, refuse, late, spikes, unreadable, full, silence, loss, delay, clock";
                return Err(format!("'{name}' is none of the faults {known}"));
            }
        })
    }

    /// Adds the fault to a scenario. Faults of datagrams also turn the scenario's tracker into a UDP
    /// tracker.
    pub(crate) fn apply(self, scenario: &mut Scenario) {
        let faults = &mut scenario.faults;
        match self {
            Fault::Lose(mean) => faults.lose_connections = Some(mean).filter(|t| !t.is_zero()),
            Fault::Refuse(share) => faults.refused_dials = share,
            Fault::Late(most) => faults.late_actions = Some(most).filter(|t| !t.is_zero()),
            Fault::Spikes(share, most) => faults.hash_spikes = Some((share, most)),
            Fault::Unreadable(share) => faults.unreadable = share,
            Fault::Full(share, time) => faults.disk_full = Some((share, time)),
            Fault::Silence(share) => faults.tracker_silence = share,
            Fault::Loss(share) => {
                faults.datagram_loss = share;
                scenario.udp_tracker = true;
            }
            Fault::Delay(most) => {
                faults.datagram_delay = most;
                scenario.udp_tracker = true;
            }
            Fault::Clock(before) => faults.clock_before_end = Some(before),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Lose(mean) => write!(f, "lose={}", time_word(mean)),
            Fault::Refuse(share) => write!(f, "refuse={share}"),
            Fault::Late(most) => write!(f, "late={}", time_word(most)),
            Fault::Spikes(share, most) => write!(f, "spikes={share},{}", time_word(most)),
            Fault::Unreadable(share) => write!(f, "unreadable={share}"),
            Fault::Full(share, time) => write!(f, "full={share},{}", time_word(time)),
            Fault::Silence(share) => write!(f, "silence={share}"),
            Fault::Loss(share) => write!(f, "loss={share}"),
            Fault::Delay(most) => write!(f, "delay={}", time_word(most)),
            Fault::Clock(before) => write!(f, "clock={}", time_word(before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_or_bits() {
        assert_eq!(
            Rates::parse("512K, 10Mbit,1.5mbit,1Gbit,800bit"),
            Ok(Rates(vec![524_288, 1_250_000, 187_500, 125_000_000, 100]))
        );
        for text in [
            "", ",", "10Mbit,", "0", "0Mbit", "bit", "Mbit", "-1Mbit", "1e3bit", "infbit", "nanbit",
            "10Tbit", "fast", "ébit",
        ] {
            assert!(Rates::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_formatted_value_parses_to_the_same_value() {
        for text in ["10Mbit,2M,1Gbit,1001,512K", "125"] {
            assert_eq!(Rates::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "lose=5s",
            "refuse=0.2",
            "late=5ms",
            "spikes=0.2,3s",
            "unreadable=0.1",
            "full=0.1,10s",
            "silence=0.3",
            "loss=1",
            "delay=0.05ms",
            "clock=3600s",
        ] {
            assert_eq!(Fault::parse(text).unwrap().to_string(), text);
        }
        for (name, _) in PARTS {
            let text = format!("{name}=3");
            assert_eq!(PartCount::parse(&text).unwrap().to_string(), text);
        }
        for what in Without::value_variants() {
            assert_eq!(Without::from_str(&what.to_string(), false), Ok(*what));
        }
        for ms in [1, 20, 1500, 90_000] {
            let time = Duration::from_millis(ms);
            assert_eq!(parse_duration(&time_word(time)), Ok(time));
        }
        for bytes in [1, 1000, 1024, 3 << 20, 5 << 30] {
            assert_eq!(parse_size(&size_word(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn a_mistyped_value_is_an_error() {
        for text in [
            "",
            "lose",
            "lose=",
            "lose=x",
            "silence=1.1",
            "silence=-1",
            "spikes=0.2",
            "spikes=0.2,",
            "spikes=2,3s",
            "fire=1",
        ] {
            assert!(Fault::parse(text).is_err(), "{text}");
        }
        for text in ["", "slow", "slow=", "slow=-1", "slow=x", "giant=1"] {
            assert!(PartCount::parse(text).is_err(), "{text}");
        }
        for text in ["", "%", "101", "-1", "nan", "1e1", "100.1%"] {
            assert!(Percent::parse(text).is_err(), "{text}");
        }
        assert_eq!(Percent::parse("30%").map(Percent::share), Ok(0.3));
    }

    #[test]
    fn faults_of_datagrams_select_a_udp_tracker() {
        let mut scenario = Scenario::default();
        Fault::Silence(0.5).apply(&mut scenario);
        assert!(!scenario.udp_tracker);
        Fault::Loss(0.5).apply(&mut scenario);
        assert!(scenario.udp_tracker && scenario.faults.datagram_loss == 0.5);
    }
}
