//! 200 kpps of forged initiations against a node with a session at work: what is left of the
//! session, how long a member waits for a handshake, what the node sends and needs meanwhile.
//!
//! ```text
//!   node-1's pod ── 200 Mbit/s ──▶ node-2's pod      stranger, member ──▶ node-2
//! ```
//! Everything shares this machine's cores, the flood's generator included: its CPU is printed.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context as _;
use api::{MeshPeer, MeshPeerSpec};
use e2e::flood::{Attempts, CookieReplies, Flood, FloodReport, HandshakeTimes, Member};
use e2e::lab::Node;
use e2e::mesh::{Alone, Pod, add_pods, pods, wait_until_ready};
use serde::Serialize;
use serde_json::Value;

const ENGINES: [&str; 2] = ["native", "boringtun"];
const PER_SECOND: u32 = 200_000;
const FLOW: &str = "200M";
const PORT: u16 = 51820;
const PATIENCE: Duration = Duration::from_secs(20);
const KNOWN: Attempts = Attempts { count: 100, limit: PATIENCE, within: PATIENCE };
const ELSEWHERE: Attempts = Attempts { count: 3, ..KNOWN };

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    engine: &'static str,
    flood_kpps: f64,
    /// Of one core.
    generator_cores: f64,
    agent_cores: f64,
    flow_alone_mbps: f64,
    flow_in_flood_mbps: f64,
    cookies_per_second: f64,
    handshake_p50_ms: Option<f64>,
    handshake_p99_ms: Option<f64>,
    elsewhere_p99_ms: Option<f64>,
    rss_before_kib: u64,
    rss_after_kib: u64,
}

pub(crate) fn measure(each: Duration) -> anyhow::Result<Vec<Row>> {
    let measured = ENGINES.iter().filter_map(|engine| {
        eprintln!("flood  {engine}");
        match Scene::new(engine).and_then(|scene| scene.measure(engine, each)) {
            Ok(row) => Some(row),
            Err(error) => {
                eprintln!("  {engine}: {error:#}");
                None
            }
        }
    });
    let rows: Vec<Row> = measured.collect();
    anyhow::ensure!(!rows.is_empty(), "no engine gave any figures");
    Ok(rows)
}

pub(crate) fn print(rows: &[Row]) {
    for row in rows {
        let kept = 100.0 * row.flow_in_flood_mbps / row.flow_alone_mbps;
        let time = |figure: Option<f64>| figure.map_or("never".into(), |ms| format!("{ms:.1} ms"));
        println!("{}", row.engine);
        println!("  flood                 {:.0} kpps", row.flood_kpps);
        println!(
            "  CPU of the generator  {:.2} cores, of the agent {:.2}",
            row.generator_cores, row.agent_cores
        );
        println!(
            "  the flow              {:.1} Mbit/s alone, {:.1} in the flood: {kept:.0} %",
            row.flow_alone_mbps, row.flow_in_flood_mbps
        );
        println!("  cookies               {:.0} a second", row.cookies_per_second);
        println!(
            "  handshake             {} median, {} p99, from an unknown endpoint {} p99",
            time(row.handshake_p50_ms),
            time(row.handshake_p99_ms),
            time(row.elsewhere_p99_ms)
        );
        println!(
            "  memory                {} KiB before, {} after",
            row.rss_before_kib, row.rss_after_kib
        );
    }
}

/// Two nodes with a pod each, a stranger, and a member at home.
struct Scene {
    mesh: Alone,
    stranger: Node,
    home: Node,
    key: String,
}

/// What was seen while the flood ran.
struct Seen {
    flood: FloodReport,
    flow: f64,
    cookies: u64,
    agent_cpu: f64,
    known: HandshakeTimes,
    elsewhere: HandshakeTimes,
}

impl Scene {
    fn new(engine: &str) -> anyhow::Result<Self> {
        let mut mesh = Alone::prepare("flood", 2)?;
        for member in &mut mesh.members {
            member.start_agent_with(["--engine", engine])?;
        }
        wait_until_ready(&mut mesh.members)?;
        add_pods(&mesh.lab, &mut mesh.members, 1)?;
        let (stranger, home) = (mesh.lab.node("stranger")?, mesh.lab.node("home")?);
        let node = &mesh.members[1].node;
        let key = node.command("hawser-agent").args(["keygen", "--state"]).arg(node.state());
        let key = key.stdout()?.trim().to_owned();
        Ok(Self { mesh, stranger, home, key })
    }

