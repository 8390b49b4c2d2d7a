//! Ten thousand attempts to join from one address: refused alike, and everything else goes on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use api::join::Token;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use crate::world::{Asking, LIFE, Machine, World, answer, proved, send};

const ATTEMPTS: usize = 10_000;
const AT_ONCE: usize = 32;
/// Of each kind, before the source may try no more (120).
const JUDGED: usize = 13;
/// Medians of two kinds lie closer than this: less than half of what a refusal takes at least.
const APART: Duration = Duration::from_millis(100);
const REFUSED_AFTER: Duration = Duration::from_millis(250);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// An attempt that is to be refused.
struct Kind {
    what: &'static str,
    /// The word in the audit.
    reason: &'static str,
    asking: Asking,
}

async fn kinds(world: &World) -> Vec<Kind> {
    let good = world.token("good", 9).await;
    let ended = world.token_with("ended", |spec| {
        "2020-01-01T00:00:00Z".clone_into(&mut spec.expires_at);
    });
    let ended = ended.await;
    let used = world.token("used", 1).await;
    let inside = Machine::new(1);
    assert_eq!(world.join(&inside.request(&used, "edge-1")).await.code, 201);
    let fresh = || Machine::new(99);
    let with = |change: &dyn Fn(&mut String)| {
        let mut asking = fresh().request(&good, "x");
        change(&mut asking.request.token);
        asking
    };
    let wrong = Token { secret: [9; 32], ..good.clone() };
    let kind = |what, reason, asking| Kind { what, reason, asking };
    vec![
        kind("wrong", "WrongSecret", fresh().request(&wrong, "x")),
        kind("expired", "Expired", fresh().request(&ended, "x")),
        kind("used", "UsedUp", fresh().request(&used, "x")),
        kind("truncated", "Malformed", with(&|token| token.truncate(60))),
        kind("bit-flipped", "Malformed", with(&|token| token.replace_range(20..21, "_"))),
        kind("1 MB", "Malformed", with(&|token| *token = "x".repeat(1 << 20))),
        kind("name taken", "NameTaken", fresh().request(&good, "edge-1")),
        kind("key known", "KeyKnown", inside.request(&good, "x")),
    ]
}

