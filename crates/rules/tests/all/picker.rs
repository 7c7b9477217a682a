//! Each picker shares requests out as its table or score says, and never gives one to an endpoint
//! that cannot take it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use evenflow_rules::compile::check;
use evenflow_rules::key::{hash_key, key_bytes};
use evenflow_rules::picker::{Choice, Picked, Tried, pick};
use evenflow_rules::plan::RequestKey;
use evenflow_rules::pool::{Pool, offer_all};
use evenflow_state::endpoint::{DRAIN, EJECTED, Endpoint, UP};
use evenflow_wire::http1::head::RequestHead;

use crate::support::{self, plan, pool};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Endpoints `e0`, `e1`, … at addresses that nobody connects to.
pub fn endpoints(count: usize) -> Vec<Value> {
    (0..count)
        .map(|index| support::endpoint(&format!("e{index}"), &format!("127.0.0.1:{}", 1 + index)))
        .collect()
}

fn compiled(pool: &Value) -> Arc<Pool> {
    let document = plan(std::slice::from_ref(pool)).to_string();
    let compiled = check(document.as_bytes()).unwrap();
    compiled.configure_endpoints();
    Arc::clone(&compiled.table.pools[0])
}

fn pool_of(members: usize, picker: Value) -> Arc<Pool> {
    let mut pool = pool("p", &endpoints(members));
    pool["picker"] = picker;
    compiled(&pool)
}

fn cycle(members: usize, table: &[u32]) -> Arc<Pool> {
    pool_of(members, json!({"cycle": {"table": table}}))
}

fn hashed(members: usize, table: &[u32], load_bound: Option<f64>) -> Arc<Pool> {
    let picker = json!({"hash": {"key": "client_ip", "table": table, "load_bound": load_bound}});
    pool_of(members, picker)
}

fn least(members: usize, score: &str, choices: u32) -> Arc<Pool> {
    pool_of(
        members,
        json!({"least": {"score": score, "choices": choices}}),
    )
}

fn endpoint(pool: &Pool, index: usize) -> &Endpoint {
    &pool.members[index].endpoint
}

fn pick_with(pool: &Pool, hash: u64, tried: &Tried, dry: bool) -> Picked {
    let choice = Choice {
        hash,
        tried,
        now_ms: 1_000_000,
        dry,
    };
    pick(&pool.candidates(), &choice)
}

/// The member chosen; the request stays counted in.
fn member(pool: &Pool, hash: u64) -> u32 {
    match pick_with(pool, hash, &Tried::default(), false) {
        Picked::Member(index) => index,
        none => panic!("{none:?}"),
    }
}

/// The members chosen by so many requests, each over before the next.
fn members(pool: &Pool, requests: usize) -> Vec<u32> {
    let one = || {
        let index = member(pool, 0);
        endpoint(pool, index as usize).leave();
        index
    };
    std::iter::repeat_with(one).take(requests).collect()
}

fn counts(pool: &Pool, picked: &[u32]) -> Vec<usize> {
    (0..pool.members.len())
        .map(|index| {
            picked
                .iter()
                .filter(|&&picked| picked as usize == index)
                .count()
        })
        .collect()
}

fn outcome(pool: &Pool) -> Picked {
    pick_with(pool, 0, &Tried::default(), true)
}

#[test]
fn a_cycle_walks_its_table() {
    let pool = cycle(3, &[0, 1, 0, 2]);
    assert_eq!(members(&pool, 9), [0, 1, 0, 2, 0, 1, 0, 2, 0]);
}

#[test]
fn a_cycle_is_exact_over_all_threads() {
    let pool = cycle(3, &[0, 1, 0, 2]);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || members(&pool, 1000))
        })
        .collect();
    let picked: Vec<u32> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    assert_eq!(counts(&pool, &picked), [2000, 1000, 1000]);
}

