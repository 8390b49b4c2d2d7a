//! What agents and controllers cost while nothing happens.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cluster::kubelets::Kubelets;
use e2e::lab::until;
use serde_json::{Value, json};

/// Long enough that one tick of the clock that processes are billed by (10 ms) doesn't matter.
const WATCHED: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(30);
/// A fleet of small machines runs these.
const MOST_MEMORY: u64 = 64 << 20;

struct Cost {
    name: String,
    process: String,
    ticks: u64,
}

fn text(process: &str, file: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc").join(process).join(file)).ok()
}

/// User and system time; proc_pid_stat(5), fields 14 and 15.
fn ticks(process: &str) -> Option<u64> {
    let stat = text(process, "stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn resident(process: &str) -> Option<u64> {
    let status = text(process, "status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Those that run inside containers of this cluster: the plugin's state directory tells them from
/// other tests'.
fn processes(node_dir: &str) -> Vec<Cost> {
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = names.filter_map(|entry| entry.file_name().into_string().ok());
    let ours = ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).filter_map(|id| {
        let name = text(&id, "comm")?.trim().to_owned();
        let in_cluster = text(&id, "cgroup")?.contains(node_dir);
        let wanted = name == "hawser-agent" || name.starts_with("hawser-control");
        (wanted && in_cluster).then(|| Some(Cost { ticks: ticks(&id)?, process: id, name }))?
    });
    ours.collect()
}

/// The agents' processes on such a node.
pub(crate) fn agents(node_dir: &str) -> Vec<String> {
    let all = processes(node_dir).into_iter();
    all.filter(|cost| cost.name == "hawser-agent").map(|cost| cost.process).collect()
}

/// Requests that ended while a closure ran, by service account.
fn requests(cluster: &Kubelets, account: &str) -> usize {
    let log = std::fs::read_to_string(cluster.audit_log()).unwrap_or_default();
    let name = format!("system:serviceaccount:hawser:{account}\"");
    log.lines().filter(|line| line.contains(&name)).count()
}

pub(crate) fn idle(cluster: &Kubelets) {
    const ACCOUNTS: [&str; 2] = ["hawser-agent", "hawser-controller"];
    let (before, _) = until(LIMIT, || {
        let found = processes("k8s-n");
        (found.len() == 5).then_some(found)
    })
    .expect("three agents and two controllers");
    let asked = ACCOUNTS.map(|account| requests(cluster, account));
    let began = Instant::now();
    std::thread::sleep(WATCHED);
    for (account, before) in ACCOUNTS.into_iter().zip(asked) {
        let asked = requests(cluster, account) - before;
        println!("idle: {asked} requests of all of {account} in {WATCHED:?}");
    }
    for Cost { name, process, ticks: then } in before {
        let took = began.elapsed().as_secs_f64();
        let (Some(now), Some(memory)) = (ticks(&process), resident(&process)) else {
            panic!("{name} has ended");
        };
        let spent = u32::try_from(now - then).unwrap();
        println!(
            "idle {name}: {:.1} MiB, {:.2} % of a core",
            memory as f64 / f64::from(1 << 20),
            f64::from(spent) / took
        );
        assert!(memory < MOST_MEMORY, "{name}");
    }
}

const PODS: usize = 60;

/// How long 60 pods made at once take from their object to Ready, by the API's own times, which
/// have whole seconds.
pub(crate) fn pod_starts(cluster: &Kubelets, network: &str) {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "many"}},
            "template": {
                "metadata": {"labels": {"app": "many"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "c", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                        "command": ["/bin/sh", "-c", "exec sleep 3600"],
                    }],
                },
            },
        },
    });
    let began = Instant::now();
    cluster.apply(&deployment.to_string()).unwrap();
    cluster.kubectl("rollout status deployment many --timeout=240s").unwrap();
    let all = began.elapsed().as_secs_f64();
    let pods = cluster.json("get pods -l app=many").unwrap();
    let mut seconds: Vec<i64> =
        pods["items"].as_array().unwrap().iter().filter_map(start).collect();
    seconds.sort_unstable();
    assert_eq!(seconds.len(), PODS);
    println!(
        "{PODS} pods at once on {network}: p50 {} s, p99 {} s, all after {all:.1} s",
        seconds[PODS / 2],
        seconds[PODS * 99 / 100]
    );
    cluster.kubectl("delete deployment many").unwrap();
    cluster.kubectl("wait --for=delete pod -l app=many --timeout=240s").unwrap();
}

fn start(pod: &Value) -> Option<i64> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let time = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok();
    let made = time(&pod["metadata"]["creationTimestamp"])?;
    Some(time(&ready["lastTransitionTime"])?.as_second() - made.as_second())
}
