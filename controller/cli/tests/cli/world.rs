//! A server, an agent and a home directory of one test, and `hawser` run among them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not killed by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// An embedded server with the mesh's resources, and a directory for everything else.
pub(crate) struct World {
    directory: TempDir,
    /// Serves as long as it lives.
    server: Option<Runtime>,
}

impl World {
    /// Without any API.
    pub(crate) fn offline() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Other users run the program in some tests.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, server: None }
    }

    pub(crate) fn new() -> Self {
        let mut world = Self::offline();
        let runtime = Runtime::new().unwrap();
        let options = embedded::Options { crds: api::crds(), ..embedded::Options::default() };
        let server = embedded::Server::open(&world.file("store"), options).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        runtime.spawn(server.serve(listener, std::future::pending()));
        world.server = Some(runtime);
        let kubeconfig = world.kubeconfig();
        for _ in 0..1000 {
            if kubeconfig.exists() {
                return world;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server wrote no kubeconfig");
    }

    /// With a Mesh, as an operator would create it.
    pub(crate) fn with_mesh() -> Self {
        let world = Self::new();
        let mesh = api::Mesh::new(
            api::MESH,
            serde_json::from_value(json!({
                "pools": [{"cidr": "10.42.0.0/16", "nodePrefixLength": 24},
                          {"cidr": "fd42::/48", "nodePrefixLength": 64}],
            }))
            .unwrap(),
        );
        world.create(&mesh);
        world
    }

    pub(crate) fn create<K>(&self, object: &K)
    where
        K: kube::Resource<DynamicType = ()>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.ask(async |client| {
            kube::Api::<K>::all(client).create(&kube::api::PostParams::default(), object).await
        });
    }

    /// Asks the API as its admin.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(kube::Client) -> kube::Result<T>) -> T {
        let config = kube::config::Kubeconfig::read_from(self.kubeconfig()).unwrap();
        self.server.as_ref().unwrap().block_on(async {
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
            question(kube::Client::try_from(config.unwrap()).unwrap()).await.unwrap()
        })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("store/admin.kubeconfig")
    }

    /// Answers `/state` until the process ends. The socket is where `--agent` finds it.
    pub(crate) fn agent(&self, state: &Value) -> PathBuf {
        let socket = self.file("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        let body = state.to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                let _ = write!(&stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
            }
        });
        socket
    }

    /// `hawser` as nobody's environment left it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_hawser")), arguments)
    }

    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.kubeconfig())
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }
}

/// An agent of node-1 whose one tunnel is up.
pub(crate) fn state() -> Value {
    json!({
        "node": "node-1", "version": "0.1.0", "engine": "boringtun", "mtu": 1420, "epoch": 1,
        "view": {"source": "kube", "ageSeconds": 3.0},
        "peers": [{
            "name": "node-2", "endpoint": "10.0.0.2:51820", "epoch": 1, "up": true,
            "lastHandshake": "2026-11-22T09:59:26Z", "rxBytes": 2048, "txBytes": 1024,
            "rttSeconds": 0.0004, "mtu": 1420, "site": null,
            "subnets": ["10.42.2.0/24", "fd42:0:0:2::/64"],
        }],
        "routes": [
            {"prefix": "10.42.0.0/16", "kind": "unreachable"},
            {"prefix": "10.42.2.0/24", "peer": "node-2"},
        ],
        "guard": {"routes": true, "nft": true, "blockedPackets": 17},
        "discards": {},
    })
}
