use super::*;
use crate::fixture;

fn nothing() -> MeshSet {
    MeshSet {
        encryption: None,
        site_encryption: vec![],
        backend: None,
        fallback: None,
        allow_downgrade: None,
        vxlan_shaped_port: None,
        relay: None,
        site_gateways: vec![],
        accept_risk: None,
    }
}

fn change(
    (before, carried): (Encryption, Backend),
    encryption: Option<Encryption>,
    backend: Option<Backend>,
    allow_downgrade: Option<bool>,
) -> Change {
    let mut mesh = fixture::mesh();
    (mesh.spec.encryption, mesh.spec.backend) = (before, carried);
    let wanted = MeshSet { encryption, backend, allow_downgrade, ..nothing() };
    Change::new(&mesh, &wanted, &fixture::nodes())
}

#[test]
fn whatever_opens_a_way_into_clear_text_needs_consent_and_the_way_back_does_not() {
    use Backend::{Direct, Vxlan, Wireguard};
    use Encryption::{None as Plain, Preferred, Required};
    for (before, encryption, backend, downgrade, asks) in [
        ((Required, Wireguard), Some(Preferred), None, None, true),
        ((Required, Wireguard), Some(Plain), None, None, true),
        ((Required, Wireguard), Some(Plain), Some(Vxlan), None, true),
        ((Preferred, Vxlan), Some(Plain), None, None, true),
        ((Preferred, Wireguard), None, Some(Vxlan), None, true),
        ((Plain, Wireguard), None, Some(Direct), None, true),
        ((Preferred, Vxlan), None, None, Some(true), true),
        ((Preferred, Vxlan), None, None, Some(false), false),
        ((Plain, Vxlan), None, Some(Direct), None, false),
        ((Plain, Vxlan), Some(Preferred), None, None, false),
        ((Preferred, Vxlan), Some(Required), Some(Wireguard), None, false),
        ((Required, Wireguard), None, None, Some(true), false),
    ] {
        let change = change(before, encryption, backend, downgrade);

        assert_eq!(change.risks_plaintext(), asks, "{before:?} {}", change.difference());
        assert_eq!(change.impossible(), None);
    }
}

#[test]
fn a_plain_backend_with_required_is_refused_before_anybody_is_asked() {
    let refused =
        |before, encryption, backend| change(before, encryption, backend, None).impossible();

    let required = (Encryption::Required, Backend::Wireguard);
    assert!(refused(required, None, Some(Backend::Vxlan)).unwrap().contains("in clear"));
    let plain = (Encryption::None, Backend::Udp);
    assert!(refused(plain, Some(Encryption::Required), None).is_some());
    assert_eq!(refused(plain, Some(Encryption::Required), Some(Backend::Wireguard)), None);
}

