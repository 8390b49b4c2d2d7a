//! Who reaches whom: every ordered pair of pods, in each family, by echo requests with a marker.

use std::net::IpAddr;
use std::time::Duration;

use super::Pod;

/// One pair and family: the round trip, or why there is none.
pub struct Attempt {
    pub from: String,
    pub to: String,
    pub v4: bool,
    pub round_trip: Result<Duration, String>,
}

pub struct Reach {
    pub attempts: Vec<Attempt>,
}

impl Reach {
    pub fn total(&self) -> usize {
        self.attempts.len()
    }

    pub fn ok(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.round_trip.is_ok()).count()
    }

    /// One line for each pair that does not reach.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.attempts.iter().filter_map(|attempt| {
            let reason = attempt.round_trip.as_ref().err()?;
            let family = if attempt.v4 { "IPv4" } else { "IPv6" };
            Some(format!("{} -> {} over {family}: {reason}", attempt.from, attempt.to))
        });
        failed.collect()
    }

    /// The round trip of one pair, if it reached.
    pub fn round_trip(&self, from: &str, to: &str, v4: bool) -> Option<Duration> {
        let mine =
            |attempt: &&Attempt| attempt.from == from && attempt.to == to && attempt.v4 == v4;
        self.attempts.iter().find(mine)?.round_trip.as_ref().ok().copied()
    }
}

/// Every ordered pair; each keeps trying until `limit`. Sources work side by side.
pub fn every_pair(pods: &[&Pod], marker: &[u8], limit: Duration) -> Reach {
    let attempts = std::thread::scope(|scope| {
        let sources: Vec<_> = pods
            .iter()
            .map(|from| scope.spawn(move || from_one(from, pods, marker, limit)))
            .collect();
        let finished = sources.into_iter().map(|source| source.join().expect("pings do not panic"));
        finished.flatten().collect()
    });
    Reach { attempts }
}

fn from_one(from: &Pod, pods: &[&Pod], marker: &[u8], limit: Duration) -> Vec<Attempt> {
    let others = pods.iter().filter(|to| to.name != from.name);
    let families = others.flat_map(|to| [(to, true), (to, false)]);
    families
        .map(|(to, v4)| Attempt {
            from: from.name.clone(),
            to: to.name.clone(),
            v4,
            round_trip: one(from, to.address(v4), marker, limit),
        })
        .collect()
}

/// Waits for the first echo, then measures one.
fn one(from: &Pod, to: Option<IpAddr>, marker: &[u8], limit: Duration) -> Result<Duration, String> {
    let to = to.ok_or("no address")?;
    from.namespace.ping_until(to, marker, limit).map_err(|error| format!("{error:#}"))?;
    let measured = from.namespace.ping_within(to, marker, limit);
    measured.map_err(|error| format!("{error:#}"))
}
