//! The CLI on a node of a running mesh: what it proves, and that it can also find the opposite.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use e2e::lab::Command;
use e2e::mesh::{Member, Mesh};
use e2e::oracle::{Secrets, files_below, marker};
use serde_json::Value;

/// `hawser` as the operator, on this member's machine.
fn hawser(mesh: &Mesh, at: usize) -> Command {
    let node = &mesh.members[at].node;
    node.command("hawser")
        .env("KUBECONFIG", mesh.controller.kubeconfig())
        .env("HAWSER_AGENT", socket(&mesh.members[at]))
}

fn socket(member: &Member) -> std::path::PathBuf {
    member.node.state().join("agent.sock")
}

fn wait_until_all_is_well(mesh: &Mesh) {
    let waited = hawser(mesh, 0).args(["status", "--wait=30s"]).output().unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stdout));
}

/// The exit code and the JSON on standard output.
fn json(command: Command) -> (i32, Value) {
    let Output { status, stdout, stderr } = command.args(["-o", "json"]).output().unwrap();
    let document = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&stderr));
    });
    (status.code().unwrap(), document)
}

fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    let failed = checks.filter(|check| check["outcome"] == "failed");
    failed.map(|check| check["name"].as_str().unwrap()).collect()
}

#[test]
fn verify_wire_passes_on_an_encrypted_mesh_and_finds_a_packet_in_clear() {
    let mesh = Mesh::start("cliw", 2).unwrap();
    wait_until_all_is_well(&mesh);

    let (code, report) = json(hawser(&mesh, 0).args(["verify", "wire"]));
    assert_eq!((code, failed(&report)), (0, vec![]), "{report:#}");
    // One underlay device, the control, a canary of each family.
    assert_eq!(report["passed"], 4, "{report:#}");

    // The other node's underlay address is reached without a tunnel: the same check must see it.
    let clear = mesh.members[1].node.address().v4.to_string();
    let (code, report) = json(hawser(&mesh, 0).args(["verify", "wire", "--to", &clear]));
    assert_eq!(code, 1, "{report:#}");
    let failed = failed(&report);
    assert!(failed.contains(&"control"), "{report:#}");
    assert!(failed.iter().any(|name| name.starts_with("underlay/")), "{report:#}");
}

#[test]
fn status_peers_and_path_agree_about_a_running_mesh() {
    let mesh = Mesh::start("clis", 2).unwrap();

    wait_until_all_is_well(&mesh);

    let (code, peers) = json(hawser(&mesh, 0).arg("peers"));
    assert_eq!((code, &peers["items"][0]["name"]), (0, &Value::from("node-2")));
    assert_eq!(json(hawser(&mesh, 0).args(["verify", "quick"])).0, 0);

    let (code, path) = json(hawser(&mesh, 0).args(["path", "node-1", "node-2"]));
    assert_eq!(code, 0, "{path:#}");
    let legs = path["paths"].as_array().unwrap();
    assert_eq!(legs.len(), 2, "one path a family: {path:#}");
    assert!(legs.iter().all(|leg| leg["claim"]["owner"] == "node-2"), "{path:#}");
}

#[test]
fn without_its_agent_status_shows_the_api_and_names_the_gap() {
    let mut mesh = Mesh::start("clid", 2).unwrap();

    mesh.members[0].kill_agent();

    let peers = hawser(&mesh, 0).arg("peers").output().unwrap();
    assert_eq!(peers.status.code(), Some(3));
    let words = String::from_utf8(peers.stderr).unwrap();
    assert!(words.contains("check: "), "{words}");
    let (_, status) = json(hawser(&mesh, 0).arg("status"));
    assert_eq!(status["nodes"]["total"], 2, "{status:#}");
    let problems = status["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["code"] == "HW5001"), "{status:#}");
}

/// What a bundle of this node holds, by file.
fn bundle(mesh: &Mesh, name: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = mesh.members[0].node.state().join(name);
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("bundle.tar.gz").display().to_string();
    hawser(mesh, 0).args(["bundle", "--out", &file]).stdout().unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = hawser(mesh, 0).args(["bundle", "--out", &file]).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "a file that is there is overwritten");
    let unpack = ["-xzf", &file, "-C", &dir.display().to_string()].map(str::to_owned);
    mesh.members[0].node.command("tar").args(unpack).stdout().unwrap();
    let files = files_below(&dir.join("hawser-bundle")).into_iter();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

fn holds(files: &BTreeMap<String, Vec<u8>>, name: &str, needle: &[u8]) -> bool {
    files[name].windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_bundle_has_the_last_packets_headers_and_what_was_said_only_if_it_was_asked_for() {
    let mut mesh = Mesh::start("clib", 2).unwrap();
    mesh.add_pods(1).unwrap();
    let said = marker();
    assert!(mesh.reach(&said, Duration::from_secs(20)).failures().is_empty());
    let (source, far) = (mesh.pods()[0].address(true).unwrap(), mesh.members[1].node.address().v4);
    let source = source.to_string().parse::<std::net::Ipv4Addr>().unwrap().octets();

    let files = bundle(&mesh, "first");

    assert!(holds(&files, "packets.pcapng", &source), "inner packets are there");
    assert!(holds(&files, "packets.pcapng", &far.octets()), "and outer ones");
    assert!(!holds(&files, "packets.pcapng", &said), "and nothing that was said");
    assert!(holds(&files, "meshnodes.json", b"node-2") && holds(&files, "state.json", b"node-2"));
    assert!(!files["README.txt"].is_empty() && files.contains_key("metrics.txt"));
    let secrets = Secrets::below(&mesh.members[0].node.state());
    assert!(!secrets.is_empty());
    for (name, bytes) in &files {
        assert_eq!(secrets.found_in(bytes), Vec::<String>::new(), "{name}");
    }

    let member = &mut mesh.members[0];
    member.kill_agent();
    member.start_agent_with(["--recent-payload", "200"]).unwrap();
    member.wait_until_ready(Duration::from_secs(20)).unwrap();
    assert!(mesh.reach(&said, Duration::from_secs(20)).failures().is_empty());
    assert!(
        holds(&bundle(&mesh, "second"), "packets.pcapng", &said),
        "the check sees what is there"
    );
}
