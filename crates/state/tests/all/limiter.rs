//! A limit lets through its burst and its rate, exactly, whichever threads ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use evenflow_state::limiter::{Decision, Limiter, bytes_key, client_key};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// Any number well spread over 64 bits, as a hash would be.
fn key(number: u64) -> u64 {
    bytes_key(&number.to_le_bytes())
}

fn allowed(limiter: &Limiter, key: u64, now_ns: u64, tries: usize) -> usize {
    (0..tries)
        .filter(|_| limiter.check(key, now_ns).allowed)
        .count()
}

#[test]
fn a_key_at_rest_may_send_exactly_its_burst_at_once() {
    for burst in [1, 2, 7, 1000] {
        let limiter = Limiter::new(10.0, burst, 1000);
        assert_eq!(allowed(&limiter, key(1), 5 * SECOND, 3000), burst as usize);
    }
}

#[test]
fn after_the_burst_requests_pass_at_the_rate() {
    let limiter = Limiter::new(10.0, 5, 1000);
    assert_eq!(allowed(&limiter, key(1), SECOND, 10), 5);
    let passed: usize = (1..=100)
        .map(|tick| allowed(&limiter, key(1), SECOND + tick * 50_000_000, 3))
        .sum();
    assert_eq!(passed, 50, "in 5 s at 10 per second");
}

#[test]
fn the_decision_tells_what_is_left_and_when_to_return() {
    let limiter = Limiter::new(2.0, 3, 1000);
    let first = limiter.check(key(1), 0);
    assert_eq!(
        first,
        Decision {
            allowed: true,
            remaining: 2,
            retry_after_ns: 0,
            reset_ns: SECOND / 2
        }
    );
    limiter.check(key(1), 0);
    assert_eq!(limiter.check(key(1), 0).remaining, 0);
    let refused = limiter.check(key(1), SECOND / 4);
    assert_eq!(
        refused,
        Decision {
            allowed: false,
            remaining: 0,
            retry_after_ns: SECOND / 4,
            reset_ns: SECOND * 5 / 4
        }
    );
    let later = SECOND / 4 + refused.retry_after_ns;
    assert!(!limiter.check(key(1), later - SECOND / 100).allowed);
    assert!(
        limiter.check(key(1), later).allowed,
        "the time told is enough"
    );
}

#[test]
fn a_refused_request_costs_nothing() {
    let limiter = Limiter::new(1.0, 1, 1000);
    assert!(limiter.check(key(1), 0).allowed);
    for step in 1..100 {
        assert!(!limiter.check(key(1), step * SECOND / 100).allowed);
    }
    assert!(limiter.check(key(1), SECOND).allowed);
}

#[test]
fn keys_are_counted_apart() {
    let limiter = Limiter::new(1.0, 4, 10_000);
    for number in 0..1000 {
        assert_eq!(allowed(&limiter, key(number), 0, 10), 4, "key {number}");
    }
}

#[test]
fn a_thread_whose_clock_lags_gains_nothing() {
    let limiter = Limiter::new(100.0, 10, 1000);
    assert_eq!(allowed(&limiter, key(1), 9 * SECOND, 20), 10);
    for lag_ms in [1, 100, 5000] {
        assert_eq!(
            allowed(&limiter, key(1), 9 * SECOND - lag_ms * 1_000_000, 20),
            0
        );
    }
}

#[test]
fn a_key_that_returns_after_any_time_is_at_rest() {
    for rps in [0.001, 1.0, 333.0, 50_000.0] {
        let limiter = Limiter::new(rps, 3, 1000);
        let mut now = 0;
        for doubling in 33..60 {
            assert_eq!(allowed(&limiter, key(1), now, 5), 3, "rps {rps}, {now} ns");
            now += (1 << doubling).max((4e9 / rps) as u64);
        }
    }
}

#[test]
fn extreme_numbers_neither_panic_nor_block_the_first_request() {
    for rps in [
        f64::NAN,
        f64::NEG_INFINITY,
        -1.0,
        0.0,
        1e-300,
        1e300,
        f64::INFINITY,
    ] {
        for burst in [0, 1, u32::MAX] {
            for max_keys in [0, 1, 9] {
                let limiter = Limiter::new(rps, burst, max_keys);
                assert!(
                    limiter.check(key(1), u64::MAX).allowed,
                    "{rps} {burst} {max_keys}"
                );
                limiter.check(key(1), 0);
            }
        }
    }
}

#[test]
fn a_table_for_one_key_holds_one_key() {
    let limiter = Limiter::new(1.0, 2, 1);
    assert_eq!(allowed(&limiter, key(1), 0, 5), 2);
    assert_eq!(allowed(&limiter, key(2), 0, 5), 2);
    assert_eq!(
        allowed(&limiter, key(1), 0, 5),
        2,
        "it was forgotten for the second key"
    );
}

