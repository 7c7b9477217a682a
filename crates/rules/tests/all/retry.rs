//! What follows an attempt, as a table: no sockets, no clocks.

use evenflow_rules::retry::{
    AttemptOutcome, Cause, NextAttempt, RetriedRequest, RetryRules, RetryVerdict, judge,
};

const HERE_FREE: NextAttempt = NextAttempt::Here { counted: false };
const HERE: NextAttempt = NextAttempt::Here { counted: true };
const ELSEWHERE: NextAttempt = NextAttempt::Elsewhere { after_ms: 0 };

/// A request that was sent whole on a new connection and got no byte of an answer.
fn outcome(cause: Cause) -> AttemptOutcome {
    AttemptOutcome {
        cause,
        sent: 100,
        received: 0,
        kept: false,
    }
}

/// A GET after its first attempt.
fn get() -> RetriedRequest {
    RetriedRequest {
        idempotent: true,
        replayable: true,
        attempts: 1,
        replaced: false,
        left_ms: None,
    }
}

fn post() -> RetriedRequest {
    RetriedRequest {
        idempotent: false,
        ..get()
    }
}

fn rules(max: u32) -> RetryRules {
    RetryRules {
        max,
        delay_ms: 0,
        on_timeout: false,
    }
}

fn verdict(outcome: AttemptOutcome, request: RetriedRequest, rules: RetryRules) -> RetryVerdict {
    judge(&outcome, &request, &rules, || true)
}

#[test]
#[allow(clippy::too_many_lines)] // A table, one cause after the other.
fn every_cause_has_its_verdict() {
    let new = outcome;
    let unsent = |cause| AttemptOutcome {
        sent: 0,
        ..outcome(cause)
    };
    let kept = |cause| AttemptOutcome {
        kept: true,
        ..outcome(cause)
    };
    let met_closed = |cause| AttemptOutcome {
        kept: true,
        sent: 0,
        ..outcome(cause)
    };
    let began = |cause| AttemptOutcome {
        received: 25,
        ..kept(cause)
    };
    let streamed = RetriedRequest {
        replayable: false,
        ..post()
    };
    let replaced = |request| RetriedRequest {
        replaced: true,
        ..request
    };
    let second = |request| RetriedRequest {
        attempts: 2,
        ..request
    };
    // What happened, to which request, with so many retries allowed: the verdict.
    let table = [
        (new(Cause::Answered), post(), 0, NextAttempt::Deliver, false),
        // A status that the route repeats.
        (new(Cause::Status), get(), 1, ELSEWHERE, true),
        (new(Cause::Status), get(), 0, NextAttempt::Deliver, false),
        (new(Cause::Status), post(), 1, NextAttempt::Deliver, false),
        (began(Cause::Status), post(), 1, NextAttempt::Deliver, false),
        // No connection: any request may go elsewhere.
        (unsent(Cause::Connect), get(), 1, ELSEWHERE, true),
        (unsent(Cause::Connect), post(), 1, ELSEWHERE, true),
        (unsent(Cause::Connect), post(), 0, NextAttempt::GiveUp, true),
        (
            unsent(Cause::Connect),
            streamed,
            1,
            NextAttempt::GiveUp,
            true,
        ),
        (
            unsent(Cause::NoSocket),
            get(),
            1,
            NextAttempt::GiveUp,
            false,
        ),
        // A new connection ends: only what may be done twice is sent again.
        (new(Cause::Closed), get(), 1, ELSEWHERE, true),
        (new(Cause::Closed), get(), 0, NextAttempt::GiveUp, true),
        (new(Cause::Closed), post(), 1, NextAttempt::GiveUp, true),
        (unsent(Cause::Closed), post(), 1, ELSEWHERE, true),
        // A kept connection dies under the request: once afresh, even without retries.
        (kept(Cause::Closed), get(), 0, HERE, true),
        (kept(Cause::Closed), get(), 1, ELSEWHERE, true),
        (
            kept(Cause::Closed),
            second(get()),
            1,
            NextAttempt::GiveUp,
            true,
        ),
        (kept(Cause::Closed), post(), 1, NextAttempt::GiveUp, true),
        (kept(Cause::Closed), streamed, 1, NextAttempt::GiveUp, true),
        (
            kept(Cause::Closed),
            second(get()),
            0,
            NextAttempt::GiveUp,
            true,
        ),
        (began(Cause::Closed), get(), 0, NextAttempt::GiveUp, true),
        (began(Cause::Closed), get(), 1, ELSEWHERE, true),
        // The endpoint had closed it before: nothing is held against the endpoint.
        (met_closed(Cause::Closed), get(), 0, HERE_FREE, false),
        (met_closed(Cause::Closed), post(), 0, HERE_FREE, false),
        (
            met_closed(Cause::Closed),
            streamed,
            0,
            NextAttempt::GiveUp,
            false,
        ),
        (
            met_closed(Cause::Closed),
            replaced(post()),
            0,
            NextAttempt::GiveUp,
            false,
        ),
        (
            met_closed(Cause::Closed),
            replaced(post()),
            1,
            ELSEWHERE,
            false,
        ),
        // HTTP/2: only what the endpoint says it did nothing with is unsent.
        (kept(Cause::Refused), post(), 0, HERE_FREE, false),
        (new(Cause::Refused), post(), 0, NextAttempt::GiveUp, true),
        (new(Cause::Refused), post(), 1, ELSEWHERE, true),
        (
            kept(Cause::StreamReset),
            get(),
            0,
            NextAttempt::GiveUp,
            true,
        ),
        (kept(Cause::StreamReset), get(), 1, ELSEWHERE, true),
        (
            kept(Cause::StreamReset),
            post(),
            1,
            NextAttempt::GiveUp,
            true,
        ),
        (kept(Cause::Protocol), get(), 1, ELSEWHERE, true),
        (kept(Cause::Protocol), post(), 1, NextAttempt::GiveUp, true),
        // Time: a slow endpoint is left alone unless the route asks for more.
        (new(Cause::Timeout), get(), 1, NextAttempt::GiveUp, true),
        (unsent(Cause::Timeout), post(), 1, ELSEWHERE, true),
        (new(Cause::Deadline), get(), 1, NextAttempt::GiveUp, false),
        (new(Cause::Client), get(), 1, NextAttempt::GiveUp, false),
    ];
    for (outcome, request, max, next, held_against) in table {
        let given = verdict(outcome, request, rules(max));
        assert_eq!(
            (given.next, given.held_against),
            (next, held_against),
            "{outcome:?} {request:?} max {max}"
        );
    }
}

