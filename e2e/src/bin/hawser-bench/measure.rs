//! One contender measured once: iperf3 for throughput, our own echoes for the round trip.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use e2e::lab::{Flow, FlowReport, cpu::machine_busy_seconds};
use serde_json::Value;

use crate::contender::Contender;
use crate::figures::Figures;
use crate::machines::Machines;

const WARM_UP: Duration = Duration::from_secs(15);
const PINGS: usize = 200;
/// Packets a second.
const MODEST: u32 = 1000;

pub(crate) fn measure(contender: &Contender, each: Duration) -> anyhow::Result<Figures> {
    let machines = Machines::new()?;
    let running = contender.start(&machines).context("starting it")?;
    let target = running.target;
    machines.a.namespace.ping_until(target, b"warm-up", WARM_UP)?;
    let _server = machines.b.command("iperf3").args(["-s", "-B", &target.to_string()]).spawn()?;
    std::thread::sleep(Duration::from_millis(300));

    let run = Run { machines: &machines, target, each };
    let ping_us = run.ping()?;
    let busy = machine_busy_seconds()?;
    let (tcp1_gbps, gigabytes) = run.tcp(1)?;
    let cpu_seconds_per_gb = (machine_busy_seconds()? - busy) / gigabytes;
    Ok(Figures {
        tcp1_gbps,
        tcp4_gbps: run.tcp(4)?.0,
        tcp16_gbps: run.tcp(16)?.0,
        udp64_kpps: run.udp(64)?,
        udp1200_kpps: run.udp(1200)?,
        beside_lost_percent: run.beside()?,
        ping_us,
        cpu_seconds_per_gb,
    })
}

struct Run<'a> {
    machines: &'a Machines,
    target: IpAddr,
    each: Duration,
}

impl Run<'_> {
    /// Gbit/s received, and the gigabytes moved.
    fn tcp(&self, streams: u8) -> anyhow::Result<(f64, f64)> {
        let streams = streams.to_string();
        let result = self.iperf(&["-C", "cubic", "-P", &streams])?;
        let received = &result["end"]["sum_received"];
        let figure = |name: &str| received[name].as_f64().with_context(|| format!("no {name}"));
        Ok((figure("bits_per_second")? / 1e9, figure("bytes")? / 1e9))
    }

    /// Thousands of datagrams received in a second, the sender going as fast as it can.
    fn udp(&self, size: u16) -> anyhow::Result<f64> {
        let size = size.to_string();
        let result = self.iperf(&["-u", "-b", "0", "-l", &size])?;
        let sum = &result["end"]["sum"];
        let figure = |name: &str| sum[name].as_f64().with_context(|| format!("no {name}"));
        Ok((figure("packets")? - figure("lost_packets")?) / figure("seconds")? / 1e3)
    }

    /// What a modest flow loses beside one that overloads the way, in percent.
    fn beside(&self) -> anyhow::Result<f64> {
        let Machines { a, b, .. } = self.machines;
        let flow = Flow::start(&a.namespace, (&b.namespace, self.target), MODEST, b"beside")?;
        let overload = self.udp(1200);
        let FlowReport { sent, lost, .. } = flow.finish();
        overload?;
        Ok(100.0 * lost as f64 / sent as f64)
    }

    fn iperf(&self, flags: &[&str]) -> anyhow::Result<Value> {
        let (target, secs) = (self.target.to_string(), self.each.as_secs().to_string());
        let command = self.machines.a.command("iperf3").args(["-c", &target, "-t", &secs, "-J"]);
        let output = command.args(flags).output()?;
        let result: Value =
            serde_json::from_slice(&output.stdout).context("reading what iperf3 printed")?;
        match result["error"].as_str() {
            Some(error) => anyhow::bail!("iperf3 {}: {error}", flags.join(" ")),
            None => Ok(result),
        }
    }

    /// The median round trip in µs.
    fn ping(&self) -> anyhow::Result<f64> {
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let took = self.machines.a.namespace.ping(self.target, &[0x42; 56])?;
            times.push(took.as_secs_f64() * 1e6);
            std::thread::sleep(Duration::from_millis(2));
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}
