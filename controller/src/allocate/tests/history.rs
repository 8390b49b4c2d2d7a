//! Many small random histories: two controllers at once, crashes between any two writes, stalled
//! and stale reads, clocks that jump, pools edited, nodes deleted and made again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Fault, Read, Server};
use crate::allocate::{Pool, Rests, Write, plan};

/// Enough in a release build; a debug build looks at fewer.
const SEEDS: u64 = if cfg!(debug_assertions) { 3_000 } else { 100_000 };
const STEPS: u32 = 48;
/// By then everything has settled.
const ROUNDS: u32 = 80;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// SplitMix64: small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// A controller between two of its steps.
#[derive(Default)]
struct Controller {
    read: Read,
    has_nodes: bool,
    queue: Vec<Write>,
    rests: Rests,
    /// How far its wall clock is off, in seconds.
    skew: u64,
}

impl Controller {
    fn new(fault: Fault) -> Controller {
        Controller {
            rests: match fault {
                Fault::NoRest => Rests::of(Duration::ZERO),
                _ => Rests::default(),
            },
            ..Controller::default()
        }
    }

    /// One read or one write; then somebody else may come in between.
    fn step(&mut self, server: &mut Server) -> Result<(), String> {
        if !self.queue.is_empty() {
            let write = self.queue.remove(0);
            return server.apply(&write, &self.read);
        }
        if !self.has_nodes {
            self.read.nodes = server.nodes.clone();
            self.read.pools = server.pools.clone();
            self.has_nodes = true;
            return Ok(());
        }
        self.has_nodes = false;
        self.read.claims = server.claims.clone();
        let now = self.clock(server);
        self.rests.observe(self.read.released(), now);
        let mut view = self.read.view(&self.rests, now);
        if server.fault == Fault::NamesIgnored {
            view.names.clear();
            view.nodes.iter_mut().for_each(|node| node.pool = None);
        }
        self.queue = plan(&view).writes;
        if server.fault == Fault::SpecFirst {
            self.publish_before_claiming();
        }
        Ok(())
    }

    /// It has looked, and there was nothing to do.
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.has_nodes
    }

    fn clock(&self, server: &Server) -> Duration {
        match server.fault {
            Fault::WallClock => server.now + Duration::from_secs(self.skew),
            _ => server.now,
        }
    }

    /// Claims planned from a stale view are still safe to try; a spec is not, and waits.
    fn step_stale(&mut self, old: &Read, server: &Server) {
        let now = self.clock(server);
        self.read = old.clone();
        self.has_nodes = false;
        self.rests.observe(self.read.released(), now);
        let view = self.read.view(&self.rests, now);
        self.queue = plan(&view).writes;
        self.queue.retain(|write| !matches!(write, Write::Publish { .. }));
    }

    fn publish_before_claiming(&mut self) {
        for index in 0..self.queue.len() {
            if let Write::Create { subnet, owner } = &self.queue[index] {
                let publish = Write::Publish { owner: owner.clone(), subnets: vec![*subnet] };
                self.queue.insert(0, publish);
                return;
            }
        }
    }
}

fn pool(cidr: &str, node_prefix: u8) -> Pool {
    Pool { cidr: cidr.parse().unwrap(), node_prefix }
}

/// Pools of every awkward kind: exactly enough, too small, moved, grown, cut otherwise.
fn pools(dice: &mut Dice) -> Vec<Pool> {
    let v4 = match dice.roll(6) {
        0 => vec![pool("10.0.0.0/30", 32)],
        1 => vec![pool("10.0.0.0/31", 32), pool("10.0.0.8/31", 32)],
        2 => vec![pool("10.0.0.0/29", 31)],
        3 => vec![pool("10.0.0.0/28", 30)],
        4 => vec![pool("10.0.0.0/31", 32)],
        _ => vec![pool("10.0.0.4/30", 32)],
    };
    let v6 = match dice.roll(4) {
        0 => vec![],
        1 => vec![pool("fd00::/62", 63)],
        _ => vec![pool("fd00::/62", 64)],
    };
    v4.into_iter().chain(v6).collect()
}

struct World {
    dice: Dice,
    server: Server,
    controllers: [Controller; 2],
    /// Earlier states, as a stale cache would show them.
    past: Vec<Read>,
}

impl World {
    fn new(seed: u64, fault: Fault) -> World {
        let mut dice = Dice(seed);
        let server = Server::new(fault, pools(&mut dice));
        World {
            dice,
            server,
            controllers: [Controller::new(fault), Controller::new(fault)],
            past: Vec::new(),
        }
    }

