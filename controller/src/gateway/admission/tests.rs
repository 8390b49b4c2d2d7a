//! Every way to be let in or refused, without a network.

use api::{JoinTokenSpec, MeshNodeSpec, MeshNodeStatus, PublishedKey};

use super::*;

const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn token() -> JoinToken {
    let spec = JoinTokenSpec {
        hash: HASH.to_owned(),
        expires_at: "2026-11-22T11:00:00Z".to_owned(),
        uses: 2,
        site: Some("aws".to_owned()),
        name_prefix: None,
        pool: None,
        prefixes: Vec::new(),
        approve: false,
        created_by: None,
    };
    JoinToken::new("t", spec)
}

fn used(times: u32) -> JoinToken {
    let status = JoinTokenStatus { used: times, ..JoinTokenStatus::default() };
    JoinToken { status: Some(status), ..token() }
}

fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

fn candidate() -> Candidate {
    Candidate {
        name: "edge-1".to_owned(),
        key: "b".repeat(64),
        public_key: key(9),
        prefixes: vec![],
    }
}

fn joined() -> Joined {
    let public_key = Some(key(9).to_string());
    Joined { token: "t".to_owned(), key: "b".repeat(64), public_key }
}

/// The token after one more machine.
fn then(token: &JoinToken, candidate: &Candidate, node: &str) -> JoinToken {
    let status = used_once(token, candidate, (node, "192.0.2.1"), now()).unwrap();
    JoinToken { status, ..token.clone() }
}

fn node(name: &str, held: u8) -> MeshNode {
    let mut node = MeshNode::new(name, MeshNodeSpec::default());
    node.metadata.uid = Some(format!("uid-{name}"));
    let keys = vec![PublishedKey { epoch: 1, public_key: key(held).to_string() }];
    node.status = Some(MeshNodeStatus { public_keys: keys, ..MeshNodeStatus::default() });
    node
}

fn known(nodes: Vec<MeshNode>) -> Known {
    Known { nodes, ..Known::default() }
}

fn reason(
    candidate: &Candidate,
    token: &JoinToken,
    known: &Known,
) -> Result<Admission, &'static str> {
    judge(candidate, token, known, now()).map_err(|refusal| refusal.reason())
}

#[test]
fn a_machine_with_a_good_token_becomes_a_new_node_of_its_site() {
    let admission = judge(&candidate(), &token(), &known(vec![node("a", 1)]), now()).unwrap();

    let joined = joined();
    let site = Some("aws".to_owned());
    let spec = MeshNodeSpec { site, joined: Some(joined), ..MeshNodeSpec::default() };
    assert_eq!(admission, Admission::New { name: "edge-1".to_owned(), spec: Box::new(spec) });
}

#[test]
fn a_wrong_secret_and_an_unknown_token_are_refused() {
    assert_eq!(secret_fits(Some(&token()), HASH), Ok(()));
    assert_eq!(secret_fits(Some(&token()), &"c".repeat(64)), Err(Refusal::WrongSecret));
    assert_eq!(secret_fits(Some(&token()), ""), Err(Refusal::WrongSecret));
    assert_eq!(secret_fits(None, &"0".repeat(64)), Err(Refusal::UnknownToken));
}

#[test]
fn a_token_ends_by_time_and_by_use() {
    let with = |change: &dyn Fn(&mut JoinTokenSpec)| {
        let mut token = token();
        change(&mut token.spec);
        reason(&candidate(), &token, &Known::default())
    };

    assert_eq!(with(&|spec| spec.expires_at = "2026-11-22T10:00:00Z".to_owned()), Err("Expired"));
    assert_eq!(with(&|spec| spec.expires_at = "soon".to_owned()), Err("Expired"));
    assert!(reason(&candidate(), &used(1), &Known::default()).is_ok());
    assert_eq!(reason(&candidate(), &used(2), &Known::default()), Err("UsedUp"));
}

