//! What can be wrong on a connection, and the codes that say so to the peer (RFC 9113 §5.4, §7).

/// An error code as it stands in `RST_STREAM` and `GOAWAY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke a rule for which there is no closer code.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// This side failed.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than a window allows.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame came for a stream that is closed.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has a length that its type does not allow.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not processed and may be tried again.
    pub const REFUSED_STREAM: Self = Self(7);
    /// The stream is not needed any more.
    pub const CANCEL: Self = Self(8);
    /// The header compression state cannot be kept.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer causes excessive load.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// An error that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionError {
    /// The code for `GOAWAY`.
    pub code: ErrorCode,
    /// What is wrong, for logs and debug data.
    pub detail: &'static str,
}

impl ConnectionError {
    /// An error with this code.
    pub const fn new(code: ErrorCode, detail: &'static str) -> Self {
        Self { code, detail }
    }

    /// A broken rule of the protocol.
    pub const fn protocol(detail: &'static str) -> Self {
        Self::new(ErrorCode::PROTOCOL_ERROR, detail)
    }

    /// A frame of a wrong size.
    pub const fn size(detail: &'static str) -> Self {
        Self::new(ErrorCode::FRAME_SIZE_ERROR, detail)
    }

    /// Excessive load.
    pub const fn calm(detail: &'static str) -> Self {
        Self::new(ErrorCode::ENHANCE_YOUR_CALM, detail)
    }
}

/// What is wrong with a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The connection ends.
    Connection(ConnectionError),
    /// Only the stream ends.
    Stream(u32, ErrorCode),
}

impl From<ConnectionError> for FrameError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}
