//! Histories: every seed another order of steps, faults and operators.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::KeyRotationSpec;
use jiff::SignedDuration;
use keys::KeyEpoch;

use crate::server::name;
use crate::world::{Fault, World};

/// Enough in a release build; a debug build looks at fewer.
const SEEDS: u64 = if cfg!(debug_assertions) { 200 } else { 10_000 };
/// Histories of a thousand nodes.
const BIG_SEEDS: u64 = 2;
const EVENTS: usize = 400;

/// `HAWSER_SEED=7`: this seed alone, told event by event.
fn only() -> Option<u64> {
    std::env::var("HAWSER_SEED").ok()?.parse().ok()
}

struct Operator {
    made: usize,
}

impl Operator {
    fn spec(world: &mut World) -> KeyRotationSpec {
        let nodes = world.agents.len();
        let one = |world: &mut World| vec![name(world.dice.roll(nodes))];
        let mut spec = KeyRotationSpec::default();
        match world.dice.roll(6) {
            0 => spec.nodes = one(world),
            1 => spec.canaries = one(world),
            2 => spec.canary_sites = vec!["site-1".to_owned()],
            3 => spec.sites = vec!["site-0".to_owned()],
            _ => {}
        }
        spec.wave_size = world.dice.one_in(2).then(|| 1 + world.dice.roll(3) as u32);
        spec.max_unavailable = world.dice.one_in(3).then(|| world.dice.roll(4) as u32);
        spec.force = world.dice.one_in(3);
        spec
    }

    fn act(&mut self, world: &mut World) {
        let open: Vec<String> = world.server.open().map(|r| r.rotation.uid.clone()).collect();
        if open.is_empty() || world.dice.one_in(6) {
            let spec = Self::spec(world);
            world.create(&format!("rotation-{}", self.made), spec);
            self.made += 1;
            return;
        }
        let uid = &open[world.dice.roll(open.len())];
        let what = world.dice.roll(7);
        let soon = world.now + SignedDuration::from_secs(60);
        world.server.edit(uid, |rotation| match what {
            0 | 1 => rotation.spec.paused = true,
            2 | 3 => rotation.spec.paused = false,
            4 => rotation.spec.aborted = true,
            5 => rotation.spec.roll_back = true,
            _ => rotation.spec.deadline = Some(soon.to_string()),
        });
    }
}

/// One event.
fn event(world: &mut World, operator: &mut Operator) -> Result<(), String> {
    let nodes = world.agents.len();
    let number = world.dice.roll(nodes);
    match world.dice.roll(100) {
        0..50 => world.agent(number, false)?,
        50..84 => {
            let which = world.dice.roll(2);
            world.controller(which);
        }
        84..86 => operator.act(world),
        86 => world.agent(number, true)?,
        87 => world.crash(number),
        88 | 89 => world.start(number),
        90 => world.agents[number].api = false,
        91 | 92 => world.agents[number].api = true,
        93 => world.isolate(number, true),
        94 | 95 => world.isolate(number, false),
        96 => world.crash_controller(number % 2),
        97 => {
            let hours = [0, -1, 1, 24 * 365][world.dice.roll(4)];
            world.skew(number % 2, SignedDuration::from_hours(hours));
        }
        98 => world.agents[number].old = false,
        _ => world.now += Duration::from_secs(world.dice.roll(3600) as u64),
    }
    Ok(())
}

/// A history that a promise did not survive, or how its rotations ended.
fn history(seed: u64, nodes: usize, fault: Fault) -> Result<BTreeMap<String, usize>, String> {
    let mut world = World::new(seed, nodes, nodes, fault);
    let mut operator = Operator { made: 0 };
    if world.dice.one_in(8) {
        world.server.plain_peers.insert("laptop".to_owned(), BTreeSet::new());
    }
    for number in 0..nodes {
        world.agents[number].old = world.dice.one_in(20);
    }
    world.lag = [1, 6][world.dice.roll(2)];
    for _ in 0..EVENTS {
        let went = event(&mut world, &mut operator);
        if only().is_some() {
            world.tell();
        }
        went?;
        if world.dice.one_in(600) {
            let lost = name(world.dice.roll(nodes));
            world.server.edit_node(&lost, |node| node.revoked = true);
        }
    }
    world.server.plain_peers.clear();
    let open: Vec<String> = world.server.open().map(|r| r.rotation.uid.clone()).collect();
    for uid in open {
        world.server.edit(&uid, |rotation| rotation.spec.paused = false);
    }
    world.settle(200)?;
    let mut ended = world.phases();
    let epoch = world.server.newest;
    ended.insert("epochs".to_owned(), (epoch.0 - KeyEpoch::FIRST.0) as usize);
    Ok(ended)
}

#[test]
fn no_history_leaves_a_pair_without_a_common_key() {
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    for seed in only().map_or(0..SEEDS, |seed| seed..seed + 1) {
        let nodes = 3 + (seed % 5) as usize;
        let phases = history(seed, nodes, Fault::None);
        for (phase, count) in phases.unwrap_or_else(|why| panic!("seed {seed}: {why}")) {
            *ended.entry(phase).or_default() += count;
        }
    }

    println!("{SEEDS} seeds: {ended:?}");
    if only().is_some() {
        return;
    }
    for phase in ["Completed", "Aborted", "RolledBack", "Conflict"] {
        assert!(ended.contains_key(phase), "no history came to {phase}: {ended:?}");
    }
}

/// The promises can fail: these mistakes are found.
#[test]
fn a_controller_that_takes_silence_for_absence_is_found() {
    assert_found(Fault::SilenceIsAbsence);
}

#[test]
fn an_agent_that_confirms_before_its_sessions_have_switched_is_found() {
    assert_found(Fault::ConfirmsEarly);
}

fn assert_found(fault: Fault) {
    let broken = |why: &String| !why.starts_with("never at rest");
    let mut mistaken = (0..2000).map(|seed| (seed, history(seed, 5, fault)));

    let found = mistaken.find_map(|(seed, told)| Some((seed, told.err().filter(broken)?)));

    println!("{fault:?}: {found:?}");
    assert!(found.is_some());
}

#[test]
fn a_thousand_nodes_rotate_in_waves_while_some_come_and_go() {
    for seed in 0..BIG_SEEDS {
        let mut world = World::new(seed, 1000, 6, Fault::None);
        let canaries = (0..5).map(|_| name(world.dice.roll(1000))).collect();
        let spec = KeyRotationSpec { canaries, wave_size: Some(400), ..Default::default() };
        world.create("all", spec);
        for _ in 0..12_000 {
            let number = world.dice.roll(1000);
            let event = match world.dice.roll(400) {
                0 => {
                    world.crash(number);
                    Ok(())
                }
                1 => {
                    world.agents[number].api = false;
                    Ok(())
                }
                2..60 => {
                    world.controller(number % 2);
                    Ok(())
                }
                _ => {
                    world.start(number);
                    world.agents[number].api = true;
                    world.agent(number, false)
                }
            };
            event.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
        world.settle(100).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        println!("seed {seed}: {:?}", world.phases());
        assert_eq!(world.phases().get("Completed"), Some(&1), "seed {seed}");
    }
}