#[test]
fn a_name_is_taken_once_and_carries_the_tokens_prefix() {
    assert_eq!(reason(&candidate(), &token(), &known(vec![node("edge-1", 1)])), Err("NameTaken"));
    let mut prefixed = token();
    prefixed.spec.name_prefix = Some("aws-".to_owned());

    for (asked, name) in [("edge-1", "aws-edge-1"), ("aws-edge-1", "aws-edge-1")] {
        let candidate = Candidate { name: asked.to_owned(), ..candidate() };
        let admission = judge(&candidate, &prefixed, &Known::default(), now()).unwrap();
        let Admission::New { name: given, .. } = admission else { panic!("not new") };
        assert_eq!(given, name);
    }
    let taken = known(vec![node("aws-edge-1", 1)]);
    assert_eq!(reason(&candidate(), &prefixed, &taken), Err("NameTaken"));
}

#[test]
fn a_name_that_is_no_name_is_refused_before_it_reaches_a_path() {
    for bad in ["", "A", "a/b", "../a", "a..b", "-a", "a-", "a b", "ä", &"a".repeat(64)] {
        let candidate = Candidate { name: bad.to_owned(), ..candidate() };
        assert_eq!(reason(&candidate, &token(), &Known::default()), Err("BadName"), "{bad:?}");
    }
    assert!(is_name("node-1.edge.example"));
}

#[test]
fn a_key_that_is_in_the_mesh_or_was_thrown_out_is_refused() {
    let mut mesh = known(vec![node("a", 9)]);
    assert_eq!(reason(&candidate(), &token(), &mesh), Err("KeyKnown"));
    mesh = Known { peers: vec![("laptop".to_owned(), key(9).to_string())], ..Known::default() };
    assert_eq!(reason(&candidate(), &token(), &mesh), Err("KeyKnown"));
    mesh = Known { revoked_keys: vec![key(9).to_string()], ..Known::default() };
    assert_eq!(reason(&candidate(), &token(), &mesh), Err("KeyRevoked"));
}

#[test]
fn the_same_machine_may_ask_again_and_no_other_in_its_name() {
    let mut own = node("edge-1", 9);
    own.spec.joined = Some(joined());
    let mesh = known(vec![own.clone()]);
    let again = Admission::Again { name: "edge-1".to_owned(), uid: "uid-edge-1".to_owned() };

    assert_eq!(reason(&candidate(), &used(2), &mesh), Ok(again));

    let stranger = Candidate { key: "c".repeat(64), public_key: key(8), ..candidate() };
    assert_eq!(reason(&stranger, &token(), &mesh), Err("NameTaken"));
    own.spec.revoked = true;
    assert_eq!(reason(&candidate(), &token(), &known(vec![own])), Err("KeyKnown"));
    let mut ended = used(2);
    ended.spec.expires_at = "2026-11-22T09:00:00Z".to_owned();
    assert_eq!(reason(&candidate(), &ended, &mesh), Err("Expired"));
}

#[test]
fn a_key_is_taken_between_the_join_and_the_first_publication() {
    let mut coming = MeshNode::new("edge-0", MeshNodeSpec::default());
    coming.spec.joined = Some(Joined { key: "c".repeat(64), ..joined() });

    assert_eq!(reason(&candidate(), &token(), &known(vec![coming])), Err("KeyKnown"));

    // Before the node is there: by the very write that uses the token.
    let clone = Candidate { name: "edge-0".to_owned(), key: "c".repeat(64), ..candidate() };
    let used = then(&token(), &clone, "edge-0");
    assert_eq!(reason(&candidate(), &used, &Known::default()), Err("KeyKnown"));
    let lost = used_once(&used, &candidate(), ("edge-1", "192.0.2.2"), now());
    assert_eq!(lost, Err(Refusal::KeyKnown("edge-0".to_owned())));
}

