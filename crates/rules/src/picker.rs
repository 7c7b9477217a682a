//! The three ways to choose an endpoint. Strategies, in Python, compile to one of them.
//!
//! The cost of a choice does not depend on the size of the pool: tables are indexed, not searched,
//! and only when dozens of neighbours in a table are all unusable is the pool looked through.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use evenflow_state::endpoint::Unusable;

use crate::member::Member;
use crate::plan::{Panic, RequestKey, Score};

/// How far a table is walked past unusable endpoints before the whole pool is looked through.
const WALK: usize = 64;

/// How one endpoint of a pool is chosen. Indices are into the pool's members.
#[derive(Debug, Clone)]
pub enum Picker {
    /// Walk the table, all workers together.
    Cycle(Box<[u32]>),
    /// Index the table by a hash.
    Hash {
        /// What is hashed.
        key: RequestKey,
        /// Endpoint indices.
        table: Box<[u32]>,
        /// At most this many times the average in flight.
        load_bound: Option<f64>,
    },
    /// The lowest score of some endpoints.
    Least {
        /// What is compared.
        score: Score,
        /// How many are compared; 0 is all.
        choices: u32,
    },
}

impl Picker {
    /// Its name in explanations.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Cycle(_) => "cycle",
            Self::Hash { .. } => "hash",
            Self::Least { .. } => "least",
        }
    }

    /// What of the request it looks at.
    pub fn key(&self) -> Option<&RequestKey> {
        match self {
            Self::Hash { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// The endpoints that a request has failed at.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tried {
    indices: [u32; 8],
    len: usize,
}

impl Tried {
    /// Remembers one; beyond eight the oldest is forgotten.
    pub fn add(&mut self, index: u32) {
        self.indices[self.len % 8] = index;
        self.len += 1;
    }

    /// How many were added.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is remembered.
    pub fn contains(&self, index: u32) -> bool {
        self.indices[..self.len.min(8)].contains(&index)
    }
}

/// The outcome of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picked {
    /// This member; the request is counted in.
    Member(u32),
    /// All that could serve are full.
    Full,
    /// None can serve.
    None,
}

/// What a choice depends on besides the pool.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The request's key as [`hash_key`](crate::key::hash_key) gives it; 0 where the picker needs none.
    pub hash: u64,
    /// Not these.
    pub tried: &'a Tried,
    /// The engine's clock.
    pub now_ms: u64,
    /// Leave no trace: nothing is counted in and no cursor moves.
    pub dry: bool,
}

/// What a choice is made from: a pool, as pickers see it.
#[derive(Debug)]
pub struct Candidates<'a> {
    /// How one is chosen.
    pub picker: &'a Picker,
    /// All there are.
    pub members: &'a [Member],
    /// When none is usable, use all that are not draining.
    pub use_all: bool,
    /// What happens while too few are usable.
    pub panic: Option<Panic>,
    /// Where the cycle stands.
    pub cursor: &'a AtomicUsize,
    /// Requests in flight, over all members.
    pub in_flight: &'a AtomicU32,
}

impl Candidates<'_> {
    fn looks_past_health(&self) -> bool {
        self.use_all || self.panic == Some(Panic::UseAll)
    }
}

/// Chooses a member and counts the request in.
pub fn pick(pool: &Candidates<'_>, choice: &Choice<'_>) -> Picked {
    let desperate = match pool.panic {
        Some(Panic::Fail) => return Picked::None,
        Some(Panic::UseAll) => true,
        None => false,
    };
    // One turn for both passes: with two, every other slot of a table would be left out.
    let turn = turn(pool, choice);
    if let Some(index) = pass(pool, choice, turn, desperate) {
        return Picked::Member(index);
    }
    if pool.use_all
        && !desperate
        && !any_full(pool, choice, false)
        && let Some(index) = pass(pool, choice, turn, true)
    {
        return Picked::Member(index);
    }
    if any_full(pool, choice, pool.looks_past_health()) {
        Picked::Full
    } else {
        Picked::None
    }
}

