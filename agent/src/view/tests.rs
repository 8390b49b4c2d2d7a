use keys::PrivateKey;
use serde_json::{Value, json};

use super::*;

fn mesh() -> Value {
    json!({"kind": "Mesh", "metadata": {"name": "default"}, "spec": {"pools": [
        {"cidr": "10.42.0.0/16", "nodePrefixLength": 24},
        {"cidr": "fd42::/48", "nodePrefixLength": 64}]}})
}

fn key(seed: u8) -> String {
    PrivateKey::from_bytes([seed; 32]).public().to_string()
}

fn node(name: &str, number: u8) -> Value {
    json!({"kind": "MeshNode", "metadata": {"name": name},
        "spec": {"subnets": [format!("10.42.{number}.0/24"), format!("fd42:0:0:{number}::/64")]},
        "status": {"publicKeys": [{"epoch": 1, "publicKey": key(number)}],
                   "endpoints": [format!("192.0.2.{number}:51820")]}})
}

fn peer(name: &str, address: &str) -> Value {
    json!({"kind": "MeshPeer", "metadata": {"name": name},
        "spec": {"publicKey": key(200), "addresses": [address]}})
}

fn judge(objects: Vec<Value>, previous: Option<&View>) -> Judgement {
    let (resources, mut complaints) = Resources::decode(objects);
    let mut judgement = View::judge(&resources, previous);
    complaints.append(&mut judgement.complaints);
    Judgement { complaints, ..judgement }
}

#[test]
fn good_resources_become_a_view_without_complaint() {
    let judgement =
        judge(vec![mesh(), node("a", 1), node("b", 2), peer("laptop", "10.42.200.7/32")], None);

    let view = judgement.view.unwrap();
    assert_eq!(judgement.complaints, vec![]);
    assert_eq!(judgement.overlaps, vec![]);
    assert_eq!(view.nodes.len(), 2);
    assert_eq!(view.nodes["a"].endpoints, vec!["192.0.2.1:51820".parse().unwrap()]);
    assert_eq!(view.peers["laptop"].addresses, vec!["10.42.200.7/32".parse().unwrap()]);
}

#[test]
fn a_malformed_object_is_reported_and_left_out_alone() {
    let objects = [
        json!({"kind": "MeshNode", "metadata": {"name": "bad"}, "spec": {"subnets": 7}}),
        json!({"kind": "MeshNode", "metadata": {"name": "bad"}, "spec": {"subnets": ["10.42.1.5/24"]}}),
        json!({"kind": "MeshNode", "metadata": {"name": "bad"}, "spec": {"subnets": ["0.0.0.0/0"]}}),
        json!({"kind": "MeshNode", "metadata": {"name": "Bad\n"}, "spec": {}}),
        json!({"kind": "MeshNode", "spec": {}}),
        json!({"kind": "MeshPeer", "metadata": {"name": "bad"}, "spec": {"publicKey": "x", "addresses": ["10.42.3.3/32"]}}),
        json!({"kind": "MeshPeer", "metadata": {"name": "bad"}, "spec": {"publicKey": key(9), "addresses": ["0.0.0.0/0"]}}),
        json!({"kind": "MeshPeer", "metadata": {"name": "bad"}, "spec": {"publicKey": key(9), "addresses": []}}),
        json!({"kind": "Pod", "metadata": {"name": "bad"}}),
        json!([1, 2]),
    ];
    for object in objects {
        let judgement = judge(vec![mesh(), node("good", 1), object.clone()], None);

        let view = judgement.view.unwrap();
        assert_eq!(judgement.complaints.len(), 1, "{object}: {:?}", judgement.complaints);
        assert_eq!(view.nodes.keys().collect::<Vec<_>>(), ["good"], "{object}");
        assert!(view.peers.is_empty(), "{object}");
    }
}

