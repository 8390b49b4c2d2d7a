//! What clusters do to a network that is in use: agents are rolled out, the API server goes away.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::cluster::NAMESPACE;
use e2e::cluster::kubelets::{NODES, run};
use e2e::lab::until;
use e2e::oracle::promised;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::web::{From, LIMIT, Web};

/// Between two packets of a flow.
const EVERY: &str = "0.02";
/// That many of them are a second.
pub(crate) const A_SECOND: u32 = 50;
/// The API server's absence; ten minutes where there is time.
const AWAY: Duration = Duration::from_secs(15);
const LONG_AWAY: Duration = Duration::from_secs(600);

pub(crate) fn all(web: &Web<'_>) {
    the_api_server_may_go_away(web);
    agents_are_rolled_out_under_traffic(web);
}

/// Pings from one node's pod to another's, until it is asked for the figures.
pub(crate) struct Flow {
    ping: Child,
    /// What it prints: a line for each answer.
    said: File,
}

impl Flow {
    pub(crate) fn start(web: &Web<'_>, from: &str, to: usize) -> Self {
        let said = tempfile::tempfile().unwrap();
        let mut command = web.command(From::Pod(from));
        command.args(["ping", "-n", "-i", EVERY, web.addresses[to].as_str()]);
        let ping = command.stdout(said.try_clone().unwrap()).spawn().unwrap();
        Self { ping, said }
    }

    /// Packets sent, and packets lost.
    pub(crate) fn end(mut self) -> (u32, u32) {
        let process = Pid::from_raw(self.ping.id().try_into().unwrap()).unwrap();
        kill_process(process, Signal::INT).unwrap();
        self.ping.wait().unwrap();
        let mut text = String::new();
        self.said.rewind().unwrap();
        self.said.read_to_string(&mut text).unwrap();
        let (sent, missing) = judge(&text);
        if !missing.is_empty() {
            let first = &missing[..missing.len().min(10)];
            println!("{} of {sent} not answered, at first {first:?}", missing.len());
        }
        (sent, missing.len().try_into().unwrap())
    }
}

/// How many were sent, and which of them were lost. What was sent last may be under way: the busier
/// the machine the more, and more than a second's is lost.
fn judge(text: &str) -> (u32, Vec<u32>) {
    let line = text.lines().find(|line| line.contains("transmitted")).expect(text);
    let sent: u32 = line.split(' ').next().unwrap().parse().unwrap();
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
    let answers = text.lines().filter(|line| line.contains(" bytes from "));
    let answered: BTreeSet<u32> = answers.filter_map(number).collect();
    let last = answered.last().copied().unwrap_or_default();
    let end = if sent - last > A_SECOND { sent } else { last };
    (sent, (1..=end).filter(|number| !answered.contains(number)).collect())
}

#[test]
fn what_is_under_way_at_the_end_is_not_lost_and_what_is_missing_before_is() {
    let answer =
        |number: u32| format!("64 bytes from 10.244.1.2: icmp_seq={number} ttl=62 time=9 ms\n");
    let said = |answered: &[u32], sent: u32| {
        let lines: String = answered.iter().copied().map(answer).collect();
        format!("{lines}{sent} packets transmitted, {} received\n", answered.len())
    };

    assert_eq!(judge(&said(&[1, 2, 3], 3)), (3, vec![]));
    assert_eq!(judge(&said(&[1, 2, 5], 8)), (8, vec![3, 4]));
    assert_eq!(judge(&said(&[1, 2], 60)).1.len(), 58);
}

/// A pod by the plugin's own hand, as kubelet does it without asking the API.
fn add_a_pod_by_hand(web: &Web<'_>, node: &str) -> Value {
    let run_there = |words: &[&str]| run(&mut web.cluster.inside(node, words).unwrap());
    run_there(&["ip", "netns", "add", "by-hand"]).unwrap();
    let text = run_there(&["cat", "/etc/cni/net.d/05-hawser.conflist"]).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let mut config = list["plugins"][0].clone();
    config["cniVersion"] = list["cniVersion"].clone();
    config["name"] = list["name"].clone();
    let call = |verb: &str| {
        let mut command = web.cluster.inside(node, &["/opt/cni/bin/hawser-cni"]).unwrap();
        command.envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "byhand"),
            ("CNI_NETNS", "/run/netns/by-hand"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap_or(json!(null))
    };
    let result = call("ADD");
    let other = (NODES.iter().position(|other| *other == node).unwrap() + 1) % NODES.len();
    let ping = ["ip", "netns", "exec", "by-hand", "ping", "-c", "1", "-W", "2"];
    run_there(&[&ping[..], &[web.addresses[other].as_str()]].concat()).unwrap();
    call("DEL");
    run_there(&["ip", "netns", "del", "by-hand"]).unwrap();
    result
}

/// It stands still, so that every request to it hangs: worse than a refusal.
fn the_api_server_may_go_away(web: &Web<'_>) {
    let long = std::env::var_os("HAWSER_LONG").is_some_and(|value| value == "1");
    let away = if long { LONG_AWAY } else { AWAY };
    let peers = || web.cluster.kubectl("get meshnodes -o jsonpath={.items[*].status.peers}");
    let before = peers().unwrap();
    let server = web.cluster.api_server().unwrap();
    let flows = [Flow::start(web, "n1", 1), Flow::start(web, "n3", 0)];

    kill_process(server, Signal::STOP).unwrap();
    let began = Instant::now();
    let added =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| add_a_pod_by_hand(web, "n2")));
    std::thread::sleep(away.saturating_sub(began.elapsed()));
    kill_process(server, Signal::CONT).unwrap();
    let (back, took) = until(LIMIT, || peers().ok()).expect("the API server is back");
    std::thread::sleep(Duration::from_secs(3));

    assert!(added.unwrap()["ips"].is_array(), "an ADD goes on without the API");
    assert_eq!(back, before, "no peer was removed");
    for (sent, lost) in flows.map(Flow::end) {
        println!(
            "API server away for {away:?}, back {took:?} later: {lost} of {sent} packets lost"
        );
        promised(lost == 0, || format!("{lost} of {sent} lost"));
    }
    web.cluster.wait_ready("meshnodes", NODES.len()).unwrap();
}

/// Each agent that ends takes its node's tunnels along until its DaemonSet has made another, which is
/// the cluster's time and not ours. So the loss is a figure, and the promise is that all is well after.
fn agents_are_rolled_out_under_traffic(web: &Web<'_>) {
    let flows = [Flow::start(web, "n1", 1), Flow::start(web, "n2", 2), Flow::start(web, "n3", 0)];
    let began = Instant::now();
    let agents = format!("daemonset/hawser-agent -n {NAMESPACE}");

    web.cluster.kubectl(&format!("rollout restart {agents}")).unwrap();
    web.cluster.kubectl(&format!("rollout status {agents} --timeout=120s")).unwrap();
    let took = began.elapsed();
    web.cluster.wait_ready("meshnodes", NODES.len()).unwrap();

    for (flow, node) in flows.into_iter().zip(NODES) {
        let (sent, lost) = flow.end();
        println!(
            "agents rolled out in {took:.1?}: {node} lost {lost} of {sent} packets, 20 ms apart"
        );
        assert!(lost < sent, "{node}: nothing came through between two agents' restarts");
    }
    web.all_pods_reach_all();
}
