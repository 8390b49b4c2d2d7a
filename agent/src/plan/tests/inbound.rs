//! Which devices the mesh's addresses must not come in by, and the order in which that is said.

use super::*;

fn barred(plan: &Plan) -> Vec<(String, &str)> {
    let rules = plan.barred.iter();
    rules.map(|rule| (rule.source.to_string(), rule.device.as_str())).collect()
}

fn asked_first() -> LocalLookups {
    [Family::V4, Family::V6].map(|family| (family, [barred::FIRST].into())).into()
}

#[test]
fn nothing_of_the_mesh_comes_in_by_any_foreign_device() {
    let foreign = ["docker0", "eth0"].map(str::to_owned).into();
    let both = Facts { foreign, ..facts() };
    let pools = ["10.42.0.0/16", "fd42::/48"].map(str::to_owned);
    let on = |device| pools.clone().map(|pool| (pool, device));

    let mut rules = barred(&Plan::new(&view([1, 2]), &both))
        .into_iter()
        .map(|(p, d)| (d == "eth0", p, d.to_owned()))
        .collect::<Vec<_>>();
    rules.sort();

    let wanted = [on("docker0"), on("eth0")].concat();
    assert_eq!(rules.iter().map(|(_, p, d)| (p.clone(), d.as_str())).collect::<Vec<_>>(), wanted);
    let bridge = Facts { devices: ["docker0".to_owned()].into(), ..both };
    let beside = Plan::new(&view([1, 2]), &bridge);
    assert_eq!(barred(&beside), on("eth0"), "pods are behind the other");
    let v4 = Plan::new(&view([1, 2]), &Facts { ipv6: false, ..facts() });
    assert_eq!(barred(&v4), [(pools[0].clone(), "eth0")]);
}

#[test]
fn a_device_that_is_open_for_plain_routes_is_left_to_the_table_and_barred_again_last() {
    let mut open = view([1, 2]);
    (open.encryption, open.backend) = (Encryption::None, Backend::Direct);
    let at = ["192.0.2.2", "2001:db8::2"].map(|at| (at.parse().unwrap(), "eth0".to_owned()));
    let facts = Facts { on_link: at.into(), ..facts() };
    let (closed, open) = (Plan::new(&view([1, 2]), &facts), Plan::new(&open, &facts));
    assert!(open.barred.is_empty() && !closed.barred.is_empty());
    let is = |plan: &Plan| Actual {
        barred: plan.barred.clone(),
        table: Some(plan.guard.clone()),
        local: asked_first(),
        ..Actual::default()
    };

    let opening = open.changes_from(&is(&closed));
    let closing = closed.changes_from(&is(&open));

    let at = |changes: &[Change], wanted: fn(&Change) -> bool| changes.iter().position(wanted);
    let table: fn(&Change) -> bool = |change| matches!(change, Change::Table(_));
    let unbar = at(&opening, |change| matches!(change, Change::Unbar(_))).unwrap();
    assert!(unbar < at(&opening, table).unwrap(), "{opening:?}");
    let bar = at(&closing, |change| matches!(change, Change::Bar(_))).unwrap();
    let closed = closing.iter().rposition(table).unwrap();
    assert!(bar > closed, "{closing:?}");
}

/// Also where somebody has flushed all rules: without any, nothing reaches this machine.
#[test]
fn local_addresses_are_looked_for_behind_the_guards_rules_and_others_places_stay() {
    let plan = Plan::new(&view([1, 2]), &facts());
    let moves = |places: &[u32]| {
        let local = [(Family::V4, places.iter().copied().collect())].into();
        let actual = Actual { local, ..Actual::default() };
        let changes = plan.changes_from(&actual);
        changes.iter().any(|change| matches!(change, Change::LocalBehind(Family::V4)))
    };

    assert!(moves(&[barred::FIRST]) && moves(&[barred::FIRST, barred::BEHIND]) && moves(&[]));
    assert!(!moves(&[barred::BEHIND]) && !moves(&[100]));
}