#[test]
fn a_bad_key_or_endpoint_costs_only_itself() {
    let mut object = node("a", 1);
    object["status"]["publicKeys"] = json!([
        {"epoch": 1, "publicKey": key(1)},
        {"epoch": 2, "publicKey": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"epoch": 0, "publicKey": key(3)}]);
    object["status"]["endpoints"] = json!([
        "127.0.0.1:51820",
        "10.42.9.9:51820",
        "224.0.0.1:1",
        "0.0.0.0:1",
        "[::1]:1",
        "[::ffff:10.42.1.1]:51820",
        "192.0.2.1:0",
        "name:51820",
        "192.0.2.9:51820"
    ]);

    let judgement = judge(vec![mesh(), object], None);

    let view = judgement.view.unwrap();
    assert_eq!(view.nodes["a"].keys.len(), 1);
    assert_eq!(view.nodes["a"].endpoints, vec!["192.0.2.9:51820".parse().unwrap()]);
    assert_eq!(judgement.complaints.len(), 10, "{:?}", judgement.complaints);
}

#[test]
fn the_key_that_senders_use_comes_first() {
    let mut object = node("a", 1);
    object["spec"]["keyEpoch"] = json!(3);
    object["status"]["publicKeys"] = json!([
        {"epoch": 2, "publicKey": key(1)}, {"epoch": 3, "publicKey": key(2)}]);

    let view = judge(vec![mesh(), object], None).view.unwrap();

    assert_eq!(view.nodes["a"].keys[0].0, KeyEpoch(3));
    assert_eq!(view.nodes["a"].keys.len(), 2);
}

#[test]
fn overlapping_nodes_are_both_named_and_nobody_new_gets_the_subnet() {
    let mut wide = node("b", 2);
    wide["spec"]["subnets"] = json!(["10.42.0.0/20"]);

    let judgement = judge(vec![mesh(), node("a", 1), wide], None);

    let text = judgement.overlaps[0].to_string();
    assert!(text.contains("\"a\"") && text.contains("\"b\""), "{text}");
    let view = judgement.view.unwrap();
    assert_eq!(view.nodes["a"].subnets, vec!["fd42:0:0:1::/64".parse().unwrap()]);
    assert!(view.nodes["b"].subnets.is_empty());
}

#[test]
fn a_newcomer_takes_neither_subnet_nor_key_from_the_one_who_had_it() {
    let before = judge(vec![mesh(), node("b", 2)], None).view.unwrap();
    let mut thief = node("a", 2);
    thief["spec"]["subnets"] = json!(["10.42.2.128/25"]);

    let judgement = judge(vec![mesh(), thief, node("b", 2)], Some(&before));

    let view = judgement.view.unwrap();
    assert_eq!(view.nodes["b"], before.nodes["b"]);
    assert!(view.nodes["a"].subnets.is_empty());
    assert!(view.nodes["a"].keys.is_empty());
    assert_eq!(judgement.complaints.len(), 1);
}

#[test]
fn a_subnet_outlives_the_pool_it_came_from_but_nobody_gets_a_whole_pool() {
    let mut stray = node("a", 1);
    stray["spec"]["subnets"] = json!(["10.77.1.0/24"]);
    let mut greedy = node("b", 2);
    greedy["spec"]["subnets"] = json!(["10.0.0.0/8"]);

    let judgement = judge(vec![mesh(), stray, greedy], None);

    let view = judgement.view.unwrap();
    assert_eq!(view.nodes["a"].subnets, vec!["10.77.1.0/24".parse().unwrap()]);
    assert!(!view.nodes.contains_key("b"));
    assert_eq!(judgement.complaints.len(), 1);
}

#[test]
fn a_plain_peer_inside_a_nodes_subnet_is_an_overlap() {
    let judgement = judge(vec![mesh(), node("a", 1), peer("laptop", "10.42.1.9/32")], None);

    assert_eq!(judgement.overlaps.len(), 1);
}

#[test]
fn without_a_usable_mesh_the_last_one_holds() {
    let before = judge(vec![mesh(), node("a", 1)], None).view.unwrap();
    let mut bad = mesh();
    bad["spec"]["pools"][0]["cidr"] = json!("10.42.0.1/16");

    assert!(judge(vec![node("a", 1)], None).view.is_none());
    assert!(judge(vec![bad.clone(), node("a", 1)], None).view.is_none());
    assert_eq!(judge(vec![bad, node("a", 1)], Some(&before)).view.unwrap(), before);
}

