//! How often a peer may do what costs more here than there: a bucket of tokens that time refills.

/// A number of events that a peer may cause.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    left: u32,
    burst: u32,
    per_second: u32,
    /// Up to when time was counted, in milliseconds.
    counted_ms: u64,
}

impl Allowance {
    /// So many at once, and so many more a second.
    pub const fn new(burst: u32, per_second: u32) -> Self {
        Self {
            left: burst,
            burst,
            per_second,
            counted_ms: 0,
        }
    }

    /// One of them happened. `false`: that was one too many.
    #[must_use]
    pub fn spend(&mut self, now_ms: u64) -> bool {
        let elapsed = now_ms.saturating_sub(self.counted_ms);
        let earned = elapsed.saturating_mul(u64::from(self.per_second)) / 1000;
        if earned > 0 {
            // Parts of a second count later, or a steady flow would earn nothing.
            self.counted_ms = now_ms;
            self.refund(u32::try_from(earned).unwrap_or(u32::MAX));
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// The peer did something useful: so many more.
    pub fn refund(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::Allowance;

    #[test]
    fn a_burst_is_borne_and_then_what_time_and_use_give_back() {
        let mut allowance = Allowance::new(3, 10);
        assert!((0..3).all(|_| allowance.spend(0)));
        assert!(!allowance.spend(50));
        assert!(!allowance.spend(99));
        assert!(allowance.spend(100));
        assert!(!allowance.spend(100));
        allowance.refund(1);
        assert!(allowance.spend(100));
        assert!(!allowance.spend(90), "a clock that goes back gives nothing");
    }
}
