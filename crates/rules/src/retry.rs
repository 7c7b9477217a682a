//! What follows an attempt to have a request answered by one endpoint: the answer is delivered, or
//! the request is sent again, here or elsewhere, or it fails. Pure: what happened goes in, a verdict
//! comes out.
//!
//! A request is sent again where that cannot do harm: the endpoint got nothing of it, or its method
//! is idempotent (RFC 9110 §9.2.2) and no byte of an answer has reached the client. Each repetition
//! takes from the retry budget and stays within the bound on attempts, with two exceptions for kept
//! connections. One that the endpoint had closed before the request came costs nothing, once a
//! request. One that dies under the request is replaced once even where no retries are allowed.

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An answer came, with a status that the route does not repeat.
    Answered,
    /// An answer came, with a status that the route repeats.
    Status,
    /// There is no connection to the endpoint.
    Connect,
    /// This machine has no descriptor or memory left for a connection.
    NoSocket,
    /// The endpoint closed or reset the connection.
    Closed,
    /// The endpoint reset the stream of the request, on a connection that is in order.
    StreamReset,
    /// The endpoint said that it did nothing with the request: `REFUSED_STREAM`, or a stream above
    /// the last one of `GOAWAY` (RFC 9113 §8.7).
    Refused,
    /// The endpoint's answer is not valid.
    Protocol,
    /// The endpoint took too long.
    Timeout,
    /// The route's deadline has passed.
    Deadline,
    /// The client left, or its request is at fault.
    Client,
}

/// What happened in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// How it ended.
    pub cause: Cause,
    /// Bytes of the request that were sent.
    pub sent: u64,
    /// Bytes of answers that were received, interim ones included.
    pub received: u64,
    /// The connection had been kept from an earlier request.
    pub kept: bool,
}

/// The request and what became of it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetriedRequest {
    /// Doing it twice is doing it once.
    pub idempotent: bool,
    /// All of its body that was read can be sent again.
    pub replayable: bool,
    /// Attempts made, this one included.
    pub attempts: u32,
    /// It has replaced a kept connection before.
    pub replaced: bool,
    /// Milliseconds until the route's deadline; `None` without one.
    pub left_ms: Option<u64>,
}

/// A route's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRules {
    /// Attempts beyond the first.
    pub max: u32,
    /// Milliseconds before an attempt at another endpoint.
    pub delay_ms: u64,
    /// Whether a request that may have been carried out is repeated after a timeout.
    pub on_timeout: bool,
}

impl RetryRules {
    /// No retries.
    pub const NONE: Self = Self {
        max: 0,
        delay_ms: 0,
        on_timeout: false,
    };
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// The answer goes to the client.
    Deliver,
    /// The same endpoint, on a new connection. `counted`: what happened was an attempt.
    Here {
        /// Whether it counts as an attempt.
        counted: bool,
    },
    /// Another endpoint, after so many milliseconds.
    Elsewhere {
        /// How long to wait first.
        after_ms: u64,
    },
    /// The client is told of the failure.
    GiveUp,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryVerdict {
    /// What comes next.
    pub next: NextAttempt,
    /// The endpoint is charged with a failure.
    pub held_against: bool,
    /// A further attempt makes a new connection, for kept ones may be dead as well.
    pub afresh: bool,
}

impl AttemptOutcome {
    /// The endpoint cannot have done anything with the request.
    pub fn unsent(&self) -> bool {
        match self.cause {
            Cause::Connect | Cause::NoSocket | Cause::Refused => true,
            _ => self.sent == 0 && self.received == 0,
        }
    }

    /// Whether the endpoint is charged with a failure.
    pub fn is_held_against(&self) -> bool {
        match self.cause {
            Cause::Answered | Cause::NoSocket | Cause::Deadline | Cause::Client => false,
            Cause::Closed | Cause::Refused => !self.met_closed(),
            Cause::Status
            | Cause::Connect
            | Cause::StreamReset
            | Cause::Protocol
            | Cause::Timeout => true,
        }
    }

    /// A kept connection was closed before the request could be sent on it.
    fn met_closed(&self) -> bool {
        self.kept && self.unsent() && matches!(self.cause, Cause::Closed | Cause::Refused)
    }

    /// A kept connection ended without any answer after the request was sent on it.
    fn died(&self) -> bool {
        self.kept && !self.unsent() && self.cause == Cause::Closed && self.received == 0
    }
}

/// What follows an attempt. `spend` takes one retry from the budget; it is asked last, and only
/// where everything else allows a repetition.
pub fn judge(
    outcome: &AttemptOutcome,
    request: &RetriedRequest,
    rules: &RetryRules,
    spend: impl FnOnce() -> bool,
) -> RetryVerdict {
    let next = match outcome.cause {
        Cause::Answered => NextAttempt::Deliver,
        Cause::NoSocket | Cause::Deadline | Cause::Client => NextAttempt::GiveUp,
        _ => after_failure(outcome, request, rules, spend),
    };
    RetryVerdict {
        next,
        // An answer that is delivered is judged by its status then.
        held_against: next != NextAttempt::Deliver && outcome.is_held_against(),
        afresh: outcome.met_closed() || outcome.died(),
    }
}

fn after_failure(
    outcome: &AttemptOutcome,
    request: &RetriedRequest,
    rules: &RetryRules,
    spend: impl FnOnce() -> bool,
) -> NextAttempt {
    let repeatable = request.replayable && (outcome.unsent() || request.idempotent);
    if outcome.met_closed() && request.replayable && !request.replaced {
        return NextAttempt::Here { counted: false };
    }
    let wanted = outcome.cause != Cause::Timeout || outcome.unsent() || rules.on_timeout;
    if !repeatable || !wanted {
        return give_up(outcome);
    }
    if request.attempts <= rules.max {
        let in_time = request.left_ms.is_none_or(|left| rules.delay_ms < left);
        if in_time && spend() {
            return NextAttempt::Elsewhere {
                after_ms: rules.delay_ms,
            };
        }
    } else if outcome.died() && request.attempts == 1 && spend() {
        return NextAttempt::Here { counted: true };
    }
    give_up(outcome)
}

fn give_up(outcome: &AttemptOutcome) -> NextAttempt {
    match outcome.cause {
        Cause::Status => NextAttempt::Deliver,
        _ => NextAttempt::GiveUp,
    }
}
