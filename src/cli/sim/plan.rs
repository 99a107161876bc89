//! Turns the options into a scenario, and a scenario into the command that runs it again.
//!
//! A scenario is a named one, changed by flags. One that cannot be run is refused with one sentence before
//! the first run.

use super::values::{rate_word, size_word, time_word};
use crate::cli::args::Sim;
use crate::cli::exit::{Exit, Failure};
use crate::sim::{self, Line, PuppetRole, Scenario};
use crate::units::Geometry;
use std::fmt::Display;

/// Most engines and scripted peers of a swarm: more do not fit into memory.
const MOST_PEERS: u64 = 100_000;
/// Scenario that is run if none is named.
const USUAL: &str = "flash";

/// Returns the scenario that the options ask for, with its first seed.
pub(super) fn scenario(options: &Sim) -> Result<Scenario, Failure> {
    let name = options.scenario.as_deref().unwrap_or(USUAL);
    let named = sim::named(name)
        .ok_or_else(|| refused(format!("there is no scenario '{name}' (rill sim --list names them)")))?;
    let mut scenario = changed(named, options)?;
    scenario.name = [name.to_owned()].into_iter().chain(flags(options)).collect::<Vec<_>>().join(" ");
    check(&scenario)?;
    Ok(scenario)
}

fn changed(mut s: Scenario, options: &Sim) -> Result<Scenario, Failure> {
    let swarm = &options.swarm;
    let behavior = &options.behavior;
    let set = |field: &mut u32, value: Option<u32>| *field = value.unwrap_or(*field);
    set(&mut s.peers, swarm.peers);
    set(&mut s.seeds, swarm.seeds);
    set(&mut s.free_riders, swarm.free_riders);
    set(&mut s.handout, swarm.addresses);
    set(&mut s.max_peers, behavior.connectivity);
    s.size = swarm.size.unwrap_or(s.size);
    if let Some(bytes) = swarm.piece {
        s.piece_len =
            u32::try_from(bytes).map_err(|_| refused(format!("a piece of {bytes} bytes is too large")))?;
    }
    s.undialable = swarm.undialable.map_or(s.undialable, |p| p.share());
    s.mappable = swarm.mappable.map_or(s.mappable, |p| p.share());
    s.punches = swarm.punches.map(|p| p.share()).or(s.punches);
    s.arrive_within = swarm.arrive_within.unwrap_or(s.arrive_within);
    s.patience = swarm.patience.unwrap_or(s.patience);
    lines(&mut s, options);
    for puppet in &swarm.puppet {
        s.puppets.push((puppet.0, puppet.1));
    }
    s.policy.upload_slots = behavior.slots.map_or(s.policy.upload_slots, |n| n as usize);
    for part in &behavior.without {
        part.apply(&mut s);
    }
    for fault in &behavior.fault {
        fault.apply(&mut s);
    }
    s.seed = options.seed;
    s.strict |= options.strict;
    Ok(s)
}

/// Sets the lines of peers and seeds. The i-th upload rate goes with the i-th download rate; the shorter list
/// is repeated.
fn lines(s: &mut Scenario, options: &Sim) {
    let swarm = &options.swarm;
    let usual = |of: fn(&Line) -> u64, lines: &[Line]| -> Vec<u64> { lines.iter().map(of).collect() };
    if swarm.up.is_some() || swarm.down.is_some() {
        let up = swarm.up.as_ref().map_or_else(|| usual(|l| l.up, &s.lines), |rates| rates.0.clone());
        let down = swarm.down.as_ref().map_or_else(|| usual(|l| l.down, &s.lines), |rates| rates.0.clone());
        let latency = s.line(0).latency;
        let line = |i| Line { up: in_turn(&up, i), down: in_turn(&down, i), latency };
        s.lines = (0..up.len().max(down.len())).map(line).collect();
    }
    if let Some(rates) = &swarm.seed_up {
        let usual = s.seed_line(0);
        s.seed_lines = rates.0.iter().map(|up| Line { up: *up, ..usual }).collect();
    }
    if let Some(latency) = swarm.latency {
        s.lines.iter_mut().chain(&mut s.seed_lines).for_each(|line| line.latency = latency);
    }
}

/// Returns the i-th rate of a list that is repeated; an empty list means an unlimited line.
fn in_turn(rates: &[u64], i: usize) -> u64 {
    if rates.is_empty() { u64::MAX } else { rates[i % rates.len()] }
}

