//! Connections: bounded before they cost anything, then one question after the other.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::join::{JOIN_PATH, LEAVE_PATH, RENEW_PATH};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::answer::{self, Answer};
use super::door::Door;
use super::entry::{Entry, Open};
use super::limits::{Holds, source};
use super::tls::{Member, Presented, presented};

/// How long a handshake, or the head of a stranger's request, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A stranger comes to join, and goes.
const VISIT: Duration = Duration::from_secs(60);
/// Between two requests of a machine that is in.
const IDLE: Duration = Duration::from_secs(180);
/// Strangers of one source at once, and of all.
const STRANGERS: (usize, usize) = (64, 4096);
/// Connections of one machine at once, and of all.
const MEMBERS: (usize, usize) = (64, 1 << 20);

/// Everything behind the port.
pub(super) struct Hall {
    entry: Entry,
    door: Door,
    strangers: Mutex<Holds<IpAddr>>,
    members: Mutex<Holds<Member>>,
}

impl Hall {
    pub(super) fn new(entry: Entry, door: Door) -> Hall {
        Hall {
            entry,
            door,
            strangers: Mutex::new(Holds::new(STRANGERS.0, STRANGERS.1)),
            members: Mutex::new(Holds::new(MEMBERS.0, MEMBERS.1)),
        }
    }
}

/// A place taken; dropping it makes room.
struct Place<'a, K: Eq + std::hash::Hash>(&'a Mutex<Holds<K>>, K);

impl<'a, K: Eq + std::hash::Hash + Clone> Place<'a, K> {
    fn take(holds: &'a Mutex<Holds<K>>, who: K) -> Option<Self> {
        let taken = holds.lock().unwrap_or_else(PoisonError::into_inner).take(who.clone());
        taken.then_some(Place(holds, who))
    }
}

impl<K: Eq + std::hash::Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).give_back(&self.1);
    }
}

/// Accepts for ever.
pub(super) async fn serve(listener: TcpListener, config: Arc<ServerConfig>, hall: Hall) {
    let (hall, acceptor) = (Arc::new(hall), TlsAcceptor::from(config));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let (hall, acceptor) = (Arc::clone(&hall), acceptor.clone());
                    connections.spawn(async move {
                        connection(&hall, acceptor, stream, from.ip().to_canonical()).await;
                    });
                }
                // Out of descriptors, or a client that went away: not the listener's end.
                Err(error) => {
                    warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn connection(hall: &Arc<Hall>, acceptor: TlsAcceptor, stream: TcpStream, from: IpAddr) {
    let Some(stranger) = Place::take(&hall.strangers, source(from)) else {
        return debug!(%from, "too many connections");
    };
    // Events are small and must not wait for more.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%from, %error, "a TLS handshake ended"),
        Err(_) => return debug!(%from, "a TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let who = certificates.first().and_then(|certificate| presented(certificate));
    let member = who.as_ref().map(|who| &who.member);
    let member = member.filter(|member| hall.door.feeds.members.knows(member)).cloned();
    let (visit, idle) = if member.is_some() { (Duration::MAX, IDLE) } else { (VISIT, PATIENCE) };
    let mut stranger = Some(stranger);
    let _place = match member {
        Some(member) => {
            drop(stranger.take());
            let Some(place) = Place::take(&hall.members, member) else { return };
            Some(place)
        }
        None => None,
    };
    let open = Arc::new(Open::default());
    let service = service_fn(|request| {
        let (hall, who, open) = (Arc::clone(hall), who.clone(), Arc::clone(&open));
        async move { Ok::<_, Infallible>(handle(&hall, who, (from, &open), request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(64 << 10);
    let served = server.serve_connection(TokioIo::new(stream), service);
    match timeout(visit, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%from, %error, "a connection ended"),
        Err(_) => debug!(%from, "a visit took too long"),
    }
}

async fn handle(
    hall: &Hall,
    who: Option<Presented>,
    (from, open): (IpAddr, &Open),
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path();
    let ready = hall.door.feeds.are_listed();
    match (request.method(), path) {
        (&Method::GET, "/livez") => return answer::json(StatusCode::OK, &json!("ok")),
        (&Method::GET, "/readyz") if ready => return answer::json(StatusCode::OK, &json!("ok")),
        (&Method::GET, JOIN_PATH) => return Entry::challenge(open),
        (&Method::POST, JOIN_PATH) => {
            return hall.entry.join(request.into_body(), from, open).await;
        }
        _ => {}
    }
    if !ready {
        return answer::status(503, "ServiceUnavailable", "the gateway has not read the mesh yet");
    }
    let Some(who) = who else {
        return answer::status(401, "Unauthorized", "a node's certificate is needed");
    };
    if request.method() == Method::POST && path == RENEW_PATH {
        return hall.entry.renew(&who, request.into_body()).await;
    }
    if request.method() == Method::POST && path == LEAVE_PATH {
        return hall.entry.leave(&who).await;
    }
    if who.until <= Timestamp::now() {
        return answer::status(401, "Unauthorized", "the node's certificate has ended");
    }
    hall.door.answer(&who, request, Instant::now()).await
}