#[test]
fn a_use_without_its_node_is_the_same_machines_and_a_node_that_went_ends_that() {
    let mut single = token();
    single.spec.uses = 1;
    let used = then(&single, &candidate(), "edge-1");
    let spec = MeshNodeSpec {
        joined: Some(joined()),
        site: Some("aws".to_owned()),
        ..MeshNodeSpec::default()
    };
    let new = Admission::New { name: "edge-1".to_owned(), spec: Box::new(spec) };

    assert_eq!(reason(&candidate(), &used, &Known::default()), Ok(new));
    assert_eq!(used_once(&used, &candidate(), ("edge-1", "192.0.2.9"), now()), Ok(None));
    let stranger = Candidate { key: "c".repeat(64), public_key: key(8), ..candidate() };
    assert_eq!(reason(&stranger, &used, &Known::default()), Err("UsedUp"));
    let mut ended = used.clone();
    ended.spec.expires_at = "2026-11-22T09:00:00Z".to_owned();
    assert_eq!(reason(&candidate(), &ended, &Known::default()), Err("Expired"));

    let mut own = node("edge-1", 9);
    own.spec.joined = Some(joined());
    let arrived = with_arrivals(used.clone(), |name| (name == "edge-1").then(|| own.clone()));
    assert_eq!(reason(&candidate(), &arrived, &Known::default()), Err("UsedUp"));
    let anothers = with_arrivals(used.clone(), |_| Some(node("edge-1", 9)));
    assert_eq!(anothers, used);
}

#[test]
fn a_use_is_counted_and_remembered_and_the_last_one_ends_the_token() {
    let second = Candidate { key: "c".repeat(64), public_key: key(8), ..candidate() };

    let first = then(&token(), &candidate(), "edge-1");
    let both = then(&first, &second, "edge-2").status.unwrap();
    let first = first.status.unwrap();

    assert_eq!((first.used, first.uses.as_deref()), (1, Some("1/2")));
    assert!(conditions::holds(&first.conditions, USABLE));
    assert_eq!(both.machines[1].node, "edge-2");
    let usable = conditions::get(&both.conditions, USABLE).unwrap();
    assert_eq!((usable.status.as_str(), usable.reason.as_str()), ("False", "UsedUp"));

    let mut many = token();
    many.spec.uses = 1000;
    for byte in 1..=200 {
        many = then(&many, &Candidate { public_key: key(byte), ..candidate() }, "n");
    }
    let status = many.status.unwrap();
    assert_eq!((status.used, status.machines.len()), (200, REMEMBERED));
}

/// A token that takes an approval, with these machines waiting.
fn approving(waiting: Vec<Waiting>) -> JoinToken {
    let mut token = token();
    token.spec.approve = true;
    token.status = Some(JoinTokenStatus { waiting, ..JoinTokenStatus::default() });
    token
}

fn decided(decision: Option<Decision>) -> JoinToken {
    let mut status = asked(&approving(Vec::new()), &candidate(), ("edge-1", "192.0.2.1"), now());
    status.waiting[0].decision = decision;
    approving(status.waiting)
}

#[test]
fn nothing_is_given_out_until_somebody_approves_this_very_machine() {
    let waits = |asked| Ok(Admission::Waits { name: "edge-1".to_owned(), asked });
    let judged = |token: &JoinToken| reason(&candidate(), token, &Known::default());

    assert_eq!(judged(&approving(Vec::new())), waits(false));
    assert_eq!(judged(&decided(None)), waits(true));
    assert_eq!(judged(&decided(Some(Decision::Denied))), Err("Denied"));
    let approved = decided(Some(Decision::Approved));
    assert!(matches!(judged(&approved), Ok(Admission::New { .. })));
    assert_eq!(approval(&candidate(), "edge-1", &approved), Ok(()));

    // The approval is no other machine's, by its certificate's key or its WireGuard key.
    for other in [
        Candidate { key: "c".repeat(64), ..candidate() },
        Candidate { public_key: key(8), ..candidate() },
    ] {
        assert_eq!(reason(&other, &approved, &Known::default()), Err("NameTaken"));
    }
    let mut ended = approved.clone();
    ended.spec.expires_at = "2026-11-22T09:00:00Z".to_owned();
    assert_eq!(judged(&ended), Err("Expired"));
    let entered = then(&approved, &candidate(), "edge-1");
    assert_eq!(entered.status.unwrap().waiting, []);
}

