//! Takes streams from nodes that no datagram gets out of. A stream is a stranger's until a peer was
//! heard by it, and ends if that takes too long.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    bridge::{self, Crossing, Ended},
    certificate::Certificate,
    count::{Counts, One, Refused},
    guests::Guests,
};
use crate::datapath::Datapath;

/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A stream by which no peer was heard by then is ended; and one whose peer is gone, so often.
const KNOWN: Duration = Duration::from_secs(10);
/// A caller sends something each few seconds.
const IDLE: Duration = Duration::from_secs(60);
/// Between two tries to listen, and after an error that comes again at once.
const AGAIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes that wait in the kernel to be sent, at most: what is late is of no use.
const UNSENT: u32 = 128 << 10;

/// Where this node is called, and how callers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: [u8; 32],
}

/// What a listener needs.
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Certificate,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) counts: Arc<Counts>,
    /// Hears when there is a listener.
    pub(crate) published: watch::Sender<Option<Published>>,
}

/// What each stream needs.
struct House {
    datapath: Arc<Datapath>,
    counts: Arc<Counts>,
    guests: Mutex<Guests>,
    acceptor: TlsAcceptor,
}

/// One stream's place among the guests.
struct Seat {
    house: Arc<House>,
    from: IpAddr,
    stranger: bool,
}

impl Listen {
    /// For ever. A port that cannot be had is tried again: packets flow all the same.
    pub(crate) async fn follow(self) -> anyhow::Result<()> {
        let Self { address, certificate, datapath, counts, published } = self;
        let fingerprint = certificate.fingerprint();
        let acceptor = TlsAcceptor::from(Arc::new(certificate.server()?));
        let house = Arc::new(House { datapath, counts, guests: Mutex::default(), acceptor });
        let mut told = false;
        let (listener, address) = loop {
            match bind(address).await {
                Ok(listening) => break listening,
                Err(error) if !told => {
                    tracing::error!(%error, %address, "no TLS listener; who else listens there?");
                    told = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        };
        tracing::info!(%address, fingerprint = api::join::hex(&fingerprint), "listening for TLS");
        published.send_replace(Some(Published { address, fingerprint }));
        loop {
            match listener.accept().await {
                Ok((stream, from)) => house.receive(stream, from),
                Err(error) => {
                    tracing::debug!(%error, "TLS stream not accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// On [::] for both families; where the kernel lacks IPv6, for the other one.
async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
            Ok((TcpListener::bind(v4).await?, v4))
        }
        bound => Ok((bound?, address)),
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

impl House {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let admitted = self.guests().admit(from.ip());
        if let Err(full) = admitted {
            tracing::debug!(%from, ?full, open = self.guests().count(), "TLS stream refused");
            self.counts.refuse(Refused::Full(full));
            return;
        }
        let seat = Seat { house: Arc::clone(self), from: from.ip(), stranger: true };
        tokio::spawn(async move {
            let house = Arc::clone(&seat.house);
            let _one = One::more(&house.counts.accepted);
            match house.serve(stream, seat).await {
                Ok(ended) => tracing::debug!(%from, %ended, "TLS stream ended"),
                Err(refused) => {
                    tracing::debug!(%from, reason = refused.name(), "TLS stream refused");
                    house.counts.refuse(refused);
                }
            }
        });
    }

    async fn serve(&self, stream: TcpStream, mut seat: Seat) -> Result<Ended, Refused> {
        tune(&stream);
        let handshake = timeout(HANDSHAKE, self.acceptor.accept(stream)).await;
        let stream = handshake.map_err(|_| Refused::Handshake)?.map_err(|_| Refused::Handshake)?;
        let (socket, port) = match bridge::socket(self.datapath.listen_port()).await {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "no socket for a TLS stream; are there files left?");
                return Ok(error.into());
            }
        };
        let _crossing = Crossing::of(&self.datapath, port);
        tokio::select! {
            ended = bridge::run(stream, &socket, IDLE, &self.counts) => match ended {
                Ended::Frame(_) => Err(Refused::Frame),
                ended => Ok(ended),
            },
            refused = self.strangers(port, &mut seat) => Err(refused),
        }
    }

    /// Ends when no peer was heard by that bridge in time, or is any more.
    async fn strangers(&self, port: u16, seat: &mut Seat) -> Refused {
        loop {
            sleep(KNOWN).await;
            if !self.datapath.is_bridge(port) {
                return Refused::Stranger;
            }
            seat.is_known();
        }
    }
}

impl Seat {
    fn is_known(&mut self) {
        if std::mem::take(&mut self.stranger) {
            self.house.guests().knows();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.house.guests().leave(self.from, self.stranger);
    }
}

/// Small datagrams leave at once, and few wait.
pub(super) fn tune(stream: &TcpStream) {
    let tuned = stream.set_nodelay(true);
    let tuned = tuned.and_then(|()| SockRef::from(stream).set_tcp_notsent_lowat(UNSENT));
    if let Err(error) = tuned {
        tracing::debug!(%error, "TLS stream not tuned");
    }
}
