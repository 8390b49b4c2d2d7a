//! Our own engine speaks with a bare `boringtun::noise::Tunn`, in both roles, over virtual hours.
//!
//! boringtun knows nothing of our meshes' rules (it has no winner when both begin at once, and pads
//! nothing), so what works here works with any WireGuard.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use crypto::{Discard, Mesh, PeerConfig, Settings, workbench::Made};
use keys::{KeyEpoch, PresharedKey, PrivateKey};
use mock_instant::MockClock;
use proptest::prelude::*;
use sim::{Random, packet};

const US: &str = "10.42.1.5";
const THEM: &str = "10.42.2.5";

/// The story of one run.
#[derive(Debug, Clone, Copy)]
struct Story {
    seed: u64,
    preshared: bool,
    /// boringtun answers no initiation without a cookie.
    under_load: bool,
    minutes: u64,
    /// Between two packets; none from us, from them, from nobody.
    pause: u64,
    we_send: bool,
    they_send: bool,
    delay: u64,
    lost_per_mille: u64,
    doubled_per_mille: u64,
}

struct Run {
    story: Story,
    now: Instant,
    random: Random,
    mesh: Mesh,
    tunn: Tunn,
    /// When what arrives where: at us or at them.
    under_way: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    launched: u64,
    ours: BTreeSet<u64>,
    theirs: BTreeSet<u64>,
    handshakes: usize,
    initiations: [u64; 2],
    cookies: u64,
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51820))
}

fn number(packet: &[u8]) -> u64 {
    u64::from_be_bytes(*packet.last_chunk().unwrap())
}

impl Run {
    #[allow(clippy::disallowed_methods, reason = "an Instant has no other origin to count from")]
    fn new(story: Story) -> Self {
        let now = Instant::now();
        let mut random = Random::new(story.seed);
        let mut secret = || {
            let mut bytes = [0; 32];
            crypto::Random::fill(&mut random, &mut bytes);
            bytes
        };
        let (ours, theirs, shared) = (secret(), secret(), secret());
        let (ours, theirs) = (PrivateKey::from_bytes(ours), x25519::StaticSecret::from(theirs));
        let key = x25519::PublicKey::from(&theirs);
        let limiter = story.under_load.then(|| Arc::new(RateLimiter::new(&key, 0)));
        let preshared = story.preshared.then_some(shared);
        let public = x25519::PublicKey::from(*ours.public().as_bytes());
        let tunn = Tunn::new(theirs, public, preshared, None, 7, limiter);
        let mut mesh = Mesh::new(
            Settings {
                identities: vec![(KeyEpoch::FIRST, ours)],
                sending: KeyEpoch::FIRST,
                random: Box::new(random.clone()),
                timestamp_floor: None,
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            },
            now,
        );
        let peer = PeerConfig {
            name: "boringtun".to_owned(),
            keys: vec![(KeyEpoch::FIRST, keys::PublicKey::from_bytes(key.to_bytes()))],
            send_to: None,
            follows: true,
            preshared_key: preshared.map(PresharedKey::from_bytes),
            endpoint: Some(address(2)),
            keepalive: None,
            allowed: vec!["10.42.2.0/24".parse().unwrap()],
            others: Vec::new(),
            forwards: Vec::new(),
            relayed: false,
        };
        assert_eq!(mesh.set_peers(vec![peer], &[], &mut Made::default(), now), []);
        Self {
            story,
            now,
            random,
            mesh,
            tunn,
            under_way: BTreeMap::new(),
            launched: 0,
            ours: BTreeSet::new(),
            theirs: BTreeSet::new(),
            handshakes: 0,
            initiations: [0; 2],
            cookies: 0,
        }
    }

    /// Sends numbered packets for as long as the story says; how many each way.
    fn tell(&mut self) -> u64 {
        let count = self.story.minutes * 60_000 / self.story.pause;
        for number in 0..count {
            if self.story.we_send {
                let bytes = packet(US.parse().unwrap(), THEM.parse().unwrap(), number);
                let mut made = Made::default();
                self.mesh.seal(&bytes, &mut made, self.now).unwrap();
                self.take(made);
            }
            if self.story.they_send {
                let bytes = packet(THEM.parse().unwrap(), US.parse().unwrap(), number);
                let mut buffer = vec![0; 2048];
                if let TunnResult::WriteToNetwork(sent) = self.tunn.encapsulate(&bytes, &mut buffer)
                {
                    let sent = sent.to_vec();
                    self.launch(true, sent);
                }
            }
            self.pass(Duration::from_millis(self.story.pause));
        }
        self.pass(Duration::from_secs(20));
        count
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            // boringtun wants to be asked four times a second.
            let step = self.now + Duration::from_millis(250);
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let wake = self.mesh.next_wake().map(|wake| wake.max(self.now));
            let next = [arrival, wake, Some(step), Some(end)].into_iter().flatten().min().unwrap();
            MockClock::advance(next - self.now);
            self.now = next;
            let mut made = Made::default();
            self.mesh.tick(&mut made, self.now);
            self.take(made);
            let mut buffer = vec![0; 2048];
            if let TunnResult::WriteToNetwork(sent) = self.tunn.update_timers(&mut buffer) {
                let sent = sent.to_vec();
                self.launch(true, sent);
            }
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        while let Some(entry) = self.under_way.first_entry().filter(|e| e.key().0 <= self.now) {
            let (to_us, datagram) = entry.remove();
            if to_us {
                let mut made = Made::default();
                let _ = self.mesh.open(&datagram, address(2), &mut made, self.now);
                self.take(made);
            } else {
                self.they_hear(&datagram);
            }
        }
    }

