//! When to call listeners over TLS, and when to hang up. Pure: no clock, no socket.
//!
//! ```text
//!          none answers datagrams, 3 s            ended, or refused
//!   ┌──────┐ ───────────▶ ┌─────────┐ ─────────▶ ┌──────┐ ────────────────▶ ┌───────┐
//!   │ idle │              │ calling │            │ open │                   │ later │
//!   └──────┘ ◀─────────── └─────────┘ ─ refused ▶└──────┘ ◀── in 1 to 60 s ─└───────┘
//!          one answers datagrams, for 30 s, and nothing is sent in TLS
//! ```
//! Two listeners are kept, so that one may die. Everybody calls them in the same order: two that can
//! only call share one, and speak through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{failover::Mute, view::Listener};

/// A listener that was asked by datagrams for so long, and did not answer, is reached by none.
const MUTE: Duration = Duration::from_secs(3);
/// For so long must one answer again.
const LINGER: Duration = Duration::from_secs(30);
/// So many listeners at a time.
const KEPT: usize = 2;
/// Between two calls to one, doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
const DOUBLINGS: u32 = 6;
/// One that lasted so long begins anew.
const LASTED: Duration = Duration::from_secs(60);

/// What there is to see.
pub(super) struct Sight<'a> {
    /// Whom to call, by name.
    pub(super) listeners: &'a BTreeMap<String, Listener>,
    /// Who does not answer datagrams, and since when it was asked in vain.
    pub(super) mute: &'a Mute,
    /// Whom something is sent to in TLS, if there is a stream.
    pub(super) used: &'a BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Call(String, Listener),
    HangUp(String),
}

#[derive(Debug, Default)]
pub(super) struct Dialler {
    /// Since when there is no need of it.
    light: Option<Instant>,
    /// Somebody was called.
    begun: bool,
    lines: BTreeMap<String, Line>,
}

#[derive(Debug)]
struct Line {
    listener: Listener,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Later(Instant),
    Calling,
    Open(Instant),
}

impl Dialler {
    /// What to do now.
    pub(super) fn tick(&mut self, sight: &Sight<'_>, now: Instant) -> Vec<Order> {
        let mut orders = self.forget(sight.listeners);
        let mute = |name: &String| sight.mute.get(name).is_some_and(|since| now >= *since + MUTE);
        let shut = !sight.listeners.is_empty() && sight.listeners.keys().all(mute);
        // An earlier run may have used it: that need not be found out again.
        if shut || (!self.begun && !sight.used.is_empty()) {
            orders.extend(self.call(sight.listeners, now));
        }
        // One that is dead stays the way to whoever is reached by none.
        let used = self.open().any(|name| sight.used.contains(name));
        self.light = self.light.or(Some(now)).filter(|_| !shut && !used);
        if self.light.is_some_and(|light| now >= light + LINGER) {
            let names: Vec<String> = self.busy().map(|(name, _)| name.clone()).collect();
            self.lines.retain(|name, _| !names.contains(name));
            orders.extend(names.into_iter().map(Order::HangUp));
        }
        orders
    }

    /// The listener answered, and is who it should be.
    pub(super) fn opened(&mut self, name: &str, now: Instant) {
        if let Some(line) = self.lines.get_mut(name) {
            line.state = State::Open(now);
        }
    }

    /// It did not, or does no more.
    pub(super) fn ended(&mut self, name: &str, now: Instant) {
        let Some(line) = self.lines.get_mut(name) else { return };
        let lasted = matches!(line.state, State::Open(since) if now >= since + LASTED);
        line.failures = if lasted { 0 } else { (line.failures + 1).min(DOUBLINGS) };
        line.state = State::Later(now + AGAIN * (1 << line.failures.saturating_sub(1)));
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &String> {
        self.busy().filter(|(_, line)| line.state != State::Calling).map(|(name, _)| name)
    }

    fn busy(&self) -> impl Iterator<Item = (&String, &Line)> {
        self.lines.iter().filter(|(_, line)| !matches!(line.state, State::Later(_)))
    }

    /// Those that are gone, or are somebody else now.
    fn forget(&mut self, listeners: &BTreeMap<String, Listener>) -> Vec<Order> {
        let gone = |(name, line): &(&String, &Line)| listeners.get(*name) != Some(&line.listener);
        let gone: Vec<String> =
            self.lines.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        let busy = |name: &String| {
            let line = self.lines.remove(name)?;
            (!matches!(line.state, State::Later(_))).then(|| Order::HangUp(name.clone()))
        };
        gone.iter().filter_map(busy).collect()
    }

    fn call(&mut self, listeners: &BTreeMap<String, Listener>, now: Instant) -> Vec<Order> {
        let room = KEPT.saturating_sub(self.busy().count());
        let free = |name: &&String| match self.lines.get(*name).map(|line| line.state) {
            None => true,
            Some(State::Later(at)) => now >= at,
            Some(State::Calling | State::Open(_)) => false,
        };
        let mut free: Vec<&String> = listeners.keys().filter(free).collect();
        free.sort_by_cached_key(|name| crypto::relay::id(name));
        let next: Vec<&String> = free.into_iter().take(room).collect();
        self.begun |= !next.is_empty();
        let call = |name: &String| {
            let (listener, state) = (listeners[name].clone(), State::Calling);
            let failures = self.lines.get(name).map_or(0, |line| line.failures);
            let line = Line { listener: listener.clone(), state, failures };
            self.lines.insert(name.clone(), line);
            Order::Call(name.clone(), listener)
        };
        next.into_iter().map(call).collect()
    }
}

#[cfg(test)]
mod tests;
