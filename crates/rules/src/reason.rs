//! Why a request could not be served as asked: who caused it, which status says so, and the short
//! word that stands for it in metrics, access records and error bodies.

use evenflow_wire::http1::head::HeadError;

/// A failure with everything a reader of logs or metrics needs, and nothing internal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request breaks RFC 9110/9112 framing or syntax; the text says how.
    BadRequest(&'static str),
    /// The connection does not begin with the PROXY header it should have; the text says how.
    BadProxyHeader(&'static str),
    /// A connection that is to be led by its TLS client hello has none; the text says how.
    BadClientHello(&'static str),
    /// The head is larger, or has more fields, than the listener allows.
    HeadTooLarge,
    /// The request target is longer than the listener allows.
    TargetTooLong,
    /// The request body is larger than allowed.
    BodyTooLarge,
    /// The request head did not arrive in time.
    HeadTimeout,
    /// The request body stalled or came too slowly.
    BodyTimeout,
    /// A major version of HTTP that is not spoken here.
    Version,
    /// A method that a reverse proxy does not serve (CONNECT).
    Method,
    /// TRACE, where the listener does not allow it.
    TraceRefused,
    /// The client expects something that nobody here can promise.
    Expectation,
    /// The client has as many connections open as it may.
    ClientConnections,
    /// The listener has as many sessions as it may.
    SessionsFull,
    /// A filter refused the client's address.
    Forbidden,
    /// A rate limit refused the request.
    Limited,
    /// The route fails requests on purpose.
    FaultInjected,
    /// Too many requests of the client, or whatever is counted, are in flight.
    InFlight,
    /// Nobody, or nobody known, asked.
    Unauthorized,
    /// The token that was presented does not let in; the word says why.
    Token(&'static str),
    /// The authorization service refused the request.
    Denied,
    /// Nobody could say whether the request may pass.
    AuthUnavailable,
    /// No route takes the request.
    NoRoute,
    /// Backends may read the path as one beyond its route.
    EscapedPath,
    /// No endpoint of the pool is usable.
    NoBackend,
    /// So few endpoints of the pool are usable that it refuses all requests.
    TooFewBackends,
    /// The breaker of the pool, or of every endpoint that could serve, is open.
    BreakerOpen,
    /// Every endpoint is full and so is the queue.
    QueueFull,
    /// Every endpoint stayed full for as long as the queue allows.
    QueueTimeout,
    /// This machine has no descriptor or memory left for a connection to an endpoint.
    NoSocket,
    /// The buffers of this process hold as much memory as they may.
    MemoryFull,
    /// No connection to the endpoint could be made.
    ConnectFailed,
    /// No encrypted connection to the endpoint could be made; the text says why.
    UpstreamTls(&'static str),
    /// Connecting took too long.
    ConnectTimeout,
    /// The endpoint closed or reset the connection before its answer was complete.
    UpstreamReset,
    /// The endpoint's answer breaks RFC 9112; the text says how.
    UpstreamProtocol(&'static str),
    /// The endpoint did not begin to answer, or went silent, for too long.
    UpstreamTimeout,
    /// The route's time for the whole exchange ran out.
    RouteTimeout,
    /// The client went away before the answer was complete.
    ClientGone,
    /// The client did not take the answer in time.
    ClientSlow,
    /// Nothing moved through a tunnel for too long.
    TunnelIdle,
    /// A tunnel was as old as one may get.
    TunnelExpired,
    /// What a tunnel stood on was taken away by a plan.
    TunnelDrained,
}

impl Reason {
    /// The status of the answer; 499 where nobody is left to get one.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_)
            | Self::BadProxyHeader(_)
            | Self::BadClientHello(_)
            | Self::EscapedPath => 400,
            Self::Unauthorized | Self::Token(_) => 401,
            Self::Forbidden | Self::Denied => 403,
            Self::NoRoute => 404,
            Self::TraceRefused => 405,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::Limited | Self::InFlight | Self::ClientConnections => 429,
            Self::HeadTooLarge => 431,
            Self::ClientGone | Self::ClientSlow => 499,
            // No answer: that was given before.
            Self::TunnelIdle | Self::TunnelExpired | Self::TunnelDrained => 101,
            Self::Method => 501,
            Self::ConnectFailed
            | Self::UpstreamTls(_)
            | Self::UpstreamReset
            | Self::UpstreamProtocol(_) => 502,
            Self::FaultInjected
            | Self::NoBackend
            | Self::TooFewBackends
            | Self::BreakerOpen
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::SessionsFull
            | Self::NoSocket
            | Self::MemoryFull
            | Self::AuthUnavailable => 503,
            Self::ConnectTimeout | Self::UpstreamTimeout | Self::RouteTimeout => 504,
            Self::Version => 505,
        }
    }

    /// The word for it in metrics, logs and the `error` member of error bodies.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::BadProxyHeader(_) => "bad_proxy_header",
            Self::BadClientHello(_) => "bad_client_hello",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Version => "version_not_supported",
            Self::Method => "method_not_supported",
            Self::TraceRefused => "method_not_allowed",
            Self::Expectation => "expectation_failed",
            Self::ClientConnections => "client_connections",
            Self::SessionsFull => "sessions_full",
            Self::Forbidden => "forbidden",
            Self::Limited => "limited",
            Self::FaultInjected => "fault_injected",
            Self::InFlight => "in_flight",
            Self::Unauthorized => "unauthorized",
            Self::Token(fault) => fault,
            Self::Denied => "denied",
            Self::AuthUnavailable => "auth_unavailable",
            Self::NoRoute => "no_route",
            Self::EscapedPath => "escaped_path",
            Self::NoBackend => "no_backend",
            Self::TooFewBackends => "too_few_backends",
            Self::BreakerOpen => "breaker_open",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::NoSocket => "no_socket",
            Self::MemoryFull => "memory_full",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamTls(_) => "upstream_tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocol(_) => "upstream_protocol",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::RouteTimeout => "route_timeout",
            Self::ClientGone => "client_gone",
            Self::ClientSlow => "client_slow",
            Self::TunnelIdle => "tunnel_idle",
            Self::TunnelExpired => "tunnel_expired",
            Self::TunnelDrained => "tunnel_drained",
        }
    }

    /// One sentence for the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::BadRequest(detail)
            | Self::BadProxyHeader(detail)
            | Self::BadClientHello(detail) => detail,
            Self::HeadTooLarge => "The request head is too large.",
            Self::TargetTooLong => "The request target is too long.",
            Self::BodyTooLarge => "The request body is too large.",
            Self::HeadTimeout => "The request head took too long to arrive.",
            Self::BodyTimeout => "The request body took too long to arrive.",
            Self::Version => "This version of HTTP is not supported.",
            Self::Method => "This method is not supported.",
            Self::TraceRefused => "TRACE is not allowed here.",
            Self::Expectation => "The expectation is not known.",
            Self::ClientConnections | Self::SessionsFull => "Too many connections are open.",
            Self::Forbidden => "Access is not allowed from this address.",
            Self::Limited => "Too many requests.",
            Self::FaultInjected => "A fault was put in on purpose.",
            Self::InFlight => "Too many requests at once.",
            Self::Unauthorized => "This needs credentials.",
            Self::Token(_) => "The token is not valid.",
            Self::Denied => "Access is not allowed.",
            Self::AuthUnavailable => "Access cannot be checked now.",
            Self::NoRoute => "No route takes this request.",
            Self::EscapedPath => "The path can be read as one beyond its route.",
            Self::NoBackend => "No backend is available.",
            Self::TooFewBackends => "Too few backends are available.",
            Self::BreakerOpen => "The backends fail and get a rest.",
            Self::QueueFull | Self::QueueTimeout => "All backends are busy.",
            Self::NoSocket => "No connection can be opened now.",
            Self::MemoryFull => "Too much memory is in use now.",
            Self::ConnectFailed => "The backend could not be reached.",
            Self::UpstreamTls(_) => "No encrypted connection to the backend could be made.",
            Self::UpstreamReset => "The backend closed the connection.",
            Self::UpstreamProtocol(_) => "The backend's answer was not valid.",
            Self::ConnectTimeout | Self::UpstreamTimeout => "The backend did not answer in time.",
            Self::RouteTimeout => "The request took too long.",
            Self::ClientGone | Self::ClientSlow => "The client went away.",
            Self::TunnelIdle | Self::TunnelExpired | Self::TunnelDrained => {
                "The tunnel was closed."
            }
        }
    }

    /// Whether the connection to the client must close after the answer: its place in the byte
    /// stream is not known any more, or it is not to be trusted.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::BadProxyHeader(_)
                | Self::BadClientHello(_)
                | Self::HeadTooLarge
                | Self::TargetTooLong
                | Self::BodyTooLarge
                | Self::HeadTimeout
                | Self::BodyTimeout
                | Self::Version
                | Self::Method
                | Self::Expectation
                | Self::ClientGone
                | Self::ClientSlow
        )
    }
}

impl From<HeadError> for Reason {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(text) => Self::BadRequest(text),
            HeadError::TooManyFields => Self::HeadTooLarge,
            HeadError::TargetTooLong => Self::TargetTooLong,
            HeadError::Version => Self::Version,
            HeadError::Method => Self::Method,
            HeadError::Expectation => Self::Expectation,
        }
    }
}
