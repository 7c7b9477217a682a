//! Tables follow the weights and change only where their endpoints did.

use evenflow_rules::consistent::consistent_table;
use proptest::prelude::*;

/// The id that owns each slot.
fn owners<'a>(endpoints: &[(&'a str, u32)], slots: usize) -> Vec<&'a str> {
    let (ids, weights): (Vec<&str>, Vec<u32>) = endpoints.iter().copied().unzip();
    consistent_table(&ids, &weights, slots)
        .into_iter()
        .map(|index| ids[index as usize])
        .collect()
}

#[test]
fn the_table_is_the_same_for_ever() {
    // A change of these would move the clients of everyone who upgrades.
    let table = owners(&[("a", 1), ("b", 1), ("c", 2)], 24);
    assert_eq!(table.concat(), "cbbcaaccbacbaaccccccaccc");
}

#[test]
fn nothing_to_choose_from_makes_an_empty_table() {
    assert!(consistent_table(&[], &[], 16).is_empty());
    assert!(consistent_table(&["a"], &[0], 16).is_empty());
    assert!(consistent_table(&["a"], &[1], 0).is_empty());
}

#[test]
fn a_single_endpoint_owns_every_slot() {
    assert_eq!(consistent_table(&["a"], &[7], 1), [0]);
    assert_eq!(consistent_table(&["z", "a"], &[0, u32::MAX], 100), [1; 100]);
}

#[test]
fn related_ids_share_evenly() {
    let ids: Vec<String> = (0..100).map(|n| format!("backend-{n}")).collect();
    let endpoints: Vec<_> = ids.iter().map(|id| (id.as_str(), 5)).collect();
    let owners = owners(&endpoints, 65_537);
    for id in &ids {
        let share = owners.iter().filter(|owner| *owner == id).count() as f64;
        // Five standard deviations of a share of 655.
        assert!(
            (share - 655.4).abs() < 5.0 * 655.4_f64.sqrt(),
            "{id} owns {share}"
        );
    }
}

#[test]
fn ten_thousand_endpoints_all_own_about_their_share() {
    let ids: Vec<String> = (0..10_000)
        .map(|n| format!("10.0.{}.{}:80", n / 256, n % 256))
        .collect();
    let endpoints: Vec<_> = ids.iter().map(|id| (id.as_str(), 100)).collect();
    let mut counts = std::collections::HashMap::new();
    for owner in owners(&endpoints, 655_370) {
        *counts.entry(owner).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 10_000);
    let variance: f64 = counts
        .values()
        .map(|&n| (f64::from(n) - 65.5_f64).powi(2))
        .sum::<f64>()
        / 10_000.0;
    assert!(
        (55.0..76.0).contains(&variance),
        "as chance alone would have it: {variance}"
    );
}

fn endpoints() -> impl Strategy<Value = Vec<(String, u32)>> {
    prop::collection::btree_map("[a-z0-9.:-]{1,12}", 1_u32..200, 2..12)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn borrowed(endpoints: &[(String, u32)]) -> Vec<(&str, u32)> {
    endpoints
        .iter()
        .map(|(id, weight)| (id.as_str(), *weight))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn removing_an_endpoint_moves_only_its_slots(endpoints in endpoints(), slots in 1_usize..3000) {
        let before = owners(&borrowed(&endpoints), slots);
        let gone = endpoints[0].0.as_str();
        let after = owners(&borrowed(&endpoints[1..]), slots);
        for (slot, (before, after)) in before.into_iter().zip(after).enumerate() {
            prop_assert!(before == after || before == gone, "slot {}: {} to {}", slot, before, after);
        }
    }

    #[test]
    fn raising_a_weight_moves_slots_only_to_that_endpoint(
        mut endpoints in endpoints(),
        more in 1_u32..500,
        slots in 1_usize..3000,
    ) {
        let before: Vec<String> =
            owners(&borrowed(&endpoints), slots).into_iter().map(Into::into).collect();
        endpoints[0].1 += more;
        let after = owners(&borrowed(&endpoints), slots);
        for (before, after) in before.iter().zip(after) {
            prop_assert!(before == after || after == endpoints[0].0);
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(endpoints in endpoints(), slots in 1_usize..3000) {
        let forwards = borrowed(&endpoints);
        let backwards: Vec<_> = forwards.iter().rev().copied().collect();
        prop_assert_eq!(owners(&forwards, slots), owners(&backwards, slots));
    }

    #[test]
    fn shares_follow_the_weights(endpoints in endpoints()) {
        const SLOTS: usize = 20_011;
        let owners = owners(&borrowed(&endpoints), SLOTS);
        let total: u32 = endpoints.iter().map(|(_, weight)| weight).sum();
        for (id, weight) in &endpoints {
            let expected = SLOTS as f64 * f64::from(*weight) / f64::from(total);
            let share = owners.iter().filter(|owner| *owner == id).count() as f64;
            // Six standard deviations: some thousand shares are looked at.
            let tolerance = 6.0 * expected.sqrt().max(1.0);
            prop_assert!((share - expected).abs() < tolerance, "{} owns {} of {}", id, share, expected);
        }
    }
}
