//! Ten thousand attempts to join from one address: everything else goes on.

use std::time::Duration;

use api::join::Token;
use http::Request;
use tokio::time::Instant;

use crate::world::{LIFE, Machine, World, answer};

const ATTEMPTS: usize = 10_000;
const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_attempts_from_one_address_harm_nobody_who_is_in() {
    let world = World::start(LIFE).await;
    let machine = world.machine(1, "edge-1").await;
    let good = world.token("good", 1).await;
    let wrong = Token { secret: [9; 32], ..good };
    let body = serde_json::to_string(&Machine::new(2).request(&wrong, "x").request).unwrap();

    let began = Instant::now();
    let attacker = |_| async {
        let mut sender = world.connect(None).await.unwrap();
        let mut codes = Vec::new();
        for _ in 0..ATTEMPTS / AT_ONCE {
            codes.push(answer(&mut sender, Request::post("/join"), body.clone()).await.code);
        }
        codes
    };
    let attack = futures::future::join_all((0..AT_ONCE).map(attacker));
    let member = async {
        let mut worst = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(world.list(&machine, "meshnodes").await.code, 200);
            worst = worst.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        worst
    };
    let (codes, worst) = tokio::join!(attack, member);

    let codes: Vec<u16> = codes.into_iter().flatten().collect();
    let of = |code: u16| codes.iter().filter(|c| **c == code).count();
    println!(
        "{} attempts in {:?}: {} judged, {} turned away; a member waited {worst:?} at most",
        codes.len(),
        began.elapsed(),
        of(403),
        of(429)
    );
    assert_eq!(of(403) + of(429), codes.len());
    assert!(of(429) > ATTEMPTS * 9 / 10, "{} were judged", of(403));
    assert!(worst < Duration::from_secs(2), "a member waited {worst:?}");
    assert_eq!(world.nodes().await.len(), 1);
}
