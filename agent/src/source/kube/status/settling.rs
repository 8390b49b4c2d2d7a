//! Since when every session has been as it should be. Pure.

use std::{collections::BTreeMap, time::Duration};

use keys::KeyEpoch;
use tokio::time::Instant;

/// So long after the last change nothing that was sealed with older keys is on its way.
const SETTLED: Duration = Duration::from_millis(1500);

/// The sessions at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sessions {
    /// Each uses the keys that are to be sent with.
    pub(super) as_told: bool,
    /// Which those are, by node.
    pub(super) epochs: BTreeMap<String, KeyEpoch>,
}

/// Watches them.
#[derive(Debug, Default)]
pub(super) struct Settling {
    since: Option<(BTreeMap<String, KeyEpoch>, Instant)>,
}

impl Settling {
    /// True once they have been as told, and told the same, for long enough. None: nobody asks.
    pub(super) fn look(&mut self, sessions: Option<&Sessions>, now: Instant) -> bool {
        let Some(sessions) = sessions.filter(|sessions| sessions.as_told) else {
            self.since = None;
            return false;
        };
        match &self.since {
            Some((epochs, since)) if *epochs == sessions.epochs => now - *since >= SETTLED,
            _ => {
                self.since = Some((sessions.epochs.clone(), now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_it_begins_anew() {
        let sessions = |as_told, epoch| Sessions {
            as_told,
            epochs: BTreeMap::from([("a".to_owned(), KeyEpoch(epoch))]),
        };
        let (start, mut settling) = (Instant::now(), Settling::default());
        let mut look = |as_told, epoch, after| {
            settling.look(Some(&sessions(as_told, epoch)), start + Duration::from_millis(after))
        };

        assert!(!look(true, 1, 0));
        assert!(look(true, 1, 1500));
        assert!(!look(true, 2, 1600));
        assert!(!look(true, 2, 3000));
        assert!(look(true, 2, 3100));
        assert!(!look(false, 2, 3200));
        assert!(!look(true, 2, 3300));
    }
}
