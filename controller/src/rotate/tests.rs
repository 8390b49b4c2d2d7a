use std::collections::{BTreeMap, BTreeSet};

use api::{
    Confirmation, ConfirmedStep, KeyRotationSpec, RotationOutcome, RotationPhase as Phase, Wave,
    digest,
};
use jiff::Timestamp;
use keys::{KeyEpoch, PublicKey};

use super::*;

const UID: &str = "uid-of-the-rotation";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-22T10:00:00Z")
}

fn set(epochs: &[u32]) -> BTreeSet<KeyEpoch> {
    epochs.iter().copied().map(KeyEpoch).collect()
}

fn key(name: &str, epoch: u32) -> PublicKey {
    let mut bytes = [name.as_bytes()[0]; 32];
    bytes[0] = u8::try_from(epoch).unwrap();
    PublicKey::from_bytes(bytes)
}

/// A node that is told to hold `epochs`, publishes `keys`, and is sent to with `key_epoch`.
fn node(name: &str, key_epoch: u32, epochs: &[u32], keys: &[u32]) -> (String, Node) {
    let node = Node {
        site: Some(format!("site-{name}")),
        revoked: false,
        key_epoch: KeyEpoch(key_epoch),
        epochs: set(epochs),
        keys: keys.iter().map(|epoch| (KeyEpoch(*epoch), key(name, *epoch))).collect(),
        newest: keys.iter().copied().max().map(KeyEpoch),
        confirmed: None,
        unreachable: BTreeSet::new(),
    };
    (name.to_owned(), node)
}

fn world(nodes: impl IntoIterator<Item = (String, Node)>) -> World {
    World {
        nodes: nodes.into_iter().collect(),
        plain_peers: BTreeMap::new(),
        degraded: None,
        running: None,
        newest: KeyEpoch(1),
    }
}

/// `a` and `b`, both in the same state.
fn both(key_epoch: u32, epochs: &[u32], keys: &[u32]) -> World {
    world(["a", "b"].map(|name| node(name, key_epoch, epochs, keys)))
}

fn wave(number: u32, nodes: &[&str], of: &[&str]) -> Wave {
    let keys = of.iter().map(|name| (*name, KeyEpoch(2), key(name, 2)));
    let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
    Wave { number, nodes, digest: Some(digest(keys)) }
}

fn progress(phase: Phase, wave: Wave) -> Progress {
    Progress {
        phase,
        outcome: RotationOutcome::Completed,
        epoch: KeyEpoch(2),
        wave,
        started_at: now(),
        deadline: at("2026-11-29T10:00:00Z"),
    }
}

fn rotation(spec: KeyRotationSpec, progress: Option<Progress>) -> Rotation {
    Rotation { name: "r".into(), uid: UID.into(), spec, deleted: false, progress }
}

fn confirm(world: &mut World, names: &[&str], step: ConfirmedStep, wave: &Wave) {
    for name in names {
        world.nodes.get_mut(*name).unwrap().confirmed = Some(Confirmation {
            rotation: UID.into(),
            wave: wave.number,
            step,
            digest: wave.digest.clone().unwrap(),
        });
    }
}

/// One word for what is to be done.
fn told(next: &Next) -> String {
    match next {
        Next::Refuse(refusal) => format!("refuse {}", refusal.word()),
        Next::Pend(reason) => format!("pend {}", reason.word),
        Next::Begin(progress) => format!("begin {}", progress.epoch),
        Next::Write(writes) => {
            let one = |write: &Write| {
                let epochs: Vec<String> = write.epochs.iter().map(ToString::to_string).collect();
                format!("{}:{}/{}", write.node, write.key_epoch, epochs.join("+"))
            };
            format!("write {}", writes.iter().map(one).collect::<Vec<_>>().join(" "))
        }
        Next::Move(progress) => match progress.outcome {
            RotationOutcome::Completed => format!("{}", progress.phase),
            other => format!("{} {other:?}", progress.phase),
        },
        Next::Wait(waiting) => format!("{} {}", waiting.reason.word, waiting.nodes.join(",")),
        Next::Rest => "rest".to_owned(),
    }
}

