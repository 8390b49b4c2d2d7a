//! `hawser token list`: what lets machines in. Never a token, which nobody but its maker ever saw.

use api::{JoinToken, JoinTokenStatus};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    output::{Item, Output, Table},
    text::{self, NONE},
    view::or,
};

const COLUMNS: &[&str] = &[
    "NAME",
    "VALID",
    "USES",
    "EXPIRES",
    "SITE",
    "AGE",
    "WAITING",
    "CREATED-BY",
    "LAST-USED",
    "MACHINES",
    "LAST-REFUSAL",
];
const NARROW: usize = 7;

/// A token in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    name: &'a str,
    valid: bool,
    used: u32,
    uses: u32,
    expires_at: &'a str,
    site: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    name_prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    prefixes: &'a [String],
    created: Option<Timestamp>,
    created_by: Option<&'a str>,
    last_used_at: Option<&'a str>,
    machines: &'a [api::Admitted],
    approve: bool,
    waiting: &'a [api::Waiting],
    last_refusal: Option<&'a api::Refused>,
}

/// One row a token.
pub fn list(tokens: &[JoinToken], now: Timestamp) -> Output {
    let mut table = Table::new(COLUMNS, NARROW, "no tokens; make one: hawser token create");
    let mut items = Vec::new();
    for token in tokens {
        let status = token.status.clone().unwrap_or_default();
        table.push(row(token, &status, now));
        let name = format!("jointoken/{}", name_of(token));
        items.push(Item::new(name, &in_json(token, &status, now)));
    }
    Output::list("JoinToken", table, items)
}

pub fn name_of(token: &JoinToken) -> &str {
    token.metadata.name.as_deref().unwrap_or_default()
}

fn is_valid(token: &JoinToken, status: &JoinTokenStatus, now: Timestamp) -> bool {
    let end = token.spec.expires_at.parse::<Timestamp>();
    end.is_ok_and(|end| end > now) && status.used < token.spec.uses
}

fn row(token: &JoinToken, status: &JoinTokenStatus, now: Timestamp) -> Vec<String> {
    let created = token.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let waiting = status.waiting.iter().filter(|machine| machine.decision.is_none());
    let refusal = status.last_refusal.as_ref();
    let refusal = refusal.map(|last| format!("{}@{}", last.reason, last.from));
    vec![
        name_of(token).to_owned(),
        if is_valid(token, status, now) { "True" } else { "False" }.to_owned(),
        format!("{}/{}", status.used, token.spec.uses),
        token.spec.expires_at.clone(),
        or(token.spec.site.as_ref(), NONE),
        text::age(created, now),
        text::list(waiting.map(|machine| &machine.node)),
        or(token.spec.created_by.as_ref(), NONE),
        or(status.last_used_at.as_ref(), "never"),
        text::list(status.machines.iter().map(|machine| &machine.node)),
        or(refusal, NONE),
    ]
}

fn in_json<'a>(token: &'a JoinToken, status: &'a JoinTokenStatus, now: Timestamp) -> Token<'a> {
    Token {
        name: name_of(token),
        valid: is_valid(token, status, now),
        used: status.used,
        uses: token.spec.uses,
        expires_at: &token.spec.expires_at,
        site: token.spec.site.as_deref(),
        pool: token.spec.pool.as_deref(),
        name_prefix: token.spec.name_prefix.as_deref(),
        prefixes: &token.spec.prefixes,
        created: token.metadata.creation_timestamp.as_ref().map(|time| time.0),
        created_by: token.spec.created_by.as_deref(),
        last_used_at: status.last_used_at.as_deref(),
        machines: &status.machines,
        approve: token.spec.approve,
        waiting: &status.waiting,
        last_refusal: status.last_refusal.as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use api::{Admitted, JoinTokenSpec};

    use super::*;
    use crate::{args::Format, fixture};

    fn token(name: &str, expires_at: &str, used: u32) -> JoinToken {
        let spec = JoinTokenSpec {
            hash: "5e".repeat(32),
            expires_at: expires_at.to_owned(),
            uses: 2,
            site: Some("aws".to_owned()),
            pool: None,
            name_prefix: None,
            prefixes: Vec::new(),
            approve: false,
            created_by: Some("ann".to_owned()),
        };
        let machine = |number| Admitted {
            node: format!("edge-{number}"),
            from: "192.0.2.1".to_owned(),
            at: "2026-11-22T09:00:00Z".to_owned(),
            key: None,
            fingerprint: None,
            arrived: true,
        };
        let machines = (1..=used).map(machine).collect();
        let status = JoinTokenStatus { used, machines, ..JoinTokenStatus::default() };
        JoinToken { status: Some(status), ..JoinToken::new(name, spec) }
    }

    #[test]
    fn a_token_says_whether_it_still_lets_somebody_in() {
        let tokens = [
            token("a", "2030-01-01T00:00:00Z", 1),
            token("b", "2030-01-01T00:00:00Z", 2),
            token("c", "2020-01-01T00:00:00Z", 0),
        ];

        let text = list(&tokens, fixture::now()).render(Format::Table);

        insta::assert_snapshot!(text, @r"
        NAME  VALID  USES  EXPIRES               SITE  AGE        WAITING
        a     True   1/2   2030-01-01T00:00:00Z  aws   <unknown>  <none>
        b     False  2/2   2030-01-01T00:00:00Z  aws   <unknown>  <none>
        c     False  0/2   2020-01-01T00:00:00Z  aws   <unknown>  <none>
        ");
        let json = list(&tokens, fixture::now()).render(Format::Json);
        assert!(json.contains("edge-2") && !json.contains("5e5e"), "{json}");
    }
}
