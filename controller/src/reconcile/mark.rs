//! An API that has gone back in time: its store was restored from a backup. Pure.
//!
//! Claims are never deleted by a controller and their generation only grows. One that this process
//! has read, and that is gone or older although nobody was seen to delete it, was made after the
//! backup; so there may be others, of which nobody here knows. (The server's resourceVersion does
//! not tell: a server that has just started writes a lot.)

use std::collections::BTreeMap;
use std::sync::Arc;

use api::SubnetClaim;
use kube::ResourceExt;

/// The claims that were read: name and generation.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    claims: BTreeMap<String, i64>,
}

impl Mark {
    pub(super) fn saw(&mut self, claims: &[Arc<SubnetClaim>]) {
        for claim in claims {
            let known = self.claims.entry(claim.name_any()).or_default();
            *known = claim.spec.generation.max(*known);
        }
    }

    /// Somebody deleted it, as can be done by hand.
    pub(super) fn deleted(&mut self, name: &str) {
        self.claims.remove(name);
    }

    /// A claim that was read before, and of which these, read just now, know nothing or less.
    pub(super) fn lost(&self, fresh: &[Arc<SubnetClaim>]) -> Option<&str> {
        let fresh: BTreeMap<String, i64> =
            fresh.iter().map(|claim| (claim.name_any(), claim.spec.generation)).collect();
        let older = |name: &str, known: i64| fresh.get(name).is_none_or(|now| *now < known);
        let mut lost = self.claims.iter().filter(|(name, known)| older(name, **known));
        lost.next().map(|(name, _)| name.as_str())
    }

    /// From here on these are the ones that count.
    pub(super) fn begin_at(&mut self, claims: &[Arc<SubnetClaim>]) {
        self.claims.clear();
        self.saw(claims);
    }
}

#[cfg(test)]
mod tests {
    use api::SubnetClaimSpec;

    use super::*;

    fn claims(all: &[(&str, i64)]) -> Vec<Arc<SubnetClaim>> {
        let claim = |(name, generation): &(&str, i64)| {
            let spec = SubnetClaimSpec {
                subnet: String::new(),
                generation: *generation,
                node: None,
                node_uid: None,
                released_at: None,
                addresses: Vec::new(),
            };
            Arc::new(SubnetClaim::new(name, spec))
        };
        all.iter().map(claim).collect()
    }

    fn mark(all: &[(&str, i64)]) -> Mark {
        let mut mark = Mark::default();
        mark.saw(&claims(all));
        mark
    }

    #[test]
    fn a_claim_that_is_gone_or_older_tells_of_a_restored_store() {
        let seen = mark(&[("a", 1), ("b", 4)]);

        assert_eq!(seen.lost(&claims(&[("a", 1), ("b", 4)])), None);
        assert_eq!(seen.lost(&claims(&[("a", 2), ("b", 4), ("c", 1)])), None);
        assert_eq!(seen.lost(&claims(&[("b", 4)])), Some("a"));
        assert_eq!(seen.lost(&claims(&[("a", 1), ("b", 3)])), Some("b"));
    }

    #[test]
    fn an_old_cache_takes_nothing_back() {
        let mut seen = mark(&[("a", 4)]);
        seen.saw(&claims(&[("a", 3)]));

        assert_eq!(seen.lost(&claims(&[("a", 3)])), Some("a"));
    }

    #[test]
    fn a_claim_that_somebody_deleted_is_not_missed() {
        let mut seen = mark(&[("a", 1), ("b", 1)]);
        seen.deleted("a");

        assert_eq!(seen.lost(&claims(&[("b", 1)])), None);
    }

    #[test]
    fn it_is_noticed_once_and_not_for_ever() {
        let mut seen = mark(&[("a", 1), ("b", 1)]);
        let restored = claims(&[("b", 1)]);
        seen.begin_at(&restored);

        assert_eq!(seen.lost(&restored), None);
    }
}
