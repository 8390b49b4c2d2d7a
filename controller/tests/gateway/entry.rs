//! Who is let in, and what those who are not learn.

use std::time::Duration;

use api::join::{RENEW_PATH, RenewRequest, Token};
use api::{Decision, JoinToken, Mesh, MeshPeer, MeshPeerSpec};
use bytes::Bytes;
use http::Request;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use rustls::NamedGroup;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{Asking, LIFE, Machine, World, answer, proved, send};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_racers_exactly_as_many_get_in_as_the_token_permits() {
    let world = World::start(LIFE).await;
    let token = world.token("race", 7).await;

    let racers = (0..100).map(|number| {
        let request = Machine::new(number).request(&token, &format!("racer-{number}"));
        let world = &world;
        async move {
            loop {
                // More at once than one source may hold: the rest waits at the door.
                match world.join(&request).await.code {
                    0 => sleep(Duration::from_millis(20)).await,
                    code => return code,
                }
            }
        }
    });
    let codes = futures::future::join_all(racers).await;

    let of = |code: u16| codes.iter().filter(|c| **c == code).count();
    assert_eq!((of(201), of(403)), (7, 93), "{codes:?}");
    assert_eq!(world.nodes().await.len(), 7);
    let status = world.tokens().get("race").await.unwrap().status.unwrap();
    assert_eq!((status.used, status.machines.len()), (7, 7));
    let mut admitted: Vec<String> = status.machines.into_iter().map(|m| m.node).collect();
    let mut nodes: Vec<String> =
        world.nodes().await.into_iter().filter_map(|node| node.metadata.name).collect();
    admitted.sort();
    nodes.sort();
    assert_eq!(admitted, nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_answer_was_lost_asks_again_and_uses_nothing_twice() {
    let world = World::start(LIFE).await;
    let token = world.token("once", 1).await;
    let machine = Machine::new(1);

    let first = world.join(&machine.request(&token, "edge-1")).await;
    let again = world.join(&machine.request(&token, "edge-1")).await;

    assert_eq!((first.code, again.code), (201, 201));
    assert_eq!(world.nodes().await.len(), 1);
    let stranger = world.join(&Machine::new(2).request(&token, "edge-1")).await;
    assert_eq!(stranger.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_good_for_one_connection_one_certificate_and_once() {
    let world = World::start(LIFE).await;
    let token = world.token("good", 9).await;
    let asking = Machine::new(1).request(&token, "edge-1");
    let mut first = world.connect(None).await.unwrap();
    let mut second = world.connect(None).await.unwrap();
    let body = proved(&mut first, &asking).await;
    proved(&mut second, &asking).await;
    let mut other: Value = serde_json::from_str(&body).unwrap();
    other["csr"] = Machine::new(2).csr().into();
    let join = || Request::post("/join");

    let elsewhere = answer(&mut second, join(), body.clone()).await.code;
    let stolen = answer(&mut first, join(), other.to_string()).await.code;
    let spent = answer(&mut first, join(), body).await.code;
    let anew = proved(&mut first, &asking).await;

    assert_eq!((elsewhere, stolen, spent), (403, 403, 403));
    assert_eq!(answer(&mut first, join(), anew).await.code, 201);
}

/// A refused attempt: what was sent, and the word in the audit.
struct Attempt {
    what: What,
    reason: &'static str,
}

enum What {
    Asked(Box<Asking>),
    Raw(Bytes),
}

async fn attempts(world: &World) -> Vec<Attempt> {
    let good = world.token("good", 5).await;
    let ended = world.token_with("ended", |spec| {
        "2020-01-01T00:00:00Z".clone_into(&mut spec.expires_at);
    });
    let ended = ended.await;
    let used = world.token("used", 1).await;
    assert_eq!(world.join(&Machine::new(1).request(&used, "edge-1")).await.code, 201);
    let spec = MeshPeerSpec {
        public_key: Machine::new(50).public_key,
        addresses: vec!["10.42.200.7/32".to_owned()],
        ..MeshPeerSpec::default()
    };
    let peers: Api<MeshPeer> = Api::all(world.server.client.clone());
    peers.create(&PostParams::default(), &MeshPeer::new("laptop", spec)).await.unwrap();
    let meshes: Api<Mesh> = Api::all(world.server.client.clone());
    let thrown_out = Machine::new(51);
    let patch = json!({"status": {"revokedKeys": [thrown_out.public_key]}});
    let patch = Patch::Merge(&patch);
    meshes.patch_status("default", &PatchParams::default(), &patch).await.unwrap();
    // The gateway sees them a moment later.
    sleep(Duration::from_millis(500)).await;

    let fresh = |token: &Token, name: &str| Machine::new(99).request(token, name);
    let attempt = |asking, reason| Attempt { what: What::Asked(Box::new(asking)), reason };
    let raw = |body| Attempt { what: What::Raw(body), reason: "Malformed" };
    let wrong = Token { secret: [9; 32], ..good.clone() };
    let unknown = Token { name: "nobody".to_owned(), ..good.clone() };
    let path = Token { name: "../meshes/default".to_owned(), ..good.clone() };
    let mut unsigned = fresh(&good, "x");
    "AAAA".clone_into(&mut unsigned.request.csr);
    let mut low_order = fresh(&good, "x");
    low_order.request.public_key = format!("{}=", "A".repeat(43));
    let mut flipped = fresh(&good, "x");
    flipped.request.token.replace_range(9..10, "_");
    let mut anothers = fresh(&good, "x");
    anothers.request.public_key = Machine::new(98).public_key;
    let unproved = serde_json::to_vec(&fresh(&good, "x").request).unwrap();
    vec![
        attempt(anothers, "Unproved"),
        Attempt { what: What::Raw(unproved.into()), reason: "Unproved" },
        attempt(fresh(&wrong, "x"), "WrongSecret"),
        attempt(fresh(&unknown, "x"), "UnknownToken"),
        attempt(fresh(&path, "x"), "UnknownToken"),
        attempt(fresh(&ended, "x"), "Expired"),
        attempt(fresh(&used, "x"), "UsedUp"),
        attempt(fresh(&good, "edge-1"), "NameTaken"),
        attempt(fresh(&good, "Not/A/Name"), "BadName"),
        attempt(Machine::new(50).request(&good, "x"), "KeyKnown"),
        attempt(thrown_out.request(&good, "x"), "KeyRevoked"),
        attempt(unsigned, "Unsigned"),
        attempt(low_order, "BadKey"),
        attempt(flipped, "Malformed"),
        raw("{".into()),
        raw("".into()),
        raw(vec![b'x'; 1 << 20].into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_one_answer_at_one_time_and_its_reason_is_in_the_audit() {
    let world = World::start(LIFE).await;
    let mut answers = Vec::new();
    let mut reasons = Vec::new();

    for Attempt { what, reason } in attempts(&world).await {
        let begun = Instant::now();
        let said = match what {
            What::Asked(asking) => world.join(&asking).await,
            What::Raw(body) => world.ask(None, Request::post("/join"), body).await,
        };
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(250), "{reason} after {took:?}");
        // Larger than what is read: the connection may end with the answer.
        if said.code != 0 {
            answers.push((said.code, said.body.to_string()));
        }
        reasons.push(reason);
    }

    answers.dedup();
    let one: Value = serde_json::from_str(&answers[0].1).unwrap();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert_eq!(answers[0].0, 403);
    assert_eq!(one["message"], "the gateway does not let this machine in");
    assert_eq!(world.nodes().await.len(), 1, "nobody got in");
    let last = async |name: &str| {
        let token: JoinToken = world.tokens().get(name).await.unwrap();
        token.status.unwrap_or_default().last_refusal.map(|last| last.reason)
    };
    assert_eq!(last("ended").await.as_deref(), Some("Expired"));
    assert_eq!(last("used").await.as_deref(), Some("UsedUp"));
    let events: Api<Event> = Api::all(world.server.client.clone());
    let events = events.list(&ListParams::default()).await.unwrap();
    let notes: Vec<String> = events.items.into_iter().filter_map(|event| event.note).collect();
    for words in [
        "did not prove",
        "secret is wrong",
        "no token of that name",
        "laptop's already",
        "was revoked",
    ] {
        assert!(notes.iter().any(|note| note.contains(words)), "{words}: {notes:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_waits_with_nothing_given_out_until_it_is_approved() {
    let world = World::start(LIFE).await;
    let token = world.token_with("asking", |spec| spec.approve = true).await;
    let (edge, other) = (Machine::new(1), Machine::new(2));
    let asking = edge.request(&token, "edge-1");
    let decide = async |number: usize, decision: Decision| {
        let mut waiting = world.tokens().get("asking").await.unwrap().status.unwrap().waiting;
        waiting[number].decision = Some(decision);
        waiting[number].decided_by = Some("ann".to_owned());
        let patch = json!({"status": {"waiting": waiting}});
        let patch = Patch::Merge(&patch);
        world.tokens().patch_status("asking", &PatchParams::default(), &patch).await.unwrap();
    };

    let first = world.join(&asking).await;
    let again = world.join(&asking).await;
    let impostor = world.join(&other.request(&token, "edge-1")).await;
    let second = world.join(&other.request(&token, "edge-2")).await;

    assert_eq!((first.code, again.code, impostor.code, second.code), (202, 202, 403, 202));
    assert_eq!(first.body["node"], "edge-1");
    assert!(first.body.get("certificate").is_none());
    assert_eq!(world.nodes().await.len(), 0);
    let status = world.tokens().get("asking").await.unwrap().status.unwrap();
    assert_eq!((status.used, status.waiting.len()), (0, 2));
    assert_eq!(status.waiting[0].fingerprint, first.body["fingerprint"]);

    decide(1, Decision::Denied).await;
    decide(0, Decision::Approved).await;
    assert_eq!(world.join(&other.request(&token, "edge-2")).await.code, 403);
    let admitted = world.join(&asking).await;
    assert_eq!(admitted.code, 201, "{}", admitted.body);
    assert_eq!(world.nodes().await.len(), 1);
    let events: Api<Event> = Api::all(world.server.client.clone());
    let events = events.list(&ListParams::default()).await.unwrap();
    let notes: Vec<String> = events.items.into_iter().filter_map(|event| event.note).collect();
    for words in ["waits: hawser token approve edge-1", "somebody denied it", "approved by ann"] {
        assert!(notes.iter().any(|note| note.contains(words)), "{words}: {notes:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_certificate_opens_the_renewal_and_nothing_else() {
    let world = World::start(Duration::from_secs(3)).await;
    let mut machine = world.machine(1, "edge-1").await;
    sleep(Duration::from_secs(4)).await;

    let listed = world.list(&machine, "meshnodes").await;
    let next = KeyHolder::new();
    let body = serde_json::to_string(&RenewRequest { csr: next.0.csr() }).unwrap();
    let renewed = world.ask(Some(&machine), Request::post(RENEW_PATH), body.clone()).await;
    let stranger = world.ask(None, Request::post(RENEW_PATH), body).await;

    assert_eq!((listed.code, renewed.code, stranger.code), (401, 200, 401));
    let mut answer = renewed.body;
    (answer["node"], answer["authority"]) = ("edge-1".into(), "".into());
    machine = next.0;
    machine.take(&answer);
    assert_eq!(world.list(&machine, "meshnodes").await.code, 200);
}

/// The same machine with a new key.
struct KeyHolder(Machine);

impl KeyHolder {
    fn new() -> KeyHolder {
        KeyHolder(Machine::new(1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_speaks_tls_13_with_the_hybrid_group_and_nothing_older() {
    let world = World::start(LIFE).await;

    let stream = world.tls(None, &rustls::version::TLS13).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    let older = world.tls(None, &rustls::version::TLS12).await;

    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    assert!(older.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_refused_in_time_and_disturbs_nobody() {
    use futures::StreamExt;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;

    let world = World::start(LIFE).await;
    let stream = world.tls(None, &rustls::version::TLS13).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let drops = futures::stream::unfold(0, |count| async move {
        sleep(Duration::from_millis(500)).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"{"))), count + 1))
    });
    let request = Request::post("/join").header("host", "gateway");
    let request = request.body(StreamBody::new(drops.boxed()).boxed_unsync()).unwrap();

    let begun = Instant::now();
    let trickling = async { sender.send_request(request).await.map(|r| r.status().as_u16()) };
    let (code, other) = tokio::join!(trickling, async {
        let mut sender = world.connect(None).await.unwrap();
        send(&mut sender, Request::get("/readyz"), "").await.status().as_u16()
    });

    assert_eq!((code.unwrap_or(403), other), (403, 200));
    assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
}
