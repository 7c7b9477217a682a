//! Allow and deny lists of networks.
//!
//! Both lists are folded at compile time into one sorted array of the addresses at which the answer
//! changes, so a check is one binary search and the parity of its position, whatever the lists
//! overlap or repeat. With 10,000 networks a check of a random address takes
//! 27 ns for IPv4 and 75 ns for IPv6 (2.8 GHz Xeon; 13 and 23 ns with ten networks), in 80 and
//! 320 KB. A multibit trie could save little of that and would need more memory for each set.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::filters::primitive::{Class, FilterRequest, PathError, Primitive, Setup, StepOutcome};
use crate::plan;
use crate::reason::Reason;

/// The filter: 403 for clients that the lists do not permit.
#[derive(Debug, Clone)]
pub struct AddressCheck(Arc<IpSet>);

impl Primitive for AddressCheck {
    type Rules = plan::IpSetFilter;
    const NAME: &'static str = "ip_set";
    const CHECK: &'static str = "address";
    const CLASS: Class = Class::Address;

    fn compile(rules: &Self::Rules, _: &mut Setup<'_>) -> Result<Self, PathError> {
        Ok(Self(Arc::new(IpSet::new(&rules.allow, &rules.deny))))
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        if request.view.client.is_none_or(|ip| self.0.permits(ip)) {
            return StepOutcome::Continue;
        }
        StepOutcome::Refuse(Reason::Forbidden.into())
    }
}

/// The clients that may pass. An IPv6 address that maps an IPv4 one is that IPv4 address, in the
/// lists as well as in requests; an IPv6 network that is wider than the mapped range holds no IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSet {
    v4: Box<[u32]>,
    v6: Box<[u128]>,
}

impl IpSet {
    /// Permits the networks of `allow`, or every network when there is none, except those of
    /// `deny`.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        let (allow_v4, allow_v6) = by_family(allow);
        let (deny_v4, deny_v6) = by_family(deny);
        let everything = allow.is_empty();
        let v4 = difference(
            &boundaries(allow_v4, everything, u32::MAX.into()),
            &boundaries(deny_v4, false, u32::MAX.into()),
        );
        let v6 = difference(
            &boundaries(allow_v6, everything, u128::MAX),
            &boundaries(deny_v6, false, u128::MAX),
        );
        Self {
            v4: v4.into_iter().map(|address| address as u32).collect(),
            v6: v6.into(),
        }
    }

    /// Whether a client with this address may pass.
    #[inline]
    pub fn permits(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => inside(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => inside(&self.v6, ip.to_bits()),
        }
    }
}

/// Whether an odd number of boundaries lies at or below the address.
fn inside<A: Ord + Copy>(boundaries: &[A], address: A) -> bool {
    boundaries.partition_point(|&boundary| boundary <= address) % 2 == 1
}

type Ranges = Vec<(u128, u128)>;

/// First and last addresses of the IPv4 and of the IPv6 networks.
fn by_family(networks: &[IpNet]) -> (Ranges, Ranges) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in networks {
        let (first, last) = (network.network(), network.broadcast());
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                v4.push((first.to_bits().into(), last.to_bits().into()));
            }
            _ => v6.push((bits(first), bits(last))),
        }
    }
    (v4, v6)
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The addresses at which membership in the union of the ranges changes, ascending, beginning with
/// a change to inside. A range that reaches `last` never changes back.
fn boundaries(mut ranges: Ranges, everything: bool, last: u128) -> Vec<u128> {
    if everything {
        return vec![0];
    }
    ranges.sort_unstable();
    let mut union: Ranges = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match union.last_mut() {
            Some((_, previous)) if start <= previous.saturating_add(1) => {
                *previous = end.max(*previous);
            }
            _ => union.push((start, end)),
        }
    }
    let mut boundaries = Vec::with_capacity(union.len() * 2);
    for (start, end) in union {
        boundaries.push(start);
        if end < last {
            boundaries.push(end + 1);
        }
    }
    boundaries
}

/// The boundaries of what is inside the first set and outside the second.
fn difference(allow: &[u128], deny: &[u128]) -> Vec<u128> {
    let mut points: Vec<u128> = allow.iter().chain(deny).copied().collect();
    points.sort_unstable();
    points.dedup();
    let (mut allowed, mut denied, mut inside) = (0, 0, false);
    points.retain(|&point| {
        while allowed < allow.len() && allow[allowed] <= point {
            allowed += 1;
        }
        while denied < deny.len() && deny[denied] <= point {
            denied += 1;
        }
        let before = inside;
        inside = allowed % 2 == 1 && denied % 2 == 0;
        inside != before
    });
    points
}