    fn chaos(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            match self.dice.roll(20) {
                0 => {
                    let seconds = self.dice.roll(150);
                    self.server.now += Duration::from_secs(seconds);
                }
                1 | 2 => self.change_a_node(),
                3 if self.dice.one_in(2) => self.server.pools = Arc::new(pools(&mut self.dice)),
                4 => self.remember(),
                5 => self.disturb(),
                _ => {
                    let one = self.pick();
                    self.controllers[one].step(&mut self.server)?;
                }
            }
        }
        Ok(())
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.dice.roll(2)).unwrap()
    }

    fn change_a_node(&mut self) {
        let name = NAMES[usize::try_from(self.dice.roll(4)).unwrap()];
        if self.server.nodes.contains_key(name) && self.dice.one_in(2) {
            self.server.remove_node(name);
            if self.dice.one_in(2) {
                return;
            }
        }
        if !self.server.nodes.contains_key(name) {
            self.server.add_node(name);
        }
    }

    fn remember(&mut self) {
        self.past.push(Read {
            nodes: self.server.nodes.clone(),
            claims: self.server.claims.clone(),
            pools: self.server.pools.clone(),
        });
    }

    /// A crash, a jump of a wall clock, or a plan made from an old cache.
    fn disturb(&mut self) {
        let one = self.pick();
        let jumps = self.server.fault == Fault::WallClock;
        match if jumps { 1 } else { self.dice.roll(3) } {
            0 => self.controllers[one] = Controller::new(self.server.fault),
            1 => self.controllers[one].skew = self.dice.roll(100_000),
            _ if self.past.is_empty() => {}
            _ => {
                let count = u64::try_from(self.past.len()).unwrap();
                let old = &self.past[usize::try_from(self.dice.roll(count)).unwrap()];
                self.controllers[one].step_stale(old, &self.server);
            }
        }
    }

    /// After the chaos both controllers run on, in turn, while time passes.
    fn calm(&mut self) -> Result<(), String> {
        let mut outcome = Ok(());
        for _ in 0..ROUNDS {
            for controller in &mut self.controllers {
                controller.step(&mut self.server)?;
            }
            if self.controllers.iter().any(|controller| !controller.is_idle()) {
                continue;
            }
            outcome = self.everybody_is_served();
            if outcome.is_ok() {
                break;
            }
            self.server.now += Duration::from_secs(100);
        }
        outcome
    }

    /// Oracle: everybody has a subnet of each family if there is room, nothing is left to do, and
    /// nothing is held in vain.
    fn everybody_is_served(&mut self) -> Result<(), String> {
        let mut now = Read::default();
        now.nodes.clone_from(&self.server.nodes);
        now.claims.clone_from(&self.server.claims);
        now.pools.clone_from(&self.server.pools);
        let left = plan(&now.view(&self.controllers[0].rests, self.server.now)).writes;
        if !left.is_empty() {
            return Err(format!("still to do: {left:?}"));
        }
        let bound = (self.server.claims.values()).filter(|claim| claim.owner.is_some());
        let published: usize = (self.server.nodes.values()).map(|node| node.subnets.len()).sum();
        if bound.count() != published {
            return Err("a claim is held that no spec names".to_owned());
        }
        let families: BTreeSet<_> = self.server.pools.iter().map(Pool::family).collect();
        let families = families.len();
        let served = (self.server.nodes.values()).filter(|node| node.subnets.len() >= families);
        let missing = self.server.nodes.len() - served.count();
        if missing > 0 {
            return Err(format!("{missing} nodes without a subnet although there is room"));
        }
        Ok(())
    }
}

fn run(seed: u64, fault: Fault) -> Result<(), String> {
    let mut world = World::new(seed, fault);
    world.chaos()?;
    // Blocks that nobody can hold in another shape: for three nodes, and exactly enough for the one
    // that gets its own from pools with a name.
    let named = [pool("10.9.0.4/32", 32), pool("fd09:0:0:4::/64", 64)];
    let unnamed = [pool("10.9.0.0/30", 32), pool("fd09::/62", 64)];
    world.server.pools = Arc::new(unnamed.into_iter().chain(named).collect());
    for controller in &mut world.controllers {
        controller.queue.clear();
        controller.has_nodes = false;
    }
    world.calm()
}

fn first_violation(fault: Fault, seeds: u64) -> Option<(u64, String)> {
    let threads = 2;
    std::thread::scope(|scope| {
        let searches: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    (first..seeds)
                        .step_by(threads.try_into().unwrap())
                        .find_map(|seed| Some((seed, run(seed, fault).err()?)))
                })
            })
            .collect();
        (searches.into_iter()).find_map(|search| search.join().unwrap())
    })
}

#[test]
fn a_subnet_never_has_two_owners_and_everybody_gets_one() {
    let violation = first_violation(Fault::None, SEEDS);

    assert_eq!(violation, None);
}

#[test]
fn the_oracles_notice_a_broken_allocator() {
    for fault in [
        Fault::CreateOverwrites,
        Fault::VersionsIgnored,
        Fault::NoRest,
        Fault::WallClock,
        Fault::SpecFirst,
        Fault::NamesIgnored,
        Fault::ReleaseUnchecked,
    ] {
        assert!(first_violation(fault, 20_000).is_some(), "{fault:?} goes unnoticed");
    }
}
