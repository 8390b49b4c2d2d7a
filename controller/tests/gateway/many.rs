//! Ten thousand watches on one replica: what each costs in memory, and how soon a change has reached
//! all of them. The gateway is the real program, a process of its own.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::join::{JoinAnswer, Token, pin};
use api::{JoinToken, JoinTokenSpec, Mesh, MeshNode, conditions};
use cli::join::gateway::{Entered, Gateway, Url};
use controller::embed::client_from;
use http::Request;
use http_body_util::BodyExt;
use jiff::Timestamp;
use keys::PublicKey;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Machine, Port, SOON, answer, proved, send};

/// As many as one machine may hold, on a connection each.
const EACH: u32 = 16;
const WATCHES: u32 = 10_000;
const CHANGES: u32 = 20;
/// Machines of one address: fewer than it may let in at once.
const OF_ONE_ADDRESS: u32 = 100;
/// Handshakes at once, of one address.
const AT_ONCE: usize = 48;
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller with its gateway; killed when dropped.
struct Replica {
    process: Child,
    client: Client,
    gateway: SocketAddr,
    _directory: TempDir,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended; the directory goes either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Replica {
    async fn start() -> Replica {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("api");
        let gateway = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-controller"));
        command.arg("--embedded").arg(&dir).arg("--pool=10.0.0.0/8/24");
        command.arg(format!("--listen={}", free_port())).arg(format!("--gateway={gateway}"));
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let begun = Instant::now();
        let client = loop {
            let client = client_from(&dir.join("admin.kubeconfig")).await;
            if let Ok(client) = client
                && Api::<Mesh>::all(client.clone()).get(api::MESH).await.is_ok()
            {
                break client;
            }
            assert!(begun.elapsed() < SOON, "no controller");
            sleep(Duration::from_millis(50)).await;
        };
        Replica { process, client, gateway, _directory: directory }
    }

    /// Of a file under /proc/PID.
    fn about(&self, file: &str) -> String {
        let mut text = String::new();
        let path = format!("/proc/{}/{file}", self.process.id());
        std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn rss_kib(&self) -> u32 {
        let status = self.about("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// User and system, in seconds: fields 14 and 15 of `stat`, in hundredths.
    fn cpu(&self) -> f64 {
        let stat = self.about("stat");
        let rest = stat.rsplit(')').next().unwrap();
        let fields = rest.split_whitespace().skip(11).take(2);
        fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// A token for everybody, and the authority as the Mesh announces it.
    async fn token(&self, uses: u32) -> (Token, Port) {
        let meshes: Api<Mesh> = Api::all(self.client.clone());
        let begun = Instant::now();
        let announced = loop {
            let status = meshes.get(api::MESH).await.unwrap().status;
            if let Some(gateway) = status.and_then(|status| status.gateway) {
                break gateway.authority;
            }
            assert!(begun.elapsed() < SOON, "no gateway");
            sleep(Duration::from_millis(50)).await;
        };
        let byte = |at: usize| u8::from_str_radix(&announced[2 * at..2 * at + 2], 16).unwrap();
        let authority = std::array::from_fn(byte);
        let token = Token { name: "many".to_owned(), secret: [5; 32], authority };
        let spec = JoinTokenSpec {
            hash: token.hash(),
            expires_at: conditions::rfc3339(Timestamp::now() + Duration::from_secs(3600)),
            uses,
            site: None,
            name_prefix: None,
            pool: None,
            prefixes: Vec::new(),
            approve: false,
            created_by: None,
        };
        let tokens: Api<JoinToken> = Api::all(self.client.clone());
        tokens.create(&PostParams::default(), &JoinToken::new("many", spec)).await.unwrap();
        let first = self.first(&token).await;
        let port = Port { gateway: self.gateway, authority: first };
        assert_eq!(pin(&port.authority), authority);
        (token, port)
    }

    /// The first machine asks as `hawser join` does, and learns the authority that the token pins.
    async fn first(&self, token: &Token) -> CertificateDer<'static> {
        let url = Url::parse(&format!("https://{}", self.gateway)).unwrap();
        let mut gateway = Gateway::connect(&url, token.authority, SOON).await.unwrap();
        let mut asking = Machine::new(u32::MAX).request(token, "first");
        let challenge: PublicKey = gateway.challenge().await.unwrap().parse().unwrap();
        let covered = asking.request.covered();
        asking.request.proof =
            asking.holds.prove(&challenge, covered.as_bytes()).unwrap().to_string();
        let Ok(Entered::In(JoinAnswer { authority, .. })) = gateway.join(&asking.request).await
        else {
            panic!("the first machine is not let in");
        };
        CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()
    }
}

/// Machines of one address have one of their own.
fn address_of(number: u32) -> Ipv4Addr {
    let low = u8::try_from(2 + number / OF_ONE_ADDRESS).unwrap();
    Ipv4Addr::new(127, 0, 1, low)
}

/// All machines, in: those of an address one after the other, the addresses beside each other.
async fn machines(port: &Port, token: &Token, count: u32) -> Vec<Machine> {
    let addresses = count.div_ceil(OF_ONE_ADDRESS);
    let of_one = |address: u32| async move {
        let first = address * OF_ONE_ADDRESS;
        let mut all = Vec::new();
        for number in first..(first + OF_ONE_ADDRESS).min(count) {
            let mut machine = Machine::new(number);
            let mut sender = port.connect_from(address_of(number), None).await.unwrap();
            let asking = machine.request(token, &format!("edge-{number}"));
            let said = loop {
                let body = proved(&mut sender, &asking).await;
                let said = answer(&mut sender, Request::post("/join"), body).await;
                match said.code {
                    // All addresses together may come fifty times a second.
                    429 | 503 => sleep(Duration::from_millis(500)).await,
                    _ => break said,
                }
            };
            assert_eq!(said.code, 201, "{}", said.body);
            machine.take(&said.body);
            all.push(machine);
        }
        all
    };
    futures::future::join_all((0..addresses).map(of_one)).await.into_iter().flatten().collect()
}

/// Until every node has its subnet, and nothing more happens.
async fn settled(nodes: &Api<MeshNode>, count: u32) -> String {
    let begun = Instant::now();
    let mut before = Vec::new();
    loop {
        let list = nodes.list(&ListParams::default()).await.unwrap();
        // Leases move the version of the whole on.
        let now: Vec<_> =
            list.items.iter().map(|node| node.metadata.resource_version.clone()).collect();
        let given = list.items.iter().filter(|node| !node.spec.subnets.is_empty()).count();
        if given > count as usize && now == before {
            return list.metadata.resource_version.unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "{given} of {count} nodes have subnets");
        before = now;
        sleep(Duration::from_secs(2)).await;
    }
}

/// Tells the number of each change that it hears of.
async fn follow(
    port: &Port,
    (number, machine): (u32, &Machine),
    version: &str,
    told: mpsc::UnboundedSender<(u32, Instant)>,
) {
    let mut sender = port.connect_from(address_of(number), Some(machine)).await.unwrap();
    let path = format!("/apis/hawser.dev/v1alpha1/meshnodes?watch=1&resourceVersion={version}");
    let response = send(&mut sender, Request::get(path), "").await;
    assert_eq!(response.status().as_u16(), 200);
    let mut body = response.into_body();
    tokio::spawn(async move {
        let _connection = sender;
        while let Some(Ok(frame)) = body.frame().await {
            let at = Instant::now();
            let text = String::from_utf8_lossy(frame.data_ref().unwrap()).into_owned();
            let change = text.split(r#""bench":""#).nth(1).and_then(|rest| rest.split('"').next());
            let change = change.and_then(|number| number.parse().ok());
            if change.is_some_and(|change| told.send((change, at)).is_err()) {
                return;
            }
        }
    });
}

async fn follow_all(
    port: &Port,
    machines: &[Machine],
    version: &str,
    told: &mpsc::UnboundedSender<(u32, Instant)>,
) {
    use futures::StreamExt as _;
    let numbered = (0..).zip(machines);
    let all = numbered.flat_map(|machine| std::iter::repeat_n(machine, EACH as usize));
    let follows = futures::stream::iter(all.map(|one| follow(port, one, version, told.clone())));
    follows.buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// How long each watch waited for each change.
async fn changes(
    nodes: &Api<MeshNode>,
    watches: u32,
    heard: &mut mpsc::UnboundedReceiver<(u32, Instant)>,
) -> Vec<Duration> {
    let mut delays = Vec::new();
    for change in 0..CHANGES {
        let patch = json!({"metadata": {"labels": {"bench": change.to_string()}}});
        let begun = Instant::now();
        nodes.patch("first", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        for _ in 0..watches {
            let (number, at) = timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
            assert_eq!(number, change);
            delays.push(at.saturating_duration_since(begun));
        }
    }
    delays.sort();
    delays
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: ./e2e/bench gateway"]
async fn ten_thousand_watches_on_one_replica() {
    let replica = Replica::start().await;
    let count = WATCHES / EACH;
    let (token, port) = replica.token(count + 1).await;
    let begun = Instant::now();
    let machines = machines(&port, &token, count).await;
    let joined = begun.elapsed();
    let nodes: Api<MeshNode> = Api::all(replica.client.clone());
    let version = settled(&nodes, count).await;
    let (told, mut heard) = mpsc::unbounded_channel();

    let (empty, cpu, begun) = (replica.rss_kib(), replica.cpu(), Instant::now());
    follow_all(&port, &machines, &version, &told).await;
    let (connected, connecting) = (begun.elapsed(), replica.cpu() - cpu);
    let (full, cpu) = (replica.rss_kib(), replica.cpu());
    let delays = changes(&nodes, WATCHES, &mut heard).await;
    let telling = replica.cpu() - cpu;

    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    let of_one = f64::from(full - empty) / f64::from(WATCHES);
    let handshake = connecting * 1000.0 / f64::from(WATCHES);
    let change = telling * 1000.0 / f64::from(CHANGES);
    for (what, figure) in [
        ("watches, a connection each", WATCHES.to_string()),
        (
            "machines, and how long they took to join",
            format!("{count}, {:.1} s", joined.as_secs_f64()),
        ),
        ("all connected within", format!("{:.1} s", connected.as_secs_f64())),
        ("memory before and with them", format!("{}, {} MiB", empty / 1024, full / 1024)),
        ("memory of one", format!("{of_one:.1} KiB")),
        ("a change reaches half of them after", format!("{:.0} ms", at(50))),
        ("99 of 100 after", format!("{:.0} ms", at(99))),
        ("all after", format!("{:.0} ms", at(100))),
        ("the gateway's CPU for one connection", format!("{handshake:.2} ms")),
        ("the gateway's CPU for one change to all", format!("{change:.0} ms")),
    ] {
        println!("{what:<44}{figure:>16}");
    }
    assert!(at(99) < 10_000.0, "{} ms", at(99));
}
