//! A Lease, so that of several controllers one does the work and the others watch.
//!
//! It saves work and nothing else: what a controller writes is guarded by names and versions, and
//! two that both believe they hold the lease do no harm. Expiry is judged by how long this process
//! has seen the same record, never by somebody else's clock.
//!
//! ```text
//! Waiting ──free, ours, or unchanged for its duration: update with version──▶ Holding
//!    ▲                                                                          │ renew every fourth
//!    ├───────────────────────── lost the update, or could not renew in time ────┤
//!    └───────────────────────── ends in order: the lease is free at once ───────┘
//! ```

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

const NAME: &str = "hawser-controller";
/// How long a holder that says nothing keeps the lease.
///
/// Short, because a wrong guess costs nothing but work: a join is served at most
/// `DURATION + 2 * PERIOD` after the holder's last word.
const DURATION: Duration = Duration::from_secs(3);
/// How often it is renewed or asked for.
const PERIOD: Duration = Duration::from_millis(700);

/// What to do with the lease as it stands. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Renew,
    TakeOver,
    Wait,
}

/// `unchanged`: how long this process has seen the lease as it is.
fn step(lease: Option<&Lease>, identity: &str, unchanged: Duration) -> Step {
    let Some(spec) = lease.map(|lease| lease.spec.clone().unwrap_or_default()) else {
        return Step::Create;
    };
    let holder = spec.holder_identity.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    if holder == identity {
        Step::Renew
    } else if holder.is_empty() || unchanged > duration {
        Step::TakeOver
    } else {
        Step::Wait
    }
}

/// Whether the lease, read just now, is older than one that was seen before: the API's store was
/// restored from a backup. Pure; versions that are no numbers say nothing.
fn is_older(lease: Option<&Lease>, newest: Option<u64>) -> bool {
    let Some(newest) = newest else {
        return false;
    };
    // Nobody deletes it.
    lease.is_none_or(|lease| version(lease).is_some_and(|version| version < newest))
}

fn version(lease: &Lease) -> Option<u64> {
    lease.metadata.resource_version.as_ref()?.parse().ok()
}

/// Runs until dropped; `active` says whether the lease is held, `restores` counts how often the API
/// has gone back in time.
pub async fn run(
    client: Client,
    identity: String,
    (active, restores): (watch::Sender<bool>, watch::Sender<u64>),
) {
    let api: Api<Lease> = Api::default_namespaced(client);
    let mut loop_ = Loop { api, identity, seen: None, newest: None, restores, renewed: None };
    loop {
        let asked = Instant::now();
        match loop_.round(asked).await {
            Ok(true) => loop_.renewed = Some(asked),
            Ok(false) => loop_.renewed = None,
            Err(error) => warn!(%error, "lease not renewed"),
        }
        let holds = loop_.renewed.is_some_and(|renewed| renewed.elapsed() < DURATION);
        if active.send_if_modified(|before| std::mem::replace(before, holds) != holds) {
            info!(holds, identity = loop_.identity, "lease");
        }
        sleep(PERIOD).await;
    }
}

/// Gives the lease up, if it is ours: the next controller need not wait.
pub async fn release(client: Client, identity: &str) -> kube::Result<()> {
    let api: Api<Lease> = Api::default_namespaced(client);
    let Some(mut lease) = api.get_opt(NAME).await? else {
        return Ok(());
    };
    let Some(spec) = lease.spec.as_mut() else {
        return Ok(());
    };
    if spec.holder_identity.as_deref() != Some(identity) {
        return Ok(());
    }
    spec.holder_identity = Some(String::new());
    api.replace(NAME, &PostParams::default(), &lease).await.map(drop)
}

struct Loop {
    api: Api<Lease>,
    identity: String,
    /// The version last seen, and since when.
    seen: Option<(String, Instant)>,
    newest: Option<u64>,
    restores: watch::Sender<u64>,
    renewed: Option<Instant>,
}

impl Loop {
    async fn round(&mut self, now: Instant) -> kube::Result<bool> {
        let lease = self.api.get_opt(NAME).await?;
        if is_older(lease.as_ref(), self.newest) {
            warn!("the API has gone back in time: its store was restored from a backup");
            self.restores.send_modify(|restores| *restores += 1);
        }
        self.newest = lease.as_ref().and_then(version);
        let read = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let since = match (&self.seen, &read) {
            (Some((before, since)), Some(read)) if before == read => *since,
            _ => now,
        };
        self.seen = read.map(|read| (read, since));
        let answer = match step(lease.as_ref(), &self.identity, now - since) {
            Step::Wait => return Ok(false),
            Step::Create => self.create().await,
            Step::Renew => self.replace(lease.unwrap_or_default(), false).await,
            Step::TakeOver => self.replace(lease.unwrap_or_default(), true).await,
        };
        match answer {
            Ok(written) => {
                self.newest = version(&written);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> kube::Result<Lease> {
        let mut lease = Lease::default();
        lease.metadata.name = Some(NAME.to_owned());
        lease.spec = Some(self.spec(None));
        self.api.create(&PostParams::default(), &lease).await
    }

    /// Under the version read.
    async fn replace(&self, mut lease: Lease, takes_over: bool) -> kube::Result<Lease> {
        let before = lease.spec.take().filter(|_| !takes_over);
        let transitions = before.as_ref().and_then(|spec| spec.lease_transitions);
        let mut spec = self.spec(before.and_then(|spec| spec.acquire_time));
        spec.lease_transitions = Some(transitions.unwrap_or(0) + i32::from(takes_over));
        lease.spec = Some(spec);
        self.api.replace(NAME, &PostParams::default(), &lease).await
    }

    fn spec(&self, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_lease_older_than_one_seen_before_tells_of_a_restored_store() {
        let lease = |version: &str| {
            let mut lease = held_by("a");
            lease.metadata.resource_version = Some(version.to_owned());
            lease
        };

        assert!(is_older(Some(&lease("119")), Some(120)));
        assert!(is_older(None, Some(120)));
        for harmless in [lease("120"), lease("121"), lease("opaque")] {
            assert!(!is_older(Some(&harmless), Some(120)));
        }
        assert!(!is_older(Some(&lease("1")), None) && !is_older(None, None));
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_silent() {
        let second = Duration::from_secs(1);
        let (a, nobody) = (held_by("a"), held_by(""));

        assert_eq!(step(None, "a", second), Step::Create);
        assert_eq!(step(Some(&nobody), "b", second), Step::TakeOver);
        assert_eq!(step(Some(&a), "a", second * 99), Step::Renew);
        assert_eq!(step(Some(&a), "b", second * 15), Step::Wait);
        assert_eq!(step(Some(&a), "b", second * 16), Step::TakeOver);
    }
}
