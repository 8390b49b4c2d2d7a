//! `hawser verify quick`: what an agent's own figures prove; nothing is sent.

use jiff::Timestamp;

use super::report::Check;
use crate::{state::State, text};

pub(super) fn checks(state: &State, now: Timestamp) -> Vec<Check> {
    vec![guard(state), tunnels(state, now), epochs(state), mtu(state)]
}

fn guard(state: &State) -> Check {
    let word = |stands: bool| if stands { "in place" } else { "MISSING" };
    let detail = format!(
        "guard of {}: routes {}, nft table {}",
        state.node,
        word(state.guard.routes),
        word(state.guard.nft)
    );
    Check::new("guard", state.guard.stands(), detail)
}

/// Peers that can be called must have a live session; a sleeping laptop need not.
fn tunnels(state: &State, now: Timestamp) -> Check {
    let callable: Vec<_> = state.peers.iter().filter(|peer| peer.endpoint.is_some()).collect();
    if callable.is_empty() {
        return Check::skipped(
            "tunnels",
            format!("{} has no peers that it could call", state.node),
        );
    }
    let down: Vec<&str> =
        callable.iter().filter(|peer| !peer.is_up(now)).map(|peer| peer.name.as_str()).collect();
    let up = callable.len() - down.len();
    let mut detail = format!("tunnels: {up} of {} up", callable.len());
    if !down.is_empty() {
        detail.push_str(&format!("; no live session with {}", text::list(down.iter().take(10))));
    }
    Check::new("tunnels", down.is_empty(), detail)
}

fn epochs(state: &State) -> Check {
    let mut epochs: Vec<u32> = state.peers.iter().filter_map(|peer| peer.epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    match epochs.as_slice() {
        [] => Check::skipped("keys", "keys: no peer has an epoch"),
        [one] => Check::new("keys", true, format!("keys: every peer is sent to with epoch {one}")),
        many => Check::new(
            "keys",
            true,
            format!("keys: epochs {} in use, a rotation is under way", text::list(many)),
        ),
    }
}

fn mtu(state: &State) -> Check {
    const SMALLEST: u16 = 1280;
    let smallest = state.peers.iter().filter_map(|peer| peer.mtu).chain(state.mtu).min();
    match smallest {
        None => Check::skipped("mtu", "mtu: unknown"),
        Some(mtu) => Check::new(
            "mtu",
            mtu >= SMALLEST,
            format!("mtu: the smallest path takes {mtu} bytes, IPv6 needs {SMALLEST}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, verify::report::Outcome};

    fn failed(state: &State) -> Vec<String> {
        let checks = checks(state, fixture::now());
        let failed = checks.into_iter().filter(|check| check.outcome == Outcome::Failed);
        failed.map(|check| check.name).collect()
    }

    #[test]
    fn a_healthy_agent_passes() {
        assert!(failed(&fixture::state()).is_empty());
    }

    #[test]
    fn each_fault_fails_its_own_check() {
        let mut unguarded = fixture::state();
        unguarded.guard.routes = false;
        assert_eq!(failed(&unguarded), ["guard"]);

        let mut stale = fixture::state();
        stale.peers[0].last_handshake = "2026-11-22T09:50:00Z".parse().ok();
        assert_eq!(failed(&stale), ["tunnels"]);

        let mut small = fixture::state();
        small.peers[0].mtu = Some(1200);
        assert_eq!(failed(&small), ["mtu"]);
    }
}