    fn they_hear(&mut self, datagram: &[u8]) {
        let from: IpAddr = address(1).ip();
        let mut buffer = vec![0; 2048];
        let mut datagram = datagram;
        loop {
            match self.tunn.decapsulate(Some(from), datagram, &mut buffer) {
                TunnResult::WriteToNetwork(sent) => {
                    let sent = sent.to_vec();
                    self.launch(true, sent);
                    datagram = &[];
                }
                TunnResult::WriteToTunnelV4(bytes, _) => {
                    assert!(self.theirs.insert(number(bytes)), "delivered twice to them");
                    return;
                }
                TunnResult::WriteToTunnelV6(..) => panic!("nobody sent this"),
                TunnResult::Done | TunnResult::Err(_) => return,
            }
        }
    }

    /// What we made goes on its way; what was delivered is looked at.
    fn take(&mut self, made: Made) {
        for datagram in made.datagrams {
            assert!(datagram[0] != 4 || datagram.len().is_multiple_of(16), "padded");
            self.launch(false, datagram);
        }
        for bytes in made.packets {
            assert!(self.ours.insert(number(&bytes)), "delivered twice to us");
        }
        self.handshakes += made.handshakes;
    }

    fn launch(&mut self, to_us: bool, datagram: Vec<u8>) {
        self.initiations[usize::from(to_us)] += u64::from(datagram[0] == 1);
        self.cookies += u64::from(datagram[0] == 3);
        let copies = if self.random.chance(self.story.doubled_per_mille) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.random.chance(self.story.lost_per_mille) {
                let delay = Duration::from_millis(1 + self.random.below(self.story.delay));
                self.launched += 1;
                let key = (self.now + delay, self.launched);
                self.under_way.insert(key, (to_us, datagram.clone()));
            }
        }
    }
}

fn stories() -> impl Strategy<Value = Story> {
    let ways = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    let faults = (1..300_u64, prop_oneof![Just(0), 0..300_u64], 0..300_u64);
    let kind = (any::<bool>(), prop::bool::weighted(0.2));
    (any::<u64>(), kind, 5..40_u64, 200..3000_u64, ways, faults).prop_map(
        |(seed, (preshared, under_load), minutes, pause, ways, faults)| Story {
            seed,
            preshared,
            under_load,
            minutes,
            pause,
            we_send: ways.0,
            they_send: ways.1,
            delay: faults.0,
            lost_per_mille: faults.1,
            doubled_per_mille: faults.2,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_link_does_packets_arrive_once_and_as_many_as_the_link_lets_through(
        story in stories()
    ) {
        let mut run = Run::new(story);

        let sent = run.tell();

        let sent = sent as f64;
        // Nothing is lost but what the link loses, and what waits for a handshake whose messages
        // the link loses: at most two retries of five seconds in two minutes.
        let through = 1.0 - story.lost_per_mille as f64 / 1000.0;
        let least = if story.lost_per_mille == 0 {
            sent
        } else {
            sent * (through - 0.25) - 10.0
        };
        if story.we_send {
            prop_assert!(run.theirs.len() as f64 >= least, "{} of {sent} at them", run.theirs.len());
        }
        if story.they_send {
            prop_assert!(run.ours.len() as f64 >= least, "{} of {sent} at us", run.ours.len());
        }
        prop_assert_eq!(run.cookies > 0, story.under_load);
        prop_assert_eq!(run.mesh.discards().get(Discard::NotAuthentic), 0);
        // Neither end begins more often than the protocol asks for: once in two minutes (twice if
        // the answer needs a cookie), and every five seconds while nobody answers.
        let most = story.minutes / 2 + 3 + story.minutes * 12 * story.lost_per_mille / 300;
        let most = if story.under_load { 2 * most } else { most };
        prop_assert!(run.initiations[0] <= 2 * most && run.initiations[1] <= 2 * most, "{:?}", run.initiations);
    }
}

/// Both begin at once, the messages change places, and both ends believe that they answered: the
/// session is renewed before it ends all the same.
#[test]
fn another_order_costs_no_packet() {
    let first = (13_395_963_257_864_129_885, true, 2537, 235, 0);
    let second = (7_877_965_629_173_301_718, false, 2368, 133, 23);
    for (seed, under_load, pause, delay, doubled_per_mille) in [first, second] {
        let mut run = Run::new(Story {
            seed,
            preshared: false,
            under_load,
            minutes: 5,
            pause,
            we_send: true,
            they_send: true,
            delay,
            lost_per_mille: 0,
            doubled_per_mille,
        });

        let sent = run.tell();

        assert_eq!((run.theirs.len() as u64, run.ours.len() as u64), (sent, sent), "{seed}");
    }
}

#[test]
fn three_hours_of_rekeys_lose_nothing_whoever_begins() {
    for (we_send, they_send) in [(true, false), (false, true), (true, true)] {
        let mut run = Run::new(Story {
            seed: 1,
            preshared: true,
            under_load: false,
            minutes: 180,
            pause: 500,
            we_send,
            they_send,
            delay: 20,
            lost_per_mille: 0,
            doubled_per_mille: 0,
        });

        let sent = run.tell();

        assert_eq!(run.theirs.len() as u64, if we_send { sent } else { 0 });
        assert_eq!(run.ours.len() as u64, if they_send { sent } else { 0 });
        assert!((85..=110).contains(&run.handshakes), "{}", run.handshakes);
    }
}