#[test]
fn a_plain_fallback_opens_a_way_into_clear_text_like_a_plain_backend() {
    use Backend::{Udp, Vxlan, Wireguard};
    let change = |encryption, list: &[Backend]| {
        let mut mesh = fixture::mesh();
        (mesh.spec.encryption, mesh.spec.backend) = (encryption, Wireguard);
        let wanted = MeshSet { fallback: Some(Fallback(list.to_vec())), ..nothing() };
        Change::new(&mesh, &wanted, &fixture::nodes())
    };

    let plain = change(Encryption::None, &[Udp, Vxlan]);
    assert!(plain.risks_plaintext());
    insta::assert_snapshot!(plain.text(), @r"
    Mesh default: fallback <none> -> udp,vxlan
    In clear, for whoever is on the network between them to read and to forge:
      all packets of pods where wireguard does not get through, by udp,vxlan, between node-1,node-2,node-3 (3 pairs)
    ");
    let refused = |list: &[Backend]| change(Encryption::Required, list).impossible();
    assert!(refused(&[Udp]).unwrap().contains("in clear"));
    assert!(refused(&[Wireguard]).unwrap().contains("repeats wireguard"));
    assert_eq!(refused(&[]), None);
}

#[test]
fn it_says_what_will_be_in_clear_between_whom() {
    let required = (Encryption::Required, Backend::Wireguard);

    let none = change(required, Some(Encryption::None), Some(Backend::Vxlan), None);
    insta::assert_snapshot!(none.text(), @r"
    Mesh default: encryption Required -> None, backend wireguard -> vxlan
    In clear, for whoever is on the network between them to read and to forge:
      all packets of pods, by vxlan, between node-1,node-2,node-3 (3 pairs)
    By way of Preferred no packet is lost; in one step, those on their way are.
    ");

    let preferred = change(required, Some(Encryption::Preferred), Some(Backend::Vxlan), Some(true));
    insta::assert_snapshot!(preferred.text(), @r"
    Mesh default: encryption Required -> Preferred, backend wireguard -> vxlan, allowDowngrade false -> true
    In clear, for whoever is on the network between them to read and to forge:
      packets of pods to nodes that never had a key: node-3
      and to nodes that had one and have it no more: <none>
      (whoever can take a node's key away then chooses clear text)
      and what any node still sends by vxlan is taken
    Sealed as before: node-1,node-2
    ");

    let sealed = change(required, Some(Encryption::Preferred), None, None);
    insta::assert_snapshot!(sealed.text(), @r"
    Mesh default: encryption Required -> Preferred
    Nothing is in clear while the backend is wireguard, but the API takes plain ones then.
    ");
}

/// Of three nodes with keys: two in aws, one in onprem.
fn of_sites(before: (Encryption, Backend, &[(&[&str], Encryption)]), wanted: &MeshSet) -> Change {
    let mut mesh = fixture::mesh();
    (mesh.spec.encryption, mesh.spec.backend) = (before.0, before.1);
    let of = |(sites, encryption): &(&[&str], Encryption)| SiteEncryption {
        sites: sites.iter().map(|&site| site.to_owned()).collect(),
        encryption: *encryption,
    };
    mesh.spec.site_encryption = before.2.iter().map(of).collect();
    let mut nodes = fixture::nodes();
    for (node, site) in nodes.iter_mut().zip(["aws", "aws", "onprem"]) {
        node.spec.site = Some(site.to_owned());
    }
    Change::new(&mesh, wanted, &nodes)
}

fn mode(sites: &[&str], encryption: Option<Encryption>) -> SiteMode {
    SiteMode { sites: sites.iter().map(|&site| site.to_owned()).collect(), encryption }
}

#[test]
fn clear_text_for_a_pair_of_sites_needs_consent_and_what_is_stricter_does_not() {
    use Encryption::{None as Plain, Preferred, Required};
    let aws: &[&str] = &["aws"];
    let both: &[&str] = &["onprem", "aws"];
    for (before, wanted, asks) in [
        ((Required, Backend::Wireguard, vec![]), mode(aws, Some(Plain)), true),
        ((Required, Backend::Vxlan, vec![(both, Preferred)]), mode(aws, Some(Preferred)), true),
        ((Required, Backend::Vxlan, vec![(aws, Preferred)]), mode(aws, Some(Plain)), true),
        ((Required, Backend::Vxlan, vec![(aws, Plain)]), mode(aws, Some(Preferred)), false),
        ((Required, Backend::Wireguard, vec![(aws, Plain)]), mode(aws, None), false),
        ((Plain, Backend::Vxlan, vec![]), mode(both, Some(Required)), false),
        ((Plain, Backend::Vxlan, vec![(both, Required)]), mode(&["aws", "onprem"], None), true),
    ] {
        let (encryption, backend, sites) = &before;
        let wanted = MeshSet { site_encryption: vec![wanted], ..nothing() };

        let change = of_sites((*encryption, *backend, sites), &wanted);

        assert_eq!(change.risks_plaintext(), asks, "{before:?} {}", change.difference());
        assert_eq!(change.impossible(), None, "{before:?}");
        assert!(!change.is_none());
    }
}

#[test]
fn a_plain_backend_stays_impossible_until_some_pair_of_sites_may_be_in_clear() {
    let required = (Encryption::Required, Backend::Wireguard, &[] as &[_]);
    let with = |modes: Vec<SiteMode>| {
        let backend = Some(Backend::Direct);
        of_sites(required, &MeshSet { backend, site_encryption: modes, ..nothing() }).impossible()
    };

    assert!(with(vec![mode(&["aws"], Some(Encryption::Required))]).is_some());
    assert_eq!(with(vec![mode(&["aws"], Some(Encryption::None))]), None);
}

#[test]
fn it_says_for_sites_what_will_be_in_clear_between_whom() {
    let wanted = MeshSet {
        backend: Some(Backend::Direct),
        site_encryption: vec![
            mode(&["aws"], Some(Encryption::None)),
            mode(&["onprem", "aws"], Some(Encryption::Preferred)),
            mode(&["mars"], Some(Encryption::Preferred)),
        ],
        ..nothing()
    };

    let change = of_sites((Encryption::Required, Backend::Wireguard, &[]), &wanted);

    insta::assert_snapshot!(change.text(), @r"
    Mesh default: siteEncryption <none> -> None within aws, Preferred between aws and onprem, Preferred within mars, backend wireguard -> direct
    No node stands in mars yet (MeshNode.spec.site).
    In clear, for whoever is on the network between them to read and to forge:
      all packets of pods, by direct, between node-1,node-2 (1 pairs)
      packets of pods to nodes that never had a key: node-3
      and what any node still sends by direct is taken
    Sealed as before: node-1,node-2
    By way of Preferred no packet is lost; in one step, those on their way are.
    ");
}

#[test]
fn the_port_of_the_shape_is_set_and_taken_away_and_opens_nothing() {
    let required = (Encryption::Required, Backend::Wireguard, &[] as &[_]);
    let set = |port| MeshSet { vxlan_shaped_port: Some(ShapedPort(port)), ..nothing() };

    let change = of_sites(required, &set(Some(8472)));
    assert_eq!(change.difference(), "vxlanShapedPort <none> -> 8472");
    assert!(!change.risks_plaintext());
    assert_eq!(change.patch()["spec"]["vxlanShapedPort"], 8472);
    assert!(of_sites(required, &set(None)).is_none());
    let both = (Encryption::None, Backend::Vxlan, &[] as &[_]);
    assert!(of_sites(both, &set(Some(4789))).impossible().unwrap().contains("8472"));
}

#[test]
fn relays_and_gateways_are_set_and_taken_away_and_risk_nothing() {
    let gateways = |site: &str, nodes: &[&str]| SiteGateways {
        site: site.to_owned(),
        gateways: nodes.iter().map(ToString::to_string).collect(),
    };
    let mut mesh = fixture::mesh();
    mesh.spec.site_gateways = vec![gateways("aws", &["node-1"]), gateways("edge", &["node-2"])];
    let wanted = MeshSet {
        relay: Some(Relay::Auto),
        site_gateways: vec![gateways("aws", &[]), gateways("edge", &["node-3", "node-2"])],
        ..nothing()
    };

    let change = Change::new(&mesh, &wanted, &fixture::nodes());

    assert!(!change.is_none() && !change.risks_plaintext());
    assert_eq!(
        change.difference(),
        "relay Never -> Auto, siteGateways aws by node-1; edge by node-2 -> edge by node-3, node-2"
    );
    let patch = change.patch();
    assert_eq!(patch["spec"]["relay"], "Auto");
    let edge = json!([{"site": "edge", "gateways": ["node-3", "node-2"]}]);
    assert_eq!(patch["spec"]["siteGateways"], edge);
    mesh.spec.site_gateways.remove(0);
    let wanted = MeshSet { site_gateways: vec![gateways("edge", &[])], ..nothing() };
    let none = Change::new(&mesh, &wanted, &fixture::nodes());
    assert_eq!(none.patch()["spec"]["siteGateways"], Value::Null);
}
