//! The chart's rights from the attacker's side: what a stolen token can and cannot do.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{MeshNode, MeshNodeSpec};
use e2e::cluster::{ApiServer, NAMESPACE, scripts};
use e2e::lab::{Lab, until};
use e2e::mesh::create_mesh;
use kube::Client;
use kube::api::{Api, PostParams};

const LIMIT: Duration = Duration::from_secs(30);
const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

async fn two_nodes(client: Client) -> anyhow::Result<()> {
    create_mesh(client.clone()).await?;
    for name in ["a", "b"] {
        let node = MeshNode::new(name, MeshNodeSpec::default());
        Api::all(client.clone()).create(&PostParams::default(), &node).await?;
    }
    Ok(())
}

struct Attacker<'a> {
    server: &'a ApiServer,
    kubeconfig: PathBuf,
}

impl Attacker<'_> {
    /// Words for kubectl, and what it reads.
    fn tries(&self, words: &str, input: &str) -> Result<String, String> {
        let output = self.server.kubectl(&self.kubeconfig).args(words.split(' '));
        let output = output.input(input).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn may(&self, words: &str, input: &str) {
        self.tries(words, input).unwrap_or_else(|why| panic!("{words}: {why}"));
    }

    fn may_not(&self, words: &str, input: &str) {
        let why = self.tries(words, input).expect_err(words);
        assert!(why.contains("orbidden"), "{words}: {why}");
    }
}

const STATUS: &str = "--subresource=status --type=merge -p {\"status\":{\"version\":\"x\"}}";
const SPEC: &str = "--type=merge -p {\"spec\":{\"keyEpoch\":9}}";
const LABEL: &str = "--type=merge -p {\"metadata\":{\"labels\":{\"x\":\"y\"}}}";

fn object(api: &str, kind: &str, name: &str, rest: &str) -> String {
    format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\n{rest}\n")
}

fn own(kind: &str, name: &str, spec: &str) -> String {
    object("hawser.dev/v1alpha1", kind, name, &format!("spec: {spec}"))
}

#[test]
fn a_stolen_token_opens_no_more_than_its_holder_needs() {
    let Some(scripts) = scripts().unwrap() else { return };
    let lab = Lab::new("rights").unwrap();
    let server = ApiServer::start(&lab, scripts).unwrap();
    server.api(two_nodes).unwrap();
    let admin = Attacker { server: &server, kubeconfig: server.kubeconfig() };
    for secret in ["hawser-preshared-keys", "sh.helm.release.v1.hawser.v1"] {
        admin.may(
            &format!("create secret generic {secret} -n {NAMESPACE} --from-literal=k={KEY}"),
            "",
        );
    }
    admin.may("create -f -", &object("v1", "Node", "a", ""));

    agents(&Attacker {
        server: &server,
        kubeconfig: server.kubeconfig_of("hawser-agent").unwrap(),
    });
    let kubeconfig = server.kubeconfig_of("hawser-controller").unwrap();
    controllers(&Attacker { server: &server, kubeconfig });
}

