//! A machine's access through a gateway: a certificate that is changed well before it ends.
//!
//! ```text
//! kubeconfig (0600) ─▶ client ─▶ what everybody asks through
//!        ▲                ▲
//!        └── /renew ──────┘  at two thirds of its life, or when the gateway says 401
//! ```
//! Everything else in the agent has one client; which certificate that one shows changes below it.
//! What is under way goes on over the connection that it began on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use api::join::{Access, RENEW_PATH, RenewAnswer, RenewRequest};
use arc_swap::ArcSwap;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Request, StatusCode};
use jiff::Timestamp;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use x509_parser::{pem::parse_x509_pem, prelude::X509Certificate};

use super::{preshared::write, status::jitter};

/// What the gateway writes into the certificates that it gives to machines.
const NODES: &str = "hawser:nodes";
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps a certificate young.
pub struct Renewal {
    path: PathBuf,
    held: Held,
    current: Arc<ArcSwap<Client>>,
    /// Rung when the gateway does not take the certificate.
    refused: Arc<Notify>,
}

/// What the kubeconfig says.
#[derive(Clone)]
struct Held {
    node: String,
    server: String,
    /// PEM.
    authority: String,
    /// PEM.
    certificate: String,
}

/// A client and its renewal, if the kubeconfig is a machine's access through a gateway.
pub(super) async fn of_machine(
    path: &Path,
    kubeconfig: &Kubeconfig,
) -> anyhow::Result<Option<(Client, Renewal)>> {
    let Some(held) = held(kubeconfig) else {
        return Ok(None);
    };
    let client = client_of(kubeconfig.clone()).await?;
    let current = Arc::new(ArcSwap::from_pointee(client));
    let refused = Arc::new(Notify::new());
    let through = through(Arc::clone(&current), Arc::clone(&refused));
    let renewal = Renewal { path: path.to_owned(), held, current, refused };
    Ok(Some((through, renewal)))
}

/// One client for ever over the current one.
fn through(current: Arc<ArcSwap<Client>>, refused: Arc<Notify>) -> Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (client, refused) = (current.load_full(), Arc::clone(&refused));
        async move {
            let answer = client.send(request).await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED) {
                refused.notify_one();
            }
            answer
        }
    });
    Client::new(service, "default")
}

async fn client_of(kubeconfig: Kubeconfig) -> anyhow::Result<Client> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let config = config.context("using the access to the gateway")?;
    super::client::of(config).context("preparing the client of the gateway")
}

/// None if it is another kind of access, which somebody else keeps valid.
fn held(kubeconfig: &Kubeconfig) -> Option<Held> {
    let cluster = kubeconfig.clusters.first()?.cluster.as_ref()?;
    let user = kubeconfig.auth_infos.first()?;
    let decoded = |text: &Option<String>| {
        String::from_utf8(BASE64_STANDARD.decode(text.as_ref()?).ok()?).ok()
    };
    let certificate = decoded(&user.auth_info.as_ref()?.client_certificate_data)?;
    of_gateway(&certificate)?;
    Some(Held {
        node: user.name.clone(),
        server: cluster.server.clone()?,
        authority: decoded(&cluster.certificate_authority_data)?,
        certificate,
    })
}

/// When a certificate of a gateway begins and ends.
fn of_gateway(pem: &str) -> Option<(Timestamp, Timestamp)> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate: X509Certificate<'_> = pem.parse_x509().ok()?;
    let organization = certificate.subject().iter_organization().next()?.as_str().ok()?;
    if organization != NODES {
        return None;
    }
    let validity = certificate.validity();
    let at = |seconds| Timestamp::from_second(seconds).ok();
    Some((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
}

/// How long a certificate is good enough. Never longer than two thirds of its life from now, so
/// that a clock which is wrong by years costs nothing but a renewal. Pure.
fn due((begin, end): (Timestamp, Timestamp), now: Timestamp) -> Duration {
    let life = Duration::try_from(end - begin).unwrap_or_default();
    let old = Duration::try_from(now - begin).unwrap_or_default();
    (life * 2 / 3).saturating_sub(old)
}

impl Renewal {
    /// For ever.
    pub async fn follow(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let validity = of_gateway(&self.held.certificate);
            let wait = validity.map_or(LAST_PAUSE, |v| due(v, Timestamp::now()));
            // Up to a tenth sooner, so that a fleet that came at once does not come at once again.
            let wait = wait.saturating_sub(jitter(wait).saturating_sub(wait) / 5);
            // Elapsed, or refused: both are a reason.
            let _ = timeout(wait, self.refused.notified()).await;
            while let Err(error) = self.renew().await {
                tracing::warn!(error = %format!("{error:#}"), "certificate not renewed");
                sleep(jitter(pause)).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            pause = FIRST_PAUSE;
            tracing::info!("certificate renewed");
            // One that is refused at once is not asked for in a circle.
            sleep(FIRST_PAUSE).await;
        }
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        let key = KeyPair::generate().context("making a key")?;
        let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
        let asked = RenewRequest { csr: BASE64_STANDARD.encode(request.der()) };
        let body = serde_json::to_vec(&asked).context("writing the request")?;
        let request = Request::post(RENEW_PATH).body(body).context("writing the request")?;
        let client = self.current.load_full();
        let answer: RenewAnswer =
            client.request(request).await.context("asking the gateway for a certificate")?;
        if of_gateway(&answer.certificate).is_none() {
            bail!("the gateway's answer holds no certificate of a node");
        }
        let Held { node, server, authority, .. } = &self.held;
        let access = Access {
            node,
            server,
            authority,
            certificate: &answer.certificate,
            key: &key.serialize_pem(),
        };
        let text = access.to_kubeconfig();
        let kubeconfig = Kubeconfig::from_yaml(&text).context("using the new certificate")?;
        let next = client_of(kubeconfig).await?;
        write(&self.path, &text).with_context(|| format!("writing {}", self.path.display()))?;
        self.current.store(Arc::new(next));
        self.held.certificate = answer.certificate;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_changed_at_two_thirds_of_its_life_whatever_the_clock() {
        let at = |hours: i64| Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap();
        let wait = |hours| due((at(0), at(24)), at(hours)).as_secs() / 3600;

        assert_eq!(wait(0), 16);
        assert_eq!(wait(10), 6);
        assert_eq!(wait(16), 0);
        assert_eq!(wait(8760), 0);
        assert_eq!(wait(-8760), 16);
    }

    #[test]
    fn another_kind_of_access_is_left_alone() {
        let token = "clusters: [{name: c, cluster: {server: 'https://a'}}]\n\
                     users: [{name: u, user: {token: t}}]\n";
        let kubeconfig = Kubeconfig::from_yaml(token).unwrap();

        assert!(held(&kubeconfig).is_none());
    }
}