#[test]
fn a_flood_of_new_keys_does_not_forget_a_key_that_is_further_from_rest() {
    let limiter = Limiter::new(1.0, 10, 64);
    assert_eq!(allowed(&limiter, key(0), 0, 20), 10);
    for number in 1..100_000 {
        limiter.check(key(number), number * 1000);
    }
    assert!(!limiter.check(key(0), SECOND / 2).allowed);
}

#[test]
fn threads_together_pass_exactly_the_burst() {
    const THREADS: usize = 8;
    for round in 0..50 {
        let limiter = Limiter::new(1e-6, 500, 64);
        let passed: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| allowed(&limiter, key(round), round, 200)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(passed, 500);
    }
}

#[test]
fn threads_that_claim_the_same_new_key_share_one_slot() {
    const KEYS: u64 = 2000;
    let limiter = Limiter::new(1e-6, 2, KEYS as usize * 16);
    let passed: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (number, count) in passed.iter().enumerate() {
                    let n = allowed(&limiter, key(number as u64), 0, 3) as u64;
                    count.fetch_add(n, Ordering::Relaxed);
                }
            });
        }
    });
    for (number, count) in passed.iter().enumerate() {
        assert_eq!(count.load(Ordering::Relaxed), 2, "key {number}");
    }
}

#[test]
fn eviction_by_other_threads_never_lets_a_busy_key_exceed_burst_and_rate() {
    // Every key has all slots of one set as candidates, and eight times as many keys churn there.
    const HOT: usize = 4;
    let limiter = Limiter::new(1e-6, 100, 8);
    let passed: usize = thread::scope(|scope| {
        let hot: Vec<_> = (0..HOT)
            .map(|_| scope.spawn(|| allowed(&limiter, key(0), 0, 5000)))
            .collect();
        for churner in 1..=2_u64 {
            let limiter = &limiter;
            scope.spawn(move || {
                for number in 0..20_000 {
                    limiter.check(key(churner * 1_000_000 + number), 0);
                }
            });
        }
        hot.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // It may be forgotten only while it is the nearest to rest, that is hardly charged yet.
    assert!((100..=100 + 8 * HOT).contains(&passed), "{passed} passed");
}

#[test]
fn ipv6_clients_count_by_their_64_and_mapped_ones_as_ipv4() {
    let key = |ip: &str| client_key(ip.parse::<IpAddr>().unwrap(), 64);
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
}

/// GCRA as its definition reads, in the limiter's own unit of time.
#[derive(Default)]
struct Reference(HashMap<u64, u64>);

impl Reference {
    fn check(&mut self, key: u64, now: u64, burst: u64) -> bool {
        let tat = self.0.entry(key).or_default();
        let next = (*tat).max(now) + 1024;
        let fits = next - now <= burst * 1024;
        if fits {
            *tat = next;
        }
        fits
    }
}

// What passed elsewhere.

#[test]
fn what_passed_elsewhere_counts_against_the_burst() {
    let limiter = Limiter::new(10.0, 5, 1000).with_debt();
    limiter.charge(key(1), 3, SECOND);
    assert_eq!(allowed(&limiter, key(1), SECOND, 10), 2);
    assert_eq!(allowed(&limiter, key(2), SECOND, 10), 5);
}

#[test]
fn a_debt_beyond_the_burst_is_paid_at_the_rate() {
    let limiter = Limiter::new(10.0, 5, 1000).with_debt();
    limiter.charge(key(1), 25, SECOND);
    let refused = limiter.check(key(1), SECOND);
    assert!(!refused.allowed);
    assert_eq!(refused.remaining, 0);
    // 25 passed, and at most 5 may be ahead of the rate: 21 intervals until one more fits.
    assert_eq!(refused.retry_after_ns, 21 * SECOND / 10);
    assert_eq!(allowed(&limiter, key(1), 3 * SECOND + SECOND / 20, 3), 0);
    assert_eq!(allowed(&limiter, key(1), 3 * SECOND + SECOND / 10, 3), 1);
}

#[test]
fn a_debt_is_bounded() {
    let limiter = Limiter::new(10.0, 5, 1000).with_debt();
    for _ in 0..10 {
        limiter.charge(key(1), u32::MAX, SECOND);
    }
    // 16 bursts and 10 s at the rate.
    let most = (16 * 5 + 100) * SECOND / 10;
    assert_eq!(limiter.check(key(1), SECOND).reset_ns, most);
    assert!(limiter.check(key(1), SECOND + most).allowed);
}

#[test]
fn extreme_debts_neither_panic_nor_make_a_key_rest() {
    for (rps, burst) in [(1e-9, 1), (1e9, u32::MAX), (1e9, 1), (0.1, u32::MAX)] {
        let limiter = Limiter::new(rps, burst, 10).with_debt();
        for _ in 0..1000 {
            limiter.charge(key(1), u32::MAX, SECOND);
        }
        assert!(!limiter.check(key(1), SECOND).allowed, "{rps} {burst}");
    }
}

/// What happens next: a request comes to a node, or a node tells what passed.
#[derive(Debug, Clone, Copy)]
enum Act {
    Ask(usize),
    Tell(usize),
}

proptest! {
    #[test]
    fn it_decides_as_the_definition_reads(
        tick_ns in 1_u64..2000,
        burst in 1_u32..20,
        origin in 0_u64..1 << 40,
        requests in prop::collection::vec((0_u64..8, 0_u64..3000), 1..300),
    ) {
        let tick_ns = tick_ns * 2;
        let limiter = Limiter::new(1e9 / (1024.0 * tick_ns as f64), burst, 4096);
        let mut reference = Reference::default();
        let mut now = origin;
        for (number, pause) in requests {
            now += pause;
            // In the middle of a tick, where rounding of the rate cannot matter.
            let decision = limiter.check(key(number), now * tick_ns + tick_ns / 2);
            prop_assert_eq!(decision.allowed, reference.check(number, now, burst.into()));
            prop_assert!(decision.remaining < burst);
        }
    }

    #[test]
    fn no_window_passes_more_than_burst_and_rate(
        rps in 0.01_f64..1e6,
        burst in 1_u32..50,
        pauses in prop::collection::vec(0.0_f64..3.0, 1..300),
    ) {
        let limiter = Limiter::new(rps, burst, 8);
        let mut now = 0.0;
        let passed: Vec<f64> = pauses
            .into_iter()
            .filter_map(|intervals| {
                now += intervals / rps * 1e9;
                limiter.check(key(1), now as u64).allowed.then_some(now)
            })
            .collect();
        for (i, start) in passed.iter().enumerate() {
            for (j, end) in passed.iter().enumerate().skip(i) {
                let most = f64::from(burst) + (end - start) / 1e9 * rps + 0.01;
                prop_assert!((j - i + 1) as f64 <= most, "{} in {} ns", j - i + 1, end - start);
            }
        }
    }

    #[test]
    fn charges_add_up_to_the_same_in_any_order(
        counts in prop::collection::vec((0_u64..3, 1_u32..20), 1..20),
        seed in any::<u64>(),
    ) {
        let tell = |counts: &[(u64, u32)]| {
            let limiter = Limiter::new(10.0, 50, 1000).with_debt();
            for &(number, count) in counts {
                limiter.charge(key(number), count, SECOND);
            }
            [0, 1, 2].map(|number| limiter.check(key(number), SECOND).reset_ns)
        };
        let mut shuffled = counts.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        prop_assert_eq!(tell(&counts), tell(&shuffled));
    }

    /// However late each node hears what passed at the others, all of them together pass no more
    /// than the limit and, for each of the others, what it can pass before it hears of this.
    #[test]
    fn nodes_that_tell_each_other_exceed_a_limit_by_a_bounded_amount(
        nodes in 2_usize..5,
        rps in 1_u32..50,
        burst in 1_u32..20,
        interval_ms in 20_u64..300,
        acts in prop::collection::vec(prop_oneof![8 => any::<usize>().prop_map(Act::Ask), 1 => any::<usize>().prop_map(Act::Tell)], 200..800),
    ) {
        let limiters: Vec<Limiter> = (0..nodes)
            .map(|_| Limiter::new(f64::from(rps), burst, 8).with_debt())
            .collect();
        let mut untold = vec![0_u32; nodes];
        let mut told_at = vec![SECOND; nodes];
        let (mut now, mut passed) = (SECOND, 0_u32);
        let interval = interval_ms * 1_000_000;
        for act in acts {
            now += 4_000_000;
            let due = |at: &u64| now - at >= interval;
            let late: Vec<usize> = (0..nodes).filter(|&node| due(&told_at[node])).collect();
            let mut telling = late;
            match act {
                Act::Ask(node) => {
                    let node = node % nodes;
                    if limiters[node].check(key(1), now).allowed {
                        passed += 1;
                        untold[node] += 1;
                    }
                }
                Act::Tell(node) => telling.push(node % nodes),
            }
            for node in telling {
                told_at[node] = now;
                let count = std::mem::take(&mut untold[node]);
                for (other, limiter) in limiters.iter().enumerate() {
                    if other != node && count > 0 {
                        limiter.charge(key(1), count, now);
                    }
                }
            }
            let elapsed = (now - SECOND) as f64 / SECOND as f64;
            let delay = (interval + 4_000_000) as f64 / SECOND as f64;
            let most = f64::from(burst) + f64::from(rps) * elapsed
                + (nodes - 1) as f64 * (f64::from(burst) + f64::from(rps) * delay);
            prop_assert!(f64::from(passed) <= most + 1.0, "{passed} of {most} after {elapsed} s");
        }
    }
}