fn any_full(pool: &Candidates<'_>, choice: &Choice<'_>, desperate: bool) -> bool {
    (0u32..).zip(pool.members.iter()).any(|(index, member)| {
        !choice.tried.contains(index) && member.endpoint.usable(desperate) == Err(Unusable::Full)
    })
}

fn pass(pool: &Candidates<'_>, choice: &Choice<'_>, turn: usize, desperate: bool) -> Option<u32> {
    let take = |index: u32| {
        let endpoint = &pool.members[index as usize].endpoint;
        !choice.tried.contains(index)
            && endpoint.usable(desperate).is_ok()
            && (choice.dry || endpoint.enter())
    };
    match pool.picker {
        Picker::Cycle(table) => walk(table, turn, take).or_else(|| search(pool, turn, take)),
        Picker::Hash {
            table, load_bound, ..
        } => {
            let start = ((u128::from(choice.hash) * table.len() as u128) >> 64) as usize;
            let bound = load_bound.map(|bound| bound_of(pool, bound));
            walk(table, start, |index| {
                bound.is_none_or(|max| pool.members[index as usize].endpoint.in_flight() < max)
                    && take(index)
            })
            .or_else(|| search(pool, choice.hash as usize, take))
        }
        Picker::Least { score, choices } => {
            let all = pool.members.len();
            let sampled = *choices as usize;
            let best = if sampled == 0 || sampled >= all {
                let candidates = (0..all).map(|step| (turn.wrapping_add(step) % all) as u32);
                lowest(pool, choice, *score, desperate, candidates)
            } else {
                let candidates = (0..sampled).map(|_| fastrand::u32(0..all as u32));
                lowest(pool, choice, *score, desperate, candidates)
            };
            best.filter(|&index| take(index))
                .or_else(|| search(pool, turn, take))
        }
    }
}

/// Whose turn it is, taken once per request. A further attempt of the same request takes no turn of
/// its own: with two endpoints, one of them failing, every first attempt would else meet the
/// failing one.
fn turn(pool: &Candidates<'_>, choice: &Choice<'_>) -> usize {
    match pool.picker {
        Picker::Hash { .. } => 0,
        _ if choice.dry || !choice.tried.is_empty() => pool.cursor.load(Ordering::Relaxed),
        _ => pool.cursor.fetch_add(1, Ordering::Relaxed),
    }
}

fn walk(table: &[u32], start: usize, mut take: impl FnMut(u32) -> bool) -> Option<u32> {
    if table.is_empty() {
        return None;
    }
    let mut at = start % table.len();
    for _ in 0..table.len().min(WALK) {
        if take(table[at]) {
            return Some(table[at]);
        }
        at += 1;
        if at == table.len() {
            at = 0;
        }
    }
    None
}

fn search(pool: &Candidates<'_>, start: usize, mut take: impl FnMut(u32) -> bool) -> Option<u32> {
    let all = pool.members.len();
    (0..all)
        .map(|step| (start.wrapping_add(step) % all) as u32)
        .find(|&index| take(index))
}

fn bound_of(pool: &Candidates<'_>, bound: f64) -> u32 {
    let total = f64::from(pool.in_flight.load(Ordering::Relaxed) + 1);
    (total * bound / pool.members.len() as f64).ceil() as u32
}

fn lowest(
    pool: &Candidates<'_>,
    choice: &Choice<'_>,
    score: Score,
    desperate: bool,
    candidates: impl Iterator<Item = u32>,
) -> Option<u32> {
    let mut best = None;
    let mut lowest = f32::INFINITY;
    for index in candidates {
        let endpoint = &pool.members[index as usize].endpoint;
        if choice.tried.contains(index) || endpoint.usable(desperate).is_err() {
            continue;
        }
        let in_flight = endpoint.in_flight() as f32;
        let load = match score {
            Score::InFlight => in_flight + 1.0,
            Score::Latency => match endpoint.latency_ms(choice.now_ms) {
                // Not measured yet: one request may go and see.
                latency if latency <= 0.0 && in_flight > 0.0 => 1e9 + in_flight,
                latency => latency * (in_flight + 1.0),
            },
        } / endpoint.weight() as f32;
        if load < lowest {
            lowest = load;
            best = Some(index);
        }
    }
    best
}
