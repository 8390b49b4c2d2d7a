//! The real kubectl against the embedded server: what people type must work.
//!
//! Skipped, and says so, where there is no kubectl.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod common;

use common::{Embedded, wait_for};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const NODE: &str = "apiVersion: hawser.dev/v1alpha1
kind: MeshNode
metadata: {name: edge-1}
spec: {subnets: [10.42.1.0/24], site: berlin}
";

struct Kubectl {
    server: Embedded,
    home: TempDir,
}

/// What a run of kubectl said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl Kubectl {
    fn start() -> Option<Kubectl> {
        let there = Command::new("kubectl").args(["version", "--client"]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped (level cluster): no kubectl on the PATH");
            return None;
        }
        Some(Kubectl { server: Embedded::start(), home: TempDir::new().unwrap() })
    }

    /// Words are split at blanks.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.args(line.split_whitespace());
        command.env("KUBECONFIG", self.server.kubeconfig()).env("HOME", self.home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Standard output of a run that must succeed.
    fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    fn ok_with(&self, line: &str, stdin: &str) -> String {
        let said = run(self.command(line), stdin);
        assert!(said.ok, "kubectl {line}: {}{}", said.out, said.err);
        said.out
    }

    /// Standard error of a run that must fail.
    fn refused(&self, line: &str, stdin: &str) -> String {
        let said = run(self.command(line), stdin);
        assert!(!said.ok, "kubectl {line} succeeded: {}", said.out);
        said.err
    }

    /// A patch has blanks in it.
    fn patch(&self, line: &str, patch: &str) -> Said {
        let mut command = self.command(line);
        command.args(["-p", patch]);
        run(command, "")
    }
}

fn run(mut command: Command, stdin: &str) -> Said {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { ok: status.success(), out: text(&stdout), err: text(&stderr) }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

#[test]
fn apply_creates_changes_and_notices_that_nothing_changed() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };

    has(&kubectl.ok_with("apply -f -", NODE), &["meshnode.hawser.dev/edge-1 created"]);
    has(&kubectl.ok_with("apply -f -", NODE), &["unchanged"]);
    let moved = NODE.replace("berlin", "paris");
    let diff = run(kubectl.command("diff -f -"), &moved);
    has(&diff.out, &["-  site: berlin", "+  site: paris"]);
    has(&kubectl.ok_with("apply -f - --dry-run=server", &moved), &["configured (server dry run)"]);
    has(&kubectl.ok("get meshnode edge-1 -o jsonpath={.spec.site}"), &["berlin"]);
    has(&kubectl.ok_with("apply -f -", &moved), &["configured"]);
    has(&kubectl.ok("get meshnode edge-1 -o jsonpath={.spec.site}"), &["paris"]);
    let without = NODE.replace(", site: berlin", "");
    has(&kubectl.ok_with("apply -f -", &without), &["configured"]);
    assert_eq!(kubectl.ok("get hwn edge-1 -o jsonpath={.spec.site}"), "", "apply removes");
}

#[test]
fn what_is_wrong_is_refused_with_the_field() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };

    let unknown = NODE.replace("site:", "sight:");
    has(&kubectl.refused("apply -f -", &unknown), &["unknown field \"spec.sight\""]);
    has(&kubectl.refused("create -f -", &unknown), &["unknown field \"spec.sight\""]);
    let wrong = NODE.replace("10.42.1.0/24", "10.42.1.1/24");
    has(&kubectl.refused("apply -f -", &wrong), &["is invalid", "spec.subnets"]);
    has(&kubectl.refused("create -f - --dry-run=server", &wrong), &["spec.subnets"]);
    has(&kubectl.refused("get meshnode nope", ""), &["(NotFound)", "\"nope\" not found"]);
    has(
        &kubectl.refused("apply --server-side -f -", NODE),
        &["use kubectl apply without --server-side"],
    );
    let again = kubectl.ok_with("create -f -", NODE);
    has(&again, &["created"]);
    has(&kubectl.refused("create -f -", NODE), &["(AlreadyExists)"]);
}

#[test]
fn get_prints_the_servers_columns() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };
    kubectl.ok_with("apply -f -", NODE);
    let status = r#"{"status":{"peers":"4/5","conditions":[{"type":"Ready","status":"True",
        "reason":"Up","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let patched = kubectl.patch("patch hwn edge-1 --subresource=status --type=merge", status);
    assert!(patched.ok, "{}", patched.err);

    let plain = kubectl.ok("get hwn");
    has(&plain, &["NAME", "AGE", "edge-1", "4/5", "True"]);
    let wide = kubectl.ok("get hwn -o wide");
    assert!(wide.lines().next().unwrap().len() > plain.lines().next().unwrap().len(), "{wide}");
    assert_eq!(kubectl.ok("get hwn -o name"), "meshnode.hawser.dev/edge-1\n");
    has(&kubectl.ok("get meshnodes --sort-by=.metadata.name --show-labels"), &["<none>"]);
    has(&kubectl.ok("get hawser"), &["edge-1"]);
    has(&kubectl.ok("get hwn edge-1 -o yaml"), &["site: berlin", "generation: 1", "peers: 4/5"]);
    has(&run(kubectl.command("get hwp"), "").err, &["No resources found"]);
    has(&kubectl.ok("api-resources"), &["hwn", "hawser.dev/v1alpha1", "SubnetClaim"]);
    has(&kubectl.ok("describe hwn edge-1"), &["Name:         edge-1", "Site:", "Events:"]);
}