/// Returns the flags that change the named scenario, in the order of the help.
pub(super) fn flags(options: &Sim) -> Vec<String> {
    let swarm = &options.swarm;
    let behavior = &options.behavior;
    let mut flags = Vec::new();
    let mut flag =
        |name: &str, value: Option<String>| flags.extend(value.map(|value| format!("--{name} {value}")));
    flag("peers", text(&swarm.peers));
    flag("seeds", text(&swarm.seeds));
    flag("free-riders", text(&swarm.free_riders));
    swarm.puppet.iter().for_each(|puppet| flag("puppet", Some(puppet.to_string())));
    flag("size", swarm.size.map(size_word));
    flag("piece", swarm.piece.map(size_word));
    flag("up", text(&swarm.up));
    flag("down", text(&swarm.down));
    flag("seed-up", text(&swarm.seed_up));
    flag("latency", swarm.latency.map(time_word));
    flag("undialable", text(&swarm.undialable));
    flag("mappable", text(&swarm.mappable));
    flag("punches", text(&swarm.punches));
    flag("addresses", text(&swarm.addresses));
    flag("arrive-within", swarm.arrive_within.map(time_word));
    flag("patience", swarm.patience.map(time_word));
    flag("connectivity", text(&behavior.connectivity));
    flag("slots", text(&behavior.slots));
    behavior.without.iter().for_each(|part| flag("without", Some(part.to_string())));
    behavior.fault.iter().for_each(|fault| flag("fault", Some(fault.to_string())));
    flags.extend(options.strict.then(|| "--strict".to_owned()));
    flags
}

fn text(value: &Option<impl Display>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

fn check(s: &Scenario) -> Result<(), Failure> {
    let all_peers =
        u64::from(s.peers) + u64::from(s.seeds) + s.puppets.iter().map(|(_, n)| u64::from(*n)).sum::<u64>();
    let serves_all =
        |part: PuppetRole| matches!(part, PuppetRole::Seed | PuppetRole::Slow | PuppetRole::Flapper);
    let scripted_seed = s.puppets.iter().any(|(part, n)| serves_all(*part) && *n > 0);
    let wrong = if s.peers == 0 {
        "a swarm needs at least one peer".to_owned()
    } else if s.seeds == 0 && !scripted_seed {
        "a swarm needs at least one seed, or no peer will ever be complete".to_owned()
    } else if all_peers > MOST_PEERS {
        format!("{all_peers} peers are more than the {MOST_PEERS} that can be simulated")
    } else if s.free_riders > s.peers {
        format!("{} free riders are more than there are peers", s.free_riders)
    } else if let Err(error) = Geometry::new(s.size, s.piece_len.into()) {
        format!("that is no torrent: {error}")
    } else if s.max_peers == 0 {
        "--connectivity 0 leaves every peer without connections".to_owned()
    } else if s.handout == 0 {
        "--addresses 0 leaves every peer without addresses".to_owned()
    } else if s.policy.upload_slots == 0 {
        "with --slots 0 no peer serves another".to_owned()
    } else {
        return Ok(());
    };
    Err(refused(wrong))
}

/// Returns the failure for an option that cannot be used.
pub(super) fn refused(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::Option, sentence)
}

/// Describes the swarm and its lines in two lines of text.
pub(super) fn description(s: &Scenario) -> String {
    let some = |n: u32, name: &str| format!("{n} {name}{}", if n == 1 { "" } else { "s" });
    let mut words = format!(
        "{} in pieces of {}, {} from {}",
        crate::cli::format::size(s.size),
        crate::cli::format::exact(s.piece_len.into()),
        some(s.peers, "peer"),
        some(s.seeds, "seed"),
    );
    let scripted: u32 = s.puppets.iter().map(|(_, n)| *n).sum();
    if scripted > 0 {
        words += &format!(" and {scripted} scripted");
    }
    let pairs = |lines: &[Line]| {
        lines.iter().map(|l| format!("{}/{}", rate(l.up), rate(l.down))).collect::<Vec<_>>().join(", ")
    };
    words += &format!("\nlines up/down: peers {}; seeds {}", pairs(&s.lines), pairs(&s.seed_lines));
    words
}

