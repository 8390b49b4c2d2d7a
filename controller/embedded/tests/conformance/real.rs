//! Real API servers, started by the scripts that `HAWSER_KUBE_SCRIPTS` names.

use crate::common::raw::{Endpoint, Request};
use crate::common::{THINGS, wait_for};
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

pub(crate) struct Real {
    script: PathBuf,
    server: &'static str,
    dir: TempDir,
    ports: [u16; 2],
}

impl Real {
    /// `None`, said aloud, where there are no scripts.
    pub(crate) fn start(server: &str) -> Option<Real> {
        let Some(scripts) = std::env::var_os("HAWSER_KUBE_SCRIPTS") else {
            eprintln!(
                "skipped (level cluster): HAWSER_KUBE_SCRIPTS is not set, so no {server} server"
            );
            return None;
        };
        let server = if server == "cp" { "cp" } else { "crd" };
        let real = Real {
            script: PathBuf::from(scripts).join(format!("{server}.sh")),
            server,
            dir: TempDir::new().unwrap(),
            ports: free_ports(),
        };
        let status = real.command("start").status().unwrap();
        assert!(status.success(), "{} start: {status}", real.script.display());
        Some(real)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        let state = self.dir.path().join("state");
        command.arg(verb);
        if self.server == "crd" {
            command.arg(&state);
        }
        let [port, eport] = self.ports;
        command.env("DIR", state).env("IP", "127.0.0.1");
        command.env("PORT", port.to_string()).env("EPORT", eport.to_string());
        command.stdout(std::process::Stdio::null());
        command
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_kubeconfig(&self.dir.path().join("state/admin.kubeconfig"))
    }

    /// Our resources and the Thing: a server of 1.36 and one of 1.20 must take each definition as
    /// it stands (1.20 drops the rules in it).
    pub(crate) fn install(endpoint: &Endpoint) {
        let things: Value = serde_saphyr::from_str(THINGS).unwrap();
        let ours = api::crds().into_iter().map(|crd| serde_json::to_value(crd).unwrap());
        for crd in ours.chain([things]) {
            let name = crd["metadata"]["name"].as_str().unwrap();
            let answer = post_crd(endpoint, &crd);
            assert_eq!(answer.0, 201, "{name}: {}", answer.1);
            let spec = &crd["spec"];
            let group = spec["group"].as_str().unwrap();
            let version = spec["versions"][0]["name"].as_str().unwrap();
            let plural = spec["names"]["plural"].as_str().unwrap();
            let list = format!("/apis/{group}/{version}/{plural}");
            wait_for(&list, || get(endpoint, &list) == 200);
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let stopped = self.command("stop").status();
        assert!(stopped.is_ok_and(|s| s.success()) || std::thread::panicking(), "stop failed");
    }
}

fn post_crd(endpoint: &Endpoint, crd: &Value) -> (u16, String) {
    let answer = endpoint.send(&Request {
        method: "POST",
        path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: Some(crd.to_string().into_bytes()),
    });
    (answer.code, String::from_utf8_lossy(&answer.body).into_owned())
}

fn get(endpoint: &Endpoint, path: &str) -> u16 {
    endpoint.send(&Request { method: "GET", path, headers: Vec::new(), body: None }).code
}

/// One for the API, and one for etcd with the next one free too.
fn free_ports() -> [u16; 2] {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port));
    loop {
        let (api, etcd) = (free(0).unwrap(), free(0).unwrap());
        let ports = [&api, &etcd].map(|socket| socket.local_addr().unwrap().port());
        if ports[1] < u16::MAX && ports[1] + 1 != ports[0] && free(ports[1] + 1).is_ok() {
            return ports;
        }
    }
}
