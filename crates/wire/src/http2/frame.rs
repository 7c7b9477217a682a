//! Frames (RFC 9113 §4, §6): parsed with the sizes and flags that each type allows, and written.

use super::error::{ConnectionError, ErrorCode, FrameError};

/// The size of a frame's header in bytes.
pub const HEADER_LEN: usize = 9;
/// The largest payload in bytes unless settings say otherwise; this side takes no larger one.
pub const MAX_PAYLOAD: usize = 16_384;

/// Types of frames.
pub mod kind {
    /// `DATA`
    pub const DATA: u8 = 0;
    /// `HEADERS`
    pub const HEADERS: u8 = 1;
    /// `PRIORITY`
    pub const PRIORITY: u8 = 2;
    /// `RST_STREAM`
    pub const RST_STREAM: u8 = 3;
    /// `SETTINGS`
    pub const SETTINGS: u8 = 4;
    /// `PUSH_PROMISE`
    pub const PUSH_PROMISE: u8 = 5;
    /// `PING`
    pub const PING: u8 = 6;
    /// `GOAWAY`
    pub const GOAWAY: u8 = 7;
    /// `WINDOW_UPDATE`
    pub const WINDOW_UPDATE: u8 = 8;
    /// `CONTINUATION`
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Of `SETTINGS` and `PING`.
    pub const ACK: u8 = 0x1;
    /// Of `DATA` and `HEADERS`.
    pub const END_STREAM: u8 = 0x1;
    /// Of `HEADERS` and `CONTINUATION`.
    pub const END_HEADERS: u8 = 0x4;
    /// Of `DATA` and `HEADERS`.
    pub const PADDED: u8 = 0x8;
    /// Of `HEADERS`.
    pub const PRIORITY: u8 = 0x20;
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The payload's size in bytes.
    pub len: usize,
    /// The type; unknown ones are ignored.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// The stream, 0 for the connection.
    pub stream: u32,
}

