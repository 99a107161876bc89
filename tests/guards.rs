//! Guards: compare rill's behaviour with committed fixtures, so that a refactoring cannot change it
//! unnoticed.
//!
//! | fixture in `tests/guards/` | contents | made by |
//! |---|---|---|
//! | `fingerprints.txt` | `NAME SEED FINGERPRINT` of every scenario and trial of `rill sim` with three seeds, and of the arms of its experiments | the program; the library for experiments |
//! | `wire.txt` | `NAME SEED DIGEST` of all bytes that every trial sends, and a virtual DHT | the library |
//! | `json.txt` | `COMMAND.PATH: TYPE` of every key of every object that `--json` prints | the program, with small worlds on loopback |
//! | `exit_codes.txt` | `CODE  CAUSE: COMMAND` | the program |
//! | `state-0.1.0/` | torrents and state directories as rill 0.1.0 left them: `state` after SIGINT, `killed` after SIGKILL | the program |
//! Tests that take minutes are ignored: `cargo test --test guards -- --ignored`. With `RILL_WRITE_GUARDS=1` a
//! test writes its fixture, or its lines of it, instead of comparing; `state-0.1.0` is written by rill 0.1.0
//! alone. Only `library.rs` uses the library.

#[path = "guards/exit_codes.rs"]
mod exit_codes;
#[path = "guards/fixture.rs"]
mod fixture;
#[path = "guards/json.rs"]
mod json;
#[cfg(feature = "sim")]
#[path = "guards/library.rs"]
mod library;
#[cfg(feature = "sim")]
#[path = "guards/runs.rs"]
mod runs;
#[path = "guards/state.rs"]
mod state;
#[path = "guards/world.rs"]
mod world;
