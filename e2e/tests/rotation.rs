//! Rotations in simulated histories: the controller's state machine and the agents' decisions as
//! they run, around a model of the API, the sessions and everything that goes wrong.
//!
//! Two promises are looked at after every event: no pair of nodes is without a key that both
//! accept, and no number of an epoch stands for two keys. After every history, once all faults are
//! over, each rotation ends and nobody holds more than the key in use.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "rotation/agent.rs"]
mod agent;
#[path = "rotation/controller.rs"]
mod controller;
#[path = "rotation/dice.rs"]
mod dice;
#[path = "rotation/history.rs"]
mod history;
#[path = "rotation/server.rs"]
mod server;
#[path = "rotation/world.rs"]
mod world;