    fn target(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.mesh.members[1].node.address().v4, PORT)
    }

    fn measure(&self, engine: &'static str, each: Duration) -> anyhow::Result<Row> {
        let member = Member::new(self.home.namespace(), self.target(), &self.key)?;
        self.mesh.write(&[self.as_peer(&member)])?;
        let pods = pods(&self.mesh.members);
        let far = pods[1].address(true).context("a pod without an IPv4 address")?;
        pods[0].namespace.ping_until(far, b"warm-up", PATIENCE)?;
        let server = pods[1].namespace.command("iperf3", self.stranger.dir()).arg("-s").spawn()?;
        anyhow::ensure!(
            member.handshakes(PORT, Attempts { count: 1, ..KNOWN })?.failed == 0,
            "no handshake even without a flood: {}",
            server.last_words()
        );
        let alone = self.flow(pods[0], far.to_string(), each)?;
        let agent = self.mesh.members[1].agent()?;
        let rss_before_kib = agent.rss_kib()?;
        let seen = self.flooded(&member, pods[0], far.to_string(), each)?;
        let seconds = seen.flood.lasted.as_secs_f64();
        let ms = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        Ok(Row {
            engine,
            flood_kpps: seen.flood.per_second() / 1e3,
            generator_cores: seen.flood.cpu.as_secs_f64() / seconds,
            agent_cores: seen.agent_cpu / seconds,
            flow_alone_mbps: alone,
            flow_in_flood_mbps: seen.flow,
            cookies_per_second: seen.cookies as f64 / seconds,
            handshake_p50_ms: ms(seen.known.percentile(50)),
            handshake_p99_ms: ms(seen.known.percentile(99)),
            elsewhere_p99_ms: ms(seen.elsewhere.percentile(99)),
            rss_before_kib,
            rss_after_kib: agent.rss_kib()?,
        })
    }

    fn flooded(
        &self,
        member: &Member,
        from: &Pod,
        to: String,
        each: Duration,
    ) -> anyhow::Result<Seen> {
        let node = &self.mesh.members[1];
        let cookies = CookieReplies::of(&node.node)?;
        let cpu = node.agent()?.cpu_seconds()?;
        let stranger = self.stranger.namespace();
        let flood = Flood::start(stranger, self.target(), &self.key, PER_SECOND)?;
        let (flow, known, elsewhere) = std::thread::scope(|scope| {
            let flow = scope.spawn(|| self.flow(from, to, each));
            let known = scope.spawn(|| member.handshakes(PORT, KNOWN));
            let flow = flow.join().expect("iperf3 does not panic");
            let known = known.join().expect("handshakes do not panic");
            (flow, known, member.handshakes(0, ELSEWHERE))
        });
        let agent_cpu = node.agent()?.cpu_seconds()? - cpu;
        let cookies = cookies.sent()?;
        let flood = flood.finish();
        Ok(Seen { flood, flow: flow?, cookies, agent_cpu, known: known?, elsewhere: elsewhere? })
    }

    /// Mbit/s that arrived of the 200 that were sent.
    fn flow(&self, from: &Pod, to: String, each: Duration) -> anyhow::Result<f64> {
        let seconds = each.as_secs().to_string();
        let iperf = from.namespace.command("iperf3", self.stranger.dir());
        let flags = ["-u", "-b", FLOW, "-l", "1200", "-J", "-t", &seconds, "-c", &to];
        let result: Value = serde_json::from_slice(&iperf.args(flags).output()?.stdout)
            .context("reading what iperf3 printed")?;
        if let Some(error) = result["error"].as_str() {
            anyhow::bail!("iperf3: {error}");
        }
        let sum = &result["end"]["sum"];
        let figure = |name: &str| sum[name].as_f64().with_context(|| format!("no {name}"));
        let arrived = figure("packets")? - figure("lost_packets")?;
        Ok(arrived * 1200.0 * 8.0 / figure("seconds")? / 1e6)
    }

    fn as_peer(&self, member: &Member) -> MeshPeer {
        let endpoint = SocketAddr::new(self.home.address().v4.into(), PORT);
        let spec = MeshPeerSpec {
            public_key: member.public_key(),
            addresses: vec!["10.42.200.7/32".to_owned()],
            endpoint: Some(endpoint.to_string()),
            entries: Vec::new(),
            preshared_key_file: None,
            preshared_key_secret_ref: None,
            persistent_keepalive: None,
        };
        MeshPeer::new("member", spec)
    }
}
