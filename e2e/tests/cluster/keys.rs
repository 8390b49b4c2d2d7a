//! Keys are rotated by a pod that may, while pods talk; one that may not changes nothing.

use e2e::cluster::kubelets::{Kubelets, NODES};
use e2e::lab::until;
use e2e::oracle::promised;
use serde_json::{Value, json};

use crate::life::Flow;
use crate::web::{LIMIT, Web};

/// The CLI in a pod of the pod network, with the rights of one of the chart's roles for people.
fn operator(role: &str) -> String {
    let name = format!("operator-{role}");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name}, "roleRef": role, "subjects": [subject],
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "serviceAccountName": name,
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": NODES[0]},
            "containers": [{
                "name": "c", "image": "localhost/hawser:dev", "imagePullPolicy": "Never",
                "command": ["/hawser", "keys", "rotate", "--yes"],
            }],
        },
    });
    [account, binding, pod].map(|object| object.to_string()).join("\n")
}

/// How the pod's program ended, and what it said.
fn run(cluster: &Kubelets, role: &str) -> (i64, String) {
    cluster.apply(&operator(role)).unwrap();
    let ended = || {
        let pod = cluster.json(&format!("get pod operator-{role}")).ok()?;
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
    };
    let code = until(3 * LIMIT, ended).map(|(code, _)| code);
    let said = cluster.kubectl(&format!("logs operator-{role}")).unwrap();
    cluster.delete(&operator(role)).unwrap();
    (code.unwrap_or_else(|| panic!("it did not end: {said}")), said)
}

fn epochs(cluster: &Kubelets) -> Vec<Value> {
    let nodes = cluster.json("get meshnodes").unwrap();
    let epoch = |node: &Value| node["spec"]["keyEpoch"].clone();
    nodes["items"].as_array().unwrap().iter().map(epoch).collect()
}

pub(crate) fn all(web: &Web<'_>) {
    let before = epochs(web.cluster);
    let (code, said) = run(web.cluster, "hawser-view");
    assert!(code != 0 && said.contains("create keyrotations"), "{code}: {said}");
    assert_eq!(epochs(web.cluster), before);

    let flows = [Flow::start(web, "n1", 1), Flow::start(web, "n2", 2), Flow::start(web, "n3", 0)];
    let (code, said) = run(web.cluster, "hawser-admin");
    assert_eq!(code, 0, "{said}");
    println!("{said}");
    for (sent, lost) in flows.map(Flow::end) {
        println!("all keys rotated from a pod: {lost} of {sent} packets lost");
        promised(lost == 0, || format!("{lost} of {sent} lost"));
    }
    let after = epochs(web.cluster);
    assert!(after.iter().all(|epoch| epoch == &after[0]) && after != before, "{after:?}");
    let rotations = web.cluster.json("get keyrotations").unwrap();
    let status = &rotations["items"][0]["status"];
    assert_eq!(status["phase"], "Completed", "{status}");
    assert!(status["probes"].as_u64() > Some(0), "{status}");
    promised(status["lost"].as_u64().unwrap_or(0) == 0, || format!("probes lost: {status}"));
}
