//! Flow control (RFC 9113 §5.2, §6.9): what each side may still send.

/// The window of streams and connection before settings or updates (RFC 9113 §6.9.2).
pub const DEFAULT_WINDOW: u32 = 65_535;
/// The largest window.
pub const MAX_WINDOW: i64 = 0x7fff_ffff;

/// What this side may send. Settings may make it negative.
#[derive(Debug, Clone, Copy)]
pub struct SendWindow(i64);

impl SendWindow {
    /// A window of this size.
    pub fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent.
    pub fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or_default()
    }

    /// Bytes were sent.
    pub fn sent(&mut self, count: u32) {
        self.0 -= i64::from(count);
    }

    /// Changes the window; answers whether it opened. `None`: it would be too large.
    pub fn change(&mut self, by: i64) -> Option<bool> {
        let was_closed = self.0 <= 0;
        self.0 += by;
        (self.0 <= MAX_WINDOW).then_some(was_closed && self.0 > 0)
    }
}

/// What the peer may send on one stream, or on the connection.
///
/// The window grows while a reader empties it faster than the peer hears of that, and shrinks to a
/// smaller limit as its bytes are read.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveWindow {
    /// The whole window: what is open, held and released together.
    size: u32,
    /// What the peer may send.
    open: u32,
    /// What came and is not released.
    held: u32,
}

impl ReceiveWindow {
    /// A window of this size in bytes.
    pub fn new(size: u32) -> Self {
        Self {
            size,
            open: size,
            held: 0,
        }
    }

    /// Bytes that came and are not released.
    pub fn held(self) -> u32 {
        self.held
    }

    /// The peer sent bytes. `false`: more than it may.
    #[must_use]
    pub fn received(&mut self, count: u32) -> bool {
        let Some(open) = self.open.checked_sub(count) else {
            return false;
        };
        self.open = open;
        self.held += count;
        true
    }

    /// Bytes are not held any more; `limit` is the largest window from now on. Answers by how much
    /// the peer is to be told that its window grows, once that is worth a frame.
    pub fn release(&mut self, count: u32, limit: u32) -> Option<u32> {
        self.held = self.held.saturating_sub(count);
        let released = self.size - self.open - self.held;
        if released < self.size / 2 {
            return None;
        }
        let drained = self.held == 0 && self.open <= self.size / 4;
        let size = if drained {
            self.size.saturating_mul(2).min(limit.max(self.size))
        } else {
            self.size
        };
        let size = size.min(limit).max(self.open + self.held);
        let increment = size - self.open - self.held;
        if increment == 0 {
            return None;
        }
        self.size = size;
        self.open += increment;
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ReceiveWindow, SendWindow};

    #[test]
    fn a_window_that_settings_shrink_opens_only_above_zero() {
        let mut window = SendWindow::new(10);
        window.sent(8);
        assert_eq!(window.change(-5), Some(false));
        assert_eq!(window.available(), 0);
        assert_eq!(window.change(3), Some(false));
        assert_eq!(window.change(1), Some(true));
        assert_eq!(window.change(1), Some(false));
        assert_eq!(window.change(0x7fff_ffff), None);
    }

    #[test]
    fn a_window_grows_for_a_fast_reader_and_shrinks_to_a_smaller_limit() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.received(100));
        assert!(!window.received(1));
        assert_eq!(window.release(40, 400), None);
        assert_eq!(
            window.release(20, 400),
            Some(60),
            "the reader is behind: no growth"
        );
        assert!(window.received(60));
        assert_eq!(window.release(100, 400), Some(200));
        assert!(window.received(200));
        assert_eq!(window.release(200, 50), Some(50));
        assert!(window.received(50));
        assert_eq!(window.release(50, 50), Some(50));
    }

    proptest! {
        /// Against the peer's view: its window is what it was told, less what it sent.
        #[test]
        fn both_sides_agree_and_a_reader_never_stalls(
            steps in prop::collection::vec((any::<bool>(), 0..200_u32, 1..500_u32), 1..200),
        ) {
            let mut window = ReceiveWindow::new(100);
            let (mut allowed, mut held) = (100_u32, 0_u32);
            for (sends, count, limit) in steps {
                if sends {
                    let count = count.min(allowed);
                    prop_assert!(window.received(count));
                    allowed -= count;
                    held += count;
                } else {
                    let count = count.min(held);
                    held -= count;
                    let before = allowed + held;
                    if let Some(increment) = window.release(count, limit) {
                        allowed += increment;
                        prop_assert!(allowed + held <= limit.max(before));
                    }
                }
                prop_assert!(!window.received(allowed + 1));
                prop_assert!(held + allowed > 0);
                prop_assert_eq!(window.held(), held);
            }
        }
    }
}
