//! A pod on each node that says who it is and whom it sees, and questions to it.

use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::cluster::kubelets::{Kubelets, NODES, internal_ip, run};
use e2e::lab::until;
use serde_json::json;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Port of each pod; it answers `NAME ADDRESS-OF-THE-CLIENT`.
const PORT: u16 = 8080;
const ANSWER: &str = "mkdir -p /tmp/w/cgi-bin; \
    printf '#!/bin/sh\\nprintf \"Content-type: text/plain\\\\r\\\\n\\\\r\\\\n\"\\n\
    echo $(cat /etc/hostname) $REMOTE_ADDR\\n' > /tmp/w/cgi-bin/who; \
    chmod +x /tmp/w/cgi-bin/who; exec httpd -f -p $PORT -h /tmp/w";

/// Who answered, and the address that he saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) client: String,
}

/// Where a question is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    /// The pod of this node.
    Pod(&'a str),
    /// The node itself.
    Node(&'a str),
    /// A machine that is no node.
    Outside,
}

pub(crate) struct Web<'a> {
    pub(crate) cluster: &'a Kubelets,
    /// A process in each node's pod.
    processes: [String; 3],
    pub(crate) addresses: [String; 3],
}

/// A pod of this program on a node.
pub(crate) fn pod(name: &str, node: &str, spec: &serde_json::Value) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web", "on": node}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                "env": [{"name": "PORT", "value": PORT.to_string()}],
                "command": ["/bin/sh", "-c", ANSWER],
            }],
        },
    });
    merge(&mut pod, spec);
    pod.to_string()
}

/// Objects are joined, lists element by element, everything else is replaced.
fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
    use serde_json::Value::{Array, Object};
    match (into, from) {
        (Object(into), Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (Array(into), Array(from)) if into.len() == from.len() => {
            into.iter_mut().zip(from).for_each(|(into, from)| merge(into, from));
        }
        (into, from) => *into = from.clone(),
    }
}

impl<'a> Web<'a> {
    pub(crate) fn start(cluster: &'a Kubelets) -> Self {
        let account = || cluster.kubectl("get serviceaccount default").ok();
        until(LIMIT, account).expect("pods need the default account");
        let pods = NODES.map(|node| pod(&format!("web-{node}"), node, &json!({})));
        cluster.apply(&pods.join("\n")).unwrap();
        let pods = NODES.map(|node| format!("pod/web-{node}")).join(" ");
        cluster.kubectl(&format!("wait --for=condition=Ready --timeout=90s {pods}")).unwrap();
        let process = |node| cluster.process_of(node, &format!("web-{node}")).unwrap();
        let address = |node| {
            let pod = cluster.json(&format!("get pod web-{node}")).unwrap();
            pod["status"]["podIP"].as_str().unwrap().to_owned()
        };
        Self { cluster, processes: NODES.map(process), addresses: NODES.map(address) }
    }

    /// This machine's program, in the network of whoever asks.
    pub(crate) fn command(&self, from: From<'_>) -> Command {
        let at = |node| NODES.iter().position(|other| *other == node).unwrap();
        let namespace = match from {
            From::Pod(node) => format!("--net=/proc/{}/ns/net", self.processes[at(node)]),
            From::Node(node) => format!("--net=/run/netns/k8s-{node}"),
            From::Outside => "--net=/run/netns/k8s-cp".to_owned(),
        };
        let mut command = Command::new("nsenter");
        command.arg(namespace).arg("--").stderr(Stdio::null());
        command
    }

    pub(crate) fn get(&self, from: From<'_>, url: &str, more: &[&str]) -> Option<String> {
        let mut command = self.command(from);
        let output = command.args(["curl", "-s", "-m", "3"]).args(more).arg(url).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asks `host` (an address, with a port if it isn't the pods') who it is.
    pub(crate) fn ask(&self, from: From<'_>, host: &str) -> Option<Answer> {
        self.ask_with(from, host, &[])
    }

    pub(crate) fn ask_with(&self, from: From<'_>, host: &str, more: &[&str]) -> Option<Answer> {
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:{PORT}") };
        let text = self.get(from, &format!("http://{host}/cgi-bin/who"), more)?;
        let (name, client) = text.trim().split_once(' ')?;
        // httpd listens on both families by one socket.
        let client = client.trim_matches(['[', ']']).trim_start_matches("::ffff:");
        Some(Answer { name: name.to_owned(), client: client.to_owned() })
    }

    /// Asks until there is an answer.
    pub(crate) fn answer(&self, from: From<'_>, host: &str) -> Answer {
        let answer = until(LIMIT, || self.ask(from, host));
        answer.unwrap_or_else(|| panic!("{from:?} gets no answer from {host}")).0
    }

    /// Pods, nodes: everybody, with the source kept.
    pub(crate) fn all_pods_reach_all(&self) {
        for (at, from) in NODES.iter().enumerate() {
            for (to, node) in NODES.iter().enumerate() {
                let answer = self.answer(From::Pod(from), &self.addresses[to]);
                assert_eq!(answer.name, format!("web-{node}"));
                assert_eq!(answer.client, self.addresses[at], "{from} to {node}");
                self.answer(From::Node(from), &self.addresses[to]);
            }
        }
    }

    /// What a program in the container of the pod on `node` prints, or why it failed.
    pub(crate) fn exec(&self, node: &str, words: &str) -> String {
        let said = self.cluster.kubectl(&format!("exec web-{node} -- {words}"));
        said.unwrap_or_else(|error| format!("{error:#}"))
    }
}

const SWITCH: &str = "--net=/run/netns/k8s-sw";

/// Counts on the switch between the nodes.
pub(crate) struct Spy {
    table: &'static str,
}

impl Spy {
    /// A machine's packets on the underlay to one TCP port, counted from now on.
    pub(crate) fn on(node: &str, port: u16) -> Self {
        Self::counting(&[&format!("ip daddr {} tcp dport {port}", internal_ip(node))])
    }

    /// All that pods send to one another or to machines in clear.
    pub(crate) fn on_the_mesh() -> Self {
        Self::counting(&["ip saddr 10.244.0.0/16", "ip daddr 10.244.0.0/16", "ip6 daddr fd42::/48"])
    }

    fn counting(matches: &[&str]) -> Self {
        let table = "spy";
        let counters: String =
            matches.iter().map(|matched| format!("{matched} counter; ")).collect();
        let rules = format!(
            "table bridge {table} {{ chain forward {{ type filter hook forward priority 0; \
             {counters}}}; }}"
        );
        run(Command::new("nsenter").args([SWITCH, "--", "nft", &rules])).unwrap();
        Self { table }
    }

    pub(crate) fn packets(&self) -> u64 {
        let list = ["nft", "-j", "list", "table", "bridge", self.table];
        let text = run(Command::new("nsenter").arg(SWITCH).arg("--").args(list)).unwrap();
        let listing: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rules = listing["nftables"].as_array().unwrap().iter();
        let counts = rules.filter_map(|object| object["rule"]["expr"].as_array());
        counts.flatten().filter_map(|part| part["counter"]["packets"].as_u64()).sum()
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        let delete = ["nft", "delete", "table", "bridge", self.table];
        run(Command::new("nsenter").arg(SWITCH).arg("--").args(delete)).unwrap();
    }
}