#[test]
fn a_view_survives_the_disk_and_garbage_counts_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let view = judge(vec![mesh(), node("a", 1), peer("p", "10.42.200.7/32")], None).view.unwrap();

    store::save(directory.path(), &view).unwrap();

    assert_eq!(store::load(directory.path()), Some(view));
    std::fs::write(directory.path().join("view.json"), b"{").unwrap();
    assert_eq!(store::load(directory.path()), None);
}

#[test]
fn who_ever_had_a_key_is_remembered_across_a_restart_until_it_leaves_the_mesh() {
    let directory = tempfile::tempdir().unwrap();
    let before = judge(vec![mesh(), node("a", 1), node("b", 2)], None).view.unwrap();
    store::save(directory.path(), &before).unwrap();
    let mut bare = node("a", 1);
    bare["status"] = json!({});

    let last = store::load(directory.path()).unwrap();
    let after = judge(vec![mesh(), bare.clone()], Some(&last)).view.unwrap();

    assert!(after.nodes["a"].keys.is_empty() && !after.nodes["a"].had_key());
    assert!(after.sealed.contains("a"), "{:?}", after.sealed);
    let later = judge(vec![mesh(), bare.clone()], Some(&after)).view.unwrap();
    assert_eq!(later.sealed, ["a".to_owned()].into());
    let never = judge(vec![mesh(), bare], None).view.unwrap();
    assert!(never.sealed.is_empty());
}

#[test]
fn a_key_that_nobody_asked_for_is_not_listened_to() {
    let mut node = node("a", 1);
    node["spec"]["keyEpoch"] = json!(1);
    node["spec"]["epochs"] = json!([1, 2]);
    let published = |epoch, seed| json!({"epoch": epoch, "publicKey": key(seed)});
    node["status"]["publicKeys"] = json!([published(1, 1), published(2, 2), published(9, 9)]);

    let view = judge(vec![mesh(), node], None).view.unwrap();

    let epochs: Vec<u32> = view.nodes["a"].keys.iter().map(|(epoch, _)| epoch.0).collect();
    assert_eq!(epochs, [1, 2]);
}

#[test]
fn a_revoked_key_is_refused_for_ever_whoever_publishes_it() {
    let mut revoked = node("a", 1);
    revoked["spec"]["revoked"] = json!(true);
    let before = judge(vec![mesh(), revoked], None).view.unwrap();
    assert_eq!(before.revoked_keys.len(), 1);

    // Its object is gone; another node, and a plain peer, come with its key.
    let mut again = node("b", 2);
    again["status"]["publicKeys"] = json!([{"epoch": 1, "publicKey": key(1)}]);
    let mut laptop = peer("laptop", "10.42.200.7/32");
    laptop["spec"]["publicKey"] = json!(key(1));
    let stored = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
    let after = judge(vec![mesh(), again.clone(), laptop], Some(&stored));
    assert_eq!(after.complaints.len(), 2, "{:?}", after.complaints);
    let after = after.view.unwrap();
    assert!(after.nodes["b"].keys.is_empty() && after.peers.is_empty());

    // Who never saw it has the Mesh's word.
    let mut mesh = mesh();
    mesh["status"] = json!({"revokedKeys": [key(1)]});
    let told = judge(vec![mesh, again], None).view.unwrap();
    assert!(told.nodes["b"].keys.is_empty());
}

#[test]
fn only_news_for_this_node_and_departures_are_urgent() {
    let view = |objects: Vec<Value>| judge(objects, None).view.unwrap();
    let before = view(vec![mesh(), node("a", 1), node("b", 2), peer("laptop", "10.42.200.7/32")]);
    let with = |change: &dyn Fn(&mut View)| {
        let mut after = before.clone();
        change(&mut after);
        after.is_urgent_after(&before, "a")
    };
    let node_of = |view: &mut View, name: &str, change: &dyn Fn(&mut Node)| {
        change(view.nodes.get_mut(name).unwrap());
    };
    let two = |node: &mut Node| node.epochs.extend([KeyEpoch(2)]);

    assert!(!with(&|_| {}));
    assert!(!with(&|view| node_of(view, "b", &two)), "one of many");
    assert!(with(&|view| node_of(view, "a", &two)), "a key to be made here");
    assert!(with(&|view| node_of(view, "b", &|node| node.revoked = true)));
    assert!(with(&|view| drop(view.nodes.remove("b"))));
    assert!(with(&|view| drop(view.peers.remove("laptop"))));
    assert!(with(&|view| view.removing = true));
}

