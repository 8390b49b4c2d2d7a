//! Which of several machines with one key speaks for the node: the first. Pure.
//!
//! ```text
//!   nobody ──▶ Take                       another boot holds it ──▶ Claim ─▶ Wait ──▶ Take
//!   this boot holds it ──▶ Run                                              │ it answers
//!                    └─ somebody claims ──▶ Answer                          └─▶ Yield
//! ```
//! Nothing in the API says that a machine is dead, so it is asked: whoever finds another boot in the
//! node's status leaves a claim there, which one that lives answers. A reboot finds its own earlier
//! boot, which doesn't answer. Nobody speaks with the mesh before he has the seat.

use std::time::{Duration, Instant};

use api::{Machine, MeshNodeStatus};

/// A machine that lives answers within this, in the time of some watches and one write.
const SOON: Duration = Duration::from_secs(3);
/// One that is not the same may be cut off from the API for a while.
const LATE: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be written: we are the holder.
    Take,
    /// To be written: we ask for it.
    Claim,
    /// So long, for an answer.
    Wait(Duration),
    Run,
    /// To be written: this one is refused. We run on.
    Answer(Machine),
    /// That one runs with our key; we end.
    Yield(Machine),
}

/// `claimed`: since when this process asks.
pub fn next(me: &Machine, claimed: Option<Instant>, told: &MeshNodeStatus, now: Instant) -> Step {
    let Some(holder) = &told.holder else { return Step::Take };
    if holder.is(me) {
        let other = told.claimant.as_ref().filter(|claimant| !claimant.is(me));
        return other.map_or(Step::Run, |other| Step::Answer(other.clone()));
    }
    let Some(since) = claimed else { return Step::Claim };
    if told.refused.as_ref().is_some_and(|refused| refused.is(me)) {
        return Step::Yield(holder.clone());
    }
    let patience = if holder.may_be(me) { SOON } else { LATE };
    let waited = now.saturating_duration_since(since);
    match &told.claimant {
        Some(claimant) if claimant.is(me) && waited >= patience => Step::Take,
        // Somebody else asks too: the holder answers one after the other.
        None if waited >= patience => Step::Claim,
        Some(_) | None => Step::Wait(patience.saturating_sub(waited).max(SOON / 10)),
    }
}

/// What whoever finds a clone has to do.
pub fn advice(node: &str, holder: &Machine) -> String {
    let at = holder.endpoint.as_ref().map_or_else(String::new, |at| format!(" at {at}"));
    format!(
        "another machine{at} runs as {node} with this key since {}: this one is a clone and stays \
         out. Give it an identity of its own: `hawser nodes add NEWNAME --out FILE` where the mesh \
         is managed, `hawser-agent uninstall --purge` here, then --node NEWNAME with that file. If \
         the other machine is the copy, stop its agent first",
        holder.since
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: &str, boot: &str) -> Machine {
        Machine {
            boot_id: boot.to_owned(),
            machine_id: Some(id.to_owned()),
            endpoint: None,
            since: "2026-11-22T10:00:00Z".to_owned(),
        }
    }

    fn told(
        holder: Option<&Machine>,
        claimant: Option<&Machine>,
        refused: Option<&Machine>,
    ) -> MeshNodeStatus {
        MeshNodeStatus {
            holder: holder.cloned(),
            claimant: claimant.cloned(),
            refused: refused.cloned(),
            ..MeshNodeStatus::default()
        }
    }

    #[test]
    fn every_case() {
        let (me, before) = (machine("m", "new"), machine("m", "old"));
        let (clone, other) = (machine("c", "clone"), machine("o", "other"));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let step = |holder, claimant, refused, claimed: Option<u64>, now| {
            next(&me, claimed.map(at), &told(holder, claimant, refused), at(now))
        };

        assert_eq!(step(None, None, None, None, 0), Step::Take);
        assert_eq!(step(Some(&me), None, None, None, 0), Step::Run, "the agent was restarted");
        assert_eq!(step(Some(&me), Some(&me), None, None, 0), Step::Run);
        assert_eq!(step(Some(&me), Some(&clone), None, None, 0), Step::Answer(clone.clone()));

        // A reboot, and a machine that is not known.
        for (holder, patience) in [(&before, SOON), (&other, LATE)] {
            let late = patience.as_secs();
            assert_eq!(step(Some(holder), None, None, None, 0), Step::Claim);
            let wait = step(Some(holder), Some(&me), None, Some(0), 1);
            assert_eq!(wait, Step::Wait(patience.saturating_sub(Duration::from_secs(1))));
            assert_eq!(step(Some(holder), Some(&me), None, Some(0), late), Step::Take);
            assert_eq!(step(Some(holder), None, None, Some(0), late), Step::Claim);
            let answered = step(Some(holder), None, Some(&me), Some(0), 1);
            assert_eq!(answered, Step::Yield(holder.clone()));
            // An answer of an earlier run is no answer to this one.
            assert_eq!(step(Some(holder), None, Some(&me), None, 0), Step::Claim);
            assert!(matches!(step(Some(holder), Some(&clone), None, Some(0), late), Step::Wait(_)));
        }
    }

    /// Two machines around one status, each looking when it likes.
    #[test]
    fn of_two_that_live_the_first_runs_and_the_other_yields() {
        for id in ["m", "another"] {
            let (first, second) = (machine("m", "1"), machine(id, "2"));
            let (start, mut status) = (Instant::now(), told(Some(&first), None, None));
            let (mut claimed, mut end) = (None, None);
            for look in 0..40 {
                let now = start + Duration::from_millis(100 * look);
                match next(&second, claimed, &status, now) {
                    Step::Claim => {
                        claimed = Some(now);
                        (status.claimant, status.refused) = (Some(second.clone()), None);
                    }
                    Step::Yield(holder) => end = Some(holder),
                    Step::Wait(_) => {}
                    other => panic!("{other:?}"),
                }
                // The first looks more rarely.
                if look % 9 == 8
                    && let Step::Answer(clone) = next(&first, None, &status, now)
                {
                    (status.claimant, status.refused) = (None, Some(clone));
                }
                if end.is_some() {
                    break;
                }
            }
            assert_eq!(end, Some(first.clone()));
            assert_eq!(next(&first, None, &status, start), Step::Run);
        }
    }
}
