//! The three ways to choose an endpoint. Strategies, in Python, compile to one of them.
//!
//! The cost of a choice does not depend on the size of the pool: tables are indexed, not searched, a
//! large pool is compared by samples, and only when dozens of neighbours in a table are all unusable
//! is the pool looked through. If that finds nothing, the pool is declared exhausted and not looked
//! through again before something has changed.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use evenflow_state::endpoint::Unusable;
use evenflow_state::exhausted::Exhausted;

use crate::member::Member;
use crate::plan::{Panic, RequestKey, Score};

/// How far a table is walked past unusable endpoints before the whole pool is looked through.
const WALK: usize = 64;

/// Up to so many endpoints are looked at one by one where all are to be compared.
const EXACT: usize = 64;

/// Of more endpoints, so many are compared, taken at random. The best of 32 is among the best 9 %
/// of the pool in 95 of 100 cases.
const SAMPLE: usize = 32;

/// How often endpoints are taken at random before the pool is looked through for a usable one.
const ROUNDS: usize = 4;

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
    /// The number of these rules and members.
    pub rules: u32,
    /// Whether no member takes a request.
    pub exhausted: &'a Exhausted,
}

impl Candidates<'_> {
    fn looks_past_health(&self) -> bool {
        self.use_all || self.panic == Some(Panic::UseAll)
    }
}

/// Chooses a member and counts the request in.
pub fn pick(pool: &Candidates<'_>, choice: &Choice<'_>) -> Picked {
    if pool.panic == Some(Panic::Fail) {
        return Picked::None;
    }
    let large = pool.members.len() > EXACT;
    if large && let Some(picked) = among_freed(pool, choice) {
        return picked;
    }
    let turn = turn(pool, choice);
    let picked = look(pool, choice, turn);
    if !large || matches!(picked, Picked::Member(_)) || !choice.tried.is_empty() {
        return picked;
    }
    let exhausted = pool.exhausted;
    exhausted.declare(pool.rules, picked == Picked::Full);
    let again = look(pool, choice, turn);
    if again != picked {
        exhausted.end();
    }
    again
}

/// The outcome where the pool is known to be exhausted but for what got room since.
fn among_freed(pool: &Candidates<'_>, choice: &Choice<'_>) -> Option<Picked> {
    let exhausted = pool.exhausted;
    let none = if exhausted.by(pool.rules)? {
        Picked::Full
    } else {
        Picked::None
    };
    let is_free = |index: u32| {
        let endpoint = &pool.members[index as usize].endpoint;
        endpoint.usable(pool.looks_past_health()).is_ok()
    };
    if !choice.tried.is_empty() || pool.looks_past_health() {
        // What is free may be of no use to this request, or second choice.
        return exhausted.find(true, is_free).is_none().then_some(none);
    }
    let found = exhausted.find(choice.dry, |index| {
        let endpoint = &pool.members[index as usize].endpoint;
        is_free(index) && (choice.dry || endpoint.enter())
    });
    Some(found.map_or(none, Picked::Member))
}

/// Looks through the pool.
fn look(pool: &Candidates<'_>, choice: &Choice<'_>, turn: usize) -> Picked {
    let desperate = pool.panic == Some(Panic::UseAll);
    // One turn for both passes: with two, every other slot of a table would be left out.
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
            let sampled = match *choices as usize {
                0 if all > EXACT => SAMPLE,
                0 => all,
                some => some,
            };
            if sampled >= all {
                let candidates = (0..all).map(|step| (turn.wrapping_add(step) % all) as u32);
                let best = lowest(pool, choice, *score, desperate, candidates);
                best.filter(|&index| take(index))
            } else {
                (0..ROUNDS).find_map(|_| {
                    let candidates = (0..sampled).map(|_| fastrand::u32(0..all as u32));
                    let best = lowest(pool, choice, *score, desperate, candidates);
                    best.filter(|&index| take(index))
                })
            }
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
