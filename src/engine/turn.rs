//! The context of one call into the engine: the time, and what every decision may use besides its own state.

use super::action::Actions;
use super::config::EngineConfig;
use super::effects::Effects;
use super::timers::Timers;
use crate::units::{Instant, Rng};

/// What decisions share for as long as the engine lives.
#[derive(Debug)]
pub struct Context {
    /// What the engine was told at its start.
    pub config: EngineConfig,
    /// The source of every choice among equals.
    pub rng: Rng,
    /// When the engine is to be called again, and why.
    pub timers: Timers,
    /// Consequences that wait until the current connection's turn is over.
    pub effects: Effects,
    /// Ids of requests to trackers and name servers.
    pub ids: RequestIds,
}

/// Hands out ids of requests; none is used twice.
#[derive(Debug, Default)]
pub struct RequestIds(u64);

impl RequestIds {
    /// An id that no other request has.
    pub fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Context {
    /// A context without timers or effects.
    pub fn new(config: EngineConfig) -> Context {
        Context {
            rng: Rng::new(config.seed),
            config,
            timers: Timers::default(),
            effects: Effects::default(),
            ids: RequestIds::default(),
        }
    }

    /// The context of a call at `now` whose actions go to `out`.
    pub fn turn<'a>(&'a mut self, now: Instant, out: &'a mut Actions) -> Turn<'a> {
        let Context { config, rng, timers, effects, ids } = self;
        Turn { now, config, rng, timers, effects, ids, out }
    }
}

/// One call into the engine; made at each public door and handed down.
pub struct Turn<'a> {
    /// The caller's clock reading; serves the whole call.
    pub now: Instant,
    /// What the engine was told at its start.
    pub config: &'a EngineConfig,
    /// The source of every choice among equals.
    pub rng: &'a mut Rng,
    /// When the engine is to be called again, and why.
    pub timers: &'a mut Timers,
    /// Consequences for other connections, applied at the end of the call.
    pub effects: &'a mut Effects,
    /// Ids of requests to trackers and name servers.
    pub ids: &'a mut RequestIds,
    /// What the caller has to do.
    pub out: &'a mut Actions,
}