fn rate(bytes_per_s: u64) -> String {
    if bytes_per_s == u64::MAX { "endless".to_owned() } else { rate_word(bytes_per_s) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{CliArgs, CliCommand};
    use crate::engine::{Endgame, Picking};
    use crate::sim::MBIT;
    use std::time::Duration;

    fn options(line: &str) -> Sim {
        let words = ["rill", "sim"].into_iter().chain(line.split_whitespace()).map(Into::into);
        match CliArgs::parse_words(words).unwrap().command {
            CliCommand::Sim(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn planned(line: &str) -> Scenario {
        scenario(&options(line)).unwrap()
    }

    #[test]
    fn the_default_scenario_is_the_flash_crowd() {
        let s = planned("");
        let usual = sim::named("flash").unwrap();
        assert_eq!(
            (s.name.as_str(), s.seed, s.peers, s.lines.len()),
            ("flash", 1, usual.peers, usual.lines.len())
        );
    }

    #[test]
    fn every_flag_changes_its_field() {
        let s = planned(
            "--peers 7 --seeds 2 --free-riders 3 --size 3M --piece 64K --undialable 30 --addresses 9 --arrive-within 1m --patience 1h \
             --connectivity 11 --slots 5 --seed 42 --strict --puppet slow=2 --puppet liar=1 --without endgame,rarest --without snub \
             --without fast --without optimistic",
        );
        assert_eq!((s.peers, s.seeds, s.free_riders, s.size, s.piece_len), (7, 2, 3, 3 << 20, 1 << 16));
        assert_eq!(
            (s.undialable, s.handout, s.max_peers, s.policy.upload_slots, s.seed, s.strict),
            (0.3, 9, 11, 5, 42, true)
        );
        assert_eq!((s.arrive_within, s.patience), (Duration::from_secs(60), Duration::from_secs(3600)));
        assert!(s.puppets.ends_with(&[(PuppetRole::Slow, 2), (PuppetRole::Liar, 1)]), "{:?}", s.puppets);
        let p = s.policy;
        assert_eq!(
            (p.endgame, p.picking, p.snub_after, p.fast, p.optimistic),
            (Endgame::Off, Picking::Random, None, false, false)
        );
    }

    #[test]
    fn rates_are_paired_and_the_shorter_list_is_repeated() {
        let s = planned("--up 1Mbit,2Mbit,3Mbit --down 10Mbit,20Mbit --latency 5ms --seed-up 9Mbit");
        let lines: Vec<_> = s.lines.iter().map(|l| (l.up / MBIT, l.down / MBIT)).collect();
        assert_eq!(lines, [(1, 10), (2, 20), (3, 10)]);
        assert!(s.lines.iter().chain(&s.seed_lines).all(|l| l.latency == Duration::from_millis(5)));
        assert_eq!((s.seed_lines.len(), s.seed_line(0).up), (1, 9 * MBIT));
        let s = planned("--up 1Mbit");
        let usual = sim::named("flash").unwrap();
        assert!(s.lines.iter().all(|l| l.up == MBIT));
        assert_eq!(s.line(0).down, usual.line(0).down);
    }

    #[test]
    fn a_scenarios_name_parses_to_the_same_scenario() {
        let line = "flash --peers 7 --puppet slow=2 --size 3M --up 10Mbit,1001 --latency 5ms --undialable 12.5 --without snub \
                    --fault lose=5s --fault full=0.1,10s --strict";
        let s = planned(&format!("{line} --seed 9 --runs 3 --json --plot x.svg"));
        assert_eq!(s.name, line);
        let again = planned(&s.name);
        assert_eq!(format!("{:?}", Scenario { seed: 9, ..again }), format!("{s:?}"));
    }

    #[test]
    fn refuses_scenarios_that_cannot_be_run() {
        for line in [
            "nowhere",
            "--peers 0",
            "--seeds 0",
            "--seeds 0 --puppet leech=3",
            "--peers 3 --free-riders 4",
            "--size 0",
            "--piece 0",
            "--piece 1G",
            "--piece 5G",
            "--connectivity 0",
            "--addresses 0",
            "--slots 0",
            "--peers 4000000000",
            "--size 100G --piece 1",
        ] {
            let failure = scenario(&options(line)).expect_err(line);
            assert_eq!(failure.exit, Exit::Option, "{line}");
        }
        assert!(scenario(&options("--seeds 0 --puppet seed=1")).is_ok());
    }
}
