//! The permitted differences: each with its reason, and none that is not there any more.

use super::case::{Answers, File};
use super::compare::differing;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Permitted {
    /// Who differs from the recorded answers: `embedded`, `crd` or `cp`.
    server: String,
    /// `file/case`, or `file/*` for several of a file, or `*`.
    case: String,
    /// A pointer into the answer; what lies below it is permitted too.
    at: String,
    why: String,
}

#[derive(Debug)]
pub(crate) struct Differences(Vec<Permitted>);

/// One difference, as it was met.
#[derive(Debug)]
pub(crate) struct Found {
    case: String,
    at: String,
    expected: String,
    actual: String,
}

impl Found {
    pub(crate) fn between(
        server: &str,
        file: &File,
        recorded: &Answers,
        answers: &Answers,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        for (name, actual) in &answers.0 {
            let case = format!("{}/{name}", file.name);
            let Some(expected) = recorded.0.get(name) else {
                panic!("{server}: {case} has no recorded answer; record it with HAWSER_RECORD=1");
            };
            let shown = |answer: &Value, at: &str| match at {
                "/code" => answer.to_string().chars().take(400).collect(),
                _ => answer.pointer(at).map_or("nothing".to_owned(), Value::to_string),
            };
            found.extend(differing(expected, actual).into_iter().map(|at| Found {
                case: case.clone(),
                expected: shown(expected, &at),
                actual: shown(actual, &at),
                at,
            }));
        }
        let gone = recorded.0.keys().find(|name| !answers.0.contains_key(*name));
        assert!(gone.is_none(), "{}: {gone:?} is recorded but no case any more", file.name);
        found
    }
}

impl Permitted {
    fn covers(&self, found: &Found) -> bool {
        let case = match self.case.strip_suffix('*') {
            Some(begin) => found.case.starts_with(begin),
            None => self.case == found.case,
        };
        let below = found.at.strip_prefix(&self.at);
        case && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Differences {
    pub(crate) fn load() -> Differences {
        let list: Vec<Permitted> =
            serde_saphyr::from_str(include_str!("differences.yaml")).unwrap();
        for permitted in &list {
            assert!(permitted.why.len() > 10, "{permitted:?}: a difference has a reason");
        }
        Differences(list)
    }

    /// Fails on what is not permitted, and on what is permitted for nothing.
    pub(crate) fn settle(&self, server: &str, found: &[Found]) {
        let complaints = self.complaints(server, found);
        assert!(complaints.is_empty(), "{server}:\n{}", complaints.join("\n"));
    }

    fn complaints(&self, server: &str, found: &[Found]) -> Vec<String> {
        let ours: Vec<&Permitted> = self.0.iter().filter(|p| p.server == server).collect();
        let mut complaints = Vec::new();
        for one in found.iter().filter(|one| !ours.iter().any(|p| p.covers(one))) {
            let Found { case, at, expected, actual } = one;
            complaints
                .push(format!("{case} at {at}\n    expected {expected}\n    got      {actual}"));
        }
        for permitted in ours.iter().filter(|p| !found.iter().any(|one| p.covers(one))) {
            let Permitted { case, at, .. } = permitted;
            complaints.push(format!("{case} at {at} is permitted, but differs no more: strike it"));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(case: &str, at: &str) -> Permitted {
        let (server, why) = ("embedded".to_owned(), "because of this".to_owned());
        Permitted { server, case: case.to_owned(), at: at.to_owned(), why }
    }

    fn found(case: &str, at: &str) -> Found {
        let (case, at) = (case.to_owned(), at.to_owned());
        Found { case, at, expected: "1".to_owned(), actual: "2".to_owned() }
    }

    #[test]
    fn an_unlisted_difference_and_a_stale_permission_are_both_complaints() {
        let list = Differences(vec![permitted("verbs/get", "/body"), permitted("list/*", "/code")]);
        let complaints = |found: &[Found]| list.complaints("embedded", found);

        let all = [found("verbs/get", "/body/message"), found("list/a", "/code")];
        assert!(complaints(&all).is_empty());
        let one = complaints(&all[..1]);
        assert!(one.len() == 1 && one[0].contains("strike it"), "{one:?}");
        for strange in [found("verbs/put", "/body"), found("verbs/get", "/bodyx")] {
            let [a, b] = [found("verbs/get", "/body"), found("list/a", "/code")];
            let complaints = complaints(&[a, b, strange]);
            assert!(
                complaints.len() == 1 && complaints[0].contains("expected 1"),
                "{complaints:?}"
            );
        }
        assert_eq!(
            list.complaints("crd", &all).len(),
            2,
            "another server's permissions don't count"
        );
    }
}
