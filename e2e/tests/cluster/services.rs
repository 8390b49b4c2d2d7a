//! Services of kube-proxy over the mesh, names, host ports, and the machines' own addresses.

use std::collections::BTreeSet;

use e2e::cluster::kubelets::{NODES, internal_ip};
use e2e::lab::until;
use e2e::oracle::promised;
use serde_json::{Value, json};

use crate::web::{From, LIMIT, Spy, Web, pod};

const ALL: &str = "10.96.0.101";
const STICKY: &str = "10.96.0.102";
const OWN: &str = "10.96.0.103";
const HOSTS: &str = "10.96.0.104";
const RESOLVER: &str = "10.96.0.10";
const API: &str = "10.96.0.1";
const NODE_PORT: u16 = 30080;
const LOCAL_NODE_PORT: u16 = 30081;
const HOST_NETWORK: u16 = 8081;
const HOST_PORT: u16 = 8082;

pub(crate) fn all(web: &Web<'_>) {
    web.cluster.apply(&objects()).unwrap();
    // Three of Web, one with a host port, one in a host's network, the resolver.
    web.cluster.wait_ready("pods", 6).unwrap();
    a_cluster_ip_leads_to_pods_of_all_nodes(web);
    a_client_stays_with_its_pod(web);
    a_pod_reaches_itself_by_its_service(web);
    names_are_resolved_on_every_node(web);
    the_api_answers_a_pod(web);
    a_node_port_leads_in_from_outside(web);
    a_local_node_port_keeps_the_client_and_the_node(web);
    names_are_resolved_on_every_node(web);
    pods_and_machines_reach_one_another_through_the_tunnel(web);
    a_host_port_leads_to_its_pod(web);
}

fn service(name: &str, address: &str, spec: &Value) -> String {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "clusterIP": address,
            "selector": {"app": "web"},
            "ports": [{"name": "p", "port": 80, "targetPort": 8080}],
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service.to_string()
}

fn objects() -> String {
    let node_port = |port: u16| json!([{"port": 80, "targetPort": 8080, "nodePort": port}]);
    let local = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"on": "n1"},
        "ports": node_port(LOCAL_NODE_PORT),
    });
    let hosts = json!({
        "selector": {"app": "host"}, "ports": [{"port": 80, "targetPort": HOST_NETWORK}],
    });
    let dns = json!({
        "selector": {"app": "dns"}, "ports": [{"port": 53, "protocol": "UDP"}],
    });
    [
        service("all", ALL, &json!({})),
        service("sticky", STICKY, &json!({"sessionAffinity": "ClientIP"})),
        service("own", OWN, &json!({"selector": {"on": "n3", "app": "web"}})),
        service("open", "10.96.0.105", &json!({"type": "NodePort", "ports": node_port(NODE_PORT)})),
        service("local", "10.96.0.106", &local),
        service("hosts", HOSTS, &hosts),
        service("kube-dns", RESOLVER, &dns),
        pod("host", "n2", &host_network()),
        pod("port", "n2", &host_port()),
        pod("dns", "n3", &resolver()),
    ]
    .join("\n")
}

fn host_network() -> Value {
    let port = HOST_NETWORK.to_string();
    json!({
        "metadata": {"labels": {"app": "host"}},
        "spec": {"hostNetwork": true, "containers": [{"env": [{"value": port}]}]},
    })
}

fn host_port() -> Value {
    json!({
        "metadata": {"labels": {"app": "port"}},
        "spec": {"containers": [{"ports": [{"containerPort": 8080, "hostPort": HOST_PORT}]}]},
    })
}

/// Debian's dnsmasq, with this machine's libraries.
fn resolver() -> Value {
    let mounts = ["usr", "lib", "lib64"]
        .map(|name| json!({"name": name, "mountPath": format!("/{name}"), "readOnly": true}));
    let volumes = ["usr", "lib", "lib64"]
        .map(|name| json!({"name": name, "hostPath": {"path": format!("/{name}")}}));
    let run = format!(
        "echo root:x:0:0::/: > /etc/passwd; echo root:x:0: > /etc/group; \
         exec /usr/sbin/dnsmasq -k -u root -g root --no-resolv --no-hosts --pid-file= \
         --local=/cluster.local/ --address=/all.default.svc.cluster.local/{ALL}"
    );
    let command = ["/bin/sh", "-c", &run];
    json!({
        "metadata": {"labels": {"app": "dns"}},
        "spec": {
            "volumes": volumes,
            "containers": [{"command": command, "volumeMounts": mounts}],
        },
    })
}