#[test]
fn patches_change_what_they_name() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };
    kubectl.ok_with("apply -f -", NODE);
    let site = || kubectl.ok("get hwn edge-1 -o jsonpath={.spec.site}");

    assert!(kubectl.patch("patch hwn edge-1 --type=merge", r#"{"spec":{"site":"oslo"}}"#).ok);
    assert_eq!(site(), "oslo");
    let json = r#"[{"op":"test","path":"/spec/site","value":"oslo"},
                   {"op":"replace","path":"/spec/site","value":"rome"}]"#;
    assert!(kubectl.patch("patch hwn edge-1 --type=json", json).ok);
    assert_eq!(site(), "rome");
    assert!(!kubectl.patch("patch hwn edge-1 --type=json", json).ok, "the test holds no more");
    let sly = r#"{"spec":{"site":"sly"},"status":{"version":"1"}}"#;
    assert!(kubectl.patch("patch hwn edge-1 --subresource=status --type=merge", sly).ok);
    assert_eq!(site(), "rome", "a status patch changes no spec");
    has(&kubectl.ok("get hwn edge-1 -o jsonpath={.status.version}"), &["1"]);
    has(&kubectl.ok("label hwn edge-1 rack=r1"), &["labeled"]);
    has(&kubectl.ok("annotate hwn edge-1 note=hello"), &["annotated"]);
    has(&kubectl.ok("get hwn -l rack=r1 -o name"), &["edge-1"]);
    assert_eq!(kubectl.ok("get hwn -l rack!=r1 -o name"), "");
}

#[test]
fn edit_and_replace_write_back_what_they_read() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };
    kubectl.ok_with("apply -f -", NODE);

    let mut edit = kubectl.command("edit hwn edge-1");
    edit.env("KUBE_EDITOR", "sed -i s/berlin/bonn/");
    let said = run(edit, "");
    assert!(said.ok, "{}", said.err);
    has(&said.out, &["edited"]);

    let read = kubectl.ok("get hwn edge-1 -o yaml");
    has(&read, &["site: bonn"]);
    let changed = read.replace("bonn", "ulm");
    has(&kubectl.ok_with("replace -f -", &changed), &["replaced"]);
    has(&kubectl.refused("replace -f -", &changed), &["(Conflict)"]);
}

#[test]
fn explain_knows_every_field() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };

    has(
        &kubectl.ok("explain meshnode"),
        &["GROUP:      hawser.dev", "KIND:       MeshNode", "spec"],
    );
    has(&kubectl.ok("explain mesh.spec.pools.cidr"), &["FIELD: cidr <string>", "prefix"]);
    has(&kubectl.ok("explain hwn --recursive"), &["conditions", "publicKeys", "metadata"]);
}

#[test]
fn delete_deletes_and_a_dry_run_does_not() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };
    for name in ["edge-1", "edge-2", "edge-3"] {
        kubectl.ok_with("apply -f -", &NODE.replace("edge-1", name));
    }

    has(&kubectl.ok("delete hwn edge-1 --dry-run=server"), &["deleted (server dry run)"]);
    has(&kubectl.ok("get hwn edge-1 -o name"), &["edge-1"]);
    has(&kubectl.ok("delete hwn edge-1"), &["deleted"]);
    has(&kubectl.refused("delete hwn edge-1", ""), &["(NotFound)"]);
    has(&kubectl.ok("delete hwn --all"), &["edge-2", "edge-3"]);
    assert_eq!(kubectl.ok("get hwn -o name"), "");
}

#[test]
fn wait_sees_a_condition_and_a_deletion() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };
    kubectl.ok_with("apply -f -", NODE);
    let ready = kubectl.command("wait --for=condition=Ready hwn/edge-1 --timeout=30s").spawn();
    let gone = kubectl.command("wait --for=delete hwn/edge-1 --timeout=30s").spawn();
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Up",
        "message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;

    assert!(kubectl.patch("patch hwn edge-1 --subresource=status --type=merge", status).ok);
    let ready = ready.unwrap().wait_with_output().unwrap();
    has(&String::from_utf8_lossy(&ready.stdout), &["condition met"]);
    kubectl.ok("delete hwn edge-1");
    let gone = gone.unwrap().wait_with_output().unwrap();
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    let late = kubectl.refused("wait --for=condition=Ready hwn/edge-1 --timeout=1s", "");
    has(&late, &["NotFound"]);
}

#[test]
fn get_w_shows_each_change_as_it_comes() {
    let Some(kubectl) = Kubectl::start() else {
        return;
    };
    kubectl.ok_with("apply -f -", NODE);
    let mut watch = kubectl.command("get hwn -w").spawn().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let mut seen = Vec::new();
    let wait = |what: &str, seen: &mut Vec<String>| {
        wait_for(what, || {
            seen.extend(lines.try_iter());
            seen.iter().any(|line| line.contains(what))
        });
    };

    wait("edge-1", &mut seen);
    kubectl.ok_with("apply -f -", &NODE.replace("edge-1", "edge-2"));
    wait("edge-2", &mut seen);
    let patched = kubectl.patch(
        "patch hwn edge-1 --subresource=status --type=merge",
        r#"{"status":{"peers":"3/7"}}"#,
    );
    assert!(patched.ok, "{}", patched.err);
    wait("3/7", &mut seen);

    watch.kill().unwrap();
    watch.wait().unwrap();
    reader.join().unwrap();
    let headers = seen.iter().filter(|line| line.starts_with("NAME")).count();
    assert_eq!(headers, 1, "one header, then rows: {seen:#?}");
}
