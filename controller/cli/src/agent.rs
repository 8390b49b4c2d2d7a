//! Asks one agent for its live figures: HTTP over the Unix socket in its state directory.

use std::{io::ErrorKind, path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::{
    exit::{Exit, Failure},
    state::State,
};

/// A mesh of 10,000 nodes is about 4 MB of `/state`.
const LIMIT: usize = 64 << 20;

#[derive(Debug, Error)]
pub enum AgentError {
    #[error("no agent on this machine: {0} is not there")]
    Absent(String),
    #[error("not permitted to open {0}")]
    Forbidden(String),
    #[error("connecting to {0}: {1}")]
    Connect(String, #[source] std::io::Error),
    #[error("the agent at {0} did not answer within {1:?}")]
    Silent(String, Duration),
    #[error("asking the agent: {0}")]
    Http(#[from] hyper::Error),
    #[error("the agent answered {0}")]
    Status(hyper::StatusCode),
    #[error("reading the agent's answer: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the agent's answer is not the /state of a hawser-agent: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let what = error.to_string();
        match error {
            AgentError::Absent(_) => Self::new(Exit::Unreachable, what).check(
                "run this on a node, or name its socket: --agent DIR/agent.sock; \
                 asking an agent through the cluster is not built yet",
            ),
            AgentError::Forbidden(_) => {
                Self::new(Exit::Forbidden, what).check("the socket belongs to root: try sudo")
            }
            AgentError::Connect(..) | AgentError::Silent(..) => {
                Self::new(Exit::Unreachable, what).check("is hawser-agent running?")
            }
            AgentError::Http(_) | AgentError::Status(_) | AgentError::Body(_) => {
                Self::new(Exit::Unreachable, what).check("the agent's log")
            }
            AgentError::Json(_) => Self::new(Exit::Unreachable, what)
                .check("is that hawser-agent's socket, and of this version?"),
        }
    }
}

/// Reads `/state` once.
pub async fn state(socket: &Path, timeout: Duration) -> Result<State, AgentError> {
    let name = socket.display().to_string();
    match tokio::time::timeout(timeout, get(socket, "/state")).await {
        Ok(body) => Ok(serde_json::from_slice(&body?)?),
        Err(_) => Err(AgentError::Silent(name, timeout)),
    }
}

/// Reads anything else that it serves.
pub async fn read(socket: &Path, path: &str, timeout: Duration) -> Result<Bytes, AgentError> {
    let name = socket.display().to_string();
    match tokio::time::timeout(timeout, get(socket, path)).await {
        Ok(body) => body,
        Err(_) => Err(AgentError::Silent(name, timeout)),
    }
}

async fn get(socket: &Path, path: &str) -> Result<Bytes, AgentError> {
    let name = || socket.display().to_string();
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => AgentError::Absent(name()),
        ErrorKind::PermissionDenied => AgentError::Forbidden(name()),
        _ => AgentError::Connect(name(), error),
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "agent")
        .body(Empty::<Bytes>::new())
        .expect("a fixed request is well formed");
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(AgentError::Status(response.status()));
    }
    let body =
        Limited::new(response.into_body(), LIMIT).collect().await.map_err(AgentError::Body)?;
    driver.abort();
    Ok(body.to_bytes())
}
