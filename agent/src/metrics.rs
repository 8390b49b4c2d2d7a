//! The agent's figures in OpenMetrics text, made from the same [`State`] that `/state` shows.
//!
//! Nothing is counted here: each scrape reads the values that the code decides with. A fleet has
//! as many series a peer as pairs of nodes, so those stop above [`MANY`] peers.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{
    admin::{CanaryState, CanaryVerdict, PeerState, State},
    tls::TlsState,
};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Peers up to which each has series of its own.
const MANY: usize = 200;

/// Whether each peer has its own series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerPeer {
    Always,
    Never,
    /// Up to 200 peers.
    Auto,
}

/// The text that a scrape gets.
pub fn exposition(state: &State, per_peer: PerPeer) -> String {
    let peers = match per_peer {
        PerPeer::Always => true,
        PerPeer::Never => false,
        PerPeer::Auto => state.peers.len() <= MANY,
    };
    let mut registry = Registry::with_prefix("hawser");
    registry.register_collector(Box::new(Scrape { state: state.clone(), peers }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string never fails");
    out
}

#[derive(Debug)]
struct Scrape {
    state: State,
    peers: bool,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_node(&self.state, &mut encoder)?;
        if self.peers {
            encode_peers(&self.state.peers, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode_node(state: &State, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let info = [("version", state.version.as_str()), ("engine", state.engine.as_str())];
    let one = ConstGauge::new(1u64);
    let mut family =
        encoder.encode_descriptor("build_info", "What runs here", None, one.metric_type())?;
    one.encode(family.encode_family(&info)?)?;

    let gauges = [
        ("key_epoch", "Epoch of this node's key", None, u64::from(state.epoch)),
        ("mtu", "MTU of the tunnel device", Some(Unit::Bytes), u64::from(state.mtu)),
    ];
    for (name, help, unit, value) in gauges {
        let gauge = ConstGauge::new(value);
        let out = encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
        gauge.encode(out)?;
    }

    let blocked = ConstCounter::new(state.guard.blocked_packets);
    let help = "Packets of the mesh that would have left in clear";
    let out =
        encoder.encode_descriptor("clear_packets_blocked", help, None, blocked.metric_type())?;
    blocked.encode(out)?;

    let passed_on = state.passed_on;
    let counters = [
        ("relayed_datagrams", "Sealed datagrams passed on for others", None, passed_on.datagrams),
        ("relayed", "Their bytes", Some(Unit::Bytes), passed_on.bytes),
    ];
    for (name, help, unit, value) in counters {
        let counter = ConstCounter::new(value);
        let out = encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?;
        counter.encode(out)?;
    }

    if let Some(canary) = &state.canary {
        encode_canary(canary, encoder)?;
    }

    encode_tls(&state.tls, encoder)?;

    let zero = ConstCounter::new(0u64);
    let help = "Packets that died in the data path";
    let mut family =
        encoder.encode_descriptor("discarded_packets", help, None, zero.metric_type())?;
    for (reason, count) in &state.discards {
        let labels = [("reason", reason.as_str())];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_canary(
    canary: &CanaryState,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let counters = [
        ("canary_sent", "Marked packets that must be seen sealed only", canary.sent),
        ("canary_seen_in_clear", "Those that were readable off the tunnel", canary.seen_in_clear),
    ];
    for (name, help, value) in counters {
        let counter = ConstCounter::new(value);
        let out = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(out)?;
    }
    let blind = ConstGauge::new(u64::from(canary.verdict == CanaryVerdict::Blind));
    let help = "1 while the marked packets are seen nowhere, and nothing is proven";
    let out = encoder.encode_descriptor("canary_blind", help, None, blind.metric_type())?;
    blind.encode(out)
}

fn encode_tls(tls: &TlsState, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let help = "Streams of sealed packets in TLS that are open, by who began them";
    let mut family = encoder.encode_descriptor(
        "tls_streams",
        help,
        None,
        ConstGauge::new(0u64).metric_type(),
    )?;
    for (began, open) in [("here", tls.called), ("there", tls.accepted)] {
        ConstGauge::new(open).encode(family.encode_family(&[("began", began)])?)?;
    }
    let zero = ConstCounter::new(0u64);
    let help = "Streams in TLS that were refused or ended here, by the reason";
    let mut family =
        encoder.encode_descriptor("tls_refused_streams", help, None, zero.metric_type())?;
    for (reason, count) in &tls.refused {
        let labels = [("reason", reason.as_str())];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    let counters = [
        ("tls_failed_calls", "Calls over TLS that failed or ended", None, tls.failed_calls),
        ("tls_receive", "Sealed bytes that came in TLS", Some(Unit::Bytes), tls.rx_bytes),
        ("tls_transmit", "Sealed bytes that went out in TLS", Some(Unit::Bytes), tls.tx_bytes),
    ];
    for (name, help, unit, value) in counters {
        let counter = ConstCounter::new(value);
        let out = encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?;
        counter.encode(out)?;
    }
    Ok(())
}

/// One figure of every peer; a peer of whom there is nothing to say is absent, not 0.
struct Series<V> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    read: fn(&PeerState) -> Option<V>,
}

const COUNTERS: [Series<u64>; 2] = [
    Series {
        name: "peer_receive",
        help: "Bytes of packets from the peer",
        unit: Some(Unit::Bytes),
        read: |peer| Some(peer.rx_bytes),
    },
    Series {
        name: "peer_transmit",
        help: "Bytes of packets to the peer",
        unit: Some(Unit::Bytes),
        read: |peer| Some(peer.tx_bytes),
    },
];

const GAUGES: [Series<f64>; 5] = [
    Series {
        name: "peer_up",
        help: "1 while packets go out without a handshake first",
        unit: None,
        read: |peer| Some(if peer.up { 1.0 } else { 0.0 }),
    },
    Series {
        name: "peer_clear",
        help: "1 while packets to the peer go out in clear",
        unit: None,
        read: |peer| peer.backend.map(|backend| if backend.encrypts() { 0.0 } else { 1.0 }),
    },
    Series {
        name: "peer_fallback",
        help: "1 while another carrier stands in for the one that the Mesh prefers",
        unit: None,
        read: |peer| peer.backend.map(|_| if peer.instead_of.is_some() { 1.0 } else { 0.0 }),
    },
    Series {
        name: "peer_last_handshake_timestamp",
        help: "When the last handshake completed",
        unit: Some(Unit::Seconds),
        read: |peer| peer.last_handshake.map(|at| at.as_second() as f64),
    },
    Series {
        name: "peer_rtt",
        help: "Round trip of the last handshake that was begun here",
        unit: Some(Unit::Seconds),
        read: |peer| peer.rtt_seconds,
    },
];

/// One family after the other, each with all its peers: OpenMetrics wants no interleaving.
fn encode_peers(
    peers: &[PeerState],
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    for series in &COUNTERS {
        series.encode(peers, encoder, ConstCounter::new)?;
    }
    for series in &GAUGES {
        series.encode(peers, encoder, ConstGauge::new)?;
    }
    Ok(())
}

impl<V: Default> Series<V> {
    fn encode<M: EncodeMetric>(
        &self,
        peers: &[PeerState],
        encoder: &mut DescriptorEncoder<'_>,
        metric: fn(V) -> M,
    ) -> Result<(), fmt::Error> {
        let kind = metric(V::default()).metric_type();
        let mut family =
            encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        for peer in peers {
            if let Some(value) = (self.read)(peer) {
                let labels = [("peer", peer.name.as_str())];
                metric(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::sample;

    #[test]
    fn figures_have_the_names_and_labels_that_dashboards_use() {
        let text = exposition(&sample(), PerPeer::Auto);

        for line in [
            r#"hawser_build_info{version="0.1.0",engine="boringtun"} 1"#,
            "hawser_key_epoch 2",
            "hawser_mtu_bytes 1420",
            "hawser_clear_packets_blocked_total 17",
            "hawser_relayed_datagrams_total 3",
            "hawser_relayed_bytes_total 400",
            "hawser_canary_sent_total 5",
            "hawser_canary_seen_in_clear_total 2",
            "hawser_canary_blind 0",
            r#"hawser_tls_streams{began="here"} 1"#,
            r#"hawser_tls_streams{began="there"} 2"#,
            r#"hawser_tls_refused_streams_total{reason="stranger"} 3"#,
            "hawser_tls_failed_calls_total 4",
            "hawser_tls_receive_bytes_total 30",
            "hawser_tls_transmit_bytes_total 40",
            r#"hawser_discarded_packets_total{reason="no_route"} 3"#,
            r#"hawser_discarded_packets_total{reason="replay"} 0"#,
            r#"hawser_peer_receive_bytes_total{peer="node-2"} 10"#,
            r#"hawser_peer_transmit_bytes_total{peer="node-2"} 20"#,
            r#"hawser_peer_up{peer="node-2"} 1.0"#,
            r#"hawser_peer_clear{peer="node-2"} 1.0"#,
            r#"hawser_peer_fallback{peer="node-2"} 1.0"#,
            r#"hawser_peer_last_handshake_timestamp_seconds{peer="node-2"} 1795345086.0"#,
            r#"hawser_peer_rtt_seconds{peer="node-2"} 0.0004"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_peer_without_a_handshake_has_no_time_of_one_and_its_name_is_escaped() {
        let text = exposition(&sample(), PerPeer::Auto);

        assert!(text.contains(r#"hawser_peer_up{peer="quo\"te"} 0.0"#), "{text}");
        assert!(!text.contains(r#"handshake_timestamp_seconds{peer="quo"#), "{text}");
    }

    #[test]
    fn a_large_mesh_has_no_series_a_peer_unless_asked_for() {
        let mut state = sample();
        state.peers = vec![state.peers[0].clone(); MANY + 1];

        assert!(!exposition(&state, PerPeer::Auto).contains("hawser_peer_"));
        assert!(exposition(&state, PerPeer::Always).contains("hawser_peer_"));
    }
}