/// The state that each phase finds when nothing is done yet, and when all is done.
fn states() -> Vec<(&'static str, Progress, World)> {
    let all = || wave(1, &["a", "b"], &["a", "b"]);
    let none = || Wave { digest: None, ..all() };
    let mut accepted = both(1, &[1, 2], &[1, 2]);
    confirm(&mut accepted, &["a", "b"], ConfirmedStep::Accepted, &all());
    let mut switched = both(2, &[1, 2], &[1, 2]);
    confirm(&mut switched, &["a", "b"], ConfirmedStep::Switched, &all());
    vec![
        ("asked", progress(Phase::Publishing, none()), both(1, &[], &[1])),
        ("told", progress(Phase::Publishing, none()), both(1, &[1, 2], &[1])),
        ("published", progress(Phase::Publishing, none()), both(1, &[1, 2], &[1, 2])),
        ("offered", progress(Phase::Accepting, all()), both(1, &[1, 2], &[1, 2])),
        ("accepted", progress(Phase::Accepting, all()), accepted.clone()),
        ("switching", progress(Phase::Switching, all()), accepted),
        ("sending", progress(Phase::Switching, all()), both(2, &[1, 2], &[1, 2])),
        ("switched", progress(Phase::Switching, all()), switched.clone()),
        ("drained", progress(Phase::Draining, all()), switched),
        ("forgetting", progress(Phase::Forgetting, all()), both(2, &[1, 2], &[1, 2])),
        ("wiping", progress(Phase::Forgetting, all()), both(2, &[2], &[1, 2])),
        ("wiped", progress(Phase::Forgetting, all()), both(2, &[2], &[2])),
        ("completed", progress(Phase::Completed, all()), both(2, &[2], &[2])),
        ("aborted", progress(Phase::Aborted, all()), both(1, &[1], &[1])),
        ("rolled back", progress(Phase::RolledBack, all()), both(1, &[1], &[1])),
        ("refused", progress(Phase::Refused, all()), both(1, &[1], &[1])),
    ]
}

/// Every phase against everything that an operator can want, and the end of the deadline.
#[test]
fn the_whole_table() {
    let specs = [
        KeyRotationSpec::default(),
        KeyRotationSpec { paused: true, ..Default::default() },
        KeyRotationSpec { aborted: true, ..Default::default() },
        KeyRotationSpec { roll_back: true, ..Default::default() },
        KeyRotationSpec { deadline: Some(now().to_string()), ..Default::default() },
    ];
    let mut table = BTreeMap::new();
    for (name, progress, world) in states() {
        let cells = specs.clone().map(|spec| {
            let mut progress = progress.clone();
            if let Some(deadline) = &spec.deadline {
                progress.deadline = at(deadline);
            }
            told(&next(&rotation(spec, Some(progress)), &world, now()))
        });
        table.insert(name, cells);
    }

    //                 nothing, paused, abort, roll back, deadline
    let ab = "Draining Aborted";
    let rb = "Draining RolledBack";
    let expected = BTreeMap::from([
        ("asked", ["write a:1/1+2 b:1/1+2", "Paused ", ab, rb, ab]),
        ("told", ["Publishing a,b", "Paused ", ab, rb, ab]),
        ("published", ["Accepting", "Paused ", ab, rb, ab]),
        ("offered", ["Accepting a,b", "Paused ", ab, rb, ab]),
        ("accepted", ["Switching", "Paused ", ab, rb, ab]),
        ("switching", ["write a:2/1+2 b:2/1+2", "Paused ", ab, rb, "write a:2/1+2 b:2/1+2"]),
        ("sending", ["Switching a,b", "Paused ", "Switching a,b", rb, "Switching a,b"]),
        ("switched", ["Draining", "Paused ", "Draining", rb, "Draining"]),
        ("drained", ["Forgetting", "Paused ", "Forgetting", rb, "Forgetting"]),
        ("forgetting", ["write a:2/2 b:2/2"; 5]),
        ("wiping", ["Forgetting a,b"; 5]),
        ("wiped", ["Completed"; 5]),
        ("completed", ["rest"; 5]),
        ("aborted", ["rest"; 5]),
        ("rolled back", ["rest"; 5]),
        ("refused", ["rest"; 5]),
    ]);
    for (name, cells) in &table {
        assert_eq!(cells.each_ref().map(String::as_str), expected[name], "{name}");
    }
    assert_eq!(table.len(), expected.len());
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_its_reason() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut mesh = both(1, &[], &[1]);
    let (name, mut gone) = node("gone", 1, &[], &[1]);
    gone.revoked = true;
    mesh.nodes.insert(name, gone);
    let refused = |spec: KeyRotationSpec| told(&next(&rotation(spec, None), &mesh, now()));
    let spec = KeyRotationSpec::default;

    for (spec, word) in [
        (KeyRotationSpec { nodes: names(&["x"]), ..spec() }, "UnknownNode"),
        (KeyRotationSpec { canaries: names(&["x"]), ..spec() }, "UnknownNode"),
        (KeyRotationSpec { nodes: names(&["gone"]), ..spec() }, "RevokedNode"),
        (KeyRotationSpec { sites: names(&["x"]), ..spec() }, "UnknownSite"),
        (KeyRotationSpec { sites: names(&["site-gone"]), ..spec() }, "NoNodes"),
        (
            KeyRotationSpec { nodes: names(&["a"]), canaries: names(&["b"]), ..spec() },
            "StrayCanary",
        ),
        (
            KeyRotationSpec { nodes: names(&["a"]), canary_sites: names(&["site-b"]), ..spec() },
            "NoCanaries",
        ),
        (KeyRotationSpec { deadline: Some("soon".into()), ..spec() }, "BadDeadline"),
        (KeyRotationSpec { deadline: Some(now().to_string()), ..spec() }, "BadDeadline"),
        (KeyRotationSpec { aborted: true, ..spec() }, "EndedEarly"),
    ] {
        assert_eq!(refused(spec), format!("refuse {word}"));
    }
    assert_eq!(refused(spec()), "begin 2");
}

