//! How many handshakes are answered, and who must first prove an address.
//!
//! A handshake costs some 100 µs and anybody can send one from any source address. So:
//!
//! ```text
//!  source within its rate, all within theirs? ── yes ─▶ answer
//!        │ no
//!        ▼
//!  valid cookie? ── no ─▶ send a cookie (64 bytes for 148)
//!        │ yes
//!        ▼
//!  proven source within its rate? ── yes ─▶ answer, no ─▶ drop
//! ```
//!
//! One flooder is put into cookie mode alone. Somebody who forges a neighbour's address empties the
//! neighbour's first bucket, never the second: the neighbour gets through with a cookie. The
//! endpoints at which peers are have buckets of their own, which no flood from elsewhere touches.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Handshakes a second from one source (the Linux kernel's figure), and at once.
const SOURCE: Rate = Rate { per_second: 20.0, burst: 40.0 };
/// From proven sources.
const PROVEN: Rate = Rate { per_second: 20.0, burst: 10.0 };
/// From all proven sources together: some hundred real machines can flood too, and a core answers
/// five thousand handshakes a second.
const ALL_PROVEN: Rate = Rate { per_second: 2000.0, burst: 4000.0 };
/// From all sources together, before everybody must prove an address.
const ALL: Rate = Rate { per_second: 500.0, burst: 1000.0 };
/// From all endpoints of peers together. Ten thousand peers that begin again at once are through
/// in some seconds; whoever forges all of their addresses takes a third of one core.
const ALL_KNOWN: Rate = Rate { per_second: 2000.0, burst: 4000.0 };
/// Cookie replies to all together. Each costs a datagram.
const COOKIES: Rate = Rate { per_second: 20_000.0, burst: 2000.0 };
/// Sources remembered at most; beyond, unknown sources must prove their address.
const SOURCES: usize = 8192;
/// The same for endpoints of peers, of which there are only so many.
const ENDPOINTS: usize = 65_536;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, filled: now }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst);
        self.filled = self.filled.max(now);
    }

    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

/// A bucket for each source, in bounded memory.
#[derive(Debug)]
struct Sources<K> {
    rate: Rate,
    most: usize,
    buckets: HashMap<K, Bucket>,
    swept: Instant,
}

impl<K: Eq + Hash> Sources<K> {
    fn new(rate: Rate, most: usize, now: Instant) -> Self {
        Self { rate, most, buckets: HashMap::new(), swept: now }
    }

    fn take(&mut self, source: K, now: Instant) -> bool {
        if self.buckets.len() >= self.most && !self.buckets.contains_key(&source) {
            self.sweep(now);
            if self.buckets.len() >= self.most {
                return false;
            }
        }
        let rate = self.rate;
        self.buckets.entry(source).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }

    /// Forgets who has a full bucket again; at most once a second, so that a flood cannot make
    /// the sweep the work.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < Duration::from_secs(1) {
            return;
        }
        self.swept = now;
        let rate = self.rate;
        self.buckets.retain(|_, bucket| {
            bucket.refill(rate, now);
            bucket.tokens < rate.burst
        });
    }
}

/// What one machine can use freely: an IPv4 address, an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Prefix {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Limiter {
    all: Bucket,
    sources: Sources<Prefix>,
    all_known: Bucket,
    known: Sources<SocketAddr>,
    all_proven: Bucket,
    proven: Sources<Prefix>,
    cookies: Bucket,
}

impl Limiter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            all: Bucket::full(ALL, now),
            sources: Sources::new(SOURCE, SOURCES, now),
            all_known: Bucket::full(ALL_KNOWN, now),
            known: Sources::new(SOURCE, ENDPOINTS, now),
            all_proven: Bucket::full(ALL_PROVEN, now),
            proven: Sources::new(PROVEN, SOURCES, now),
            cookies: Bucket::full(COOKIES, now),
        }
    }

    /// May a handshake from there be answered without a proof of address? The source is asked
    /// first, so that one flooder does not use up what is for all.
    pub(crate) fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        self.sources.take(from.into(), now) && self.all.take(ALL, now)
    }

    /// The same for a source that is a peer's endpoint now.
    pub(crate) fn admit_known(&mut self, from: SocketAddr, now: Instant) -> bool {
        self.known.take(from, now) && self.all_known.take(ALL_KNOWN, now)
    }

    /// May a cookie be sent?
    pub(crate) fn admit_cookie(&mut self, now: Instant) -> bool {
        self.cookies.take(COOKIES, now)
    }

    /// May a handshake be answered with a proof of address?
    pub(crate) fn admit_proven(&mut self, from: IpAddr, now: Instant) -> bool {
        self.proven.take(from.into(), now) && self.all_proven.take(ALL_PROVEN, now)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(bits: u32) -> IpAddr {
        Ipv4Addr::from_bits(bits).into()
    }

    #[test]
    fn one_flooder_is_limited_and_nobody_else() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);

        let passed = (0..10_000).filter(|_| limiter.admit(v4(1), now)).count();

        assert_eq!(passed, 40);
        assert!(limiter.admit(v4(2), now));
    }

    #[test]
    fn a_quiet_second_gives_the_rate_back() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        while limiter.admit(v4(1), now) {}

        let later = now + Duration::from_secs(1);

        assert_eq!((0..100).filter(|_| limiter.admit(v4(1), later)).count(), 20);
    }

    #[test]
    fn an_ipv6_source_is_its_64() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let from = |host: u128| IpAddr::V6(Ipv6Addr::from_bits((0xfd42 << 112) | host));

        let passed = (0..10_000).filter(|host| limiter.admit(from(*host), now)).count();

        assert_eq!(passed, 40);
    }

    #[test]
    fn ipv4_sources_are_told_apart_through_an_ipv6_socket() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let mapped = |n: u32| IpAddr::V6(Ipv4Addr::from_bits(n).to_ipv6_mapped());

        while limiter.admit(mapped(1), now) {}

        assert!(!limiter.admit(v4(1), now));
        assert!(limiter.admit(mapped(2), now));
    }

    #[test]
    fn many_forged_sources_use_up_what_is_for_all_but_not_what_is_for_the_proven() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);

        let passed = (0..100_000).filter(|source| limiter.admit(v4(*source), now)).count();

        assert_eq!(passed, 1000);
        assert!(!limiter.admit(v4(3), now));
        assert!(limiter.admit_proven(v4(3), now));
    }

    #[test]
    fn endpoints_of_peers_have_rates_of_their_own() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let endpoint = |n: u32| SocketAddr::new(v4(n), 51_820);
        while (0..1000).any(|source| limiter.admit(v4(source), now)) {}

        let one = (0..1000).filter(|_| limiter.admit_known(endpoint(1), now)).count();
        let all = (2..100_000).filter(|&n| limiter.admit_known(endpoint(n), now)).count();

        assert_eq!((one, all), (40, 3960));
    }

    #[test]
    fn many_proven_sources_have_a_rate_together() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);

        let all = (0..8000).filter(|&source| limiter.admit_proven(v4(source), now)).count();

        assert_eq!(all, 4000);
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut now = Instant::now();
        let mut limiter = Limiter::new(now);
        for source in 0..100_000 {
            limiter.admit(v4(source), now);
        }
        assert_eq!(limiter.sources.buckets.len(), SOURCES);

        now += Duration::from_secs(5);
        assert!(limiter.admit(v4(0x0a00_0001), now));
        assert!(limiter.sources.buckets.len() < 10);
    }
}
