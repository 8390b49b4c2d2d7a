//! Nebula between two machines: a certificate authority, two certificates, two configurations.

use anyhow::Context as _;

use crate::contender::Running;
use crate::machines::{Machine, Machines};

const PORT: u16 = 4242;

pub(crate) fn start(machines: &Machines) -> anyhow::Result<Running> {
    let authority = machines.a.dir.join("ca");
    let (crt, key) = (authority.with_extension("crt"), authority.with_extension("key"));
    let make = machines.a.command("nebula-cert").args(["ca", "-name", "bench", "-out-crt"]);
    make.arg(&crt).arg("-out-key").arg(&key).stdout()?;
    let mut processes = Vec::new();
    for (own, other) in [(&machines.a, &machines.b), (&machines.b, &machines.a)] {
        let sign = own.command("nebula-cert").arg("sign").arg("-ca-crt").arg(&crt);
        let sign = sign.arg("-ca-key").arg(&key).args(["-name", &own.inner.to_string()]);
        let sign = sign.args(["-ip", &format!("{}/24", own.inner)]);
        let sign = sign.arg("-out-crt").arg(own.dir.join("own.crt"));
        sign.arg("-out-key").arg(own.dir.join("own.key")).stdout()?;
        let file = own.dir.join("config.yaml");
        std::fs::write(&file, configuration(own, other, &crt.display().to_string()))
            .context("writing nebula's configuration")?;
        processes.push(own.command("nebula").arg("-config").arg(&file).spawn()?);
    }
    Ok(Running { target: machines.b.inner.into(), _processes: processes })
}

fn configuration(own: &Machine, other: &Machine, authority: &str) -> String {
    let dir = own.dir.display();
    let (inner, outer) = (other.inner, other.address);
    format!(
        "pki: {{ca: {authority}, cert: {dir}/own.crt, key: {dir}/own.key}}\n\
         static_host_map: {{\"{inner}\": [\"{outer}:{PORT}\"]}}\n\
         lighthouse: {{am_lighthouse: false, hosts: []}}\n\
         listen: {{host: 0.0.0.0, port: {PORT}}}\n\
         cipher: aes\n\
         tun: {{dev: nebula0, mtu: 1300}}\n\
         logging: {{level: warning}}\n\
         firewall:\n  outbound: [{{port: any, proto: any, host: any}}]\n  inbound: \
         [{{port: any, proto: any, host: any}}]\n"
    )
}
