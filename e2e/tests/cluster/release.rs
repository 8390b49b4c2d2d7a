//! The chart through the CLI and a real Helm: looked at, installed, upgraded.

use std::process::Output;

use e2e::cluster::NAMESPACE;
use e2e::cluster::kubelets::{Kubelets, run};
use serde_json::Value;

fn hawser(cluster: &Kubelets, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = cluster.hawser().args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Of all of Helm's releases, this one's.
fn revision(cluster: &Kubelets) -> Option<Value> {
    let all = run(cluster.helm().args(["list", "--output", "json"])).unwrap();
    let all: Vec<Value> = serde_json::from_str(&all).unwrap();
    all.iter().find(|release| release["name"] == "hawser").map(|r| r["revision"].clone())
}

pub(crate) fn may_be_looked_at_before_it_is_made(cluster: &Kubelets) {
    let values = cluster.values().unwrap();
    let values = values.to_str().unwrap();

    let (code, out, err) = hawser(cluster, &["install", "--dry-run", "--values", values]);
    assert_eq!(code, 0, "{err}");
    for kind in ["CustomResourceDefinition", "DaemonSet", "Deployment", "Mesh"] {
        assert!(out.contains(&format!("\nkind: {kind}\n")), "{kind}");
    }
    let (code, _, err) = hawser(cluster, &["upgrade"]);
    assert!(code == 1 && err.contains("there is no release hawser"), "{code}: {err}");
    let (code, _, err) = hawser(cluster, &["install", "--set", "imgae.tag=dev"]);
    assert!(code == 1 && err.contains("imgae"), "a typo is an error: {code}: {err}");

    assert!(cluster.kubectl(&format!("get daemonset hawser-agent -n {NAMESPACE}")).is_err());
    assert_eq!(revision(cluster), None);
}

pub(crate) fn is_upgraded_and_keeps_its_values(cluster: &Kubelets) {
    let image = || {
        let path = "-o jsonpath={.spec.template.spec.containers[0].image}";
        cluster.kubectl(&format!("get daemonset hawser-agent -n {NAMESPACE} {path}")).unwrap()
    };
    let before = image();

    let (code, _, err) = hawser(cluster, &["install"]);
    assert!(code == 1 && err.contains("release hawser is there already"), "{code}: {err}");
    let (code, out, err) = hawser(cluster, &["upgrade", "--dry-run=server", "--set", "mtu=1400"]);
    assert!(code == 0 && out.contains("mtu: 1400"), "{code}: {err}");
    let (code, out, err) = hawser(cluster, &["upgrade", "--set", "mtu=1400"]);
    assert_eq!(code, 0, "{err}");
    println!("{out}\n{err}");

    assert_eq!(revision(cluster), Some("2".into()));
    assert_eq!(cluster.json("get mesh default").unwrap()["spec"]["mtu"], 1400);
    assert_eq!(image(), before);
    assert!(before.starts_with("localhost/"), "{before}");
}
