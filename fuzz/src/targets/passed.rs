//! What other engines tell of limits: charged as far as it goes, or refused with a reason.

use evenflow_engine::engine;
use evenflow_state::limiter::Limiter;

use super::{Target, rule};

const RATE: f64 = 10.0;
const BURST: u32 = 5;
/// 16 bursts and 10 s at the rate, in nanoseconds.
const MOST_NS: u64 = 18_000_000_000;

/// The message between nodes.
pub const PASSED: Target = Target {
    name: "passed",
    seeds: &[
        br#"{"limits":[{"limit":"l","keys":[[1,3],[18446744073709551615,1]]},{"limit":"m","keys":[]}]}"#,
    ],
    words: &[
        b"null",
        b"-1",
        b"4294967295",
        b"4294967296",
        b"18446744073709551615",
        b"1e99",
        b"[]",
        b"{}",
        b"[[[[[[[[",
        b"\"keys\":[[1,1]]",
        b"\\ud800",
    ],
    check,
};

fn check(input: &[u8]) -> Result<(), String> {
    let passed = match engine::read_passed(input) {
        Ok(passed) => passed,
        Err(error) => {
            return rule(
                !error.message.is_empty(),
                "a message is refused without a word",
            );
        }
    };
    let limiter = Limiter::new(RATE, BURST, 64).with_debt();
    for (key, count) in passed.limits.into_iter().flat_map(|limit| limit.keys) {
        limiter.charge(key, count, 1);
        let decision = limiter.check(key, 1);
        rule(
            decision.reset_ns <= MOST_NS,
            "a debt is larger than it may be",
        )?;
        rule(count < BURST || !decision.allowed, "a charge was forgotten")?;
    }
    Ok(())
}
