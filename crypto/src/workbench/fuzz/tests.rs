//! The targets with the stable toolchain: the corpus, then mutations of it for a bounded time.

#![allow(clippy::disallowed_methods, reason = "the time is what bounds the work")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::*;
use crate::{Random, random::Sequence};

/// A target's share, unless `FUZZ_SECONDS` says otherwise.
const SHARE: Duration = Duration::from_secs(1);
/// A target that is slow, or a machine that is, still sees so many.
const LEAST: u64 = 21;
/// No input is longer than two datagrams.
const LONGEST: usize = 4096;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder("corpus").join(target)).unwrap();
    let mut inputs: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    inputs.sort();
    inputs
}

fn share() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(SHARE, Duration::from_secs)
}

/// One of the usual small changes: a bit, a byte, an interesting number, a cut, a copy, a splice.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Sequence) {
    let mut dice = [0; 8];
    random.fill(&mut dice);
    let [kind, bit, value, count, a, b, c, d] = dice;
    let place =
        |limit: usize, high, low| usize::from(u16::from_le_bytes([low, high])) % (limit + 1);
    let (from, to) = (place(input.len(), a, b), place(input.len(), c, d));
    let interesting = [0, 1, 0x7f, 0x80, 0xff, 0x45, 0x60, 4][usize::from(value % 8)];
    match kind % 7 {
        0 if from < input.len() => input[from] ^= 1 << (bit % 8),
        1 if from < input.len() => input[from] = value,
        2 if from < input.len() => input[from] = interesting,
        3 => input.truncate(from),
        4 => {
            let filling = std::iter::repeat_n(value, usize::from(count % 32));
            input.splice(from..from, filling);
        }
        5 => {
            let copy = input[from.min(to)..from.max(to)].to_vec();
            input.splice(from..from, copy);
        }
        _ => {
            input.truncate(from);
            input.extend_from_slice(&other[place(other.len(), c, d)..]);
        }
    }
    input.truncate(LONGEST);
}

fn fuzz(target: Target) {
    let corpus = corpus(target.name);
    for input in &corpus {
        (target.run)(input);
    }
    let mut random = Sequence::new(7);
    let (start, mut runs) = (Instant::now(), 0);
    while runs < LEAST || start.elapsed() < share() {
        let mut dice = [0; 3];
        random.fill(&mut dice);
        let [one, other, changes] = dice.map(usize::from);
        let mut input = corpus[one % corpus.len()].clone();
        for _ in 0..=changes % 4 {
            mutate(&mut input, &corpus[other % corpus.len()], &mut random);
        }
        (target.run)(&input);
        runs += 1;
    }
}

macro_rules! each {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            let target = TARGETS.iter().find(|target| target.name == name).unwrap();
            fuzz(*target);
        })+

        const TESTED: &[&str] = &[$(stringify!($name)),+];
    };
}

each! {
    message mesh train import boringtun_seam boringtun_mesh initiation response cookie_reply doorman timestamps
    ip_packet source routes peers key_text window
}

#[test]
fn every_target_is_tested_here_and_has_a_binary_and_a_corpus() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(targets, TESTED.iter().copied().collect());

    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in targets {
        assert!(!corpus(target).is_empty(), "{target}");
        assert!(folder("fuzz_targets").join(format!("{target}.rs")).exists(), "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
}
