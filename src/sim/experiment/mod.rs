//! Experiments: questions to the engine's choices, each answered by many scenarios that differ in one thing.

pub mod metric;
