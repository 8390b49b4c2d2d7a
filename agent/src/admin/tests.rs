use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    time::Duration,
};

use super::*;

struct Agent {
    ready: Result<(), String>,
}

impl Live for Agent {
    fn state(&self) -> State {
        sample()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.clone()
    }

    fn recent_packets(&self) -> Result<Vec<u8>, String> {
        Ok(b"packets".to_vec())
    }

    fn alive(&self) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn sample() -> State {
    State {
        node: "node-1".to_owned(),
        version: "0.1.0".to_owned(),
        engine: "boringtun".to_owned(),
        mtu: 1420,
        epoch: 2,
        view: ViewState {
            source: "kube".to_owned(),
            age_seconds: Some(1.5),
            heard_seconds: Some(0.5),
            max_age_seconds: None,
        },
        peers: vec![
            PeerState {
                name: "node-2".to_owned(),
                endpoint: Some("[2001:db8::2]:51820".parse().unwrap()),
                backend: Some(Backend::Vxlan),
                path: None,
                reached: None,
                instead_of: Some(Backend::Direct),
                epoch: Some(1),
                last_handshake: Some(Timestamp::from_second(1_795_345_086).unwrap()),
                up: true,
                rx_bytes: 10,
                tx_bytes: 20,
                rtt_seconds: Some(0.0004),
                mtu: 1420,
                subnets: vec!["10.42.2.0/24".parse().unwrap()],
                site: None,
                encryption: None,
            },
            PeerState {
                name: "quo\"te".to_owned(),
                endpoint: None,
                backend: None,
                path: None,
                reached: None,
                instead_of: None,
                epoch: None,
                last_handshake: None,
                up: false,
                rx_bytes: 0,
                tx_bytes: 0,
                rtt_seconds: None,
                mtu: 1420,
                subnets: vec![],
                site: Some("edge".to_owned()),
                encryption: Some(Encryption::None),
            },
        ],
        behind: Vec::new(),
        routes: vec![RouteState {
            prefix: "10.42.0.0/16".parse().unwrap(),
            peer: None,
            kind: Some("unreachable".to_owned()),
        }],
        guard: GuardState { routes: true, nft: true, blocked_packets: 17 },
        passed_on: PassedOnState { datagrams: 3, bytes: 400 },
        canary: Some(CanaryState {
            verdict: CanaryVerdict::Clear,
            sent: 5,
            seen_in_clear: 2,
            devices: vec!["eth0".to_owned()],
            why: None,
        }),
        tls: TlsState {
            accepted: 2,
            called: 1,
            failed_calls: 4,
            refused: BTreeMap::from([("stranger".to_owned(), 3)]),
            rx_bytes: 30,
            tx_bytes: 40,
        },
        discards: BTreeMap::from([("no_route".to_owned(), 3), ("replay".to_owned(), 0)]),
    }
}

fn ask(path: &Path, what: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {what} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Serves `agent` on a socket in a directory of its own and asks for each of `what`.
async fn answers(agent: Agent, what: &'static [&'static str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = bind_unix(&path).unwrap();
    tokio::spawn(async { axum::serve(listener, router(Arc::new(agent))).await });
    let answers = move || what.iter().map(|what| ask(&path, what)).collect();
    tokio::task::spawn_blocking(answers).await.unwrap()
}

#[tokio::test]
async fn state_is_json_with_the_names_that_scripts_rely_on() {
    let answers = answers(Agent { ready: Ok(()) }, &["/state"]).await;

    let body = answers[0].split("\r\n\r\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    let peer = &json["peers"][0];
    assert_eq!(peer["name"], "node-2");
    assert_eq!(peer["endpoint"], "[2001:db8::2]:51820");
    assert_eq!(peer["lastHandshake"], "2026-11-22T10:58:06Z");
    assert_eq!(peer["rxBytes"], 10);
    assert_eq!(peer["rttSeconds"], 0.0004);
    assert_eq!(json["peers"][1]["lastHandshake"], serde_json::Value::Null);
    assert_eq!(json["routes"][0]["kind"], "unreachable");
    assert_eq!(json["guard"]["nft"], true);
    assert_eq!(json["discards"]["no_route"], 3);
}

#[tokio::test]
async fn an_agent_that_is_not_ready_says_why() {
    let agent = Agent { ready: Err("no view of the mesh yet".to_owned()) };

    let answers = answers(agent, &["/livez", "/readyz", "/nothing"]).await;

    assert!(answers[0].starts_with("HTTP/1.1 200"), "{}", answers[0]);
    assert!(answers[1].starts_with("HTTP/1.1 503"), "{}", answers[1]);
    assert!(answers[1].ends_with("no view of the mesh yet\n"), "{}", answers[1]);
    assert!(answers[2].starts_with("HTTP/1.1 404"), "{}", answers[2]);
}

#[tokio::test]
async fn a_dead_agents_socket_is_replaced_and_only_root_opens_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err());

    let _listener = bind_unix(&path).unwrap();

    assert!(UnixStream::connect(&path).is_ok());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_local_api_is_never_served_to_the_network() {
    let address = "0.0.0.0:0".parse().unwrap();

    let error = serve_tcp(address, Arc::new(Agent { ready: Ok(()) })).await.unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
