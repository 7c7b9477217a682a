//! An address passes when a reader of the two lists would say so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenflow_rules::filters::ip_set::IpSet;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

fn set(allow: &[&str], deny: &[&str]) -> IpSet {
    let parse = |list: &[&str]| {
        list.iter()
            .map(|net| net.parse().unwrap())
            .collect::<Vec<_>>()
    };
    IpSet::new(&parse(allow), &parse(deny))
}

#[track_caller]
fn assert_verdicts(set: &IpSet, permitted: &[&str], refused: &[&str]) {
    for ip in permitted {
        assert!(set.permits(ip.parse().unwrap()), "{ip} should pass");
    }
    for ip in refused {
        assert!(!set.permits(ip.parse().unwrap()), "{ip} should not pass");
    }
}

#[test]
fn empty_lists_permit_everyone() {
    assert_verdicts(
        &set(&[], &[]),
        &["0.0.0.0", "255.255.255.255", "::", "ffff::1"],
        &[],
    );
}

#[test]
fn only_allowed_networks_pass() {
    let set = set(&["10.0.0.0/8", "2001:db8::/32"], &[]);
    assert_verdicts(
        &set,
        &[
            "10.0.0.0",
            "10.255.255.255",
            "2001:db8::",
            "2001:db8:ffff::1",
        ],
        &["9.255.255.255", "11.0.0.0", "2001:db7::", "2001:db9::"],
    );
}

#[test]
fn an_allow_list_of_one_family_refuses_the_other() {
    assert_verdicts(
        &set(&["10.0.0.0/8"], &[]),
        &["10.1.2.3"],
        &["::1", "2001:db8::1"],
    );
    assert_verdicts(
        &set(&["::/0"], &[]),
        &["::1"],
        &["10.1.2.3", "::ffff:10.1.2.3"],
    );
}

#[test]
fn denied_networks_never_pass_even_when_allowed() {
    let set = set(&["10.0.0.0/8"], &["10.1.0.0/16", "0.0.0.0/1"]);
    assert_verdicts(&set, &[], &["10.1.0.1", "10.2.0.1", "200.0.0.1"]);
}

#[test]
fn a_deny_list_alone_permits_the_rest() {
    let set = set(&[], &["192.0.2.0/24", "255.255.255.255/32", "0.0.0.0/32"]);
    assert_verdicts(
        &set,
        &[
            "192.0.1.255",
            "192.0.3.0",
            "255.255.255.254",
            "0.0.0.1",
            "::1",
        ],
        &["192.0.2.0", "192.0.2.255", "255.255.255.255", "0.0.0.0"],
    );
}

#[test]
fn a_mapped_address_is_the_ipv4_address_it_maps() {
    let by_v4 = set(&["10.0.0.0/8"], &[]);
    assert_verdicts(
        &by_v4,
        &["::ffff:10.0.0.1"],
        &["::ffff:11.0.0.1", "::a00:1"],
    );
    let by_mapped = set(&["::ffff:10.0.0.0/104"], &[]);
    assert_verdicts(
        &by_mapped,
        &["10.0.0.1", "::ffff:10.0.0.1"],
        &["11.0.0.1", "::1"],
    );
}

#[test]
fn the_last_addresses_of_each_family_are_inside_their_networks() {
    let set = set(&["255.0.0.0/8", "ff00::/8"], &[]);
    assert_verdicts(
        &set,
        &["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        &["254.255.255.255", "feff::"],
    );
}

#[test]
fn overlapping_and_repeated_networks_count_once() {
    let set = set(
        &["10.0.0.0/9", "10.0.0.0/8", "10.0.0.0/8", "10.128.0.0/9"],
        &[],
    );
    assert_verdicts(
        &set,
        &["10.0.0.1", "10.127.255.255", "10.128.0.0"],
        &["11.0.0.0"],
    );
}

// Few distinct addresses, so that networks overlap, touch and nest.
fn network() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (address_v4(), 0_u8..=32).prop_map(|(ip, len)| Ipv4Net::new(ip, len).unwrap().into()),
        (address_v6(), 0_u8..=128).prop_map(|(ip, len)| Ipv6Net::new(ip, len).unwrap().into()),
    ]
}

fn address_v4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        (0_u32..16).prop_map(|low| Ipv4Addr::from_bits(0x0a00_0000 + low)),
        (0_u32..16).prop_map(|high| Ipv4Addr::from_bits(high << 28)),
        any::<u32>().prop_map(Ipv4Addr::from_bits),
        Just(Ipv4Addr::BROADCAST),
    ]
}

fn address_v6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        (0_u128..16).prop_map(|low| Ipv6Addr::from_bits((0x2001_0db8 << 96) + low)),
        (0_u128..16).prop_map(|high| Ipv6Addr::from_bits(high << 124)),
        Just(Ipv6Addr::from_bits(u128::MAX)),
        address_v4().prop_map(|ip| ip.to_ipv6_mapped()),
    ]
}

fn naively_contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let all_mapped: Ipv6Net = "::ffff:0:0/96".parse().unwrap();
    networks.iter().any(|network| {
        let network = match network {
            IpNet::V4(net) => {
                Ipv6Net::new(net.addr().to_ipv6_mapped(), net.prefix_len() + 96).unwrap()
            }
            IpNet::V6(net) => *net,
        };
        let wider = network.prefix_len() < 96;
        network.contains(&mapped(ip)) && !(wider && all_mapped.contains(&mapped(ip)))
    })
}

proptest! {
    #[test]
    fn it_agrees_with_a_walk_over_the_lists(
        allow in prop::collection::vec(network(), 0..8),
        deny in prop::collection::vec(network(), 0..8),
        v4 in address_v4(),
        v6 in address_v6(),
    ) {
        let set = IpSet::new(&allow, &deny);
        for ip in [IpAddr::V4(v4), IpAddr::V6(v6)] {
            let expected = (allow.is_empty() || naively_contains(&allow, ip))
                && !naively_contains(&deny, ip);
            prop_assert_eq!(set.permits(ip), expected, "{}", ip);
        }
    }

    #[test]
    fn every_edge_of_every_network_agrees(
        allow in prop::collection::vec(network(), 1..6),
        deny in prop::collection::vec(network(), 0..6),
    ) {
        let set = IpSet::new(&allow, &deny);
        for network in allow.iter().chain(&deny) {
            for ip in [network.network(), network.broadcast()] {
                let expected = naively_contains(&allow, ip) && !naively_contains(&deny, ip);
                prop_assert_eq!(set.permits(ip), expected, "{}", ip);
            }
        }
    }
}
