//! Plain WireGuard implementations as a `MeshPeer`: a laptop with somebody else's program on it.
//!
//! ```text
//!   laptop: wireguard-go or boringtun-cli, set up with `wg`
//!      └── underlay ── node-1 (pod), node-2 (pod): hawser-agent
//! ```

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::{MeshPeer, MeshPeerSpec};
use e2e::lab::{Namespace, Node, Process, eventually};
use e2e::mesh::{Alone, add_pods, pods};
use e2e::oracle::{Oracles, marker};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 51820;
const LAPTOP_V4: &str = "10.42.200.7";
const LAPTOP_V6: &str = "fd42:0:0:c8::7";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A machine with a WireGuard device by `wg`.
struct Laptop {
    node: Node,
    device: String,
    public_key: String,
    _program: Process,
}

impl Laptop {
    /// Starts `program` (with `flags` and a device's name) and gives it a key and addresses.
    fn start(mesh: &Alone, program: &str, flags: &[&str]) -> Laptop {
        let node = mesh.lab.node("laptop").unwrap();
        // The programs' sockets are named after the device, in one place for all namespaces.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let device = format!("hwi{}-{number}", std::process::id());
        let running = node.command(program).args(flags).arg(&device).spawn().unwrap();
        let private_key = node.command("wg").arg("genkey").stdout().unwrap();
        let public = node.command("wg").arg("pubkey").input(private_key.clone());
        let public_key = public.stdout().unwrap().trim().to_owned();
        let file = secret(&node, "laptop.key", &private_key);
        eventually("the device is there", LIMIT, || {
            let wg = node.command("wg").args(["set", &device, "private-key"]).arg(&file);
            wg.args(["listen-port", &PORT.to_string()]).stdout().is_ok()
        })
        .unwrap();
        let name = device.clone();
        let addresses = node.namespace().netlink(async move |net| {
            net.add_address(&name, LAPTOP_V4.parse::<IpAddr>()?, 16).await?;
            net.add_address(&name, LAPTOP_V6.parse::<IpAddr>()?, 48).await?;
            net.mtu(&name, 1420).await?;
            net.up(&name).await
        });
        addresses.unwrap();
        Laptop { node, device, public_key, _program: running }
    }

    /// Makes every node of the mesh its peer.
    fn connect(&self, mesh: &Alone, preshared: Option<&PathBuf>) {
        for (number, member) in (1..).zip(&mesh.members) {
            let keygen = member.node.command("hawser-agent").args(["keygen", "--state"]);
            let public = keygen.arg(member.node.state()).stdout().unwrap();
            let endpoint = format!("{}:{PORT}", member.node.address().v4);
            let allowed = format!("10.42.{number}.0/24,fd42:0:0:{number}::/64");
            let wg = self.node.command("wg").args(["set", &self.device, "peer", public.trim()]);
            let wg = wg.args(["endpoint", &endpoint, "allowed-ips", &allowed]);
            let wg = match preshared {
                Some(file) => wg.arg("preshared-key").arg(file),
                None => wg,
            };
            wg.stdout().unwrap();
        }
    }

    fn as_peer(&self, endpoint: bool, preshared: Option<&PathBuf>) -> MeshPeer {
        let address = format!("{}:{PORT}", self.node.address().v4);
        let spec = MeshPeerSpec {
            public_key: self.public_key.clone(),
            addresses: vec![format!("{LAPTOP_V4}/32"), format!("{LAPTOP_V6}/128")],
            endpoint: endpoint.then_some(address),
            preshared_key_file: preshared.map(|file| file.display().to_string()),
            preshared_key_secret_ref: None,
            persistent_keepalive: None,
        };
        MeshPeer::new("laptop", spec)
    }
}

/// A file of mode 0600.
fn secret(node: &Node, name: &str, text: &str) -> PathBuf {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = node.dir().join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

fn preshared(node: &Node, name: &str) -> PathBuf {
    let key = node.command("wg").arg("genpsk").stdout().unwrap();
    secret(node, name, &key)
}

fn reaches(from: &Namespace, to: &[IpAddr], marker: &[u8]) {
    for &address in to {
        from.ping_until(address, marker, LIMIT).unwrap();
    }
}

/// Two nodes with a pod each and a laptop: everybody pings everybody, over both families, and
/// nothing of it is readable underneath. Who begins depends on who knows whose address.
fn plain_peer(program: &str, flags: &[&str], with_preshared: bool, laptop_begins: bool) {
    let marker = marker();
    let mut mesh = Alone::start("interop", 2).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();
    let laptop = Laptop::start(&mesh, program, flags);
    let key = with_preshared.then(|| preshared(&laptop.node, "preshared"));
    laptop.connect(&mesh, key.as_ref());
    let tunnel = laptop.node.capture(&laptop.device, &[&marker]).unwrap();

    mesh.write(&[laptop.as_peer(!laptop_begins, key.as_ref())]).unwrap();
    let pods = pods(&mesh.members);
    let ours = [LAPTOP_V4, LAPTOP_V6].map(|address| address.parse().unwrap());
    for pod in pods {
        if laptop_begins {
            reaches(laptop.node.namespace(), &pod.addresses, &marker);
            reaches(&pod.namespace, &ours, &marker);
        } else {
            reaches(&pod.namespace, &ours, &marker);
            reaches(laptop.node.namespace(), &pod.addresses, &marker);
        }
    }

    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn wireguard_go_joins_and_begins() {
    plain_peer("wireguard-go", &["-f"], false, true);
}

#[test]
fn wireguard_go_with_a_preshared_key_joins_and_is_called() {
    plain_peer("wireguard-go", &["-f"], true, false);
}

#[test]
fn boringtun_joins_and_is_called() {
    plain_peer("boringtun-cli", &["--foreground", "--disable-drop-privileges"], false, false);
}

#[test]
fn boringtun_with_a_preshared_key_joins_and_begins() {
    plain_peer("boringtun-cli", &["--foreground", "--disable-drop-privileges"], true, true);
}

#[test]
fn a_wrong_preshared_key_opens_nothing() {
    let marker = marker();
    let mut mesh = Alone::start("wrongpsk", 1).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();
    let laptop = Laptop::start(&mesh, "wireguard-go", &["-f"]);
    let (right, wrong) = (preshared(&laptop.node, "right"), preshared(&laptop.node, "wrong"));
    let pod = pods(&mesh.members)[0];

    laptop.connect(&mesh, Some(&wrong));
    mesh.write(&[laptop.as_peer(true, Some(&right))]).unwrap();
    for &address in &pod.addresses {
        let answer = laptop.node.namespace().ping_until(address, &marker, Duration::from_secs(3));
        assert!(answer.is_err(), "{address} answers over a wrong preshared key");
    }

    laptop.connect(&mesh, Some(&right));
    reaches(laptop.node.namespace(), &pod.addresses, &marker);
}