fn agents(agent: &Attacker<'_>) {
    let event = "reportingController: hawser.dev/agent\nreportingInstance: a\naction: Test\nreason: Tested\n\
                 type: Normal\neventTime: \"2026-01-01T00:00:00.000000Z\"\n\
                 regarding: {apiVersion: v1, kind: Node, name: a}";
    agent.may("get meshes,meshnodes,meshpeers,keyrotations,nodes", "");
    agent.may(&format!("patch meshnode a {STATUS}"), "");
    // 1.20 itself wants it in kube-system; what counts is that the rights let it through.
    let told =
        agent.tries("create -n default -f -", &object("events.k8s.io/v1", "Event", "e", event));
    assert!(told.as_ref().err().is_none_or(|why| !why.contains("orbidden")), "{told:?}");
    agent.may(&format!("get secret hawser-preshared-keys -n {NAMESPACE}"), "");
    // Rights know no "own": this is what the admission policy is for.
    agent.may(&format!("patch meshnode b {STATUS}"), "");

    let claim = own("SubnetClaim", "10-42-9-0-24", "{subnet: 10.42.9.0/24, generation: 1}");
    let peer =
        own("MeshPeer", "p", &format!("{{publicKey: \"{KEY}\", addresses: [10.42.200.1/32]}}"));
    for words in [
        &format!("patch meshnode a {SPEC}"),
        &format!("patch meshnode a {LABEL}"),
        "delete meshnode b",
        "get subnetclaims",
        "get jointokens",
        &format!("patch mesh default {LABEL}"),
        &format!("patch node a {LABEL}"),
        &format!("patch node a --subresource=status {LABEL}"),
        "delete node a",
        &format!("get secrets -n {NAMESPACE}"),
        &format!("get secret sh.helm.release.v1.hawser.v1 -n {NAMESPACE}"),
        "get secrets -n kube-system",
        "get pods -A",
        &format!("create token hawser-controller -n {NAMESPACE}"),
        "create clusterrolebinding x --clusterrole=cluster-admin --user=x",
        &format!("get leases -n {NAMESPACE}"),
        "get nodes --as=system:admin --as-group=system:masters",
    ] {
        agent.may_not(words, "");
    }
    for text in [own("MeshNode", "c", "{}"), claim, peer] {
        agent.may_not("create --validate=false -f -", &text);
    }
    agent.may_not("create -n kube-system -f -", &object("events.k8s.io/v1", "Event", "e", event));
}

fn controllers(controller: &Attacker<'_>) {
    controller.may(&format!("patch meshnode a {SPEC}"), "");
    controller.may("get meshes,meshnodes,meshpeers,subnetclaims,jointokens,keyrotations,nodes", "");
    for words in [
        &format!("patch mesh default {LABEL}"),
        &format!("patch node a {LABEL}"),
        "delete node a",
        &format!("get secrets -n {NAMESPACE}"),
        &format!("get secret hawser-preshared-keys -n {NAMESPACE}"),
        "get pods -A",
        "get leases -n kube-system",
        &format!("create token hawser-agent -n {NAMESPACE}"),
        "create clusterrolebinding x --clusterrole=cluster-admin --user=x",
    ] {
        controller.may_not(words, "");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_agent_reads_the_preshared_key_from_the_secret_that_a_peer_names() {
    let Some(scripts) = scripts().unwrap() else { return };
    let lab = Lab::new("secret").unwrap();
    let server = ApiServer::start(&lab, scripts).unwrap();
    server.api(two_nodes).unwrap();
    let admin = Attacker { server: &server, kubeconfig: server.kubeconfig() };
    let peer = |name: &str, last: u8, namespace: &str, secret: &str| {
        let reference = format!("{{namespace: {namespace}, name: {secret}, key: {name}}}");
        let key = KEY.replace("AQID", &format!("AQI{last}"));
        let spec = format!(
            "{{publicKey: \"{key}\", addresses: [10.42.200.{last}/32], \
             presharedKeySecretRef: {reference}}}"
        );
        admin.may("create --validate=false -f -", &own("MeshPeer", name, &spec));
    };
    let node = lab.node("a").unwrap();
    let kubeconfig = server.kubeconfig_of("hawser-agent").unwrap();
    let agent = node.command("hawser-agent").args(["run", "--node", "a", "--state"]);
    let agent = agent.arg(node.state()).arg("--source");
    let mut agent = agent.arg(format!("kube:{}", kubeconfig.display())).spawn().unwrap();

    peer("laptop", 1, NAMESPACE, "hawser-preshared-keys");
    peer("router", 2, NAMESPACE, "of-somebody-else");
    peer("elsewhere", 3, "kube-system", "hawser-preshared-keys");
    agent.wait_for_log("agents read Secrets of hawser only", LIMIT).unwrap();
    let secret = "hawser-preshared-keys";
    let literals = format!("--from-literal=laptop={KEY}");
    admin.may(&format!("create secret generic {secret} -n {NAMESPACE} {literals}"), "");
    admin.may(
        &format!(
            "create secret generic of-somebody-else -n {NAMESPACE} --from-literal=router={KEY}"
        ),
        "",
    );

    let directory = node.state().join("preshared");
    let file = directory.join(format!("{NAMESPACE}:{secret}:laptop"));
    until(LIMIT, || file.exists().then_some(())).expect("the key is fetched");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), KEY);
    assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "no other Secret was read");
    assert!(!agent.log().contains(KEY));
}
