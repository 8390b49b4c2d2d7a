//! Two controllers in a cluster: Nodes come and go, the leader dies or stands still.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::{MeshNode, SubnetClaim};
use e2e::cluster::{ApiServer, NAMESPACE, scripts};
use e2e::lab::{Lab, Node, Process, until};
use e2e::mesh::create_mesh;
use e2e::oracle::double_owners;
use ipnet::IpNet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as Machine;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(30);
/// From the leader's end to a new node's subnets: the lease, two looks at it, a pass; 4.4 s and
/// what a busy machine adds.
const TAKEN_OVER: Duration = Duration::from_secs(8);

async fn all<K>(client: Client) -> Vec<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    Api::all(client).list(&ListParams::default()).await.unwrap().items
}

/// Every block that anybody has: by the claims' word and by the nodes'.
async fn owners(client: Client) -> anyhow::Result<Vec<(String, IpNet)>> {
    let claims = all::<SubnetClaim>(client.clone()).await;
    let claimed = claims.into_iter().filter_map(|claim| {
        let owner = claim.spec.node_uid?;
        Some((owner, claim.spec.subnet.parse().unwrap()))
    });
    let nodes = all::<MeshNode>(client).await;
    let given = nodes.iter().flat_map(|node| {
        let uid = node.uid().unwrap();
        node.spec.subnets.iter().map(move |subnet| (uid.clone(), subnet.parse().unwrap()))
    });
    Ok(claimed.chain(given).collect())
}

pub(crate) struct Controllers {
    machines: [Node; 2],
    running: [Option<Process>; 2],
    pub(crate) server: ApiServer,
    /// With the controllers' rights in the chart, no more.
    kubeconfig: PathBuf,
    _lab: Lab,
}

impl Controllers {
    pub(crate) fn start(lab: Lab, server: ApiServer) -> Self {
        let machines = ["one", "two"].map(|name| lab.node(name).unwrap());
        let kubeconfig = server.kubeconfig_of("hawser-controller").unwrap();
        let mut this = Self { machines, running: [None, None], server, kubeconfig, _lab: lab };
        for at in [0, 1] {
            this.start_one(at);
        }
        this
    }

    fn start_one(&mut self, at: usize) {
        let node = &self.machines[at];
        let command = node.command("hawser-controller").args(["--identity", node.name()]);
        self.running[at] = Some(command.arg("--kubeconfig").arg(&self.kubeconfig).spawn().unwrap());
    }

    fn leader(&self) -> usize {
        let holder = || {
            let lease = self.server.api(async |client| {
                Ok(Api::<Lease>::namespaced(client, NAMESPACE).get("hawser-controller").await?)
            });
            let holder = lease.ok()?.spec?.holder_identity?;
            self.machines.iter().position(|machine| machine.name() == holder)
        };
        until(LIMIT, holder).expect("one of them holds the lease").0
    }

    pub(crate) fn add(&self, name: &str) {
        let mut machine = Machine::default();
        machine.metadata.name = Some(name.to_owned());
        let made = self.server.api(async move |client| {
            Ok(Api::<Machine>::all(client).create(&PostParams::default(), &machine).await?)
        });
        made.unwrap();
    }

    fn delete(&self, name: &'static str) {
        let gone = self.server.api(async move |client| {
            Ok(Api::<Machine>::all(client)
                .delete(name, &DeleteParams::default())
                .await
                .map(drop)?)
        });
        gone.unwrap();
    }

    pub(crate) fn subnets(&self) -> BTreeMap<String, Vec<String>> {
        let nodes = self.server.api(async |client| Ok(all::<MeshNode>(client).await)).unwrap();
        nodes.into_iter().map(|node| (node.name_any(), node.spec.subnets)).collect()
    }

    /// Waits until `name` has a subnet of each family.
    pub(crate) fn served(&self, name: &str) -> Vec<String> {
        let ask = || self.subnets().remove(name).filter(|subnets| subnets.len() == 2);
        until(LIMIT, ask).unwrap_or_else(|| panic!("{name} gets no subnets")).0
    }
}

/// Looks all the time whether two own one block, until `work` is done.
fn never_two_owners(controllers: &mut Controllers, work: impl FnOnce(&mut Controllers)) {
    let kubeconfig = controllers.server.kubeconfig();
    let namespace = controllers.server.node().namespace().clone();
    let done = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let held = e2e::client::speak(&namespace, &kubeconfig, owners).unwrap();
                assert_eq!(double_owners(&held), [""; 0]);
                looks += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            looks
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(controllers)));
        done.store(true, Ordering::Relaxed);
        let looks = watch.join().unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        looks
    });
    println!("{looks} looks, never two owners");
    assert!(looks > 20, "only {looks} looks");
}

/// How long a Node that comes now waits for its subnets.
fn served_after(controllers: &Controllers, name: &str, what: &str) -> Duration {
    let began = Instant::now();
    controllers.add(name);
    controllers.served(name);
    let took = began.elapsed();
    println!("{what}: a new Node is served after {took:?}");
    took
}

/// Who led, and is gone.
fn kill_the_leader(controllers: &mut Controllers) -> usize {
    let killed = controllers.leader();
    controllers.running[killed] = None;
    assert!(served_after(controllers, "n6", "leader killed") < TAKEN_OVER);
    assert_ne!(controllers.leader(), killed);
    killed
}

/// Stands still for longer than its lease, and goes on as if nothing had been.
fn stop_the_leader(controllers: &Controllers) {
    let stopped = controllers.leader();
    let signal = |signal| controllers.running[stopped].as_ref().unwrap().signal(signal).unwrap();
    signal(Signal::STOP);
    assert!(served_after(controllers, "n7", "leader stopped") < TAKEN_OVER);
    signal(Signal::CONT);
    served_after(controllers, "n8", "leader continued");
    assert_ne!(controllers.leader(), stopped, "who stood still leads no more");
}

fn end_the_leader(controllers: &mut Controllers) {
    let leader = controllers.leader();
    let ended = controllers.running[leader].as_mut().unwrap().terminate().unwrap();
    assert!(ended.success());
    let took = served_after(controllers, "n9", "leader ended in order");
    assert!(took < Duration::from_secs(2), "the lease was not given up");
}

fn make_a_node_again(controllers: &Controllers, name: &'static str) {
    let before = controllers.served(name);
    controllers.delete(name);
    controllers.add(name);
    let again = until(LIMIT, || {
        let now = controllers.subnets().remove(name)?;
        (now.len() == 2 && now != before).then_some(())
    });
    assert!(again.is_some(), "a Node made again is another owner");
}

#[test]
fn nodes_are_served_whichever_controller_leads_and_no_block_has_two_owners() {
    let Some(scripts) = scripts().unwrap() else { return };
    let lab = Lab::new("ha").unwrap();
    let server = ApiServer::start(&lab, scripts).unwrap();
    server.api(create_mesh).unwrap();
    let mut controllers = Controllers::start(lab, server);

    never_two_owners(&mut controllers, |controllers| {
        for number in 1..=5 {
            served_after(controllers, &format!("n{number}"), "both at work");
        }
        let killed = kill_the_leader(controllers);
        controllers.start_one(killed);
        // It waits its turn once it has seen the lease.
        std::thread::sleep(Duration::from_secs(2));
        stop_the_leader(controllers);
        make_a_node_again(controllers, "n1");
        end_the_leader(controllers);
    });
    let blocks: Vec<_> = controllers.subnets().into_values().flatten().collect();
    assert_eq!(blocks.len(), 18);
}
