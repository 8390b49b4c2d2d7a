//! A machine outside of the mesh with somebody else's WireGuard on it, set up with `wg`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::{MeshPeer, MeshPeerSpec};
use e2e::lab::{Lab, Namespace, Node, Pair, Process, eventually};
use e2e::mesh::Member;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const PORT: u16 = 51820;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// How a plain WireGuard is started in the foreground, the device's name last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program(&'static str, &'static [&'static str]);

pub(crate) const WIREGUARD_GO: Program = Program("wireguard-go", &["-f"]);
/// Its connected sockets would keep to the address that they began with.
pub(crate) const BORINGTUN: Program = Program(
    "boringtun-cli",
    &["--foreground", "--disable-drop-privileges", "--disable-connected-udp"],
);
pub(crate) const GOTATUN: Program =
    Program("gotatun", &["--foreground", "--disable-drop-privileges"]);

/// A machine with a WireGuard device by `wg`.
pub(crate) struct Laptop {
    pub(crate) node: Node,
    pub(crate) device: String,
    pub(crate) addresses: [IpAddr; 2],
    public_key: String,
    _program: Process,
}

impl Laptop {
    /// Starts `program` and gives it a key and the addresses of that number: 7 is 10.42.200.7.
    pub(crate) fn start(lab: &Lab, program: Program, number: u8) -> Laptop {
        let node = lab.node(&format!("laptop{number}")).unwrap();
        // The programs' sockets are named after the device, in one place for all namespaces.
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let device = format!("hwi{}-{unique}", std::process::id());
        let running = node.command(program.0).args(program.1).arg(&device).spawn().unwrap();
        let private_key = node.command("wg").arg("genkey").stdout().unwrap();
        let public = node.command("wg").arg("pubkey").input(private_key.clone());
        let public_key = public.stdout().unwrap().trim().to_owned();
        let file = secret(&node, "laptop.key", &private_key);
        eventually("the device is there", LIMIT, || {
            let wg = node.command("wg").args(["set", &device, "private-key"]).arg(&file);
            wg.args(["listen-port", &PORT.to_string()]).stdout().is_ok()
        })
        .unwrap();
        let addresses = [format!("10.42.200.{number}"), format!("fd42:0:0:c8::{number:x}")];
        let addresses = addresses.map(|address| address.parse::<IpAddr>().unwrap());
        let (name, [v4, v6]) = (device.clone(), addresses);
        let configured = node.namespace().netlink(async move |net| {
            net.add_address(&name, v4, 16).await?;
            net.add_address(&name, v6, 48).await?;
            net.mtu(&name, 1420).await?;
            net.up(&name).await
        });
        configured.unwrap();
        Laptop { node, device, addresses, public_key, _program: running }
    }

    /// Makes every node of the mesh its peer.
    pub(crate) fn connect(&self, members: &[Member], preshared: Option<&PathBuf>) {
        self.connect_over(members, preshared, |at| at.v4.into());
    }

    /// The same over the family that `choose` takes.
    pub(crate) fn connect_over(
        &self,
        members: &[Member],
        preshared: Option<&PathBuf>,
        choose: fn(Pair) -> IpAddr,
    ) {
        for (number, member) in (1..).zip(members) {
            let endpoint = SocketAddr::new(choose(member.node.address()), PORT).to_string();
            let allowed = format!("10.42.{number}.0/24,fd42:0:0:{number}::/64");
            let public = public_key(&member.node);
            let wg = self.wg(&["peer", &public, "endpoint", &endpoint, "allowed-ips", &allowed]);
            let wg = match preshared {
                Some(file) => wg.arg("preshared-key").arg(file),
                None => wg,
            };
            wg.stdout().unwrap();
        }
    }

    /// `wg set` of its device.
    pub(crate) fn wg(&self, args: &[&str]) -> e2e::lab::Command {
        self.node.command("wg").args(["set", &self.device]).args(args)
    }

    pub(crate) fn as_peer(&self, endpoint: bool, preshared: Option<&PathBuf>) -> MeshPeer {
        let address = SocketAddr::new(self.node.address().v4.into(), PORT).to_string();
        let [v4, v6] = self.addresses;
        let spec = MeshPeerSpec {
            public_key: self.public_key.clone(),
            addresses: vec![format!("{v4}/32"), format!("{v6}/128")],
            endpoint: endpoint.then_some(address),
            entries: Vec::new(),
            preshared_key_file: preshared.map(|file| file.display().to_string()),
            preshared_key_secret_ref: None,
            persistent_keepalive: None,
        };
        MeshPeer::new(self.node.name(), spec)
    }
}

/// The key that the agent on `node` has.
pub(crate) fn public_key(node: &Node) -> String {
    let keygen = node.command("hawser-agent").args(["keygen", "--state"]);
    keygen.arg(node.state()).stdout().unwrap().trim().to_owned()
}

/// A file of mode 0600.
pub(crate) fn secret(node: &Node, name: &str, text: &str) -> PathBuf {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = node.dir().join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

pub(crate) fn preshared(node: &Node, name: &str) -> PathBuf {
    let key = node.command("wg").arg("genpsk").stdout().unwrap();
    secret(node, name, &key)
}

pub(crate) fn reaches(from: &Namespace, to: &[IpAddr], marker: &[u8]) {
    for &address in to {
        from.ping_until(address, marker, LIMIT).unwrap();
    }
}
