//! The client of the API: as kube makes it, on connections that are given up when nobody answers.
//!
//! A node whose address is gone keeps connections that nothing comes back on, and so does one behind
//! a NAT that forgot it. A watch says nothing for minutes, so only its connection can tell.

use std::time::Duration;

use anyhow::Context;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt, retry::RetryPolicy},
};
use tower::{BoxError, ServiceBuilder, retry::RetryLayer};

/// Without a word on a connection its other end is asked after so long, and so often.
const ASKED_AFTER: Duration = Duration::from_secs(5);
/// What was sent and is not acknowledged within this was sent in vain (TCP_USER_TIMEOUT).
const UNANSWERED: Duration = Duration::from_secs(10);

pub(super) fn of(config: Config) -> anyhow::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(ASKED_AFTER));
    tcp.set_keepalive_interval(Some(ASKED_AFTER));
    tcp.set_tcp_user_timeout(Some(UNANSWERED));
    let tls = config.rustls_https_connector_with_connector(tcp).context("preparing TLS")?;
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http = Http::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let retry = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retry)
        .option_layer(config.auth_layer().context("reading the credentials")?)
        .layer(config.extra_headers_layer().context("reading the headers")?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