impl Header {
    /// Parses a header.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            len: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Writes the header.
    pub fn bytes(self) -> [u8; HEADER_LEN] {
        let [_, l0, l1, l2] = (self.len as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// A frame other than `DATA`, whose payload need not be here as a whole to be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `HEADERS`, and the fragment of a field block in it.
    Headers {
        /// The fragment.
        block: &'a [u8],
        /// It ends the sender's half of the stream.
        end_stream: bool,
        /// It ends the block.
        end_headers: bool,
        /// The stream is said to depend on itself, an error that ends it once the block is decoded.
        depends_on_itself: bool,
    },
    /// `CONTINUATION`.
    Continuation {
        /// The fragment.
        block: &'a [u8],
        /// It ends the block.
        end_headers: bool,
    },
    /// `PRIORITY`, which says nothing any more (RFC 9113 §5.3.2).
    Priority,
    /// `RST_STREAM`.
    Reset(ErrorCode),
    /// `SETTINGS`, six bytes each.
    Settings(&'a [u8]),
    /// `SETTINGS` with `ACK`.
    SettingsAck,
    /// `PING`, to be answered.
    Ping([u8; 8]),
    /// `PING` with `ACK`.
    Pong([u8; 8]),
    /// `GOAWAY`.
    GoAway {
        /// The last stream that the sender may have processed.
        last: u32,
        /// Why.
        code: ErrorCode,
    },
    /// `WINDOW_UPDATE`.
    WindowUpdate(u32),
    /// A type that this side does not know.
    Unknown,
}

/// Parses the payload of a frame other than `DATA`.
///
/// # Errors
/// A size, stream or flag that the type does not allow.
pub fn parse(header: Header, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    check_stream(header)?;
    let wrong_size = || FrameError::Connection(ConnectionError::size("a frame has a wrong size"));
    Ok(match header.kind {
        kind::HEADERS => headers(header, payload)?,
        kind::CONTINUATION => Frame::Continuation {
            block: payload,
            end_headers: header.has(flag::END_HEADERS),
        },
        kind::PRIORITY => {
            let dependency = payload.first_chunk().filter(|_| payload.len() == 5);
            let dependency = dependency.ok_or(FrameError::Stream(
                header.stream,
                ErrorCode::FRAME_SIZE_ERROR,
            ))?;
            if is_itself(header.stream, *dependency) {
                return Err(FrameError::Stream(header.stream, ErrorCode::PROTOCOL_ERROR));
            }
            Frame::Priority
        }
        kind::RST_STREAM => Frame::Reset(ErrorCode(u32::from_be_bytes(
            whole(payload).ok_or_else(wrong_size)?,
        ))),
        kind::SETTINGS if header.has(flag::ACK) && payload.is_empty() => Frame::SettingsAck,
        kind::SETTINGS if !header.has(flag::ACK) && payload.len().is_multiple_of(6) => {
            Frame::Settings(payload)
        }
        kind::PING => {
            let data = whole(payload).ok_or_else(wrong_size)?;
            if header.has(flag::ACK) {
                Frame::Pong(data)
            } else {
                Frame::Ping(data)
            }
        }
        kind::GOAWAY => {
            let (last, rest) = payload.split_first_chunk().ok_or_else(wrong_size)?;
            let code = rest.first_chunk().ok_or_else(wrong_size)?;
            Frame::GoAway {
                last: u32::from_be_bytes(*last) & 0x7fff_ffff,
                code: ErrorCode(u32::from_be_bytes(*code)),
            }
        }
        kind::WINDOW_UPDATE => {
            let increment = u32::from_be_bytes(whole(payload).ok_or_else(wrong_size)?);
            match (increment & 0x7fff_ffff, header.stream) {
                (0, 0) => {
                    let error = ConnectionError::protocol("a window is to grow by 0");
                    return Err(FrameError::Connection(error));
                }
                (0, stream) => return Err(FrameError::Stream(stream, ErrorCode::PROTOCOL_ERROR)),
                (increment, _) => Frame::WindowUpdate(increment),
            }
        }
        kind::SETTINGS => return Err(wrong_size()),
        _ => Frame::Unknown,
    })
}

fn whole<const N: usize>(payload: &[u8]) -> Option<[u8; N]> {
    payload.try_into().ok()
}

/// Refuses frames for a stream that are for the connection only, and the other way round.
fn check_stream(header: Header) -> Result<(), ConnectionError> {
    let fits = match header.kind {
        kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => {
            header.stream != 0
        }
        kind::SETTINGS | kind::PING | kind::GOAWAY => header.stream == 0,
        // Neither side offers to take pushes, and clients may not push (RFC 9113 §8.4).
        kind::PUSH_PROMISE => false,
        _ => true,
    };
    fits.then_some(())
        .ok_or(ConnectionError::protocol("a frame is not for its stream"))
}

/// A stream must not depend on itself (RFC 7540 §5.3.1); nothing else of priorities matters.
fn is_itself(stream: u32, dependency: [u8; 4]) -> bool {
    u32::from_be_bytes(dependency) & 0x7fff_ffff == stream
}

fn headers(header: Header, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    let short = ConnectionError::size("HEADERS is too short");
    let mut block = payload;
    if header.has(flag::PADDED) {
        let (&padding, rest) = block.split_first().ok_or(short)?;
        let len = rest.len().checked_sub(usize::from(padding));
        let len = len.ok_or(ConnectionError::protocol(
            "there is more padding than payload",
        ))?;
        block = &rest[..len];
    }
    let mut depends_on_itself = false;
    if header.has(flag::PRIORITY) {
        let (priority, rest) = block.split_first_chunk::<5>().ok_or(short)?;
        let [a, b, c, d, _] = *priority;
        depends_on_itself = is_itself(header.stream, [a, b, c, d]);
        block = rest;
    }
    Ok(Frame::Headers {
        block,
        end_stream: header.has(flag::END_STREAM),
        end_headers: header.has(flag::END_HEADERS),
        depends_on_itself,
    })
}

/// Appends a frame with a payload.
pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let header = Header {
        len: payload.len(),
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(payload);
}

/// Appends `SETTINGS`.
pub fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(values.len() * 6);
    for (id, value) in values {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write(out, kind::SETTINGS, 0, 0, &payload);
}

/// Appends `GOAWAY`.
pub fn go_away(out: &mut Vec<u8>, last: u32, code: ErrorCode) {
    let payload = (u64::from(last) << 32) | u64::from(code.0);
    write(out, kind::GOAWAY, 0, 0, &payload.to_be_bytes());
}

/// Appends `RST_STREAM`.
pub fn reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    write(out, kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
}

/// Appends `WINDOW_UPDATE`.
pub fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    write(
        out,
        kind::WINDOW_UPDATE,
        0,
        stream,
        &increment.to_be_bytes(),
    );
}

/// Begins a field block that is written in place; answers what [`finish_headers`] wants.
pub fn begin_headers(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    start
}

/// Ends the block that [`begin_headers`] began: fills in the header, and splits what is larger than
/// the peer takes into `CONTINUATION` frames.
pub fn finish_headers(
    out: &mut Vec<u8>,
    start: usize,
    stream: u32,
    end_stream: bool,
    max_payload: usize,
) {
    let len = out.len() - start - HEADER_LEN;
    let mut header = Header {
        len: len.min(max_payload),
        kind: kind::HEADERS,
        flags: if end_stream { flag::END_STREAM } else { 0 },
        stream,
    };
    if len <= max_payload {
        header.flags |= flag::END_HEADERS;
        out[start..start + HEADER_LEN].copy_from_slice(&header.bytes());
        return;
    }
    out[start..start + HEADER_LEN].copy_from_slice(&header.bytes());
    let rest = out.split_off(start + HEADER_LEN + max_payload);
    let mut pieces = rest.chunks(max_payload).peekable();
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() {
            flag::END_HEADERS
        } else {
            0
        };
        write(out, kind::CONTINUATION, last, stream, piece);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(Header, Frame<'_>), FrameError> {
        let header = Header::parse(*bytes.first_chunk().unwrap());
        let payload = &bytes[HEADER_LEN..];
        assert_eq!(payload.len(), header.len);
        parse(header, payload).map(|frame| (header, frame))
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, kind, flags, stream, payload);
        out
    }

    #[test]
    fn frames_are_written_as_they_are_parsed() {
        let mut out = Vec::new();
        reset(&mut out, 3, ErrorCode::CANCEL);
        assert_eq!(read(&out).unwrap().1, Frame::Reset(ErrorCode::CANCEL));
        out.clear();
        window_update(&mut out, 0, 77);
        assert_eq!(read(&out).unwrap().1, Frame::WindowUpdate(77));
        out.clear();
        go_away(&mut out, 5, ErrorCode::NO_ERROR);
        let code = ErrorCode::NO_ERROR;
        assert_eq!(read(&out).unwrap().1, Frame::GoAway { last: 5, code });
        out.clear();
        settings(&mut out, &[(3, 100), (4, 65_535)]);
        let Frame::Settings(values) = read(&out).unwrap().1 else {
            panic!("{out:?}");
        };
        assert_eq!(values, [0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 0xff, 0xff]);
    }

    #[test]
    fn sizes_streams_and_flags_are_held_to() {
        let connection = |bytes: &[u8]| matches!(read(bytes), Err(FrameError::Connection(_)));
        for (kind, flags, stream, payload) in [
            (kind::HEADERS, 0, 0, &[][..]),
            (kind::HEADERS, flag::PADDED, 1, &[]),
            (kind::HEADERS, flag::PADDED, 1, &[2, 0]),
            (kind::HEADERS, flag::PRIORITY, 1, &[0, 0, 0, 0]),
            (kind::PRIORITY, 0, 0, &[0; 5]),
            (kind::RST_STREAM, 0, 1, &[0; 3]),
            (kind::RST_STREAM, 0, 0, &[0; 4]),
            (kind::SETTINGS, 0, 1, &[]),
            (kind::SETTINGS, 0, 0, &[0; 5]),
            (kind::SETTINGS, flag::ACK, 0, &[0; 6]),
            (kind::PUSH_PROMISE, 0, 1, &[0; 8]),
            (kind::PING, 0, 0, &[0; 7]),
            (kind::PING, 0, 1, &[0; 8]),
            (kind::GOAWAY, 0, 0, &[0; 7]),
            (kind::GOAWAY, 0, 1, &[0; 8]),
            (kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
            (kind::WINDOW_UPDATE, 0, 0, &[0; 5]),
            (kind::CONTINUATION, 0, 0, &[]),
        ] {
            assert!(
                connection(&frame(kind, flags, stream, payload)),
                "{kind} {payload:?}"
            );
        }
        for (kind, payload) in [
            (kind::PRIORITY, &[0; 4][..]),
            (kind::PRIORITY, &[0, 0, 0, 1, 9]),
            (kind::WINDOW_UPDATE, &[0x80, 0, 0, 0]),
        ] {
            let bytes = frame(kind, 0, 1, payload);
            assert!(
                matches!(read(&bytes), Err(FrameError::Stream(1, _))),
                "{kind} {payload:?}"
            );
        }
        assert_eq!(read(&frame(99, 0xff, 7, b"x")).unwrap().1, Frame::Unknown);
    }

    #[test]
    fn padding_and_priority_are_no_part_of_a_block() {
        let bytes = frame(
            kind::HEADERS,
            flag::PADDED | flag::PRIORITY | flag::END_HEADERS,
            1,
            &[2, 0x80, 0, 0, 3, 9, b'a', b'b', 0, 0],
        );
        let expected = Frame::Headers {
            block: b"ab",
            end_stream: false,
            end_headers: true,
            depends_on_itself: false,
        };
        assert_eq!(read(&bytes).unwrap().1, expected);
    }

    proptest! {
        #[test]
        fn a_block_of_any_size_is_split_and_joined_again(
            block in prop::collection::vec(any::<u8>(), 0..400), max in 1..120_usize,
        ) {
            let mut out = b"before".to_vec();
            let start = begin_headers(&mut out);
            out.extend_from_slice(&block);
            finish_headers(&mut out, start, 5, true, max);
            let (mut joined, mut rest, mut ended) = (Vec::new(), &out[6..], false);
            while !rest.is_empty() {
                prop_assert!(!ended);
                let header = Header::parse(*rest.first_chunk().unwrap());
                prop_assert!(header.len <= max);
                let first = joined.is_empty() && header.kind == kind::HEADERS;
                prop_assert!(first || header.kind == kind::CONTINUATION);
                ended = header.has(flag::END_HEADERS);
                joined.extend_from_slice(&rest[HEADER_LEN..][..header.len]);
                rest = &rest[HEADER_LEN + header.len..];
            }
            prop_assert!(ended);
            prop_assert_eq!(joined, block);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(kind in 0..12_u8, flags: u8, stream: u32, payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let header = Header { len: payload.len(), kind, flags, stream: stream & 0x7fff_ffff };
            prop_assert_eq!(Header::parse(header.bytes()), header);
            let _ = parse(header, &payload);
        }
    }
}
