//! One HTTP/1.1 request over a connection of its own, and its response within bounds.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::result::ProbeOutcome;
use super::trial::{Failure, HttpProbe, ProbeAnswer};

/// Heads together, interim ones included.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 128;
/// A chunk-size line or a trailer field.
const MAX_LINE: usize = 4096;
const READ: usize = 4096;
/// How long and for how many bytes a server may go on after its answer before it is reset.
const CLOSE_WAIT: Duration = Duration::from_millis(100);
const CLOSE_BYTES: usize = 64 * 1024;

/// The request's bytes.
pub(super) fn request(probe: &HttpProbe) -> Result<Vec<u8>, Failure> {
    let wrong = |what: &str| {
        Err(Failure::protocol(format!(
            "the probe's {what} is not valid"
        )))
    };
    if !is_token(&probe.method) {
        return wrong("method");
    }
    if !probe.path.starts_with('/') || !probe.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("path");
    }
    if !probe.host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("host");
    }
    let given = |name: &str| {
        probe
            .headers
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let mut request = format!("{} {} HTTP/1.1\r\n", probe.method, probe.path);
    for (name, value) in [
        ("Host", probe.host.as_str()),
        ("User-Agent", "evenflow"),
        ("Accept", "*/*"),
    ] {
        if !given(name) {
            request.extend([name, ": ", value, "\r\n"]);
        }
    }
    for (name, value) in &probe.headers {
        if !is_token(name) || value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return wrong("header");
        }
        if !name.eq_ignore_ascii_case("connection") {
            request.extend([name, ": ", value, "\r\n"]);
        }
    }
    request.push_str("Connection: close\r\n\r\n");
    Ok(request.into_bytes())
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Sends the request and reads the response as far as the probe wants it.
pub(super) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    probe: &HttpProbe,
    request: &[u8],
) -> Result<ProbeAnswer, Failure> {
    // A server may answer and close without reading all: then its answer decides, not the failed
    // write.
    let sent = stream.write_all(request).await;
    let mut input = Input {
        stream,
        bytes: Vec::new(),
    };
    let head = input.head().await.map_err(|failure| match &sent {
        Err(error) if failure.outcome == ProbeOutcome::Reset => Failure::exchanging(error),
        _ => failure,
    })?;
    let limit = probe.body_bytes as usize;
    let no_body = limit == 0 || probe.method == "HEAD" || matches!(head.status, 204 | 304);
    let body = if no_body {
        Vec::new()
    } else {
        input.body(head.framing, limit).await?
    };
    Ok(ProbeAnswer {
        status: Some(head.status),
        body,
    })
}

