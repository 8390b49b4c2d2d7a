//! Calls listeners over TLS while no datagram gets through, as `dial` decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::{CertificateError, Error as TlsError, pki_types::ServerName};
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    bridge::{self, Crossing, Ended},
    certificate,
    count::{Counts, One},
    dial::{Dialler, Order, Sight},
    listen::tune,
};
use crate::{datapath::Datapath, failover::Mute, snapshot::Snapshot, view::Listener};

/// Between two looks, while there is somebody to call and while there is not.
const LOOK: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(2);
/// A connection, and a TLS handshake over it.
const CONNECT: Duration = Duration::from_secs(5);
/// A listener answers each second while it is used, and each three seconds while it is not.
const SILENT: Duration = Duration::from_secs(10);

/// What it reads, and whom it tells.
pub(crate) struct Caller {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) counts: Arc<Counts>,
    /// Firewall mark on what it sends.
    pub(crate) mark: Option<u32>,
    /// Nodes that do not answer datagrams.
    pub(crate) mute: watch::Receiver<Mute>,
    /// Hears which listeners this node is spoken with by TLS.
    pub(crate) relays: watch::Sender<Vec<String>>,
}

/// What a call came to.
enum News {
    Opened(String),
    Ended(String, anyhow::Error),
}

/// One line, as long as it lives.
struct Line {
    name: String,
    listener: Listener,
    datapath: Arc<Datapath>,
    counts: Arc<Counts>,
    mark: Option<u32>,
    news: mpsc::UnboundedSender<News>,
}

impl Caller {
    /// For ever; not at all with an engine that knows no bridges.
    pub(crate) async fn follow(self) {
        if !self.datapath.has_bridges() {
            return;
        }
        let mut dialler = Dialler::default();
        let mut lines: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
        let (telling, mut news) = mpsc::unbounded_channel();
        loop {
            let snapshot = self.snapshot.load_full();
            let sight = Sight {
                listeners: &snapshot.listeners,
                mute: &self.mute.borrow().clone(),
                used: &snapshot.bridged,
            };
            for order in dialler.tick(&sight, Instant::now()) {
                self.obey(order, &mut lines, &telling);
            }
            self.tell(&dialler, &snapshot.bridged);
            let look = if snapshot.listeners.is_empty() { IDLE } else { LOOK };
            tokio::select! {
                Some(one) = news.recv() => hear(one, &mut dialler, &mut lines),
                () = sleep(look) => {}
            }
        }
    }

    fn obey(
        &self,
        order: Order,
        lines: &mut BTreeMap<String, JoinHandle<()>>,
        telling: &mpsc::UnboundedSender<News>,
    ) {
        match order {
            Order::Call(name, listener) => {
                let line = Line {
                    name: name.clone(),
                    listener,
                    datapath: Arc::clone(&self.datapath),
                    counts: Arc::clone(&self.counts),
                    mark: self.mark,
                    news: telling.clone(),
                };
                lines.insert(name, tokio::spawn(line.follow()));
            }
            Order::HangUp(name) => {
                tracing::info!(listener = ?name, "TLS stream not needed any more");
                // Whatever it holds is given back as it is dropped.
                lines.remove(&name).iter().for_each(JoinHandle::abort);
            }
        }
    }

    /// Those that are open and were of use: through them others reach this node, and may go on doing
    /// so until they find a better way.
    fn tell(&self, dialler: &Dialler, bridged: &BTreeSet<String>) {
        self.relays.send_if_modified(|before| {
            let of_use = |name: &&String| bridged.contains(*name) || before.contains(*name);
            let now: Vec<String> = dialler.open().filter(of_use).cloned().collect();
            let differs = *before != now;
            *before = now;
            differs
        });
    }
}

fn hear(news: News, dialler: &mut Dialler, lines: &mut BTreeMap<String, JoinHandle<()>>) {
    match news {
        News::Opened(name) => {
            tracing::info!(listener = ?name, "TLS stream open: no datagram gets through");
            dialler.opened(&name, Instant::now());
        }
        News::Ended(name, error) => {
            tracing::warn!(listener = ?name, error = format!("{error:#}"), "no TLS stream");
            dialler.ended(&name, Instant::now());
            lines.remove(&name).iter().for_each(JoinHandle::abort);
        }
    }
}

impl Line {
    async fn follow(self) {
        let error = match self.talk().await {
            Ok(ended) => anyhow::Error::from(ended),
            Err(error) => error,
        };
        self.counts.failed.fetch_add(1, Relaxed);
        // Nobody hears it when the agent ends.
        let _ = self.news.send(News::Ended(self.name.clone(), error));
    }

    async fn talk(&self) -> anyhow::Result<Ended> {
        let stream = self.call().await?;
        let made = bridge::socket(self.datapath.listen_port()).await;
        let (socket, port) = made.context("making a bridge's socket")?;
        let _one = One::more(&self.counts.called);
        let _crossing = Crossing::of(&self.datapath, port);
        self.datapath.set_bridge(&self.name, port);
        let _ = self.news.send(News::Opened(self.name.clone()));
        Ok(bridge::run(stream, &socket, SILENT, &self.counts).await)
    }

    /// The first of its endpoints that answers, and is who it should be.
    async fn call(&self) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut last = anyhow::anyhow!("it publishes no endpoint");
        for endpoint in &self.listener.endpoints {
            let called = timeout(CONNECT, self.connect(*endpoint)).await;
            match called.unwrap_or_else(|_| bail!("no answer in {}s", CONNECT.as_secs())) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.context(format!("calling {endpoint}")),
            }
        }
        Err(last)
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark).context("marking the stream")?;
        }
        let stream = socket.connect(to).await.context("is its TCP port open?")?;
        tune(&stream);
        let config = certificate::client(self.listener.fingerprint)?;
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::IpAddress(to.ip().into());
        connector.connect(name, stream).await.map_err(explain)
    }
}

/// What to look at.
fn explain(error: io::Error) -> anyhow::Error {
    let other = TlsError::from(CertificateError::ApplicationVerificationFailure);
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    if tls == Some(&other) {
        return anyhow::anyhow!(
            "its certificate is not the one that it publishes: its state was lost a moment ago, or \
             something between opens TLS; nothing was sent"
        );
    }
    anyhow::Error::from(error).context("is that a TLS listener of hawser?")
}
