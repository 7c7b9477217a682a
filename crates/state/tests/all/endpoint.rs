//! What the engine knows of an endpoint changes only by what it is told and what it sees.

use evenflow_state::address::Address;
use evenflow_state::endpoint::{DRAIN, EJECTED, Endpoint, RESOLVED, UP, Unusable};
use proptest::prelude::*;

fn address(text: &str) -> Address {
    Address::try_from(text.to_owned()).unwrap()
}

/// An endpoint that is up, with an address.
fn ready() -> Endpoint {
    let endpoint = Endpoint::new(1, "p", "e", "a:1");
    let addresses = [address("127.0.0.1:1")];
    endpoint.configure(Some(true), Some(false), Some(1), Some(0), Some(&addresses));
    endpoint
}

#[test]
fn a_new_endpoint_takes_nothing_before_it_is_configured() {
    let endpoint = Endpoint::new(1, "p", "e", "a:1");
    assert_eq!(endpoint.usable(false), Err(Unusable::Unresolved));
    assert_eq!(endpoint.usable(true), Err(Unusable::Unresolved));
    assert_eq!(ready().usable(false), Ok(()));
}

#[test]
fn the_first_reason_that_counts_is_told() {
    let endpoint = ready();
    endpoint.configure(None, None, None, Some(1), None);
    assert!(endpoint.enter());
    let told = |desperate| endpoint.usable(desperate).err();
    assert_eq!(
        (told(false), told(true)),
        (Some(Unusable::Full), Some(Unusable::Full))
    );
    endpoint.flag(EJECTED, true);
    assert_eq!(
        (told(false), told(true)),
        (Some(Unusable::Ejected), Some(Unusable::Full))
    );
    endpoint.flag(UP, false);
    assert_eq!(
        (told(false), told(true)),
        (Some(Unusable::Down), Some(Unusable::Full))
    );
    endpoint.leave();
    assert_eq!((told(false), told(true)), (Some(Unusable::Down), None));
    endpoint.flag(DRAIN, true);
    assert_eq!(
        (told(false), told(true)),
        (Some(Unusable::Draining), Some(Unusable::Draining))
    );
    endpoint.configure(None, None, None, None, Some(&[]));
    assert_eq!(
        (told(false), told(true)),
        (Some(Unusable::Unresolved), Some(Unusable::Unresolved))
    );
}

#[test]
fn what_an_update_does_not_name_stays() {
    let endpoint = ready();
    endpoint.configure(Some(false), None, None, None, None);
    assert!(!endpoint.has(UP) && endpoint.has(RESOLVED) && !endpoint.has(DRAIN));
    endpoint.configure(None, Some(true), Some(7), None, None);
    assert!(!endpoint.has(UP) && endpoint.has(DRAIN));
    assert_eq!(endpoint.weight(), 7);
    assert_eq!(endpoint.addresses.load().len(), 1);
    endpoint.configure(
        None,
        None,
        None,
        None,
        Some(&[address("unix:/a"), address("[::1]:2")]),
    );
    assert_eq!(endpoint.addresses.load().len(), 2);
    assert_eq!(endpoint.weight(), 7);
}

#[test]
fn a_weight_is_at_least_one() {
    let endpoint = ready();
    endpoint.configure(None, None, Some(0), None, None);
    assert_eq!(endpoint.weight(), 1);
}

#[test]
fn a_flag_tells_what_it_was_before() {
    let endpoint = ready();
    assert!(!endpoint.flag(EJECTED, true));
    assert!(endpoint.flag(EJECTED, true));
    assert!(endpoint.flag(EJECTED, false));
    assert!(!endpoint.flag(EJECTED, false));
    assert!(endpoint.has(UP), "another flag changed");
}

#[test]
fn no_more_enter_at_once_than_may() {
    let endpoint = ready();
    endpoint.configure(None, None, None, Some(10), None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    if endpoint.usable(false).is_ok() && endpoint.enter() {
                        assert!(endpoint.in_flight() >= 1);
                        endpoint.leave();
                    }
                }
            });
        }
    });
    assert_eq!(endpoint.in_flight(), 0);
    let entered = (0..20).filter(|_| endpoint.enter()).count();
    assert_eq!((entered, endpoint.in_flight()), (10, 10));
    endpoint.configure(None, None, None, Some(0), None);
    assert!(endpoint.enter(), "0 is no bound");
}

