//! One HTTP/2 request over a connection of its own, and its response within bounds.

use evenflow_wire::http2::{Config, Connection, Event, Key, Role, hpack};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::result::ProbeOutcome;
use super::trial::{Failure, HttpProbe, ProbeAnswer};

const CONFIG: Config = Config {
    role: Role::Client,
    max_concurrent_streams: 0,
    stream_window: 64 * 1024,
    connection_window: 64 * 1024,
    max_section: 32 * 1024,
};

/// Sends the request and reads the response as far as the probe wants it.
pub(super) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    probe: &HttpProbe,
    encrypted: bool,
) -> Result<ProbeAnswer, Failure> {
    let request = request(probe, if encrypted { "https" } else { "http" })?;
    let mut protocol = Connection::<()>::new(CONFIG);
    let mut asked = None;
    let mut answer = ProbeAnswer::default();
    let mut buffer = vec![0; 16 * 1024 + 9];
    let mut filled = 0;
    loop {
        if asked.is_none() {
            let head_request = probe.method == "HEAD";
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&request);
            asked = protocol.open((), head_request, true, 0, write);
        }
        let sent = stream.write_all(protocol.output()).await;
        sent.map_err(|error| Failure::exchanging(&error))?;
        protocol.sent(protocol.output().len());
        let flushed = stream.flush().await;
        flushed.map_err(|error| Failure::exchanging(&error))?;
        let read = stream.read(&mut buffer[filled..]).await;
        filled += match read {
            Ok(0) => return Err(reset("the server closed the connection")),
            Ok(count) => count,
            Err(error) => return Err(Failure::exchanging(&error)),
        };
        let mut used = 0;
        loop {
            let received = protocol.receive(&buffer[used..filled], 0);
            let received = received.map_err(|error| {
                Failure::protocol(format!(
                    "the server does not speak HTTP/2: {}",
                    error.detail
                ))
            })?;
            let Some(event) = received.event else {
                used += received.used;
                break;
            };
            let bytes = &buffer[used..filled];
            if take(&mut protocol, event, bytes, probe, asked, &mut answer)? {
                return Ok(answer);
            }
            used += received.used;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// Takes what happened; whether the answer is all that the probe wants.
fn take(
    protocol: &mut Connection<()>,
    event: Event,
    bytes: &[u8],
    probe: &HttpProbe,
    asked: Option<Key>,
    answer: &mut ProbeAnswer,
) -> Result<bool, Failure> {
    let limit = probe.body_bytes as usize;
    match event {
        Event::Head(key) => {
            answer.status = Some(protocol.section().status());
            Ok(limit == 0 || protocol.is_received(key))
        }
        Event::Data(key, range) => {
            let data = &bytes[range];
            let wanted = data.len().min(limit - answer.body.len());
            answer.body.extend_from_slice(&data[..wanted]);
            protocol.release(key, data.len(), CONFIG.stream_window);
            Ok(answer.body.len() == limit)
        }
        Event::End(..) => Ok(true),
        Event::Reset(_) => Err(reset("the server reset the stream")),
        Event::GoAway if asked.is_none_or(|key| protocol.failure(key).is_some()) => {
            Err(reset("the server is going away"))
        }
        _ => Ok(false),
    }
}

fn reset(detail: &str) -> Failure {
    Failure {
        outcome: ProbeOutcome::Reset,
        detail: detail.into(),
    }
}

/// The request's field block.
fn request(probe: &HttpProbe, scheme: &str) -> Result<Vec<u8>, Failure> {
    let given = |name: &str| {
        let mut headers = probe.headers.iter();
        headers.find(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let host = given("host").map_or(probe.host.as_str(), |(_, value)| value);
    let mut block = Vec::new();
    let mut push = |name: &str, value: &str| {
        let valid = !value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if valid {
            hpack::field(
                name.to_ascii_lowercase().as_bytes(),
                value.as_bytes(),
                &mut block,
            );
            return Ok(());
        }
        Err(Failure::protocol(format!("the probe is not valid: {name}")))
    };
    push(":method", &probe.method)?;
    push(":scheme", scheme)?;
    push(":authority", host)?;
    push(":path", &probe.path)?;
    for (name, value) in [("user-agent", "evenflow"), ("accept", "*/*")] {
        if given(name).is_none() {
            push(name, value)?;
        }
    }
    for (name, value) in &probe.headers {
        if !["host", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            push(name, value)?;
        }
    }
    Ok(block)
}
