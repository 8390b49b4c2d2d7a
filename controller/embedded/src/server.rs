//! The server: opens the directory, answers on a listener, keeps house.
//!
//! The directory holds `hawser.redb` (everything, the certificate authority and the hashes of the
//! tokens too), `lock`, and `admin.kubeconfig` (0600), which is rewritten at each start.

use crate::auth::{Identity, Pace, Tokens};
use crate::housekeeping::housekeeping;
use crate::http;
use crate::kind::{KindError, Kinds};
use crate::kubeconfig;
use crate::openapi;
use crate::store::{Disk, DiskError, Lock, Pages, Store, first_version};
use crate::tls::{Authority, TlsError};
use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a client may take for its TLS handshake, or for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long open requests may take to end when the server does.
const GRACE: Duration = Duration::from_secs(2);

/// The name of the gateway's authority.
pub const GATEWAY: &str = "hawser gateway";

/// What the server serves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub crds: Vec<CustomResourceDefinition>,
    /// DNS names or addresses by which clients reach the server, besides the listener's own.
    pub names: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Kind(#[from] KindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{path}: {source}")]
    Kubeconfig { path: PathBuf, source: std::io::Error },
    #[error("making the admin token: {0}")]
    Token(String),
    #[error("the listener: {0}")]
    Listener(std::io::Error),
    #[error("the database cannot be written; see the log")]
    StoreStopped,
}

/// What every request needs.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) dir: PathBuf,
    pub(crate) store: Store,
    pub(crate) kinds: Kinds,
    pub(crate) pages: Pages,
    pub(crate) openapi: OpenApi,
    /// How often nodes write events.
    pub(crate) pace: Pace,
    closing: watch::Sender<bool>,
}

impl App {
    /// Turns true when the server ends.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

/// The documents of `/openapi/v3`, made once.
#[derive(Debug)]
pub(crate) struct OpenApi {
    index: Value,
    documents: BTreeMap<String, Bytes>,
}

impl OpenApi {
    fn new(kinds: &Kinds) -> OpenApi {
        let (mut entries, mut documents) = (Vec::new(), BTreeMap::new());
        for (group, version) in kinds.group_versions() {
            let path = match group {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            };
            let resources: Vec<_> = kinds.of(group, version).map(|kind| kind.resource()).collect();
            let group_version =
                if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            let text = openapi::document(&group_version, &resources);
            let hash = Sha256::digest(text.as_bytes());
            let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
            entries.push((path.clone(), hash));
            documents.insert(path, Bytes::from(text));
        }
        OpenApi { index: openapi::index(&entries), documents }
    }

    pub(crate) fn index(&self) -> &Value {
        &self.index
    }

    pub(crate) fn document(&self, path: &str) -> Option<Bytes> {
        self.documents.get(path).cloned()
    }
}

/// An open directory, ready to serve.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    authority: Arc<Authority>,
    gateway: Arc<Authority>,
}

/// The authority that is kept there, or a new one.
fn kept_authority(
    disk: &Disk,
    (kept_as, name): (&str, &str),
    names: Vec<String>,
) -> Result<Arc<Authority>, OpenError> {
    let kept = match disk.meta(kept_as)? {
        Some(kept) => kept,
        None => {
            let created = Authority::create(name)?;
            disk.set_meta(kept_as, &created)?;
            created
        }
    };
    Ok(Arc::new(Authority::open(&kept, names)?))
}

impl Server {
    /// Opens `dir` or makes it. Refuses while another process has it.
    pub fn open(dir: &Path, options: Options) -> Result<Server, OpenError> {
        let Options { crds, names } = options;
        let kinds = Kinds::new(&crds)?;
        let disk = Disk::open(dir, Lock::take(dir)?, first_version(Timestamp::now()))?;
        let authority = kept_authority(&disk, ("ca", "hawser embedded API"), names)?;
        let gateway = kept_authority(&disk, ("gateway-ca", GATEWAY), Vec::new())?;
        let app = App {
            dir: dir.to_owned(),
            store: Store::open(disk)?,
            openapi: OpenApi::new(&kinds),
            kinds,
            pages: Pages::default(),
            pace: Pace::default(),
            closing: watch::Sender::new(false),
        };
        Ok(Server { app: Arc::new(app), authority, gateway })
    }

    /// The authority of the gateway in front of this server. It is kept in the store, so that a
    /// backup has it.
    pub fn gateway_authority(&self) -> Arc<Authority> {
        Arc::clone(&self.gateway)
    }

    /// Where `serve` writes the admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig::path(&self.app.dir)
    }

    /// Serves until `shutdown` resolves; then ends every watch cleanly and returns.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        self.write_kubeconfig(address).await?;
        tracing::info!(%address, dir = ?self.app.dir, "serving the mesh's resources");
        let mut connections = JoinSet::new();
        connections.spawn(housekeeping(self.app.clone()));
        tokio::pin!(shutdown);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                () = self.app.store.stopped() => break Err(ServeError::StoreStopped),
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (app, authority) = (self.app.clone(), self.authority.clone());
                        connections.spawn(connection(app, authority, stream));
                    }
                    // Out of descriptors, or a client that went away: not the listener's end.
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        };
        self.app.closing.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, drained).await.is_err() {
            connections.shutdown().await;
        }
        outcome
    }

    /// Writes the admin's kubeconfig for a listener at `address`. `serve` does so too; whoever
    /// wants to connect as soon as the listener stands calls it first.
    ///
    /// The token of an earlier start is kept if it still works.
    pub async fn write_kubeconfig(&self, address: SocketAddr) -> Result<(), ServeError> {
        let path = self.kubeconfig();
        let tokens = Tokens(&self.app.store);
        let earlier = std::fs::read_to_string(&path).ok();
        let earlier = earlier.as_deref().and_then(|text| kubeconfig::field(text, "token"));
        let works = |token: &&str| {
            let header = format!("Bearer {token}");
            tokens.authenticate(Some(&header), Timestamp::now()).is_ok()
        };
        let token = match earlier.filter(works) {
            Some(token) => token.to_owned(),
            None => tokens
                .issue(&Identity::Admin, None)
                .await
                .map_err(|status| ServeError::Token(status.message))?,
        };
        let text = kubeconfig::text(address, self.authority.certificate(), &token);
        kubeconfig::write_private(&path, text.as_bytes())
            .map_err(|source| ServeError::Kubeconfig { path, source })
    }
}

async fn connection(app: Arc<App>, authority: Arc<Authority>, stream: TcpStream) {
    let Ok(address) = stream.local_addr() else {
        return;
    };
    // Events are small and must not wait for more.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let config = match authority.config(address.ip()) {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "making a certificate"),
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake ended"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let mut closing = app.closing();
    let service = service_fn(move |request| http::handle(app.clone(), request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE * 18);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = async { drop(closing.wait_for(|closing| *closing).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}