#[test]
fn of_two_rotations_the_second_gets_a_conflict() {
    let mut mesh = both(1, &[], &[1]);
    mesh.running = Some(Running { uid: "another".into(), name: "manual-1".into() });

    let next = next(&rotation(KeyRotationSpec::default(), None), &mesh, now());

    let Next::Refuse(refusal) = next else { panic!("{next:?}") };
    assert_eq!(refusal, Refusal::Conflict("manual-1".into()));
    assert!(refusal.to_string().contains("keyrotation manual-1 is under way"));
}

#[test]
fn it_does_not_begin_while_the_mesh_is_degraded_unless_forced() {
    let mut mesh = both(1, &[], &[1]);
    mesh.degraded = Some("a pool is full".into());
    let begin = |spec: KeyRotationSpec| told(&next(&rotation(spec, None), &mesh, now()));

    assert_eq!(begin(KeyRotationSpec::default()), "pend MeshDegraded");
    assert_eq!(begin(KeyRotationSpec { force: true, ..Default::default() }), "begin 2");
    let paused = KeyRotationSpec { force: true, paused: true, ..Default::default() };
    assert_eq!(begin(paused), "pend Paused");
}

#[test]
fn no_number_is_used_twice_and_no_node_can_use_them_up() {
    let begin = |mesh: &World| told(&next(&rotation(Default::default(), None), mesh, now()));
    let mut mesh = both(1, &[], &[1]);

    mesh.newest = KeyEpoch(7);
    assert_eq!(begin(&mesh), "begin 8");
    mesh.nodes.get_mut("a").unwrap().newest = Some(KeyEpoch(12));
    assert_eq!(begin(&mesh), "begin 13");
    mesh.nodes.get_mut("b").unwrap().newest = Some(KeyEpoch(u32::MAX));
    assert_eq!(begin(&mesh), "begin 1008");
    mesh.running = Some(Running { uid: UID.into(), name: "r".into() });
    assert_eq!(begin(&mesh), "begin 7", "claimed before it was cut off");
}