#[test]
fn encryption_of_sites_is_read_and_one_that_names_no_pair_leaves_the_mesh_before_in_force() {
    let with = |sites: Value| {
        let mut mesh = mesh();
        mesh["spec"]["siteEncryption"] = json!([{"sites": sites, "encryption": "None"}]);
        mesh
    };
    let at = |name: &str, number, site: &str| {
        let mut node = node(name, number);
        node["spec"]["site"] = json!(site);
        node
    };
    let nodes = || vec![at("a", 1, "x"), at("b", 2, "y"), node("c", 3)];
    let all = |mesh| [vec![mesh], nodes()].concat();

    let view = judge(all(with(json!(["y", "x"]))), None).view.unwrap();
    assert_eq!(view.encryption_between("a", "b"), Encryption::None);
    assert_eq!(view.encryption_between("a", "c"), Encryption::Required);
    assert!(view.permits_clear());
    for malformed in [json!([]), json!(["x", "y", "z"])] {
        let judgement = judge(all(with(malformed.clone())), None);
        assert!(judgement.view.is_none(), "{malformed}");
        assert!(judgement.complaints[0].problem.contains("siteEncryption"));

        let judgement = judge(all(with(malformed)), Some(&view));
        assert_eq!(judgement.view.unwrap().site_encryption, view.site_encryption);
    }
}

#[test]
fn what_is_announced_keeps_endpoints_and_pools_out_and_its_holder_keeps_it() {
    let with = |name: &str, number: u8, routed: &[&str]| {
        let mut node = node(name, number);
        node["spec"]["routed"] = json!(routed);
        node
    };
    let mut gateway = with("a", 1, &["192.168.7.0/24", "10.42.9.0/24", "0.0.0.0/0", "fe80::/64"]);
    gateway["status"]["endpoints"] = json!(["192.168.7.10:51820", "203.0.113.7:51820"]);

    let judged = judge(vec![mesh(), gateway, node("b", 2)], None);

    let before = judged.view.unwrap();
    assert_eq!(before.nodes["a"].announced, ["192.168.7.0/24".parse().unwrap()]);
    assert_eq!(before.nodes["a"].endpoints, ["203.0.113.7:51820".parse().unwrap()]);
    assert_eq!(judged.complaints.len(), 3, "{:?}", judged.complaints);

    let both = vec![mesh(), with("a", 1, &["192.168.7.0/24"]), with("b", 2, &["192.168.0.0/16"])];
    let after = judge(both.clone(), Some(&before)).view.unwrap();
    assert_eq!((after.nodes["a"].announced.len(), after.nodes["b"].announced.len()), (1, 0));
    let unknown = judge(both, None).view.unwrap();
    assert!(unknown.nodes.values().all(|node| node.announced.is_empty()), "nobody had it");
}

#[test]
fn without_a_controller_the_view_settles_who_announces_what() {
    let asks = |name: &str, number: u8, prefix: &str| {
        let mut node = node(name, number);
        node["spec"]["prefixes"] = json!([prefix]);
        node
    };
    let objects = [mesh(), asks("a", 1, "192.168.7.0/24"), asks("b", 2, "192.168.0.0/16")];
    let (mut resources, _) = Resources::decode(objects);

    let complaints = resources.route_prefixes();

    let view = View::judge(&resources, None).view.unwrap();
    assert_eq!(view.nodes["a"].announced, ["192.168.7.0/24".parse().unwrap()]);
    assert!(complaints[0].to_string().contains("announced by node a"), "{complaints:?}");
}
