//! A claim's phase, and its condition Bound.

use std::sync::Arc;

use api::{ClaimOwner, ClaimPhase, SubnetClaim, SubnetClaimStatus};
use serde_json::json;

use super::{Change, Conditions, Judged, Sight, Truth};
use crate::allocate::{Owner, State};
use crate::reconcile::read;

impl Sight<'_> {
    pub(in crate::reconcile) fn claims(&self) -> Vec<Change<SubnetClaim>> {
        (self.view.claims.iter().zip(&self.seen.claims))
            .filter_map(|(read, claim)| self.claim(&read.state, claim))
            .collect()
    }

    fn claim(&self, state: &State, claim: &Arc<SubnetClaim>) -> Option<Change<SubnetClaim>> {
        let (phase, bound) = match state {
            State::Bound(owner) => {
                (Some(ClaimPhase::Bound), Judged::good("Bound", owner.node.to_string()))
            }
            State::Resting => (
                Some(ClaimPhase::Resting),
                Judged::bad("Resting", "released; it rests before another node gets it"),
            ),
            State::Rested => (Some(ClaimPhase::Free), Judged::bad("Free", "any node may get it")),
            State::Reserved if read::subnet(claim).is_none() => (
                None,
                Judged::bad(
                    "NameDiffers",
                    "its name does not stand for its subnet, so it proves nothing; delete it",
                ),
            ),
            State::Reserved => {
                (None, Judged::bad("Reserved", "set aside: no node gets it while it stands"))
            }
        };
        let status = claim.status.clone().unwrap_or_default();
        let mut conditions =
            Conditions::new(status.conditions, claim.metadata.generation, self.now);
        conditions.tell("Bound", &bound, Truth::True);
        // A release is no misfortune, and the node tells of its allocation itself.
        conditions.notices.retain(|notice| notice.reason == "NameDiffers");
        let owner = self.owner(state, claim.spec.generation).or(status.owner.clone());
        let after = SubnetClaimStatus { phase, owner, conditions: conditions.list };
        let before = SubnetClaimStatus { conditions: after.conditions.clone(), ..status };
        (conditions.changed || before != after).then(|| Change {
            object: Arc::clone(claim),
            status: json!({
                "phase": after.phase, "owner": after.owner, "conditions": after.conditions,
            }),
            notices: conditions.notices,
        })
    }

    /// Whoever has the claim, as far as he has told his keys. After him it stays.
    fn owner(&self, state: &State, generation: i64) -> Option<ClaimOwner> {
        let State::Bound(Owner { node: name, uid }) = state else {
            return None;
        };
        let mut nodes = self.seen.nodes.iter();
        let node = nodes.find(|node| node.metadata.uid.as_deref() == Some(uid))?;
        let keys = node.status.clone().unwrap_or_default().public_keys;
        Some(ClaimOwner { node: name.to_string(), generation, keys })
    }
}
