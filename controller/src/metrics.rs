//! What the controller counts, in the text form that Prometheus reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::PoolUsage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// All metrics of one controller.
pub struct Metrics {
    registry: Registry,
    passes: Histogram,
    writes: Family<WriteLabels, Counter>,
    subnets: Family<PoolLabels, Gauge>,
    nodes: Family<NodeLabels, Gauge>,
    active: Gauge,
    looked: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("hawser");
        let passes = Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let (writes, subnets, nodes) = (Family::default(), Family::default(), Family::default());
        let active = Gauge::default();
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register_with_unit(
            "controller_pass_duration",
            "Time from a change to the last write it caused",
            Unit::Seconds,
            passes.clone(),
        );
        registry.register("controller_writes", "Writes by kind and result", writes.clone());
        registry.register("subnets", "Subnets by pool and state", subnets.clone());
        registry.register("nodes", "Nodes by state", nodes.clone());
        registry.register("controller_active", "1 while it holds the lease", active.clone());
        registry.register("build_info", "The running version", build);
        Metrics { registry, passes, writes, subnets, nodes, active, looked: AtomicBool::new(false) }
    }
}

impl Metrics {
    pub fn pass(&self, took: Duration) {
        self.passes.observe(took.as_secs_f64());
    }

    pub fn write(&self, kind: &'static str, result: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, result }).inc();
    }

    /// Whether there has been a pass.
    pub fn has_looked(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }

    pub fn active(&self, active: bool) {
        self.looked.store(true, Ordering::Relaxed);
        self.active.set(i64::from(active));
    }

    pub fn mesh(&self, pools: &[PoolUsage], ready: usize, nodes: usize) {
        self.subnets.clear();
        for pool in pools {
            let states = [("bound", pool.bound), ("resting", pool.resting), ("total", pool.total)];
            for (state, count) in states {
                let labels = PoolLabels { pool: pool.cidr.clone(), state };
                self.subnets.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        for (state, count) in [("ready", ready), ("unready", nodes - ready)] {
            self.nodes
                .get_or_create(&NodeLabels { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The text of /metrics (OpenMetrics).
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
