//! Figures, their medians, the table and the file.

use serde::Serialize;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    #[serde(rename = "tcp1Gbps")]
    pub(crate) tcp1_gbps: f64,
    #[serde(rename = "tcp4Gbps")]
    pub(crate) tcp4_gbps: f64,
    #[serde(rename = "tcp16Gbps")]
    pub(crate) tcp16_gbps: f64,
    #[serde(rename = "udp64Kpps")]
    pub(crate) udp64_kpps: f64,
    #[serde(rename = "udp1200Kpps")]
    pub(crate) udp1200_kpps: f64,
    /// Of 1,000 packets a second of another flow, while somebody sends as much UDP as he can.
    #[serde(rename = "besideLostPercent")]
    pub(crate) beside_lost_percent: f64,
    #[serde(rename = "pingUs")]
    pub(crate) ping_us: f64,
    /// Of the whole machine, iperf3 included.
    #[serde(rename = "cpuSecondsPerGB")]
    pub(crate) cpu_seconds_per_gb: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Row {
    /// The median of each figure by itself; none if nothing was measured.
    pub(crate) fn median(name: &str, all: &[Figures]) -> Option<Self> {
        if all.is_empty() {
            return None;
        }
        let median = |of: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let figures = Figures {
            tcp1_gbps: median(|one| one.tcp1_gbps),
            tcp4_gbps: median(|one| one.tcp4_gbps),
            tcp16_gbps: median(|one| one.tcp16_gbps),
            udp64_kpps: median(|one| one.udp64_kpps),
            udp1200_kpps: median(|one| one.udp1200_kpps),
            beside_lost_percent: median(|one| one.beside_lost_percent),
            ping_us: median(|one| one.ping_us),
            cpu_seconds_per_gb: median(|one| one.cpu_seconds_per_gb),
        };
        Some(Self { name: name.to_owned(), figures })
    }
}

pub(crate) fn document(rows: &[Row], missing: &[String]) -> Value {
    json!({ "rows": rows, "missing": missing })
}

pub(crate) fn print(rows: &[Row], missing: &[String]) {
    println!(
        "{:<28} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>7} {:>9}",
        "", "TCP 1", "TCP 4", "TCP 16", "UDP 64", "UDP 1200", "BESIDE", "PING", "CPU"
    );
    println!(
        "{:<28} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>7} {:>9}",
        "", "Gbit/s", "Gbit/s", "Gbit/s", "kpps", "kpps", "% lost", "us", "s per GB"
    );
    for Row { name, figures } in rows {
        println!(
            "{name:<28} {:>7.2} {:>7.2} {:>7.2} {:>8.1} {:>8.1} {:>8.2} {:>7.0} {:>9.2}",
            figures.tcp1_gbps,
            figures.tcp4_gbps,
            figures.tcp16_gbps,
            figures.udp64_kpps,
            figures.udp1200_kpps,
            figures.beside_lost_percent,
            figures.ping_us,
            figures.cpu_seconds_per_gb,
        );
    }
    for name in missing {
        println!("{name:<28} missing: not installed");
    }
}
