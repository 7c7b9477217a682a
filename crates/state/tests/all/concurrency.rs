//! Requests in flight, counted over threads and given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use evenflow_state::concurrency::Concurrency;

#[test]
fn a_key_has_so_many_places_and_another_key_its_own() {
    let bound = Arc::new(Concurrency::default());
    let first = bound.enter(7, 2).unwrap();
    let _second = bound.enter(7, 2).unwrap();
    assert!(bound.enter(7, 2).is_none());
    assert!(bound.enter(8, 2).is_some());
    drop(first);
    assert!(bound.enter(7, 2).is_some());
}

#[test]
fn keys_without_requests_take_no_memory() {
    let bound = Arc::new(Concurrency::default());
    for key in 0..1_000_000_u64 {
        let place = bound.enter(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1);
        assert!(place.is_some());
    }
    assert_eq!(bound.keys(), 0);
}

#[test]
fn the_bound_is_exact_over_threads() {
    let bound = Arc::new(Concurrency::default());
    let most = AtomicU32::new(0);
    let now = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Some(place) = bound.enter(1, 5) {
                        let inside = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(inside, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 5);
    assert_eq!(bound.in_flight(1), 0);
    assert_eq!(bound.keys(), 0);
}