/// How long each refusal of each kind took. All say the same.
async fn judged(world: &World, kinds: &[Kind]) -> BTreeMap<&'static str, Vec<Duration>> {
    let mut times: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
    let mut texts = Vec::new();
    for _ in 0..JUDGED {
        // All at once, so that whatever else the machine does meets all kinds.
        let round = kinds.iter().map(|Kind { what, asking, .. }| async move {
            let mut sender = world.connect(None).await.unwrap();
            let body = proved(&mut sender, asking).await;
            let begun = Instant::now();
            let said = posted(&mut sender, body).await?;
            Some((*what, begun.elapsed(), said))
        });
        // The gateway answers before it has read a body that is too long, and may hang up first.
        for (what, took, said) in futures::future::join_all(round).await.into_iter().flatten() {
            times.entry(what).or_default().push(took);
            texts.push(said);
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert_eq!(texts[0].0, 403);
    times
}

async fn posted(sender: &mut SendRequest<Full<Bytes>>, body: String) -> Option<(u16, Bytes)> {
    let request = Request::post("/join").header("host", "gateway");
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let answer = sender.send_request(request).await.ok()?;
    let code = answer.status().as_u16();
    Some((code, answer.into_body().collect().await.ok()?.to_bytes()))
}

fn no_kind_is_told_from_another_by_its_time(times: &BTreeMap<&'static str, Vec<Duration>>) {
    let median = |all: &Vec<Duration>| {
        let mut all = all.clone();
        all.sort();
        all[all.len() / 2]
    };
    let medians: Vec<_> = times.iter().map(|(what, all)| (median(all), *what)).collect();
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    println!("refused after {least:?} to {most:?}, medians of {JUDGED}");
    assert_eq!(times.len(), 8, "{medians:?}");
    assert!(times.values().flatten().all(|took| *took >= REFUSED_AFTER), "{times:?}");
    assert!(most.0.abs_diff(least.0) < APART, "{medians:?}");
}

/// Of each attempt the answer's code; all that come too often are told one thing.
async fn attack(world: &World, body: &str) -> Vec<u16> {
    let attacker = |_| async move {
        let mut sender = world.connect(None).await.unwrap();
        let mut codes = Vec::new();
        for _ in 0..ATTEMPTS / AT_ONCE {
            let said = answer(&mut sender, Request::post("/join"), body.to_owned()).await;
            if said.code == 429 {
                assert_eq!(said.body["message"], "too many attempts; try again later");
            }
            codes.push(said.code);
        }
        codes
    };
    futures::future::join_all((0..AT_ONCE).map(attacker)).await.concat()
}

/// Meanwhile: a machine of another address joins, one that is in lists, and one that watches hears
/// of the first. The longest that any of it took.
async fn others(world: &World, machine: &Machine) -> Duration {
    let token = world.token("others", 1).await;
    let path = "/apis/hawser.dev/v1alpha1/meshnodes?watch=1";
    let mut watching = world.port.connect_from(ELSEWHERE, Some(machine)).await.unwrap();
    let mut watch = send(&mut watching, Request::get(path), "").await.into_body();
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(world.list(machine, "meshnodes").await.code, 200);
        worst = worst.max(asked.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    let mut sender = world.port.connect_from(ELSEWHERE, None).await.unwrap();
    let body = proved(&mut sender, &Machine::new(7).request(&token, "edge-7")).await;
    assert_eq!(answer(&mut sender, Request::post("/join"), body).await.code, 201);
    loop {
        let frame = watch.frame().await.unwrap().unwrap().into_data().unwrap();
        if String::from_utf8_lossy(&frame).contains(r#""name":"edge-7""#) {
            return worst.max(begun.elapsed());
        }
    }
}

async fn rejections(world: &World) -> Vec<(String, String)> {
    let events: Api<Event> = Api::all(world.server.client.clone());
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let rejected =
        events.into_iter().filter(|event| event.reason.as_deref() == Some("JoinRejected"));
    rejected.map(|e| (e.action.unwrap_or_default(), e.note.unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_attempts_from_one_address_are_refused_alike_and_harm_nobody() {
    let world = World::start(LIFE).await;
    let machine = world.machine(2, "edge-2").await;
    let kinds = kinds(&world).await;

    let times = judged(&world, &kinds).await;
    let wrong = serde_json::to_string(&kinds[0].asking.request).unwrap();
    let begun = Instant::now();
    let (codes, worst) = tokio::join!(attack(&world, &wrong), others(&world, &machine));

    let of = |code: u16| codes.iter().filter(|c| **c == code).count();
    println!(
        "{} attempts in {:?}: {} judged, {} turned away; others waited {worst:?} at most",
        codes.len(),
        begun.elapsed(),
        of(403),
        of(429)
    );
    no_kind_is_told_from_another_by_its_time(&times);
    assert_eq!(of(403) + of(429), codes.len());
    assert!(of(429) > ATTEMPTS * 9 / 10, "{} were judged", of(403));
    assert!(worst < Duration::from_secs(2), "others waited {worst:?}");
    let names: Vec<_> = world.nodes().await.into_iter().filter_map(|n| n.metadata.name).collect();
    assert_eq!(names, ["edge-1", "edge-2", "edge-7"]);
    let told = rejections(&world).await;
    for Kind { what, reason, .. } in &kinds {
        assert!(told.iter().any(|(action, _)| action == reason), "{what}: {told:#?}");
    }
    assert!(told.len() <= 2 * kinds.len(), "{} events: {told:#?}", told.len());
    assert!(!told.iter().any(|(_, note)| note.contains("hawser1:")), "{told:#?}");
}
