use std::time::Instant;

use keys::PrivateKey;

use super::*;
use crate::source::Views;

fn document(name: &str, subnet: &str, seed: u8) -> String {
    let key = PrivateKey::from_bytes([seed; 32]).public();
    format!(
        "---\nkind: MeshNode\nmetadata: {{name: {name}}}\nspec: {{subnets: [{subnet}]}}\n\
         status: {{publicKeys: [{{epoch: 1, publicKey: \"{key}\"}}], \
         endpoints: [\"192.0.2.1:51820\"]}}\n"
    )
}

const MESH: &str = "apiVersion: hawser.dev/v1alpha1\nkind: Mesh   # metadata.name: default\n\
    spec:\n  pools: [{cidr: 10.42.0.0/16, nodePrefixLength: 24}, \
    {cidr: \"fd42::/48\", nodePrefixLength: 64}]\n  backend: wireguard\n  encryption: Required\n";

async fn until(views: &mut Views, holds: impl Fn(&View) -> bool) {
    let reached = views.wait_for(|view| view.as_deref().is_some_and(&holds));
    let reached = tokio::time::timeout(Duration::from_secs(5), reached).await;
    reached.expect("the view in time").expect("the follower lives");
}

#[tokio::test]
async fn a_changed_file_is_a_changed_view_also_by_rename() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("view.yaml");
    fs::write(&path, format!("{MESH}{}", document("a", "10.42.1.0/24", 1))).unwrap();
    let (publisher, mut views) = Publisher::new(None);
    let follower = tokio::spawn(follow(path.clone(), publisher));
    until(&mut views, |view| view.nodes.len() == 1).await;

    let two = document("b", "10.42.2.0/24", 2);
    let both = format!("{MESH}{}{two}", document("a", "10.42.1.0/24", 1));
    fs::write(directory.path().join("new"), both).unwrap();
    let renamed = Instant::now();
    fs::rename(directory.path().join("new"), &path).unwrap();

    until(&mut views, |view| view.nodes.len() == 2).await;
    assert!(renamed.elapsed() < Duration::from_secs(1));
    follower.abort();
}

#[test]
fn a_mesh_of_ten_thousand_nodes_is_read() {
    let node = |number: u32| {
        let subnet = std::net::Ipv4Addr::from_bits(0x0a40_0000 + (number << 8));
        document(&format!("node-{number}"), &format!("{subnet}/24"), 1)
    };

    let documents = parse(&(0..10_000).map(node).collect::<String>()).unwrap();

    assert_eq!(documents.len(), 10_000);
}

#[test]
fn overlapping_subnets_name_both_nodes_and_leave_the_last_view() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("view.yaml");
    let (mut publisher, _views) = Publisher::new(None);
    fs::write(&path, format!("{MESH}{}", document("a", "10.42.1.0/24", 1))).unwrap();
    publisher.publish(load(&path, &mut publisher_of(&path)).unwrap());

    let other = document("b", "10.42.1.0/25", 2);
    fs::write(&path, format!("{MESH}{}{other}", document("a", "10.42.1.0/24", 1))).unwrap();
    let error = load(&path, &mut publisher).unwrap_err().to_string();

    assert!(error.contains("\"a\"") && error.contains("\"b\""), "{error}");
    assert_eq!(publisher.last().unwrap().nodes.len(), 1);
}

fn publisher_of(_path: &Path) -> Publisher {
    Publisher::new(None).0
}

#[test]
fn text_that_is_no_yaml_and_a_file_without_a_mesh_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("view.yaml");
    for text in ["kind: [", "", "---\n---\n", &document("a", "10.42.1.0/24", 1)] {
        fs::write(&path, text).unwrap();

        assert!(load(&path, &mut publisher_of(&path)).is_err(), "{text:?}");
    }
}
