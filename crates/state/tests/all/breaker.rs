//! A circuit breaker under many threads, and what requests do to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use evenflow_state::breaker::{Breaker, BreakerState, Outcome};
/// Failures in a row that open it.
const ROW: u32 = 3;

fn ended(well: bool) -> Outcome {
    Outcome {
        well,
        slow: false,
        probe: false,
        again: false,
    }
}

fn probed(well: bool) -> Outcome {
    Outcome {
        probe: true,
        ..ended(well)
    }
}

fn told(breaker: &Breaker, outcome: Outcome) -> Option<BreakerState> {
    breaker.told(outcome, ROW).map(|(state, _)| state)
}

#[test]
fn a_row_of_failures_opens_it_once() {
    let breaker = Breaker::default();
    assert_eq!(breaker.enter(), Some(false));
    let fates = [false, false, true, false, false, false, false];
    let states: Vec<_> = fates.map(|well| told(&breaker, ended(well))).into();
    let mut expected = vec![None; 7];
    expected[5] = Some(BreakerState::Open);
    assert_eq!(states, expected);
    assert_eq!((breaker.allows(), breaker.enter()), (false, None));
}

#[test]
fn held_closed_nothing_opens_it() {
    let breaker = Breaker::default();
    breaker.set(BreakerState::Held, 0, 0);
    assert!((0..10).all(|_| told(&breaker, ended(false)).is_none()));
    assert_eq!(breaker.enter(), Some(false));
    assert_eq!(breaker.failed.load(Ordering::Relaxed), 10);
}

#[test]
fn probes_close_it_together_and_one_failure_opens_it() {
    let breaker = Breaker::default();
    breaker.set(BreakerState::HalfOpen, 2, 0);
    assert_eq!(breaker.enter(), Some(true));
    assert_eq!(breaker.enter(), Some(true));
    assert_eq!(breaker.enter(), None);
    assert_eq!(told(&breaker, probed(true)), None);
    assert_eq!(breaker.enter(), None, "as many as may have passed");
    assert_eq!(told(&breaker, probed(true)), Some(BreakerState::Closed));
    breaker.set(BreakerState::HalfOpen, 2, 0);
    breaker.enter();
    assert_eq!(told(&breaker, probed(false)), Some(BreakerState::Open));
    let slow = Outcome {
        slow: true,
        ..probed(true)
    };
    breaker.set(BreakerState::HalfOpen, 1, 0);
    breaker.enter();
    assert_eq!(told(&breaker, slow), Some(BreakerState::Open));
}

#[test]
fn requests_of_before_are_no_probes() {
    let breaker = Breaker::default();
    breaker.set(BreakerState::HalfOpen, 1, 0);
    assert_eq!(told(&breaker, ended(false)), None);
    assert_eq!(told(&breaker, ended(true)), None);
    assert_eq!(breaker.enter(), Some(true));
    breaker.leave();
    assert_eq!(breaker.enter(), Some(true), "its place is free again");
}

#[test]
fn an_answer_that_breaks_off_is_one_request() {
    let breaker = Breaker::default();
    told(&breaker, ended(true));
    let again = Outcome {
        again: true,
        ..ended(false)
    };
    told(&breaker, again);
    let counts = [&breaker.requests, &breaker.failed].map(|c| c.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 1]);
}

#[test]
fn many_threads_get_no_more_probes_than_there_are() {
    for limit in [1, 3, 50] {
        let breaker = Breaker::default();
        breaker.set(BreakerState::HalfOpen, limit, 0);
        let (inside, most, closed) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let Some(true) = breaker.enter() else {
                            continue;
                        };
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        if round % 2 == 0 {
                            breaker.leave();
                        } else if told(&breaker, probed(true)) == Some(BreakerState::Closed) {
                            closed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= limit.into());
        assert_eq!(closed.load(Ordering::SeqCst), 1);
        assert_eq!(breaker.enter(), Some(false));
    }
}
