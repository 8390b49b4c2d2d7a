//! Encryption of a pair of sites, in the place of the mesh's.

use api::SiteEncryption;

use super::*;

fn of(sites: &[&str], encryption: Encryption) -> SiteEncryption {
    SiteEncryption { sites: sites.iter().map(|&site| site.to_owned()).collect(), encryption }
}

/// This node and n2 stand in a, n3 in b.
fn two_sites(view: &mut View, site_encryption: Vec<SiteEncryption>) {
    for (node, site) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        view.nodes.get_mut(node).unwrap().site = Some(site.to_owned());
    }
    view.site_encryption = site_encryption;
}

/// Prefixes of others that may cross a device in clear, either way, or in frames of the data path.
fn opened(plan: &Plan) -> BTreeSet<IpNet> {
    let devices = plan.guard.open.values().flat_map(|open| open.to.union(&open.from)).copied();
    let frames = plan.peers.clear.iter().flat_map(|peer| peer.prefixes.iter().copied());
    devices.chain(frames).collect()
}

#[test]
fn within_a_site_packets_go_in_clear_while_those_that_leave_it_are_sealed() {
    for backend in [Backend::Direct, Backend::Vxlan, Backend::Udp] {
        let plan = plan(Encryption::Required, backend, |view, _| {
            two_sites(view, vec![of(&["a"], Encryption::None)]);
        });

        assert_eq!(plan.refusals, [], "{backend}");
        assert_eq!(carriers(&plan), [backend, Backend::Wireguard], "{backend}");
        let near = BTreeSet::from([net("10.42.2.0/24"), net("fd42:0:0:2::/64")]);
        assert_eq!(opened(&plan), near, "{backend}");
    }
}

#[test]
fn a_pair_of_sites_is_sealed_in_a_mesh_that_is_not() {
    let plan = plan(Encryption::None, Backend::Vxlan, |view, _| {
        two_sites(view, vec![of(&["b", "a"], Encryption::Required)]);
        with_machines(view);
    });

    assert_eq!(carriers(&plan), [Backend::Vxlan, Backend::Wireguard]);
    assert!(!opened(&plan).contains(&net("10.42.3.0/24")), "{:?}", opened(&plan));
    assert!(plan.guard.machines.contains(&net("192.0.2.3/32")), "{:?}", plan.guard.machines);
    assert!(!plan.guard.machines.contains(&net("192.0.2.2/32")), "{:?}", plan.guard.machines);
}

#[test]
fn who_had_a_key_is_never_sent_to_in_clear_between_sites_that_prefer_to_seal() {
    let without_key = |allow_downgrade, had: bool| {
        let plan = plan(Encryption::Required, Backend::Vxlan, |view, _| {
            two_sites(view, vec![of(&["a"], Encryption::Preferred)]);
            view.allow_downgrade = allow_downgrade;
            for name in ["n2", "n3"] {
                view.nodes.get_mut(name).unwrap().keys.clear();
                view.sealed.extend(had.then(|| name.to_owned()));
            }
        });
        plan.carriers
    };

    assert_eq!(without_key(false, true), BTreeMap::new());
    let only_near = BTreeMap::from([("n2".to_owned(), Backend::Vxlan)]);
    assert_eq!(without_key(true, true), only_near);
    assert_eq!(without_key(false, false), only_near);
}

#[test]
fn a_plain_backend_is_refused_where_no_pair_may_be_in_clear_and_the_field_is_named() {
    let refused = plan(Encryption::Required, Backend::Vxlan, |view, _| {
        two_sites(view, vec![of(&["a", "b"], Encryption::Required)]);
    });

    assert_eq!(refused.refusals, [Refusal::Plain(Backend::Vxlan)]);
    assert!(refused.refusals[0].to_string().contains("siteEncryption"));
    assert!(opened(&refused).is_empty() && !refused.takes_part());
}