fn names(web: &Web<'_>, from: From<'_>, host: &str, times: usize) -> BTreeSet<String> {
    (0..times).map(|_| web.answer(from, host).name).collect()
}

fn a_cluster_ip_leads_to_pods_of_all_nodes(web: &Web<'_>) {
    for node in NODES {
        let all = || {
            let seen = names(web, From::Pod(node), &format!("{ALL}:80"), 12);
            (seen.len() == NODES.len()).then_some(())
        };
        until(LIMIT, all).expect("spread over all three");
    }
}

fn a_client_stays_with_its_pod(web: &Web<'_>) {
    for node in NODES {
        assert_eq!(names(web, From::Pod(node), &format!("{STICKY}:80"), 8).len(), 1);
    }
}

fn a_pod_reaches_itself_by_its_service(web: &Web<'_>) {
    assert_eq!(web.answer(From::Pod("n3"), &format!("{OWN}:80")).name, "web-n3");
}

fn the_api_answers_a_pod(web: &Web<'_>) {
    for node in NODES {
        let ask = || web.get(From::Pod(node), &format!("https://{API}/version"), &["-k"]);
        let (version, _) = until(LIMIT, ask).expect("the API's own Service");
        assert!(version.contains("gitVersion"), "{version}");
    }
}

fn a_node_port_leads_in_from_outside(web: &Web<'_>) {
    for node in NODES {
        let host = format!("{}:{NODE_PORT}", internal_ip(node));
        assert!(names(web, From::Outside, &host, 12).len() > 1, "{node} spreads");
    }
}

fn a_local_node_port_keeps_the_client_and_the_node(web: &Web<'_>) {
    let host = |node| format!("{}:{LOCAL_NODE_PORT}", internal_ip(node));
    for _ in 0..4 {
        let answer = web.answer(From::Outside, &host("n1"));
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("web-n1", "10.231.0.1"));
    }
    assert_eq!(web.ask(From::Outside, &host("n2")), None, "no pod of it is there");
    // A machine whose own address pods reach by the tunnel: the answer goes back as it came.
    let answer = web.answer(From::Node("n2"), &host("n1"));
    assert_eq!((answer.name.as_str(), answer.client), ("web-n1", internal_ip("n2")));
}

fn names_are_resolved_on_every_node(web: &Web<'_>) {
    for node in NODES {
        let lookup = || web.exec(node, "nslookup all.default.svc.cluster.local");
        let found = until(LIMIT, || lookup().contains(ALL).then_some(()));
        let logs = || web.cluster.kubectl("logs dns").unwrap_or_default();
        assert!(found.is_some(), "{node}: {}\n{}", lookup(), logs());
    }
}

/// Both ways, sources kept, and nothing of it on the underlay.
fn pods_and_machines_reach_one_another_through_the_tunnel(web: &Web<'_>) {
    let host = format!("{}:{HOST_NETWORK}", internal_ip("n2"));
    let spy = Spy::on("n2", HOST_NETWORK);
    for (at, node) in NODES.iter().enumerate() {
        let answer = web.answer(From::Pod(node), &host);
        assert_eq!((answer.name.as_str(), &answer.client), ("n2", &web.addresses[at]), "{node}");
        let by_service = web.answer(From::Pod(node), &format!("{HOSTS}:80"));
        assert_eq!((by_service.name.as_str(), &by_service.client), ("n2", &web.addresses[at]));
    }
    promised(spy.packets() == 0, || "pods' packets crossed the underlay in clear".into());
    web.answer(From::Node("n1"), &host);
    assert!(spy.packets() > 0, "the count sees what machines say to machines");

    let own = internal_ip("n2");
    let bound = ["--interface", own.as_str()];
    let answer = web.ask_with(From::Node("n2"), &web.addresses[0], &bound).expect("an answer");
    assert_eq!((answer.name.as_str(), answer.client), ("web-n1", own));
}

fn a_host_port_leads_to_its_pod(web: &Web<'_>) {
    let host = format!("{}:{HOST_PORT}", internal_ip("n2"));
    for from in [From::Outside, From::Pod("n1"), From::Pod("n2"), From::Node("n3")] {
        assert_eq!(web.answer(from, &host).name, "port", "{from:?}");
    }
}
