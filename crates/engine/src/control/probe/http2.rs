//! One HTTP/2 request over a connection of its own, and its response within bounds.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Answer, Failure, HttpProbe, ProbeOutcome};

/// The largest head of a response.
const MAX_HEAD: u32 = 32 * 1024;

/// Sends the request and reads the response as far as the probe wants it.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    probe: &HttpProbe,
    encrypted: bool,
) -> Result<Answer, Failure> {
    let request = request(probe, if encrypted { "https" } else { "http" })?;
    let begun = Builder::new()
        .enable_push(false)
        .max_header_list_size(MAX_HEAD)
        .handshake::<_, Bytes>(stream)
        .await;
    let (client, connection) = begun.map_err(|error| failure(&error))?;
    let mut connection = pin!(connection);
    let mut asked = pin!(ask(client, request, probe.body_bytes as usize));
    let mut over = false;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        if !over && connection.as_mut().poll(cx).is_ready() {
            over = true;
            // Whatever ended it is what the request is told.
            return asked.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

fn request(probe: &HttpProbe, scheme: &str) -> Result<Request<()>, Failure> {
    let wrong = |what: String| Failure::protocol(format!("the probe is not valid: {what}"));
    let given = |name: &str| {
        let mut headers = probe.headers.iter();
        headers.find(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let host = given("host").map_or(probe.host.as_str(), |(_, value)| value);
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(probe.path.as_str())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let mut request = Request::builder().method(probe.method.as_str()).uri(uri);
    for (name, value) in [("user-agent", "evenflow"), ("accept", "*/*")] {
        if given(name).is_none() {
            request = request.header(name, value);
        }
    }
    for (name, value) in &probe.headers {
        if !["host", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value);
        }
    }
    request.body(()).map_err(|error| wrong(error.to_string()))
}

async fn ask(
    client: SendRequest<Bytes>,
    request: Request<()>,
    limit: usize,
) -> Result<Answer, Failure> {
    let mut client = client.ready().await.map_err(|error| failure(&error))?;
    let (answer, _) = client
        .send_request(request, true)
        .map_err(|error| failure(&error))?;
    let answer = answer.await.map_err(|error| failure(&error))?;
    let status = answer.status().as_u16();
    let mut frames = answer.into_body();
    let mut body = Vec::new();
    while body.len() < limit {
        let Some(data) = frames.data().await else {
            break;
        };
        let data = data.map_err(|error| failure(&error))?;
        body.extend_from_slice(&data[..data.len().min(limit - body.len())]);
        let _ = frames.flow_control().release_capacity(data.len());
    }
    Ok(Answer {
        status: Some(status),
        body,
    })
}

fn failure(error: &h2::Error) -> Failure {
    match error.get_io() {
        Some(error) => Failure::exchanging(error),
        None if error.is_library() => Failure::protocol("the server does not speak HTTP/2"),
        None => Failure {
            outcome: ProbeOutcome::Reset,
            detail: error.to_string(),
        },
    }
}