#[test]
fn a_cycle_steps_past_what_is_unusable() {
    let pool = cycle(3, &[0, 1, 2]);
    endpoint(&pool, 1).flag(UP, false);
    assert_eq!(members(&pool, 6), [0, 2, 2, 0, 2, 2]);
    endpoint(&pool, 1).flag(UP, true);
    endpoint(&pool, 0).flag(DRAIN, true);
    endpoint(&pool, 2).flag(EJECTED, true);
    assert_eq!(members(&pool, 3), [1, 1, 1]);
}

#[test]
fn where_a_long_stretch_is_unusable_the_pool_is_looked_through() {
    let table: Vec<u32> = (0..200).collect();
    let pool = cycle(200, &table);
    for index in 0..199 {
        endpoint(&pool, index).flag(UP, false);
    }
    assert_eq!(members(&pool, 3), [199, 199, 199]);
    let pool = hashed(200, &table, None);
    for index in 0..199 {
        endpoint(&pool, index).flag(UP, false);
    }
    assert_eq!(member(&pool, 7), 199);
}

#[test]
fn a_full_endpoint_is_passed_over_and_all_full_is_said() {
    let mut rules = pool("p", &endpoints(2));
    for endpoint in rules["endpoints"].as_array_mut().unwrap() {
        endpoint["max_connections"] = json!(1);
    }
    let pool = compiled(&rules);
    assert_eq!((member(&pool, 0), member(&pool, 0)), (0, 1));
    assert_eq!(pick_with(&pool, 0, &Tried::default(), false), Picked::Full);
    let in_flight = [0, 1].map(|index| endpoint(&pool, index).in_flight());
    assert_eq!(in_flight, [1, 1], "a refused request was counted in");
    endpoint(&pool, 1).leave();
    assert_eq!(member(&pool, 0), 1);
    endpoint(&pool, 0).flag(UP, false);
    assert_eq!(
        outcome(&pool),
        Picked::Full,
        "one is full, the other is down"
    );
    endpoint(&pool, 1).flag(UP, false);
    assert_eq!(outcome(&pool), Picked::None, "both are down");
}

#[test]
fn an_empty_pool_has_nobody() {
    for pool in [
        cycle(0, &[]),
        hashed(0, &[], Some(1.5)),
        least(0, "in_flight", 2),
    ] {
        assert_eq!(pick_with(&pool, 0, &Tried::default(), false), Picked::None);
    }
}

#[test]
fn what_was_tried_is_not_chosen_again() {
    for pool in [
        cycle(3, &[0, 1, 2]),
        hashed(3, &[0, 1, 2], Some(2.0)),
        least(3, "latency", 0),
        least(3, "in_flight", 2),
    ] {
        let mut tried = Tried::default();
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let Picked::Member(index) = pick_with(&pool, 5, &tried, false) else {
                panic!("nobody left after {seen:?} of {:?}", pool.picker);
            };
            assert!(seen.insert(index), "{index} again, {:?}", pool.picker);
            tried.add(index);
        }
        assert_eq!(pick_with(&pool, 5, &tried, false), Picked::None);
    }
}

