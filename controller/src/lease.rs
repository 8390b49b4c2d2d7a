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

/// Runs until dropped; `active` says whether the lease is held.
pub async fn run(client: Client, identity: String, active: watch::Sender<bool>) {
    let api: Api<Lease> = Api::default_namespaced(client);
    let mut loop_ = Loop { api, identity, seen: None, renewed: None };
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
    renewed: Option<Instant>,
}

impl Loop {
    async fn round(&mut self, now: Instant) -> kube::Result<bool> {
        let lease = self.api.get_opt(NAME).await?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let since = match (&self.seen, &version) {
            (Some((before, since)), Some(version)) if before == version => *since,
            _ => now,
        };
        self.seen = version.map(|version| (version, since));
        let answer = match step(lease.as_ref(), &self.identity, now - since) {
            Step::Wait => return Ok(false),
            Step::Create => self.create().await,
            Step::Renew => self.replace(lease.unwrap_or_default(), false).await,
            Step::TakeOver => self.replace(lease.unwrap_or_default(), true).await,
        };
        match answer {
            Ok(()) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> kube::Result<()> {
        let mut lease = Lease::default();
        lease.metadata.name = Some(NAME.to_owned());
        lease.spec = Some(self.spec(None));
        self.api.create(&PostParams::default(), &lease).await.map(drop)
    }

    /// Under the version read.
    async fn replace(&self, mut lease: Lease, takes_over: bool) -> kube::Result<()> {
        let before = lease.spec.take().filter(|_| !takes_over);
        let transitions = before.as_ref().and_then(|spec| spec.lease_transitions);
        let mut spec = self.spec(before.and_then(|spec| spec.acquire_time));
        spec.lease_transitions = Some(transitions.unwrap_or(0) + i32::from(takes_over));
        lease.spec = Some(spec);
        self.api.replace(NAME, &PostParams::default(), &lease).await.map(drop)
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
