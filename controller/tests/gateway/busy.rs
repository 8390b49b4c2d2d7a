//! A whole site behind one public address: more machines than one source may send at once.

use std::time::Duration;

use api::join::Token;
use cli::join::entrance::persist;
use cli::join::gateway::{Denial, Entered, Gateway, Url};
use cli::join::patience::Patience;

use crate::world::{LIFE, Machine, SOON, World};

/// As `hawser join` has it.
const PATIENCE: Duration = Duration::from_secs(120);

async fn attempt(url: &Url, token: &Token, machine: &Machine, name: &str) -> Result<(), Denial> {
    let mut gateway = Gateway::connect(url, token.authority, SOON).await?;
    let mut asking = machine.request(token, name);
    let challenge: keys::PublicKey = gateway.challenge().await?.parse().unwrap();
    let covered = asking.request.covered();
    asking.request.proof = asking.holds.prove(&challenge, covered.as_bytes()).unwrap().to_string();
    let entered = gateway.join(&asking.request).await?;
    assert!(matches!(entered, Entered::In(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_behind_one_address_gets_in_whole() {
    let long = std::env::var("HAWSER_LONG").is_ok_and(|value| value == "1");
    let machines = if long { 150 } else { 124 };
    let world = World::start(LIFE).await;
    let token = world.token("site", machines).await;
    let url = Url::parse(&format!("https://{}", world.port.gateway)).unwrap();
    let begun = tokio::time::Instant::now();

    let joins = (0..machines).map(|number| {
        let (url, token) = (&url, &token);
        async move {
            let machine = Machine::new(number);
            let name = format!("edge-{number}");
            let patience = Patience::until(std::time::Instant::now() + PATIENCE, u64::from(number));
            let mut said = Vec::new();
            let entered = persist(
                async || attempt(url, token, &machine, &name).await,
                patience,
                async |line: Option<String>, pause| {
                    said.extend(line);
                    tokio::time::sleep(pause).await;
                },
            );
            entered.await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            said
        }
    });
    let said: Vec<String> = futures::future::join_all(joins).await.concat();

    println!("{machines} machines of one address are in after {:?}", begun.elapsed());
    assert_eq!(world.nodes().await.len(), machines as usize);
    let status = world.tokens().get("site").await.unwrap().status.unwrap();
    assert_eq!(status.used, machines);
    // Some came too often, and their operators read why they wait.
    assert!(said.iter().any(|line| line.contains("too many attempts")), "{said:?}");
}