#[test]
fn beyond_eight_the_oldest_attempt_is_forgotten() {
    let mut tried = Tried::default();
    for index in 0..9 {
        tried.add(index);
    }
    let remembered: Vec<u32> = (0..12).filter(|&index| tried.contains(index)).collect();
    assert_eq!(remembered, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn with_nobody_healthy_all_that_do_not_drain_share_the_requests() {
    for picker in [
        json!({"cycle": {"table": [0, 1, 2, 3]}}),
        json!({"least": {"score": "in_flight", "choices": 0}}),
    ] {
        let mut rules = pool("p", &endpoints(4));
        rules["picker"] = picker;
        rules["use_all"] = json!(true);
        let pool = compiled(&rules);
        endpoint(&pool, 0).flag(UP, false);
        endpoint(&pool, 1).flag(UP, false);
        endpoint(&pool, 2).flag(EJECTED, true);
        let counted = counts(&pool, &members(&pool, 40));
        assert_eq!(counted, [0, 0, 0, 40], "one is healthy");
        endpoint(&pool, 3).flag(UP, false);
        let counted = counts(&pool, &members(&pool, 40));
        assert_eq!(counted, [10, 10, 10, 10], "{:?}", pool.picker);
        endpoint(&pool, 1).flag(DRAIN, true);
        assert_eq!(counts(&pool, &members(&pool, 40))[1], 0, "it drains");
    }
}

#[test]
fn in_a_panic_all_that_do_not_drain_share_the_requests_or_nobody_gets_one() {
    let mut rules = pool("p", &endpoints(4));
    rules["picker"] = json!({"cycle": {"table": [0, 1, 2, 3]}});
    rules["panic"] = json!("use_all");
    let pool = compiled(&rules);
    for index in 0..3 {
        endpoint(&pool, index).flag(UP, false);
    }
    assert_eq!(counts(&pool, &members(&pool, 40)), [10, 10, 10, 10]);
    endpoint(&pool, 1).flag(DRAIN, true);
    assert_eq!(counts(&pool, &members(&pool, 40))[1], 0, "it drains");
    rules["panic"] = json!("fail");
    let pool = compiled(&rules);
    assert_eq!(outcome(&pool), Picked::None);
}

#[test]
fn a_healthy_but_full_endpoint_is_waited_for() {
    let mut rules = pool("p", &endpoints(2));
    rules["use_all"] = json!(true);
    rules["endpoints"][0]["max_connections"] = json!(1);
    rules["endpoints"][1]["up"] = json!(false);
    let pool = compiled(&rules);
    assert_eq!(member(&pool, 0), 0);
    assert_eq!(outcome(&pool), Picked::Full);
}

/// How long so many choices take, at best of several rounds.
fn time(pool: &Pool, choices: usize) -> std::time::Duration {
    let rounds = (0..5).map(|_| {
        let began = std::time::Instant::now();
        for _ in 0..choices {
            outcome_counted(pool);
        }
        began.elapsed()
    });
    rounds.min().unwrap()
}

/// A choice that is over at once.
fn outcome_counted(pool: &Pool) -> Picked {
    let picked = pick_with(pool, 0, &Tried::default(), false);
    if let Picked::Member(index) = picked {
        endpoint(pool, index as usize).leave();
    }
    picked
}

#[test]
fn a_choice_costs_the_same_in_a_large_pool() {
    let rules = |members: usize, picker: &Value, max: u32, up: bool| {
        let mut rules = pool("p", &endpoints(members));
        rules["picker"] = picker.clone();
        for endpoint in rules["endpoints"].as_array_mut().unwrap() {
            endpoint["max_connections"] = json!(max);
            endpoint["up"] = json!(up);
        }
        compiled(&rules)
    };
    let table = |members: usize| (0..members).collect::<Vec<_>>();
    for (what, picker) in [
        ("cycle", json!({"cycle": {"table": []}})),
        (
            "least",
            json!({"least": {"score": "in_flight", "choices": 0}}),
        ),
    ] {
        let (mut small, mut large) = (picker.clone(), picker);
        if what == "cycle" {
            small["cycle"]["table"] = json!(table(65));
            large["cycle"]["table"] = json!(table(5000));
        }
        for (state, max, up) in [("full", 1, true), ("down", 0, false), ("free", 0, true)] {
            let pools = [(65, &small), (5000, &large)].map(|(members, picker)| {
                let pool = rules(members, picker, max, up);
                if state == "full" {
                    for index in 0..members {
                        assert!(endpoint(&pool, index).enter());
                    }
                }
                pool
            });
            let [small, large] = pools.each_ref().map(|pool| time(pool, 300));
            assert!(
                large < small * 10 + std::time::Duration::from_micros(300),
                "{what}, {state}: {small:?} for 65 members, {large:?} for 5000"
            );
        }
    }
}

#[test]
fn a_pool_that_was_full_is_used_again_when_one_has_room() {
    for score in ["in_flight", "latency"] {
        let mut rules = pool("p", &endpoints(300));
        rules["picker"] = json!({"least": {"score": score, "choices": 0}});
        for endpoint in rules["endpoints"].as_array_mut().unwrap() {
            endpoint["max_connections"] = json!(1);
        }
        let pool = compiled(&rules);
        let mut taken: Vec<u32> = (0..300).map(|_| member(&pool, 0)).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..300).collect::<Vec<u32>>());
        assert_eq!(outcome(&pool), Picked::Full);
        for index in [299, 7] {
            pool.give_back(index, 0);
            assert_eq!(
                outcome(&pool),
                Picked::Member(index),
                "a dry choice leaves it"
            );
            assert_eq!(member(&pool, 0), index);
            assert_eq!(outcome(&pool), Picked::Full);
        }
        for index in 0..200 {
            pool.give_back(index, 0);
        }
        let again: HashSet<u32> = (0..200).map(|_| member(&pool, 0)).collect();
        assert_eq!(again, (0..200).collect());
        // Any other change counts as well.
        endpoint(&pool, 5).configure(None, None, None, Some(2), None);
        offer_all(&pool.state);
        assert_eq!(member(&pool, 0), 5);
        assert_eq!(outcome(&pool), Picked::Full);
    }
}