#[test]
fn canaries_go_first_and_alone_then_waves_of_the_wanted_size() {
    let spec =
        KeyRotationSpec { canaries: vec!["c".into()], wave_size: Some(2), ..Default::default() };
    let mut mesh = world(["a", "b", "c", "d"].map(|name| node(name, 1, &[], &[1])));
    let wave_of = |next: Next| match next {
        Next::Begin(progress) | Next::Move(progress) => progress.wave,
        other => panic!("{other:?}"),
    };

    let first = wave_of(next(&rotation(spec.clone(), None), &mesh, now()));
    assert_eq!((first.number, first.nodes), (1, vec!["c".to_owned()]));

    mesh.nodes.insert("c".into(), node("c", 2, &[1, 2], &[1, 2]).1);
    let switched = wave(1, &["c"], &["c"]);
    confirm(&mut mesh, &["a", "b", "c", "d"], ConfirmedStep::Switched, &switched);
    let progress = progress(Phase::Switching, switched);
    let second = wave_of(next(&rotation(spec, Some(progress)), &mesh, now()));
    assert_eq!((second.number, second.nodes), (2, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn confirmations_of_other_keys_waves_or_rotations_count_for_nothing() {
    let good = wave(1, &["a", "b"], &["a", "b"]);
    let accepting = rotation(Default::default(), Some(progress(Phase::Accepting, good.clone())));
    let mut mesh = both(1, &[1, 2], &[1, 2]);
    confirm(&mut mesh, &["a", "b"], ConfirmedStep::Accepted, &good);
    assert_eq!(told(&next(&accepting, &mesh, now())), "Switching");

    let spoilt: [fn(&mut Confirmation); 4] = [
        |c| c.rotation = "another".into(),
        |c| c.wave = 2,
        |c| c.step = ConfirmedStep::Switched,
        |c| c.digest = "0".repeat(64),
    ];
    for spoil in spoilt {
        let mut mesh = mesh.clone();
        spoil(mesh.nodes.get_mut("b").unwrap().confirmed.as_mut().unwrap());
        assert_eq!(told(&next(&accepting, &mesh, now())), "Accepting b");
    }
}

#[test]
fn whoever_is_away_is_waited_for_until_the_deadline_and_then_left_out() {
    let first = wave(1, &["a", "b", "d"], &["a", "b", "d"]);
    let mut mesh = world(["a", "b", "d"].map(|name| node(name, 2, &[1, 2], &[1, 2])));
    mesh.nodes.extend([node("c", 1, &[], &[1])]);
    for name in ["a", "b", "d"] {
        mesh.nodes.get_mut(name).unwrap().unreachable = ["c".to_owned()].into();
    }
    confirm(&mut mesh, &["a", "b", "d"], ConfirmedStep::Switched, &first);
    let draining = rotation(Default::default(), Some(progress(Phase::Draining, first.clone())));
    let late = at("2026-11-29T10:00:00Z");

    assert_eq!(told(&next(&draining, &mesh, now())), "AwaitingAway c");
    assert_eq!(told(&next(&draining, &mesh, late)), "Forgetting");
    let forgetting = rotation(Default::default(), Some(progress(Phase::Forgetting, first)));
    assert_eq!(told(&next(&forgetting, &mesh, late)), "write a:2/2 b:2/2 c:2/2 d:2/2");

    // Back in time: a wave of its own.
    for node in mesh.nodes.values_mut() {
        node.unreachable.clear();
    }
    assert_eq!(told(&next(&draining, &mesh, now())), "Publishing");
    assert_eq!(told(&next(&draining, &mesh, late)), "Publishing", "whoever is there is not cut");
}

#[test]
fn an_abort_takes_back_what_nobody_uses_and_a_roll_back_everything_that_is_held() {
    let mixed = world([node("a", 2, &[1, 2], &[1, 2]), node("b", 1, &[1, 2], &[1, 2])]);
    let draining = |outcome| {
        let progress = Progress { outcome, ..progress(Phase::Draining, wave(2, &[], &["a"])) };
        let spec = KeyRotationSpec { roll_back: true, ..Default::default() };
        let spec = if outcome == RotationOutcome::RolledBack { spec } else { Default::default() };
        told(&next(&rotation(spec, Some(progress)), &mixed, now()))
    };

    assert_eq!(draining(RotationOutcome::Aborted), "write b:1/1");
    assert_eq!(draining(RotationOutcome::RolledBack), "write a:1/1+2");
}

#[test]
fn plain_peers_know_the_old_key_by_heart_until_the_deadline() {
    let all = wave(1, &["a", "b"], &["a", "b"]);
    let mut mesh = both(2, &[1, 2], &[1, 2]);
    mesh.plain_peers = BTreeMap::from([("laptop".to_owned(), BTreeSet::new())]);
    confirm(&mut mesh, &["a", "b"], ConfirmedStep::Switched, &all);
    let draining = rotation(Default::default(), Some(progress(Phase::Draining, all)));

    assert_eq!(told(&next(&draining, &mesh, now())), "AwaitingAway laptop");
}

#[test]
fn a_plain_peer_is_waited_for_only_if_a_node_that_it_calls_has_a_new_key() {
    let only_a = wave(1, &["a"], &["a"]);
    let mut mesh = world([node("a", 2, &[1, 2], &[1, 2]), node("b", 1, &[], &[1])]);
    confirm(&mut mesh, &["a", "b"], ConfirmedStep::Switched, &only_a);
    let spec = KeyRotationSpec { nodes: vec!["a".into()], ..Default::default() };
    let draining = rotation(spec, Some(progress(Phase::Draining, only_a)));
    let mut with_entries = |entries: &[&str]| {
        let entries = entries.iter().map(|name| (*name).to_owned()).collect();
        mesh.plain_peers = BTreeMap::from([("laptop".to_owned(), entries)]);
        told(&next(&draining, &mesh, now()))
    };

    assert_eq!(with_entries(&["b", "gone"]), "Forgetting");
    assert_eq!(with_entries(&["b", "a"]), "AwaitingAway laptop");
    assert_eq!(with_entries(&[]), "AwaitingAway laptop", "it calls every node");
}

#[test]
fn nobody_is_away_unless_a_majority_says_so() {
    let apart = |pairs: &[(&str, &str)]| {
        let mut mesh = world(["a", "b", "c", "d", "e"].map(|name| node(name, 1, &[], &[1])));
        for (who, whom) in pairs {
            mesh.nodes.get_mut(*who).unwrap().unreachable.insert((*whom).to_owned());
        }
        away(&mesh).into_iter().collect::<String>()
    };

    assert_eq!(apart(&[]), "");
    assert_eq!(apart(&[("a", "e"), ("b", "e"), ("c", "e")]), "", "d still reaches it");
    assert_eq!(apart(&[("a", "e"), ("b", "e"), ("c", "e"), ("d", "e")]), "e");
    assert_eq!(apart(&[("e", "a"), ("e", "b"), ("e", "c"), ("e", "d")]), "e", "or it says so");
    let both = ["a", "b", "c"].map(|who| [(who, "d"), (who, "e")]).concat();
    assert_eq!(apart(&both), "de", "two that died together");
    let thirds: Vec<_> = both.iter().copied().chain([("a", "b"), ("a", "c"), ("b", "c")]).collect();
    assert_eq!(apart(&thirds), "", "nobody has a majority");
}

#[test]
fn the_keys_of_a_lost_disk_go_at_once_and_nobody_is_waited_for() {
    let mut world = both(1, &[1], &[1]);
    let spec = KeyRotationSpec { nodes: vec!["a".into()], lost: true, ..Default::default() };
    let mut rotation = Rotation { uid: UID.to_owned(), spec, ..Default::default() };
    // Its peers may not have noticed yet, or all of them have: it makes no difference.
    for away in [BTreeSet::new(), BTreeSet::from(["a".to_owned()])] {
        world.nodes.get_mut("b").unwrap().unreachable = away;
        let Next::Begin(progress) = next(&rotation, &world, now()) else { panic!("begins") };
        assert_eq!((progress.phase, progress.epoch), (Phase::Forgetting, KeyEpoch(2)));
        rotation.progress = Some(progress);
        let write = Write { node: "a".into(), key_epoch: KeyEpoch(2), epochs: set(&[2]) };
        assert_eq!(next(&rotation, &world, now()), Next::Write(vec![write]));
        rotation.progress = None;
    }

    let unnamed = KeyRotationSpec { lost: true, ..Default::default() };
    let unnamed = Rotation { uid: UID.to_owned(), spec: unnamed, ..Default::default() };
    assert_eq!(next(&unnamed, &world, now()), Next::Refuse(Refusal::LostUnnamed));
}
