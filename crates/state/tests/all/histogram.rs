//! Durations land in the bucket whose bounds enclose them.

use evenflow_state::histogram::{BOUNDS, BOUNDS_S, Histogram};
use proptest::prelude::*;

fn recorded(durations: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    for &ns in durations {
        histogram.record(ns);
    }
    histogram
}

fn expected_bucket(ns: u64) -> usize {
    BOUNDS_S
        .iter()
        .position(|bound| u128::from(ns) <= (bound * 1e9).round() as u128)
        .unwrap_or(BOUNDS)
}

#[test]
fn a_bound_belongs_to_the_bucket_below_it() {
    for (i, bound) in BOUNDS_S.iter().enumerate() {
        let ns = (bound * 1e9).round() as u64;
        assert_eq!(recorded(&[ns]).counts()[i], 1, "{bound} s");
        assert_eq!(
            recorded(&[ns + 1]).counts()[i + 1],
            1,
            "just over {bound} s"
        );
    }
}

#[test]
fn the_shortest_and_the_longest_durations_are_counted() {
    let histogram = recorded(&[0, u64::MAX, u64::MAX]);
    assert_eq!(histogram.counts()[0], 1);
    assert_eq!(histogram.counts()[BOUNDS], 2);
    assert!(
        histogram.sum_s() > 3.6e10,
        "the sum does not wrap: {}",
        histogram.sum_s()
    );
}

#[test]
fn bounds_ascend() {
    assert!(BOUNDS_S.is_sorted_by(|a, b| a < b));
}

#[test]
fn it_is_written_as_counts_and_sum() {
    let text = serde_json::to_value(recorded(&[1_500_000_000, 400_000])).unwrap();
    let mut counts = vec![0; BOUNDS + 1];
    counts[0] = 1;
    counts[13] = 1;
    assert_eq!(text, serde_json::json!({"counts": counts, "sum_s": 1.5004}));
}

proptest! {
    #[test]
    fn every_duration_lands_in_its_bucket(bits in 0_u32..64, noise: u64) {
        let ns = noise >> bits;
        let mut expected = [0; BOUNDS + 1];
        expected[expected_bucket(ns)] = 1;
        prop_assert_eq!(*recorded(&[ns]).counts(), expected);
    }

    #[test]
    fn merging_equals_recording_everything_in_one(a: Vec<u32>, b: Vec<u64>) {
        let a: Vec<u64> = a.into_iter().map(u64::from).collect();
        let mut merged = recorded(&a);
        merged.merge(&recorded(&b));
        let all: Vec<u64> = a.into_iter().chain(b).collect();
        prop_assert_eq!(merged.count(), all.len() as u64);
        prop_assert_eq!(merged, recorded(&all));
    }
}