#[test]
fn those_who_wait_are_bounded_and_who_was_denied_holds_neither_name_nor_place() {
    let mut token = approving(Vec::new());
    for number in 0..WAITING {
        let node = format!("n{number}");
        token.status = Some(asked(&token, &candidate(), (&node, "192.0.2.1"), now()));
    }
    assert_eq!(reason(&candidate(), &token, &Known::default()), Err("TooManyWait"));

    token.status.as_mut().unwrap().waiting[3].decision = Some(Decision::Denied);
    assert!(reason(&candidate(), &token, &Known::default()).is_ok());
    let third = Candidate { name: "n3".to_owned(), key: "c".repeat(64), ..candidate() };
    assert!(reason(&third, &token, &Known::default()).is_ok());
    let status = asked(&token, &candidate(), ("edge-1", "192.0.2.1"), now());
    assert_eq!(status.waiting.len(), WAITING);
    assert!(status.waiting.iter().all(|waiting| waiting.node != "n3"));
}

/// A token that permits a LAN of either family, and a machine that asks for these prefixes.
fn asks_for(prefixes: &[&str], known: &Known) -> Result<Admission, &'static str> {
    let mut token = token();
    token.spec.prefixes = vec!["192.168.0.0/16".to_owned(), "fd07::/48".to_owned()];
    let prefixes = prefixes.iter().map(ToString::to_string).collect();
    reason(&Candidate { prefixes, ..candidate() }, &token, known)
}

#[test]
fn a_machine_announces_what_its_token_permits_and_nobody_else_has() {
    let mut site = node("site", 1);
    site.spec.prefixes = vec!["192.168.9.0/24".to_owned()];
    site.spec.routed = site.spec.prefixes.clone();
    site.status.as_mut().unwrap().endpoints = vec!["192.168.8.1:51820".to_owned()];
    let pool = Taken { prefix: "192.168.128.0/20".parse().unwrap(), by: "a pool".to_owned() };
    let known = Known { taken: vec![pool], ..known(vec![site]) };
    let granted = |prefixes: &[&str]| match asks_for(prefixes, &known) {
        Ok(Admission::New { spec, .. }) => Ok(spec.prefixes),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason),
    };

    assert_eq!(granted(&["192.168.7.0/24", "fd07::/64"]).unwrap(), ["192.168.7.0/24", "fd07::/64"]);
    assert_eq!(granted(&[]).unwrap(), [""; 0]);
    for (prefix, reason) in [
        ("192.168.9.128/25", "PrefixOverlap"),
        ("192.168.8.0/24", "PrefixOverlap"),
        ("192.168.129.0/24", "PrefixOverlap"),
        ("10.0.0.0/8", "PrefixNotGranted"),
        ("192.0.0.0/8", "PrefixNotGranted"),
        ("0.0.0.0/0", "PrefixNotGranted"),
        ("192.168.7.1/24", "PrefixNotGranted"),
        ("", "PrefixNotGranted"),
    ] {
        assert_eq!(granted(&[prefix]), Err(reason), "{prefix}");
        assert_eq!(granted(&["192.168.7.0/24", prefix]), Err(reason), "{prefix}");
    }
    let without = Candidate { prefixes: vec!["192.168.7.0/24".to_owned()], ..candidate() };
    assert_eq!(reason(&without, &token(), &known), Err("PrefixNotGranted"));
}

#[test]
fn an_approval_is_for_the_prefixes_that_were_shown() {
    let mut token = token();
    token.spec.approve = true;
    token.spec.prefixes = vec!["192.168.0.0/16".to_owned()];
    let with = |prefix: &str| Candidate { prefixes: vec![prefix.to_owned()], ..candidate() };
    let shown = with("192.168.7.0/24");
    let mut status = asked(&token, &shown, ("edge-1", "192.0.2.1"), now());
    assert_eq!(status.waiting[0].prefixes, ["192.168.7.0/24"]);
    status.waiting[0].decision = Some(Decision::Approved);
    token.status = Some(status);
    let known = known(vec![]);

    assert!(matches!(reason(&shown, &token, &known), Ok(Admission::New { .. })));
    assert_eq!(reason(&with("192.168.0.0/16"), &token, &known), Err("NameTaken"));
}
