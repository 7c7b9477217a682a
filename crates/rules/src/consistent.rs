//! Consistent tables: which endpoint owns which slot.
//!
//! Weighted rendezvous hashing gives each slot to the endpoint with the earliest of independent
//! exponential arrival times whose rates are the weights. Drawing one time per slot and endpoint
//! would cost slots × endpoints. Here each endpoint draws its arrivals in the order of time, each at
//! a random slot, and drawing stops when every slot has been reached. That is the same law for
//! about slots × ln(slots) draws in all, however many endpoints there are.
//!
//! An endpoint's draws depend on its id alone, and its weight only stretches their times. So
//! removing an endpoint moves only the slots it owned, and raising a weight moves slots only to that
//! endpoint. The table is the same in every process, version and machine, which is why the hash and
//! the generator are written out here.

/// The endpoint, as an index into `ids`, of each of `slots` slots.
///
/// Shares follow the weights up to chance (about ±√share slots). An endpoint of weight 0 owns none;
/// when there is no other, the table is empty. Ids should differ: of two equal ones the first, or
/// the heavier, takes the slots of both.
pub fn consistent_table(ids: &[&str], weights: &[u32], slots: usize) -> Vec<u32> {
    let mut endpoints: Vec<Arrivals> = ids
        .iter()
        .zip(weights)
        .enumerate()
        .filter(|(_, (_, weight))| **weight > 0)
        .map(|(index, (id, weight))| Arrivals::new(index, id, *weight))
        .collect();
    if endpoints.is_empty() || slots == 0 {
        return Vec::new();
    }
    // On a tie, which is as unlikely as it can be, the smaller id wins in every order of the list.
    endpoints.sort_by_key(|endpoint| ids[endpoint.index as usize]);

    let rate: f64 = endpoints
        .iter()
        .map(|endpoint| 1.0 / endpoint.mean_gap)
        .sum();
    let round = slots as f64 / rate;
    let mut winners = vec![(f64::INFINITY, 0); slots];
    let mut empty = slots;
    let mut horizon = 0.0;
    while empty > 0 {
        // About ln(slots) rounds are needed; the last few slots decide, so go in small steps.
        horizon += if horizon == 0.0 {
            round * (slots as f64).ln().max(1.0)
        } else {
            round / 2.0
        };
        for endpoint in &mut endpoints {
            empty -= endpoint.advance(horizon, &mut winners);
        }
    }
    winners.into_iter().map(|(_, index)| index).collect()
}

/// One endpoint's arrivals, in the order of time.
struct Arrivals {
    index: u32,
    mean_gap: f64,
    state: u64,
    next: f64,
}

impl Arrivals {
    fn new(index: usize, id: &str, weight: u32) -> Self {
        let mut arrivals = Self {
            index: index as u32,
            mean_gap: 1.0 / f64::from(weight),
            state: stable_hash(id.as_bytes()),
            next: 0.0,
        };
        arrivals.next = arrivals.gap();
        arrivals
    }

    /// Claims slots up to the horizon and returns how many of them nobody had claimed before.
    fn advance(&mut self, horizon: f64, winners: &mut [(f64, u32)]) -> usize {
        let mut first_claims = 0;
        while self.next < horizon {
            let slot = ((self.random() >> 32) * winners.len() as u64) >> 32;
            let winner = &mut winners[slot as usize];
            if self.next < winner.0 {
                first_claims += usize::from(winner.0 == f64::INFINITY);
                *winner = (self.next, self.index);
            }
            self.next += self.gap();
        }
        first_claims
    }

    /// The time between two arrivals: exponential with the mean of this endpoint.
    fn gap(&mut self) -> f64 {
        // 53 random bits, moved off 0.
        let uniform = ((self.random() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() * self.mean_gap
    }

    /// The splitmix64 generator.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }
}

/// FNV-1a, then mixed, since related ids must not give related sequences.
fn stable_hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
