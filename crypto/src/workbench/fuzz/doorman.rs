//! A doorman through any sequence of messages, sources and pauses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::LazyLock,
    time::{Duration, Instant},
};

use super::input::Input;
use crate::{
    Discard,
    doorman::Arrival,
    random::Sequence,
    workbench::flood::{Fate, Flood},
};

/// The clock is not read for what it says: any moment would do.
#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nothing without a valid mac1 is answered or gets a cookie; cookies and answers stay within
/// their rates, whatever the order.
pub(super) fn doorman(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = *START;
    let mut flood = Flood::new(2, now);
    let mut random = Sequence::new(1);
    let valid = [flood.initiation(0, 7), flood.initiation(1, 9)];
    let (mut answered, mut demanded) = (0.0, 0.0);

    while !input.is_empty() {
        let kind = input.byte();
        let from = source(&mut input);
        now += Duration::from_millis(input.byte().into());
        let times = 1 + input.byte() % 64;
        let raw = input.slice(usize::from(kind >> 3));
        let mut touched = valid[usize::from(kind & 1)];
        for (to, from) in touched.iter_mut().zip(raw) {
            *to ^= from;
        }
        let genuine = touched[..132] == valid[usize::from(kind & 1)][..132];
        let arrival = Arrival { datagram: &touched, from, known: kind & 2 != 0 };
        for _ in 0..times {
            let fate = flood.judge_arrival(arrival, now, &mut random);
            match fate {
                Fate::Answered => answered += 1.0,
                Fate::Demanded => demanded += 1.0,
                Fate::Dropped(Discard::BadMac | Discard::NotWireGuard) => assert!(!genuine),
                Fate::Dropped(_) => {}
            }
            assert!(genuine || matches!(fate, Fate::Dropped(_)));
        }
    }

    let passed = now.duration_since(*START).as_secs_f64();
    assert!(demanded <= 2000.0 + passed * 20_000.0 + 1.0);
    assert!(answered <= 9000.0 + passed * 4500.0 + 3.0);
}

fn source(input: &mut Input<'_>) -> SocketAddr {
    let [host, port] = input.array();
    let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
    SocketAddr::new(ip, 51_820 + u16::from(port % 4))
}
