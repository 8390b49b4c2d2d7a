//! What the sessions promise, over virtual hours, on links that misbehave.

mod clock;
mod flood;
mod hostile;
mod reach;
mod rekey;
mod roam;
mod together;

use std::time::Duration;

use crypto::Discard;
use sim::{Node, World};

use crate::ENGINES;

const KEEPALIVE: Option<Duration> = Some(Duration::from_secs(25));

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Nodes of the engines that this run is about.
fn mesh(count: u8, seed: u64, keepalive: Option<Duration>) -> World {
    World::mesh(ENGINES, count, seed, keepalive)
}

fn died(node: &Node, discard: Discard) -> u64 {
    node.mesh.discards().get(discard)
}

/// How many initiations have been sent so far.
fn initiations(world: &World) -> usize {
    world.overheard.iter().filter(|flight| flight.datagram[0] == 1).count()
}
