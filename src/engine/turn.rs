//! The context of one call into the engine: the time, the configuration, random numbers, timers, effects and
//! actions.

use super::action::Actions;
use super::config::EngineConfig;
use super::effects::Effects;
use super::port_mapper::OutsidePorts;
use super::timers::Timers;
use crate::units::{Instant, Rng};

/// The part of the context that lives as long as the engine.
#[derive(Debug)]
pub struct Context {
    /// The engine's configuration.
    pub config: EngineConfig,
    /// The source of every choice among equals.
    pub rng: Rng,
    /// The engine's timers.
    pub timers: Timers,
    /// Effects on other connections, applied at the end of the turn.
    pub effects: Effects,
    /// Ids of requests to trackers and name servers.
    pub ids: RequestIds,
    /// Our ports outside the router.
    pub outside: OutsidePorts,
}

/// Hands out ids of requests; none is used twice.
#[derive(Debug, Default)]
pub struct RequestIds(u64);

impl RequestIds {
    /// Returns an id that no other request has.
    pub fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Turn<'_> {
    /// Returns the port where peers of this address family connect to us; 0 if we accept no connections.
    pub fn public_port(&self, v6: bool) -> u16 {
        if self.config.port == 0 { 0 } else { self.outside.tcp(v6, self.config.port) }
    }
}

impl Context {
    /// Returns a context without timers or effects.
    pub fn new(config: EngineConfig) -> Context {
        Context {
            rng: Rng::new(config.seed),
            config,
            timers: Timers::default(),
            effects: Effects::default(),
            ids: RequestIds::default(),
            outside: OutsidePorts::default(),
        }
    }

    /// Returns the context of a call at `now` whose actions are appended to `out`.
    pub fn turn<'a>(&'a mut self, now: Instant, out: &'a mut Actions) -> Turn<'a> {
        let Context { config, rng, timers, effects, ids, outside } = self;
        Turn { now, config, rng, timers, effects, ids, outside: *outside, out }
    }
}

/// The context of one call into the engine; each public method makes one and passes it on.
pub struct Turn<'a> {
    /// The caller's clock reading; serves the whole call.
    pub now: Instant,
    /// The engine's configuration.
    pub config: &'a EngineConfig,
    /// The source of every choice among equals.
    pub rng: &'a mut Rng,
    /// The engine's timers.
    pub timers: &'a mut Timers,
    /// Effects on other connections, applied at the end of the call.
    pub effects: &'a mut Effects,
    /// Ids of requests to trackers and name servers.
    pub ids: &'a mut RequestIds,
    /// Our ports outside the router.
    pub outside: OutsidePorts,
    /// The actions for the caller.
    pub out: &'a mut Actions,
}
