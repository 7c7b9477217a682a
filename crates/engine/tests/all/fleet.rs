//! Limits of the fleet: engines with one secret know a client by the same key, tell what passed, and
//! charge what others tell.

use evenflow_rules::filters::fleet::{Fleet, FleetUsage, merged};
use evenflow_rules::plan::{LimitFilter, RequestKey};

use crate::support::net::{Balancer, Origin};
use crate::support::{endpoint, plan, pool};
use proptest::prelude::*;
use serde_json::{Value, json};

const SEED: [u8; 32] = [7; 32];

fn limit(name: &str, key: RequestKey) -> LimitFilter {
    LimitFilter {
        name: name.into(),
        key,
        requests_per_second: 1.0,
        burst: 5,
        max_keys: 100,
        dry_run: false,
        ipv6_prefix: 64,
        headers: false,
        fleet_seed: Some(SEED.to_vec()),
    }
}

#[test]
fn the_same_secret_makes_the_same_keys_and_another_one_others() {
    let filter = limit("l", RequestKey::ClientIp);
    let (one, two) = (Fleet::new(&SEED, &filter), Fleet::new(&SEED, &filter));
    let other = Fleet::new(&[8; 32], &filter);
    for text in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        let ip = text.parse().unwrap();
        assert_eq!(one.client_key(ip, 64), two.client_key(ip, 64), "{text}");
        assert_ne!(one.client_key(ip, 64), other.client_key(ip, 64), "{text}");
    }
    let [a, b, mapped] = ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1"]
        .map(|text| one.client_key(text.parse().unwrap(), 64));
    assert_ne!(a, b);
    assert_eq!(a, mapped);
    assert_eq!(one.bytes_key(b"token"), two.bytes_key(b"token"));
}

#[test]
fn limits_of_other_names_or_properties_have_other_keys() {
    let keys: Vec<u64> = [
        limit("l", RequestKey::ClientIp),
        limit("m", RequestKey::ClientIp),
        limit("l", RequestKey::Header("x-user".into())),
        limit("l", RequestKey::Header("x-team".into())),
    ]
    .iter()
    .map(|filter| Fleet::new(&SEED, filter).bytes_key(b"value"))
    .collect();
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{keys:?}");
    }
}

/// A plan with one limit of five requests, of the fleet where there is a secret.
fn limited(origin: &Origin, seed: &Value) -> Value {
    let mut plan = plan(&[pool("p", &[endpoint("e", &origin.address.to_string())])]);
    plan["filters"] = json!([{"name": "l", "steps": [{"limit": {
        "name": "l", "key": "all", "requests_per_second": 0.001, "burst": 5, "max_keys": 100,
        "dry_run": false, "ipv6_prefix": 64, "headers": false, "fleet_seed": seed,
    }}]}]);
    plan["routes"][0]["filters"] = json!(["l"]);
    plan
}

fn passing(balancer: &Balancer) -> usize {
    (0..20).filter(|_| balancer.get().status() == 200).count()
}

#[test]
fn what_passes_one_engine_is_charged_by_another_and_told_once() {
    let origin = Origin::saying("hello");
    let plan = limited(&origin, &json!(SEED));
    let (one, two) = (Balancer::start(2, &plan), Balancer::start(2, &plan));
    for _ in 0..3 {
        assert_eq!(one.get().status(), 200);
    }
    let (told, missed) = one.engine.take_passed().unwrap();
    let document: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(document["limits"][0]["limit"], "l");
    assert_eq!(document["limits"][0]["keys"], json!([[1, 3]]));
    assert_eq!(missed, 0);
    assert!(one.engine.take_passed().unwrap().0.is_empty());

    two.engine.charge(&told).unwrap();
    assert_eq!(passing(&two), 2);
    assert!(!two.engine.take_passed().unwrap().0.is_empty());
    assert_eq!(passing(&one), 2);
}

#[test]
fn a_limit_of_one_engine_tells_nothing_and_is_not_charged() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &limited(&origin, &Value::Null));
    let told = br#"{"limits":[{"limit":"l","keys":[[1,100]]},{"limit":"unknown","keys":[[1,1]]}]}"#;
    balancer.engine.charge(told).unwrap();
    assert_eq!(passing(&balancer), 5);
    assert!(balancer.engine.take_passed().unwrap().0.is_empty());
}

#[test]
fn a_message_that_is_wrong_charges_nothing() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &limited(&origin, &json!(SEED)));
    for wrong in [
        "",
        "[]",
        r#"{"limits":[{"limit":"l","keys":[[1,100]]}]"#,
        r#"{"limits":[{"limit":"l","keys":[[1,100],[2,-1]]}]}"#,
        r#"{"limits":[{"limit":"l","keys":[[1,100]]}],"more":1}"#,
        r#"{"limits":[{"limit":"l","keys":[[1,4294967296]]}]}"#,
    ] {
        let error = balancer.engine.charge(wrong.as_bytes()).unwrap_err();
        assert_eq!(error.code, "plan", "{wrong}");
    }
    assert_eq!(passing(&balancer), 5);
}

#[test]
fn a_secret_that_is_too_short_is_refused() {
    let origin = Origin::saying("hello");
    let document = limited(&origin, &json!([1, 2, 3])).to_string();
    let error = evenflow_rules::compile::check(document.as_bytes()).unwrap_err();
    assert_eq!(error.path, "filters[0].steps[0].limit.fleet_seed");
}

proptest! {
    #[test]
    fn notes_of_workers_add_up_and_are_bounded(
        noted in prop::collection::vec((0_usize..3, 1_u32..4, 0_u64..6), 0..200),
    ) {
        let workers: Vec<FleetUsage> = (0..3).map(|_| FleetUsage::default()).collect();
        for &(worker, limit, key) in &noted {
            workers[worker].note(limit, key);
        }
        let counts = workers.iter().map(|notes| notes.take().0).collect();
        let told = merged(counts, |number| (number != 3).then(|| number.to_string()));
        for limit in ["1", "2", "3"] {
            let expected = noted.iter().filter(|(_, l, _)| l.to_string() == limit && limit != "3");
            let told = told.limits.iter().filter(|passed| passed.limit == limit);
            let sum: u32 = told.flat_map(|passed| &passed.keys).map(|(_, count)| count).sum();
            prop_assert_eq!(sum as usize, expected.count());
        }
    }
}

#[test]
fn notes_of_too_many_keys_are_counted_instead() {
    let notes = FleetUsage::default();
    for key in 0..20_000 {
        notes.note(1, key);
    }
    notes.note(1, 0);
    let (counts, missed) = notes.take();
    assert_eq!(counts.len() as u64 + missed, 20_000);
    assert_eq!(counts[&(1, 0)], 2);
    assert_eq!(notes.take().1, 0);
}
