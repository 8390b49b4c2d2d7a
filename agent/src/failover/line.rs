//! One way to a node, and how well it answers. Pure.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{BREAK, DOUBLINGS, FRESH, Pace};
use crate::plan::Way;

#[derive(Debug)]
pub(super) struct Line {
    pub(super) way: Way,
    /// When each of the peer's addresses last answered.
    pub(super) heard: BTreeMap<IpAddr, Instant>,
    pub(super) asked: Option<Instant>,
    /// When it was first asked since it last answered.
    pub(super) mute: Option<Instant>,
    /// Since when it answers without a break.
    pub(super) healthy: Option<Instant>,
    relapses: u32,
    /// It has answered, and it was left after that.
    pub(super) proven: bool,
    left: bool,
}

impl Line {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            heard: BTreeMap::new(),
            asked: None,
            mute: None,
            healthy: None,
            relapses: 0,
            proven: false,
            left: false,
        }
    }

    pub(super) fn answered(&mut self, from: IpAddr, now: Instant) {
        self.heard.insert(from, now);
        self.mute = None;
        self.proven = true;
    }

    /// When any of the peer's addresses last answered.
    pub(super) fn last(&self) -> Option<Instant> {
        self.heard.values().max().copied()
    }

    /// When the last of the peer's addresses answered: one that is silent in one family has failed.
    pub(super) fn heard(&self, addresses: &[IpAddr]) -> Option<Instant> {
        let heard: Option<Vec<&Instant>> = addresses.iter().map(|at| self.heard.get(at)).collect();
        heard?.into_iter().min().copied()
    }

    pub(super) fn look(&mut self, addresses: &[IpAddr], now: Instant) {
        self.healthy = match self.heard(addresses) {
            Some(heard) if now < heard + BREAK => self.healthy.or(Some(heard)),
            Some(_) | None => None,
        };
    }

    /// It failed, and perhaps soon after it was gone back to.
    pub(super) fn leave(&mut self, soon: bool) {
        self.relapses = if soon { (self.relapses + 1).min(DOUBLINGS) } else { 0 };
        self.healthy = None;
        self.left |= self.proven;
        self.heard.clear();
    }

    /// It answers now, and has for so long.
    pub(super) fn is_ready(&self, hold: Duration, now: Instant) -> bool {
        let last = self.heard.values().min();
        last.is_some_and(|last| now < *last + FRESH)
            && self.healthy.is_some_and(|since| now >= since + hold)
    }

    /// One that is found for the first time, where a relay served meanwhile, need not prove itself.
    pub(super) fn hold(&self, first: Duration, pace: &Pace) -> Duration {
        let found = !self.left && pace.swift;
        if found { pace.settled } else { first * (1 << self.relapses) }
    }
}
