//! When a rotation's figures are worth a write of their own. Pure.
//!
//! A hundred agents that count each second must not write each second: what was sent goes with the
//! writes of the rotation itself, what was lost is told soon, and the end is told once.

use std::time::Duration;

use api::MeshNode;
use tokio::time::Instant;

use super::desired::Counts;
use crate::probe::Counted;

/// Between two writes for losses alone.
const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// What to say of it to the API, which has `node`.
    pub(super) fn look(
        &mut self,
        counted: Option<&Counted>,
        node: &MeshNode,
        now: Instant,
    ) -> Option<Counts> {
        let Counted { probes, ended } = counted?;
        let told = node.status.as_ref().and_then(|status| status.probes.as_ref());
        let told = told.filter(|told| told.rotation == probes.rotation).map_or(0, |told| told.lost);
        let rested = self.last.is_none_or(|last| now >= last + SOON);
        let losses = probes.lost > told && rested;
        if losses {
            self.last = Some(now);
        }
        Some(Counts { probes: probes.clone(), worth_a_write: losses || *ended })
    }
}

#[cfg(test)]
mod tests {
    use api::{MeshNodeSpec, MeshNodeStatus, Probes};

    use super::*;

    #[test]
    fn losses_are_told_every_five_seconds_and_the_end_at_once() {
        let probes = |lost| Probes { rotation: "r".into(), sent: 9, lost };
        let mut node = MeshNode::new("n", MeshNodeSpec::default());
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut look = |node: &MeshNode, lost, ended, after| {
            let counted = Counted { probes: probes(lost), ended };
            let now = start + Duration::from_millis(after);
            pace.look(Some(&counted), node, now).unwrap().worth_a_write
        };

        assert!(!look(&node, 0, false, 0), "what is sent is no news");
        assert!(look(&node, 1, false, 100));
        node.status = Some(MeshNodeStatus { probes: Some(probes(1)), ..Default::default() });
        assert!(!look(&node, 1, false, 6000), "told already");
        assert!(look(&node, 2, false, 6000));
        assert!(!look(&node, 3, false, 10_900));
        assert!(look(&node, 3, true, 10_950), "the end");
        assert!(look(&node, 3, false, 11_000));
    }
}
