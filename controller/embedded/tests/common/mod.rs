//! An embedded server for tests, and a client that sends exactly the bytes it is told to.

// Each test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, reason = "shared by several test binaries")]

pub mod raw;

use embedded::{Options, Server};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use raw::Endpoint;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The kind that uses all of a schema's words.
pub const THINGS: &str = include_str!("../conformance/crd.yaml");

/// An embedded server in this process, which ends when dropped.
pub struct Embedded {
    dir: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Serves our resources and [`THINGS`].
    pub fn start() -> Embedded {
        let dir = TempDir::new().unwrap();
        let things: CustomResourceDefinition = serde_saphyr::from_str(THINGS).unwrap();
        let crds = api::crds().into_iter().chain([things]).collect();
        let options = Options { crds, ..Options::default() };
        let server = Server::open(dir.path(), options).unwrap();
        let kubeconfig = server.kubeconfig();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let ended = async { drop(stopped.await) };
                server.serve(listener, ended).await.unwrap();
            });
        });
        wait_for("the kubeconfig", || kubeconfig.exists());
        Embedded { dir, stop: Some(stop), thread: Some(thread) }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_kubeconfig(&self.kubeconfig())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let (Some(Err(panic)), false) = (ended, std::thread::panicking()) {
            std::panic::resume_unwind(panic);
        }
    }
}

pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < patience, "{what} did not come within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