#[test]
fn failures_count_in_a_row_only() {
    let endpoint = ready();
    assert_eq!((endpoint.failed(), endpoint.failed()), (1, 2));
    endpoint.succeeded();
    assert_eq!(endpoint.failed(), 1);
    endpoint.forget_failures();
    assert_eq!(endpoint.failed(), 1);
}

fn about(value: f32, expected: f32) -> bool {
    (value - expected).abs() <= expected * 0.05
}

#[test]
fn the_first_latency_is_taken_as_it_is() {
    let endpoint = ready();
    assert!(endpoint.latency_ms(1000) <= 0.0);
    endpoint.observe_latency(40.0, 1000);
    assert!(about(endpoint.latency_ms(1000), 40.0));
}

#[test]
fn a_steady_latency_is_learnt() {
    let endpoint = ready();
    endpoint.observe_latency(100.0, 0);
    for step in 1..=300 {
        endpoint.observe_latency(10.0, step * 100);
    }
    assert!(
        about(endpoint.latency_ms(30_000), 10.0),
        "{}",
        endpoint.latency_ms(30_000)
    );
}

#[test]
fn one_slow_answer_does_not_spoil_the_estimate() {
    let endpoint = ready();
    for step in 0..100 {
        endpoint.observe_latency(10.0, step * 10);
    }
    endpoint.observe_latency(1000.0, 1000);
    let latency = endpoint.latency_ms(1000);
    assert!((10.0..100.0).contains(&latency), "{latency}");
}

#[test]
fn an_idle_endpoints_latency_fades() {
    let endpoint = ready();
    endpoint.observe_latency(1000.0, 50_000);
    let at = |seconds: u64| endpoint.latency_ms(50_000 + seconds * 1000);
    assert!(at(10) < at(1) && at(100) < at(10));
    assert!(about(at(10), 500.0), "{}", at(10));
    assert!(at(3600) < 5.0);
}

#[test]
fn the_clock_may_pass_32_bits() {
    let endpoint = ready();
    let turn = u64::from(u32::MAX);
    endpoint.observe_latency(20.0, turn - 10);
    assert!(about(endpoint.latency_ms(turn + 10), 20.0));
    endpoint.observe_latency(20.0, turn + 20);
    assert!(about(endpoint.latency_ms(turn + 20), 20.0));
}

#[test]
fn an_estimate_that_is_ahead_of_the_readers_clock_has_not_faded() {
    let endpoint = ready();
    endpoint.observe_latency(20.0, 1_000_000);
    assert!(about(endpoint.latency_ms(999_980), 20.0));
    endpoint.observe_latency(20.0, 999_980);
    assert!(about(endpoint.latency_ms(1_000_000), 20.0));
}

#[test]
fn addresses_are_written_as_they_are_read() {
    for text in [
        "127.0.0.1:80",
        "[::1]:8080",
        "unix:/run/app.sock",
        "unix:@abstract",
    ] {
        assert_eq!(String::from(address(text)), text);
    }
    for text in [
        "",
        "unix:",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:65536",
        ":80",
        "[::1]",
    ] {
        assert!(Address::try_from(text.to_owned()).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn an_estimate_stays_between_what_was_seen(
        seen in prop::collection::vec((1.0_f32..10_000.0, 0..5_000_u64), 1..50),
    ) {
        let endpoint = ready();
        let mut now = 1;
        for (latency, pause) in &seen {
            now += pause;
            endpoint.observe_latency(*latency, now);
        }
        let lowest = seen.iter().map(|(latency, _)| *latency).fold(f32::INFINITY, f32::min);
        let highest = seen.iter().map(|(latency, _)| *latency).fold(0.0, f32::max);
        let latency = endpoint.latency_ms(now);
        prop_assert!(latency >= lowest * 0.999 && latency <= highest * 1.001, "{latency}");
    }
}