/// Whether the server closes the connection soon, as it was asked to.
pub(super) async fn server_closes(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> bool {
    let mut buffer = [0; READ];
    let closes = async {
        let mut read = 0;
        while read < CLOSE_BYTES {
            match stream.read(&mut buffer).await {
                Ok(0) => return true,
                Ok(bytes) => read += bytes,
                Err(_) => return false,
            }
        }
        false
    };
    timeout(patience.min(CLOSE_WAIT), closes)
        .await
        .unwrap_or(false)
}

struct Head {
    status: u16,
    framing: Framing,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked,
    ToClose,
}

/// Bytes received and not consumed yet.
struct Input<'a, S> {
    stream: &'a mut S,
    bytes: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Input<'_, S> {
    /// Receives more bytes, at least one; `false` at the end of the stream.
    async fn more(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; READ];
        let read = self
            .stream
            .read(&mut buffer)
            .await
            .map_err(|error| Failure::exchanging(&error))?;
        self.bytes.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }

    /// The head of the final response; interim ones are passed over.
    async fn head(&mut self) -> Result<Head, Failure> {
        let mut passed = 0;
        loop {
            if let Some((length, head)) = parse_head(&self.bytes)? {
                self.bytes.drain(..length);
                match head.status {
                    200..=599 => return Ok(head),
                    100 | 102..=199 => passed += length,
                    status => return Err(Failure::protocol(format!("unexpected status {status}"))),
                }
                continue;
            }
            if passed + self.bytes.len() >= MAX_HEAD {
                return Err(Failure::protocol(format!(
                    "response head over {MAX_HEAD} bytes"
                )));
            }
            if !self.more().await? {
                let detail = if self.bytes.is_empty() {
                    "closed without a response"
                } else {
                    "closed within the response head"
                };
                return Err(Failure {
                    outcome: ProbeOutcome::Reset,
                    detail: detail.into(),
                });
            }
        }
    }

    /// The first `limit` bytes of the body, or all of a shorter one.
    async fn body(&mut self, framing: Framing, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        match framing {
            Framing::Length(length) => {
                let wanted = length.min(limit as u64) as usize;
                self.take(wanted, &mut body).await?;
            }
            Framing::Chunked => {
                while body.len() < limit {
                    let size = chunk_size(&self.line().await?)?;
                    if size == 0 {
                        break;
                    }
                    let wanted = size.min((limit - body.len()) as u64);
                    self.take(wanted as usize, &mut body).await?;
                    if wanted == size && !self.line().await?.is_empty() {
                        return Err(Failure::protocol("a chunk does not end where it should"));
                    }
                }
            }
            Framing::ToClose => {
                while self.bytes.len() < limit && self.more().await? {}
                body.append(&mut self.bytes);
                body.truncate(limit);
            }
        }
        Ok(body)
    }

    /// Moves `count` bytes to `out`.
    async fn take(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
        while self.bytes.len() < count {
            self.more_of_body().await?;
        }
        out.extend(self.bytes.drain(..count));
        Ok(())
    }

    /// One line without its CRLF.
    async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.bytes) {
                let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
                line.pop();
                if line.pop_if(|byte| *byte == b'\r').is_none() {
                    return Err(Failure::protocol("a line ends without CR"));
                }
                return Ok(line);
            }
            if self.bytes.len() > MAX_LINE {
                return Err(Failure::protocol("a line within the body is too long"));
            }
            self.more_of_body().await?;
        }
    }

    async fn more_of_body(&mut self) -> Result<(), Failure> {
        if self.more().await? {
            return Ok(());
        }
        let detail = "closed within the response body".into();
        Err(Failure {
            outcome: ProbeOutcome::Reset,
            detail,
        })
    }
}

/// The head at the beginning of the bytes and its length, or `None` if it is not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::protocol(format!("response head: {error}"))),
    };
    let status = response.code.unwrap_or_default();
    let framing = framing(response.headers)?;
    Ok(Some((length, Head { status, framing })))
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Framing, Failure> {
    let mut length = None;
    let mut coding: Option<&[u8]> = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = digits(header.value)
                .ok_or_else(|| Failure::protocol("Content-Length is not a number"))?;
            if length.is_some_and(|earlier| earlier != value) {
                return Err(Failure::protocol("two different values of Content-Length"));
            }
            length = Some(value);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding")
            && coding.replace(header.value).is_some()
        {
            return Err(Failure::protocol("several fields Transfer-Encoding"));
        }
    }
    match (coding, length) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(Failure::protocol("unknown Transfer-Encoding")),
        (Some(_), Some(_)) => Err(Failure::protocol("Transfer-Encoding with Content-Length")),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Ok(Framing::ToClose),
    }
}

fn digits(bytes: &[u8]) -> Option<u64> {
    let all_digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    all_digits.then(|| str::from_utf8(bytes).ok()?.parse().ok())?
}

fn chunk_size(line: &[u8]) -> Result<u64, Failure> {
    let end = line
        .iter()
        .position(|byte| *byte == b';')
        .unwrap_or(line.len());
    let size = line[..end].trim_ascii_end();
    str::from_utf8(size)
        .ok()
        .filter(|size| size.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or_else(|| Failure::protocol("a chunk size is not a number"))
}