#[test]
fn after_a_dead_kept_connection_a_new_one_is_made() {
    for (cause, sent, kept, afresh) in [
        (Cause::Closed, 100, true, true),
        (Cause::Closed, 0, true, true),
        (Cause::Refused, 100, true, true),
        (Cause::Closed, 100, false, false),
        (Cause::StreamReset, 100, true, false),
        (Cause::Protocol, 100, true, false),
    ] {
        let happened = AttemptOutcome {
            sent,
            kept,
            ..outcome(cause)
        };
        assert_eq!(
            verdict(happened, get(), rules(1)).afresh,
            afresh,
            "{happened:?}"
        );
    }
}

#[test]
fn attempts_are_bounded() {
    for max in 0..4 {
        for attempts in 1..6 {
            let request = RetriedRequest { attempts, ..get() };
            let next = verdict(outcome(Cause::Closed), request, rules(max)).next;
            assert_eq!(next == ELSEWHERE, attempts <= max, "{attempts} of {max}");
        }
    }
}

#[test]
fn whatever_happens_a_request_is_sent_at_most_twice_or_once_more_than_its_retries() {
    let causes = [
        Cause::Closed,
        Cause::Status,
        Cause::Protocol,
        Cause::StreamReset,
    ];
    for max in 0..4 {
        for pattern in 0..256_usize {
            let (mut request, mut copies) = (get(), 0);
            for turn in 0..20_usize {
                copies += 1;
                let cause = causes[pattern >> (turn % 4 * 2) & 3];
                let kept = turn % 2 == pattern & 1;
                let happened = AttemptOutcome {
                    kept,
                    ..outcome(cause)
                };
                match verdict(happened, request, rules(max)).next {
                    NextAttempt::Here { counted } => {
                        assert!(counted, "something was sent");
                        request.attempts += 1;
                    }
                    NextAttempt::Elsewhere { .. } => request.attempts += 1,
                    NextAttempt::Deliver | NextAttempt::GiveUp => break,
                }
            }
            assert!(copies <= 2.max(1 + max), "{copies} with {max} retries");
        }
    }
}

#[test]
fn a_repetition_needs_the_budget_and_asks_for_it_last() {
    let kept = AttemptOutcome {
        kept: true,
        ..outcome(Cause::Closed)
    };
    for outcome in [outcome(Cause::Closed), kept] {
        let broke = judge(&outcome, &get(), &rules(1), || false);
        assert_eq!(broke.next, NextAttempt::GiveUp, "{outcome:?}");
    }
    let unasked = |outcome, request, max| {
        judge(&outcome, &request, &rules(max), || {
            panic!("asked for a retry")
        });
    };
    unasked(outcome(Cause::Closed), get(), 0);
    unasked(outcome(Cause::Closed), post(), 1);
    unasked(outcome(Cause::Client), get(), 1);
    unasked(
        AttemptOutcome {
            kept: true,
            sent: 0,
            ..outcome(Cause::Closed)
        },
        get(),
        0,
    );
}

#[test]
fn the_deadline_bounds_the_delay() {
    let slow = RetryRules {
        delay_ms: 500,
        ..rules(3)
    };
    for (left_ms, next) in [
        (None, NextAttempt::Elsewhere { after_ms: 500 }),
        (Some(501), NextAttempt::Elsewhere { after_ms: 500 }),
        (Some(500), NextAttempt::GiveUp),
        (Some(0), NextAttempt::GiveUp),
    ] {
        let request = RetriedRequest { left_ms, ..get() };
        let given = verdict(outcome(Cause::Closed), request, slow).next;
        assert_eq!(given, next, "{left_ms:?}");
    }
}

#[test]
fn timeouts_are_repeated_where_the_route_asks_for_it() {
    let wanted = RetryRules {
        on_timeout: true,
        ..rules(1)
    };
    assert_eq!(
        verdict(outcome(Cause::Timeout), get(), wanted).next,
        ELSEWHERE
    );
    assert_eq!(
        verdict(outcome(Cause::Timeout), post(), wanted).next,
        NextAttempt::GiveUp
    );
}