#[test]
fn no_room_of_a_full_pool_is_lost_between_threads() {
    let mut rules = pool("p", &endpoints(100));
    rules["picker"] = json!({"least": {"score": "in_flight", "choices": 2}});
    for endpoint in rules["endpoints"].as_array_mut().unwrap() {
        endpoint["max_connections"] = json!(1);
    }
    let pool = compiled(&rules);
    for _ in 0..98 {
        member(&pool, 0);
    }
    // Two places for four threads.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3000 {
                    let index = loop {
                        match pick_with(&pool, 0, &Tried::default(), false) {
                            Picked::Member(index) => break index,
                            none => assert_eq!(none, Picked::Full),
                        }
                        assert!(std::time::Instant::now() < end, "room was lost");
                        std::thread::yield_now();
                    };
                    pool.give_back(index, 0);
                }
            });
        }
    });
    let left: HashSet<u32> = [member(&pool, 0), member(&pool, 0)].into();
    assert_eq!(left.len(), 2);
}

#[test]
fn least_of_a_large_pool_keeps_the_load_even() {
    let pool = least(1000, "in_flight", 0);
    for _ in 0..10_000 {
        member(&pool, 0);
    }
    let in_flight: Vec<u32> = (0..1000).map(|i| endpoint(&pool, i).in_flight()).collect();
    let (lowest, highest) = (in_flight.iter().min(), in_flight.iter().max());
    assert!(
        lowest >= Some(&8) && highest <= Some(&12),
        "{lowest:?} to {highest:?}"
    );
}

#[test]
fn members_beyond_the_first_64_count_as_not_tried() {
    let pool = cycle(70, &(0..70).collect::<Vec<u32>>());
    for index in 0..64 {
        endpoint(&pool, index).flag(UP, false);
    }
    let mut tried = Tried::default();
    tried.add(64);
    assert!(!pool.all_tried(&tried));
    for index in 65..70 {
        tried.add(index);
    }
    assert!(pool.all_tried(&tried));
}

#[test]
fn one_hash_stays_with_one_member() {
    let table: Vec<u32> = (0..1000).map(|slot| slot * 7 % 10).collect();
    let pool = hashed(10, &table, None);
    for client in 0..1000_u64 {
        let hash = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = member(&pool, hash);
        for _ in 0..3 {
            assert_eq!(member(&pool, hash), first);
        }
    }
}

