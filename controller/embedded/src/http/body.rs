//! Bodies, in and out.

use super::negotiate::JSON;
use crate::status::Status;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use tokio::io::AsyncReadExt;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Answer = Response<Body>;

/// The same as Kubernetes.
const LIMIT: usize = 3 << 20;
/// How much of a file is sent at once.
const CHUNK: usize = 64 << 10;

/// The whole body of a request.
pub(super) async fn read(body: Incoming) -> Result<Bytes, Status> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large(LIMIT)),
        Err(error) => Err(Status::bad_request(format!("reading the body: {error}"))),
    }
}

pub(super) fn text(text: &'static str) -> Answer {
    full("text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

pub(super) fn json(value: &Value) -> Answer {
    of_type(JSON, value)
}

pub(super) fn json_text(text: Bytes) -> Answer {
    full(JSON, text)
}

pub(super) fn of_type(content_type: &'static str, value: &Value) -> Answer {
    full(content_type, value.to_string().into())
}

pub(super) fn refusal(status: &Status) -> Answer {
    let mut answer = json(&status.body());
    *answer.status_mut() = code(status.code);
    if let Some(seconds) = status.retry_after_seconds {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// Lines as they come.
pub(super) fn stream(lines: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    let frames = lines.map(|lines| Ok(Frame::data(lines)));
    answer(JSON, StreamBody::new(frames).boxed_unsync())
}

/// A file's bytes, to its end.
pub(super) fn file(file: tokio::fs::File) -> Answer {
    let chunks = futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let length = file.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
    });
    answer("application/octet-stream", StreamBody::new(chunks).boxed_unsync())
}

/// `Warning: 299 - "unknown field \"spec.x\""`, one a warning.
pub(super) fn warn(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', r"\\").replace('"', r#"\""#);
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
}

pub(super) fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn full(content_type: &'static str, bytes: Bytes) -> Answer {
    answer(content_type, Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

fn answer(content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    let value = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(header::CONTENT_TYPE, value);
    answer
}
