//! An API that has gone back in time: its store was restored from a backup older than what this
//! process has seen of it. Pure.
//!
//! An API server counts every write of its store in one number, which answers carry as their
//! resourceVersion. A list that is read afresh is at least as new as all that was read before; one
//! that is older comes from another past, and claims made since that backup are unknown in it.

/// The newest resourceVersion seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    newest: u64,
}

impl Mark {
    /// Takes note of objects or lists. What is no number says nothing.
    pub(super) fn saw(&mut self, versions: impl IntoIterator<Item = String>) {
        let numbers = versions.into_iter().filter_map(|version| version.parse().ok());
        self.newest = numbers.fold(self.newest, u64::max);
    }

    /// Whether a list that was just read is older than what was seen before it was asked for.
    pub(super) fn is_after(self, list: &str) -> bool {
        list.parse::<u64>().is_ok_and(|version| version < self.newest)
    }

    /// From here on the list's past is the one that counts.
    pub(super) fn begin_at(&mut self, list: &str) {
        *self = Self::default();
        self.saw([list.to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(versions: &[&str]) -> Mark {
        let mut mark = Mark::default();
        mark.saw(versions.iter().map(|version| (*version).to_owned()));
        mark
    }

    #[test]
    fn a_list_older_than_anything_seen_is_from_a_restored_store() {
        let seen = mark(&["7", "120", "99"]);

        assert!(seen.is_after("119"));
        assert!(!seen.is_after("120"));
        assert!(!seen.is_after("121"));
    }

    #[test]
    fn it_is_noticed_once_and_not_for_ever() {
        let mut seen = mark(&["120"]);
        seen.begin_at("40");

        assert!(!seen.is_after("41"));
        assert!(seen.is_after("39"));
    }

    #[test]
    fn versions_that_are_no_numbers_say_nothing() {
        assert!(!mark(&["opaque"]).is_after("1"));
        assert!(!mark(&["120"]).is_after("opaque"));
    }
}