#[test]
fn a_hash_reaches_all_slots_in_order() {
    let table: Vec<u32> = (0..64).collect();
    let pool = hashed(64, &table, None);
    let reached: Vec<u32> = (0..64).map(|slot| member(&pool, slot << 58)).collect();
    assert_eq!(reached, table);
    assert_eq!(member(&pool, u64::MAX), 63);
}

#[test]
fn an_unusable_members_hashes_go_to_the_next_slot_and_come_back() {
    let pool = hashed(4, &[0, 1, 2, 3], None);
    let slot = |slot: u64| slot << 62;
    endpoint(&pool, 1).flag(UP, false);
    endpoint(&pool, 2).flag(DRAIN, true);
    let moved: Vec<u32> = (0..4).map(|at| member(&pool, slot(at))).collect();
    assert_eq!(moved, [0, 3, 3, 3], "only the hashes of 1 and 2 move");
    endpoint(&pool, 3).flag(UP, false);
    assert_eq!(member(&pool, slot(3)), 0, "it steps over the table's end");
    for index in 1..4 {
        endpoint(&pool, index).flag(UP, true);
        endpoint(&pool, index).flag(DRAIN, false);
    }
    let back: Vec<u32> = (0..4).map(|at| member(&pool, slot(at))).collect();
    assert_eq!(back, [0, 1, 2, 3]);
}

#[test]
fn no_member_holds_more_than_the_bounded_share() {
    let bound = 1.25;
    let pool = hashed(4, &[0, 1, 2, 3], Some(bound));
    assert!(pool.counts_in_flight);
    // Everybody has the same key, and nobody leaves.
    for request in 1..=100_u32 {
        let index = member(&pool, 0);
        let share = (f64::from(request) * bound / 4.0).ceil() as u32;
        let held = endpoint(&pool, index as usize).in_flight();
        assert!(
            held <= share,
            "request {request}: member {index} holds {held}, may hold {share}"
        );
        pool.state.in_flight.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_bound_that_nobody_can_keep_refuses_nobody() {
    let pool = hashed(2, &[0, 1], Some(1.0));
    endpoint(&pool, 0).flag(UP, false);
    for _ in 0..50 {
        assert_eq!(member(&pool, 0), 1);
        pool.state.in_flight.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_fewest_in_flight_per_weight_is_least() {
    let mut rules = pool("p", &endpoints(3));
    rules["picker"] = json!({"least": {"score": "in_flight", "choices": 0}});
    rules["endpoints"][1]["weight"] = json!(200);
    rules["endpoints"][2]["weight"] = json!(300);
    let pool = compiled(&rules);
    for _ in 0..60 {
        member(&pool, 0);
    }
    let in_flight = [0, 1, 2].map(|index| endpoint(&pool, index).in_flight());
    assert_eq!(in_flight, [10, 20, 30]);
}

#[test]
fn equals_take_turns() {
    let pool = least(4, "in_flight", 0);
    assert_eq!(counts(&pool, &members(&pool, 40)), [10, 10, 10, 10]);
}

#[test]
fn the_lower_latency_is_least() {
    let pool = least(2, "latency", 0);
    endpoint(&pool, 0).observe_latency(50.0, 1_000_000);
    endpoint(&pool, 1).observe_latency(5.0, 1_000_000);
    assert_eq!(counts(&pool, &members(&pool, 20)), [0, 20]);
    // Ten in flight at the faster one outweigh its speed.
    for _ in 0..10 {
        endpoint(&pool, 1).enter();
    }
    assert_eq!(members(&pool, 1), [0]);
}

#[test]
fn an_endpoint_without_a_latency_gets_one_request_to_show_it() {
    let pool = least(2, "latency", 0);
    endpoint(&pool, 0).observe_latency(5.0, 1_000_000);
    assert_eq!(member(&pool, 0), 1);
    assert_eq!(
        (member(&pool, 0), member(&pool, 0)),
        (0, 0),
        "1 has one request under way"
    );
}

#[test]
fn two_random_choices_avoid_the_busiest() {
    let pool = least(4, "in_flight", 2);
    for _ in 0..1000 {
        endpoint(&pool, 2).enter();
    }
    let counted = counts(&pool, &members(&pool, 2000));
    // It is taken only where both choices fell on it: one in sixteen.
    assert!(counted[2] < 2000 / 8, "{counted:?}");
    assert!(
        [0, 1, 3].iter().all(|&index| counted[index] > 400),
        "{counted:?}"
    );
}

#[test]
fn a_choice_among_unusable_ones_falls_back_to_all() {
    let pool = least(50, "in_flight", 1);
    for index in 0..49 {
        endpoint(&pool, index).flag(UP, false);
    }
    assert_eq!(members(&pool, 20), [49; 20]);
}

#[test]
fn a_dry_choice_leaves_no_trace() {
    let pools = [
        cycle(3, &[0, 1, 2]),
        hashed(3, &[0, 1, 2], Some(1.5)),
        least(3, "in_flight", 0),
    ];
    for pool in pools {
        let cursor = pool.state.cursor.load(Ordering::Relaxed);
        let first = outcome(&pool);
        for _ in 0..5 {
            assert_eq!(outcome(&pool), first, "{:?}", pool.picker);
        }
        assert_eq!(pool.state.cursor.load(Ordering::Relaxed), cursor);
        assert!((0..3).all(|index| endpoint(&pool, index).in_flight() == 0));
        let Picked::Member(index) = first else {
            panic!("{first:?}")
        };
        assert_eq!(
            member(&pool, 0),
            index,
            "what was told is what happens: {:?}",
            pool.picker
        );
    }
}

fn request(lines: &[&str]) -> (RequestHead, Vec<u8>) {
    let bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    let mut head = RequestHead::default();
    head.parse(&bytes, 100, 8192).unwrap();
    (head, bytes)
}

#[test]
fn the_key_is_the_part_of_the_request_it_names() {
    let (head, bytes) = request(&[
        "GET /a/b?user=7&x=&user=8&sess HTTP/1.1",
        "Host: h",
        "X-Tenant: blue",
        "x-tenant: red",
        "Cookie: a=1; sess=abc=d;b=2",
        "Cookie: late=3",
    ]);
    let header = |name: &str| RequestKey::Header(name.into());
    let cookie = |name: &str| RequestKey::Cookie(name.into());
    let query = |name: &str| RequestKey::Query(name.into());
    let cases: [(RequestKey, Option<&str>); 13] = [
        (header("X-TENANT"), Some("blue")),
        (header("x-none"), None),
        (cookie("sess"), Some("abc=d")),
        (cookie("b"), Some("2")),
        (cookie("late"), Some("3")),
        (cookie("SESS"), None),
        (cookie("ess"), None),
        (query("user"), Some("7")),
        (query("x"), Some("")),
        (query("sess"), None),
        (query("use"), None),
        (RequestKey::Path, Some("/a/b")),
        (RequestKey::All, None),
    ];
    for (key, expected) in cases {
        let found = key_bytes(&key, &head, &bytes).map(|bytes| std::str::from_utf8(bytes).unwrap());
        assert_eq!(found, expected, "{key:?}");
    }
}

#[test]
fn hashes_are_the_same_on_every_machine() {
    let (head, bytes) = request(&["GET /a HTTP/1.1", "Host: h", "X-K: v"]);
    let request = Some((&head, bytes.as_slice()));
    let header = RequestKey::Header("x-k".into());
    // FNV-1a and SplitMix64's mixer, computed elsewhere. With another hash, balancers of different
    // versions would send one client to different endpoints.
    assert_eq!(
        hash_key(&RequestKey::Path, request, None),
        16_393_052_853_503_537_403
    );
    assert_eq!(hash_key(&header, request, None), 6_386_651_830_633_679_292);
    let client = |ip: &str| hash_key(&RequestKey::ClientIp, None, Some(ip.parse().unwrap()));
    assert_eq!(client("192.0.2.1"), 2_161_984_699_633_912_267);
    assert_eq!(
        client("2001:db8::1"),
        client("2001:db8::ffff:1"),
        "one /64, one client"
    );
    assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
    assert_eq!(hash_key(&RequestKey::ClientIp, None, None), 0);
    let random = || hash_key(&RequestKey::Random, request, None);
    assert_ne!(random(), random());
}

#[test]
fn neighbouring_addresses_land_far_apart() {
    let mut slots = [0; 16];
    for last in 0..=255_u8 {
        for third in 0..4_u8 {
            let ip = std::net::IpAddr::from([10, 0, third, last]);
            let hash = hash_key(&RequestKey::ClientIp, None, Some(ip));
            slots[(hash >> 60) as usize] += 1;
        }
    }
    // 64 are expected in each; six standard deviations of leeway.
    assert!(
        slots.iter().all(|&count| (18..=110).contains(&count)),
        "{slots:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_choice_is_usable_and_counted_whatever_the_state(
        states in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0..3_u32), 1..12),
        kind in 0..4_usize,
        use_all: bool,
        hash: u64,
        tried in prop::collection::vec(0..12_u32, 0..4),
    ) {
        let size = states.len();
        let table: Vec<usize> = (0..size * 2).map(|slot| slot % size).collect();
        let mut rules = pool("p", &endpoints(size));
        rules["use_all"] = json!(use_all);
        rules["picker"] = match kind {
            0 => json!({"cycle": {"table": table}}),
            1 => json!({"hash": {"key": "path", "table": table, "load_bound": 1.2}}),
            2 => json!({"least": {"score": "in_flight", "choices": 2}}),
            _ => json!({"least": {"score": "latency", "choices": 0}}),
        };
        for (index, (up, drain, _, max)) in states.iter().enumerate() {
            rules["endpoints"][index]["up"] = json!(up);
            rules["endpoints"][index]["drain"] = json!(drain);
            rules["endpoints"][index]["max_connections"] = json!(max);
        }
        let pool = compiled(&rules);
        for (index, (_, _, ejected, max)) in states.iter().enumerate() {
            endpoint(&pool, index).flag(EJECTED, *ejected);
            // Some of the bounded ones are full.
            if *max > 0 && index % 2 == 0 {
                for _ in 0..*max {
                    endpoint(&pool, index).enter();
                }
            }
        }
        let mut not_these = Tried::default();
        for index in tried {
            not_these.add(index);
        }
        let free = |index: usize| !not_these.contains(index as u32);
        let usable = |desperate| (0..size).filter(|&index| {
            free(index) && endpoint(&pool, index).usable(desperate).is_ok()
        }).count();
        let (healthy, desperate) = (usable(false), usable(true));
        let before: Vec<u32> = (0..size).map(|index| endpoint(&pool, index).in_flight()).collect();
        let picked = pick_with(&pool, hash, &not_these, false);
        let after: Vec<u32> = (0..size).map(|index| endpoint(&pool, index).in_flight()).collect();
        match picked {
            Picked::Member(index) => {
                let index = index as usize;
                prop_assert!(free(index));
                prop_assert!(!states[index].1, "it drains");
                let fit = states[index].0 && !states[index].2;
                prop_assert!(fit || (use_all && healthy == 0));
                prop_assert_eq!(after[index], before[index] + 1);
                prop_assert_eq!(after.iter().sum::<u32>(), before.iter().sum::<u32>() + 1);
            }
            Picked::Full | Picked::None => {
                prop_assert_eq!(healthy, 0);
                prop_assert_eq!(&after, &before);
                if picked == Picked::None {
                    prop_assert!(!use_all || desperate == 0);
                }
            }
        }
    }
}
